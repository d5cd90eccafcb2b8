"""Byte-level byte pairs (Sennrich et al. 2015), by the `tokenizers` library."""

import json
import re
from collections.abc import Iterable, Iterator

import numpy as np
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from minimega.data.tokens import NAMES, START, Tokenizer

LINES = re.compile(r"(?<=\S)(?=\n)")
# Learning takes the square of a piece's length. No word is this long, but a line without spaces may be: a
# longer run of letters, digits, marks or white space is learned and encoded in pieces of 512 characters.
LONG = "|".join(f"{kind}{{512}}" for kind in (r"\p{L}", r"\p{N}", r"[^\s\p{L}\p{N}]", r"\s"))


class BytePairs(Tokenizer):
    """Tokens that are runs of bytes: nothing is unknown to it."""

    kind = "bpe"

    def __init__(self, library: Library):
        self.library = library
        self.library.encode_special_tokens = True  # "<start>" in a text is seven characters, not the token
        self.size = library.get_vocab_size()
        self.tokens = json.loads(library.to_str())

    def lacks(self, text: str) -> list[str]:
        return []

    def encode(self, text: str) -> np.ndarray:
        parts = self.library.encode_batch_fast(LINES.split(text))  # lines are worked on in parallel
        return np.array([i for part in parts for i in part.ids], np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        return self.library.decode([int(i) for i in ids if i != START], skip_special_tokens=False)


def train(texts: Iterator[str], vocab_size: int) -> BytePairs:
    """Byte pairs learned from these texts: `vocab_size` tokens at most, the two special ones included."""
    library = Library(models.BPE())
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False)
    short = pre_tokenizers.Split(Regex(LONG), "isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence([short, bytewise])
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": NAMES, "initial_alphabet": alphabet, "show_progress": False}
    library.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, **options))
    return BytePairs(library)


def read(content: dict) -> BytePairs:
    """What `BytePairs.tokens` gave; the library raises a plain Exception for anything else."""
    return BytePairs(Library.from_str(json.dumps(content)))
