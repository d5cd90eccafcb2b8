"""Byte-level byte-pair encoding (Sennrich et al. 2015), by the `tokenizers` library."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from minimega.data.tokens import NAMES, START, UNKNOWN, Tokenizer

LINES = re.compile(r"(?<=\S)(?=\n)")
# Learning takes time quadratic in a piece's length. No word is this long, but a line without spaces can be:
# a run of letters, digits, marks or white space is cut into pieces of 512 characters to learn and to encode.
LONG = "|".join(f"{kind}{{512}}" for kind in (r"\p{L}", r"\p{N}", r"[^\s\p{L}\p{N}]", r"\s"))


class BytePairs(Tokenizer):
    """A tokenizer whose tokens are runs of bytes: no text is unknown to it.

    One of another framework has no unknown token: `unknown` is None. `origin` is the id that its start token
    has there.
    """

    kind = "bpe"

    def __init__(self, library: Library, named: dict[str, int], origin: int = START):
        self.library, self.named, self.origin = library, named, origin
        self.unknown = UNKNOWN if library.id_to_token(UNKNOWN) == NAMES[UNKNOWN] else None
        self.library.encode_special_tokens = True  # "<start>" in a text is seven characters, not a token
        self.size = library.get_vocab_size()
        self.tokens = json.loads(library.to_str())
        known = {token["content"]: token["id"] for token in self.tokens["added_tokens"]}
        if any(known.get(name) != i for name, i in named.items()):
            raise ValueError("its special tokens are not those of the library")

    def _with(self, named):
        library = Library.from_str(self.library.to_str())
        library.add_special_tokens([name for name in named if name not in self.named])
        return BytePairs(library, named, self.origin)

    def lacks(self, text: str) -> list[str]:
        """Nothing: every byte has a token."""
        return []

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text: int64, (N,)."""
        parts = self.library.encode_batch_fast(
            LINES.split(text), add_special_tokens=False
        )  # lines in parallel
        return np.array([i for part in parts for i in part.ids], np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids; start tokens add nothing."""
        return self.library.decode([int(i) for i in ids if i != START], skip_special_tokens=False)


def train(texts: Iterator[str], vocab_size: int, named: dict[str, int]) -> BytePairs:
    """Learn byte pairs from these texts: at most `vocab_size` tokens, including the special ones."""
    library = Library(models.BPE())
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False)
    short = pre_tokenizers.Split(Regex(LONG), "isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence([short, bytewise])
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options: dict[str, Any] = {
        "special_tokens": [*NAMES, *named],
        "initial_alphabet": alphabet,
        "show_progress": False,
    }
    library.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, **options))
    return BytePairs(library, named)


def read(content: dict, named: dict[str, int], origin: int = START) -> BytePairs:
    """Rebuild the tokenizer from its `tokens`. The library raises a plain Exception for anything else."""
    return BytePairs(Library.from_str(json.dumps(content)), named, origin)
