"""Text <-> integers (byte pairs: byte_pairs.py); the token stream of a text; windows on it; batches.

A tokenizer's vocabulary comes from the training text alone. `tokenize` writes a text as one stream of
integers, with a start token before each document and one at the end. The target of each token is the next
one, so every token except the first is a target exactly once per epoch.

T context, N tokens of the stream, B batch.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from math import ceil
from pathlib import Path

import numpy as np

from minimega import random
from minimega.errors import BadInput, naming

START, UNKNOWN = 0, 1
NAMES = ["<start>", "<unk>"]
KINDS = ("char", "word", "whitespace", "bpe")
FORMAT, VERSION = "minimega tokenizer", 1

# A word includes the space before it, so joining the tokens restores the text; it can contain an apostrophe,
# as in "didn't". Each punctuation character is a token: "?!" then needs no entry of its own.
WORD = re.compile(r" ?\w+(?:['\u2019]\w+)*| ?[^\w\s]|\s")
SPLIT = {"char": list, "word": WORD.findall, "whitespace": str.split}
LAST_CUT = re.compile(r"(?s).*\S(?=[ \t\r\n])")  # no token of any kind crosses this point
JOIN = {"char": "", "word": "", "whitespace": " "}

Documents = Iterable[str | Iterable[str]]


class Tokenizer:
    """The base of all kinds of tokenizer. Make one with `train` or `load`.

    `encode(text)` returns int64 ids (N,), never a start token: the text "<start>" stays ordinary text.
    `decode(ids)` returns the text; start tokens add nothing to it. `lacks(text)` lists what would become the
    unknown token. `size` includes the two special tokens.
    """

    start, unknown = START, UNKNOWN
    kind: str
    size: int

    def save(self, path: str | Path) -> None:
        """Write one JSON file, which `load` reads. Raises OSError, naming the path, if that fails."""
        content = {
            "format": "minimega tokenizer",
            "version": VERSION,
            "kind": self.kind,
            "tokens": self.tokens,
        }
        with naming(path):
            Path(path).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


class Vocabulary(Tokenizer):
    """A list of tokens: characters; words and punctuation; or the text between white space.

    >>> t = train("word", ["Who didn't sing? She did."])
    >>> t.decode(t.encode("Who did? She didn't.")), t.decode(t.encode("Who cried?"))
    ("Who did? She didn't.", 'Who <unk>?')
    """

    def __init__(self, kind: str, tokens: list[str]):
        self.kind, self.tokens = kind, tokens
        self.size = len(NAMES) + len(tokens)
        self._ids = {token: i for i, token in enumerate(tokens, len(NAMES))}

    def lacks(self, text: str) -> list[str]:
        """The tokens of a text that are not in the vocabulary, each once."""
        return list(dict.fromkeys(t.strip() or t for t in SPLIT[self.kind](text) if t not in self._ids))

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text: int64, (N,)."""
        get = self._ids.get
        return np.array([get(token, UNKNOWN) for token in SPLIT[self.kind](text)], np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids; start tokens add nothing."""
        unknown = " <unk>" if self.kind == "word" else "<unk>"  # a word includes its space
        texts = ["", unknown, *self.tokens]
        return JOIN[self.kind].join(texts[i] for i in ids if i != START)


def train(kind: str, documents: Documents, vocab_size: int | None = None) -> Tokenizer:
    """Make a tokenizer for these documents: "char", "word", "whitespace" or "bpe" (byte pairs).

    It has at most `vocab_size` tokens, including the two special ones: the most frequent ones, and of equally
    frequent ones the first in character order. By default, everything that occurs has a token, and byte pairs
    get 1024.

    Raises BadInput for an unknown kind, or a vocabulary too small for the kind.

    >>> tokenizer = train("char", ["abba c"], vocab_size=4)
    >>> tokenizer.tokens, tokenizer.encode("bac").tolist(), tokenizer.decode([3, 2, 2])
    (['a', 'b'], [3, 2, 1], 'baa')
    """
    if kind not in KINDS:
        raise BadInput(f"there is no tokenizer {kind!r}. Choose one of: {', '.join(KINDS)}.")
    least = 256 + len(NAMES) if kind == "bpe" else 1 + len(NAMES)  # a byte-level vocabulary has all bytes
    if vocab_size is not None and vocab_size < least:
        raise BadInput(f"a vocabulary of {vocab_size} is too small: {kind} needs at least {least}.")
    texts = (text for document in documents for text in _texts(document))
    if kind == "bpe":
        from minimega.data import byte_pairs

        return byte_pairs.train(texts, vocab_size or 1024)
    counts = Counter()
    for text in texts:
        counts.update(SPLIT[kind](text))
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    return Vocabulary(kind, ranked[: None if vocab_size is None else vocab_size - len(NAMES)])


def load(path: str | Path) -> Tokenizer:
    """Read what `save` wrote. Raises BadInput if the file is missing, damaged or of another version."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it is not a {FORMAT} of version {VERSION}")
        kind, tokens = content["kind"], content["tokens"]
        if kind != "bpe":
            return Vocabulary(KINDS[KINDS.index(kind)], tokens)
        from minimega.data import byte_pairs

        return byte_pairs.read(tokens)
    except OSError as why:
        raise BadInput(f"{path} cannot be read: {why.strerror}") from None
    except Exception as why:  # the `tokenizers` library raises plain Exceptions
        raise BadInput(f"{path} cannot be read as a tokenizer: {why}. Use a complete run folder.") from None


def _texts(document: str | Iterable[str]) -> Iterator[str]:
    """A document in parts that no token crosses, however its pieces were cut.

    In memory at once: one piece, and the text since the last space or line end.
    """
    carry = ""
    for piece in [document] if isinstance(document, str) else document:
        text = carry + piece
        cut = last.end() if (last := LAST_CUT.match(text)) else 0
        yield text[:cut]
        carry = text[cut:]
    yield carry


def tokenize(documents: Documents, tokenizer: Tokenizer, path: str | Path) -> np.ndarray:
    """Write the token stream of these documents to `path` (.npy); returns it memory-mapped, read-only: (N,).

    Each document is a start token and its tokens; one more start token ends the stream, so the end of every
    document is a target too. uint16 if the vocabulary fits, else uint32.

    Raises BadInput if there are fewer than two tokens, OSError if the disk is full; then leaves no file.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    dtype = np.dtype("<u2" if tokenizer.size <= 2**16 else "<u4")
    count = text = 0  # entries, and those that are not start tokens
    try:
        with naming(path), open(temporary, "wb") as file:
            header = {"descr": dtype.str, "fortran_order": False, "shape": (0,)}
            np.lib.format.write_array_header_1_0(file, header)
            for ids in _stream(documents, tokenizer):
                file.write(ids.astype(dtype).tobytes())
                count += len(ids)
                text += int((ids != START).sum())
            if text < 2:
                few = f"{text} token{'s' * (text != 1)}"
                raise BadInput(f"the text has {few}; it needs at least 2. Choose a longer text.")
            file.seek(0)  # NumPy's header has room for any count
            np.lib.format.write_array_header_1_0(file, {**header, "shape": (count,)})
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return np.load(path, mmap_mode="r")


def _stream(documents: Documents, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    for document in documents:
        yield np.array([START])
        yield from map(tokenizer.encode, _texts(document))
    yield np.array([START])


class Windows:
    """A token stream as windows of `context` inputs and their targets.

    A document that a window would cut starts again in the next window and counts only there. So the model
    always sees a short document whole, and a long one in contiguous windows. Each target counts in exactly
    one window; elsewhere it is -1. Start tokens fill up the last window.

    Raises BadInput for a context below 1.

    >>> w = Windows(np.array([0, 5, 6, 0, 7, 8, 0]), context=4)      # "5 6" and "7 8"
    >>> inputs, targets = w.take([0, 1])
    >>> inputs.tolist(), targets.tolist()
    ([[0, 5, 6, 0], [0, 7, 8, 0]], [[5, 6, 0, -1], [7, 8, 0, -1]])
    """

    def __init__(self, stream: np.ndarray, context: int):
        if context < 1:
            raise BadInput(f"a context of {context} tokens is too short. Choose at least 1.")
        self.stream, self.context = stream, context
        # window k counts the targets after edges[k], up to and including edges[k + 1]
        self.edges = np.array([*_edges(stream, context), len(stream) - 1])

    def __len__(self) -> int:
        return len(self.edges) - 1

    def take(self, which) -> tuple[np.ndarray, np.ndarray]:
        """The inputs (B, T) and targets (B, T) of the windows with these B numbers, int64."""
        which = np.asarray(which, np.int64)
        places = self.edges[which][:, None] + np.arange(self.context + 1)  # (B, T+1)
        rows = self.stream[np.minimum(places, len(self.stream) - 1)].astype(np.int64)
        rows[places >= len(self.stream)] = START
        counts = places[:, 1:] <= self.edges[which + 1][:, None]
        return rows[:, :-1], np.where(counts, rows[:, 1:], -1)


def _edges(stream: np.ndarray, context: int) -> Iterator[int]:
    starts = _starts(stream)
    at, last = 0, len(stream) - 1
    while at < last:
        yield at
        end = at + context  # the last target in view
        if end >= last:
            return
        latest = int(starts[np.searchsorted(starts, end, "right") - 1])
        at = latest if latest > at else end


def _starts(stream: np.ndarray, block: int = 2**22) -> np.ndarray:
    blocks = range(0, len(stream), block)  # a mapped file is never all in memory
    return np.concatenate([i + np.flatnonzero(stream[i : i + block] == START) for i in blocks])


class Batches:
    """The batch of each step, a function of the seed and the step (from 1) alone.

    An epoch is a permutation of all windows, drawn from the seed and the epoch (from 1). Rows that do not
    count fill up its last batch: all batches have one shape, and every window comes once per epoch.

    Raises BadInput for a batch size below 1 or above the number of windows.

    >>> b = Batches(Windows(np.array([0, 5, 6, 0, 7, 8, 0]), context=3), batch_size=2, seed=0)
    >>> inputs, targets, epoch = b(step=4)
    >>> b.steps_per_epoch, inputs.shape, epoch
    (1, (2, 3), 4)
    """

    def __init__(self, windows: Windows, batch_size: int, seed: int):
        if not 1 <= batch_size <= len(windows):
            raise BadInput(
                f"a batch of {batch_size} cannot be made from this text: it has {len(windows)} windows of"
                f" {windows.context} tokens. Choose a batch from 1 to {len(windows)}, or a longer text."
            )
        self.windows, self.batch_size, self.seed = windows, batch_size, seed
        self.steps_per_epoch = ceil(len(windows) / batch_size)
        self._order = 0, np.empty(0)  # the latest epoch and its permutation

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, int]:
        """The inputs (B, T) and targets (B, T; -1: not counted) of a step, and its epoch."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        if self._order[0] != epoch + 1:
            key = random.key(self.seed, "batches", epoch + 1)
            self._order = epoch + 1, random.order(key, len(self.windows))
        which = self._order[1][place * self.batch_size :][: self.batch_size]
        inputs, targets = self.windows.take(which)
        fill = (0, self.batch_size - len(which)), (0, 0)
        inputs = np.pad(inputs, fill, constant_values=START)
        return inputs, np.pad(targets, fill, constant_values=-1), epoch + 1
