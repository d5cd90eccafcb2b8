"""Words and their vectors in memory, as every file of vectors is read.

N words, E width of a vector.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from minimega.errors import BadInput, naming, shown


@dataclass(frozen=True)
class Vectors:
    """Words, most frequent first in most files, and the vector of each: (N, E) float32.

    `guessed` holds those words whose vectors were made from subwords alone (FastText).

    >>> v = Vectors(["sun", "moon"], np.eye(2, dtype=np.float32))
    >>> len(v), v.width, "moon" in v, v["moon"].tolist()
    (2, 2, True, [0.0, 1.0])
    """

    words: list[str]
    rows: np.ndarray
    guessed: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()  # what was odd about the file, a sentence each

    width = property(lambda self: self.rows.shape[1])

    @cached_property
    def place(self) -> dict[str, int]:
        """The row of each word; of a word that comes twice, the first."""
        return {word: i for i, word in reversed(list(enumerate(self.words)))}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self.place

    def __getitem__(self, word: str) -> np.ndarray:
        return self.rows[self.place[word]]

    @cached_property
    def unit(self) -> np.ndarray:
        """The vectors at length 1 (N, E); a zero vector stays zero."""
        lengths = np.linalg.norm(self.rows, axis=1, keepdims=True)
        return self.rows / np.where(lengths > 0, lengths, 1)


def checked(words: Iterable[str], rows: np.ndarray, path: str | Path, **more) -> Vectors:
    """Vectors of a file; raises BadInput if it has no words, or one's vector is not finite."""
    words = list(words)
    if bad := next((w for w, fine in zip(words, np.isfinite(rows).all(axis=1), strict=True) if not fine), ""):
        raise BadInput(
            f"{path}: the vector of {shown(bad)} has numbers that are not finite (NaN or infinite)"
        )
    return Vectors(words, rows, **more)


def joined(a: Vectors, b: Vectors) -> Vectors:
    """The vectors of a, then those of b, of equal width.

    >>> one = Vectors(["sun"], np.ones((1, 2), np.float32))
    >>> joined(one, Vectors(["moon"], np.zeros((1, 2), np.float32))).words
    ['sun', 'moon']
    """
    rows = np.concatenate([a.rows, b.rows])
    return Vectors([*a.words, *b.words], rows, a.guessed | b.guessed, a.notes)


def write(path: str | Path, vectors: Vectors, binary: bool = False) -> None:
    """Write word2vec's format, which gensim and `files.read` read, as text or binary.

    The first line has the number of words and the width; each further line a word and its numbers, as many
    digits as restore each float32. Raises BadInput if a word is empty or holds white space (the format cannot
    say it), OSError if the disk is full.
    """
    for word in vectors.words:
        if not word or any(map(str.isspace, word)):
            raise BadInput(
                f"{path}: {shown(word)} cannot be written: word2vec's format has no white space in a word"
            )
    with naming(path), open(path, "wb") as file:
        file.write(f"{len(vectors)} {vectors.width}\n".encode())
        for word, row in zip(vectors.words, vectors.rows.astype("<f4", copy=False), strict=True):
            numbers = row.tobytes() if binary else " ".join(map(str, row)).encode()
            file.write(word.encode() + b" " + numbers + b"\n")
