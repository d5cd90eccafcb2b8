"""FastText's .bin files: vectors of words from those of their subwords (Bojanowski et al. 2016).

    magic, version     two int32; a file from before 2017 has neither, and begins with the arguments
    arguments          12 int32 (E first, then ws, epoch, ...), a float64
    dictionary         int32 entries, words, labels; int64 tokens, pruned; per entry its letters, a zero byte,
                       an int64 count and a type; pruned pairs of int32
    matrix             a byte (quantised?), int64 rows and E, then rows E float32: words first, then buckets

All little-endian, as `FastText::loadModel`, `Args::load`, `Dictionary::load` and `Matrix::load` of
github.com/facebookresearch/fastText read them. A subword is a run of minn to maxn letters of "<word>"; its
row is that of the bucket that its hash names. Rows are read from the mapped file: nothing else is in memory.

N words, E width of a vector.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from minimega.errors import BadInput
from minimega.vectors.table import Vectors, checked

MAGIC, VERSIONS = 793712314, (11, 12)
ARGUMENTS = (
    "width",
    "ws",
    "epoch",
    "min_count",
    "neg",
    "word_ngrams",
    "loss",
    "model",
    "bucket",
    "minn",
    "maxn",
    "rate",
)
SUPERVISED, END = 3, "</s>"  # a kind of model; a line's end: a word without subwords, except in old files
WIDEST = 2**16


def begins(start: bytes) -> bool:
    """Whether a file with these first 8 bytes is FastText's: the magic, or two small numbers."""
    first, second = struct.unpack("<2i", start.ljust(8))
    return first == MAGIC or (0 < first <= WIDEST and 0 < second <= WIDEST)


def hash_of(subword: str) -> int:
    """FastText's 32-bit hash of a subword: FNV-1a, whose bytes are signed (`Dictionary::hash`).

    >>> hash_of("a"), hash_of("\u00e9")
    (3826002220, 1023043777)
    """
    h = 2166136261
    for byte in subword.encode():
        h = (h ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619 & 0xFFFFFFFF
    return h


def subwords(word: str, minn: int, maxn: int) -> list[str]:
    """The runs of minn to maxn characters of "<word>", except the two brackets alone.

    >>> subwords("sun", 3, 4)
    ['<su', '<sun', 'sun', 'sun>', 'un>']
    """
    text = f"<{word}>"
    runs = (text[i : i + n] for i in range(len(text)) for n in range(minn, min(maxn, len(text) - i) + 1))
    return [run for run in runs if run not in ("<", ">")]


@dataclass
class Reader:
    """The next numbers of a file. Raises BadInput if the file ends before them."""

    file: BinaryIO
    path: str | Path

    def take(self, layout: str) -> tuple:
        """The next numbers, as `struct` names them."""
        size = struct.calcsize(f"<{layout}")
        if len(data := self.file.read(size)) < size:
            raise BadInput(f"{self.path} is cut short: a FastText file has more")
        return struct.unpack(f"<{layout}", data)

    def word(self) -> str:
        """The letters up to a zero byte. Bytes that are not UTF-8 are spelt out, as gensim does."""
        letters = bytearray()
        while (letter := self.file.read(1)) != b"\0":
            if not letter or len(letters) > 2**16:
                raise BadInput(f"{self.path} is cut short or damaged: a word of its dictionary has no end")
            letters += letter
        return letters.decode(errors="backslashreplace")


def _arguments(numbers: Reader) -> tuple[dict[str, int], bool]:
    """The arguments of the model, and whether the format is that with a magic number."""
    (magic,) = numbers.take("i")
    new = magic == MAGIC
    version = numbers.take("i")[0] if new else 0
    if new and version not in VERSIONS:
        raise BadInput(f"{numbers.path} has version {version} of FastText's format; this reads 11 and 12")
    known = numbers.take("12i") if new else (magic, *numbers.take("11i"))
    numbers.take("d")
    a: dict[str, int] = dict(zip(ARGUMENTS, known, strict=True))
    if (
        not 0 < a["width"] <= WIDEST
        or a["bucket"] < 0
        or not 0 <= a["minn"] <= WIDEST
        or not 0 <= a["maxn"] <= WIDEST
    ):
        raise BadInput(f"{numbers.path} is not a FastText file, or is damaged: its first numbers are {known}")
    if version == 11 and a["model"] == SUPERVISED:
        a["maxn"] = 0  # such models were made without subwords
    return a, new


def width_of(file: BinaryIO, path: str | Path) -> int:
    """The width of a file's vectors; leaves the file at its start."""
    a, _ = _arguments(Reader(file, path))
    file.seek(0)
    return a["width"]


def read(file: BinaryIO, path: str | Path, wanted: Iterable[str] | None, limit: int | None) -> Vectors:
    """The vectors of the wanted words (None: the first `limit` of the dictionary): see `files.read`.

    The vector of a word is the mean of its own row and its subwords' rows; of a word that is not in the
    dictionary, of the latter alone (`FastText::getWordVector`).
    """
    numbers = Reader(file, path)
    a, new = _arguments(numbers)
    size, count, labels, _ = numbers.take("3iq")
    pruned = numbers.take("q")[0] if new else -1
    if min(size, count, labels) < 0 or size != count + labels or pruned > 2 * a["bucket"]:
        raise BadInput(
            f"{path} is damaged: a dictionary of {size} entries, {count} words and {labels} labels"
        )
    rows_of: dict[str, int] = {}
    for i in range(size):
        word = numbers.word()
        numbers.take("qb")
        kept = i < count and (limit is None or i < limit) and (wanted is None or word in wanted)
        if kept:
            rows_of.setdefault(word, i)
    moved = dict(numbers.take("2i") for _ in range(max(pruned, 0)))
    if new and numbers.take("?")[0]:
        raise BadInput(f"{path} is quantised (.ftz); give the model that it was made from (.bin)")
    matrix = _matrix(numbers, a, count, pruned)

    def buckets(word: str) -> list[int]:
        """The rows of a word's subwords."""
        if (new and word == END) or not a["bucket"] or pruned == 0:
            return []
        hashed = [hash_of(part) % a["bucket"] for part in subwords(word, max(a["minn"], 1), a["maxn"])]
        if pruned > 0:  # some buckets were taken out, the others moved
            hashed = [moved[h] for h in hashed if h in moved]
        return [count + h for h in hashed]

    found, guessed = [], set()
    for word in rows_of if wanted is None else dict.fromkeys((*rows_of, *sorted(wanted))):
        own = [rows_of[word]] if word in rows_of else []
        if places := own + buckets(word):
            found.append((word, matrix[places].mean(axis=0, dtype=np.float32)))
            guessed |= set() if own else {word}
    rows = np.array([row for _, row in found], np.float32).reshape(-1, a["width"])
    return checked([word for word, _ in found], rows, path, guessed=frozenset(guessed))


def _matrix(numbers: Reader, a: dict[str, int], count: int, pruned: int) -> np.ndarray:
    """The rows of words and buckets, mapped from the file."""
    file, path = numbers.file, numbers.path
    rows, width = numbers.take("2q")
    right = count + (pruned if pruned >= 0 else a["bucket"])
    if width != a["width"] or rows != right:
        raise BadInput(
            f"{path} is damaged: its matrix is {rows} by {width}, and should be {right} by {a['width']}"
        )
    at = file.tell()
    size = Path(path).stat().st_size
    if not hasattr(file, "peek") or at + 4 * rows * width > size:
        raise BadInput(
            f"{path} is cut short: {rows} rows of {width} numbers do not fit into its {size} bytes"
        )
    return np.memmap(path, "<f4", "r", at, (rows, width))
