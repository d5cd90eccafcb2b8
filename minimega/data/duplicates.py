"""Documents that occur twice, exactly or nearly, and documents that contain text of the evaluation.

A text is read as tokens without case: words, and single characters of Chinese and Japanese. Near duplicates
are found by MinHash and locality-sensitive hashing (Broder 1997; Leskovec et al., Mining of Massive Datasets,
chapter 3; by the library `datasketch`), overlap by runs of N tokens as for GPT-3 (Brown et al. 2020,
appendix C).
"""

import hashlib
import re
import zlib
from collections.abc import Iterable

import numpy as np

from minimega.data.scripts import SPACELESS
from minimega.errors import BadInput, pip

TOKEN = re.compile(rf"[^\W{SPACELESS}]+|[{SPACELESS}]")
SHINGLE = 5  # tokens of a shingle: documents are as near as their sets of shingles
PERMUTATIONS = 128  # hash values of a document
BLOCK = 4096  # shingles hashed at once: 4 MB


def token_hashes(text: str) -> np.ndarray:
    """A 32-bit hash of each token of a text: uint64, (N,)."""
    return np.array([zlib.crc32(token.encode()) for token in TOKEN.findall(text.casefold())], np.uint64)


def runs(hashes: np.ndarray, length: int) -> np.ndarray:
    """A hash of each run of `length` tokens: uint64, (N - length + 1,), or none."""
    count = len(hashes) - length + 1
    if count < 1:
        return np.empty(0, np.uint64)
    found = np.zeros(count, np.uint64)
    for i in range(length):
        found = (found ^ hashes[i : i + count]) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(29)
    return found


class Runs:
    """The runs of tokens of a text that arrives in parts: each run once, those across two parts included.

    >>> r = Runs(3)
    >>> len(r.add("a b c d")), len(r.add("e")), r.tokens
    (2, 1, 5)
    """

    def __init__(self, length: int):
        self.length, self.tokens, self._tail = length, 0, np.empty(0, np.uint64)

    def add(self, text: str) -> np.ndarray:
        """The hashes of the runs that end in this part of the text."""
        hashes = token_hashes(text)
        self.tokens += len(hashes)
        joined = np.concatenate([self._tail, hashes])
        self._tail = joined[max(0, len(joined) - self.length + 1) :]
        return runs(joined, self.length)

    def whole(self) -> np.ndarray:
        """For a text shorter than one run, the hash of all of it; else nothing."""
        return runs(self._tail, len(self._tail)) if 0 < self.tokens < self.length else np.empty(0, np.uint64)


class Overlap:
    """The runs of `length` tokens of the evaluation text, to be looked for in other texts.

    Holds 9 bytes per run. Raises BadInput if the text has no run of this length.

    >>> o = Overlap(["the cat sat on the mat"], length=3)
    >>> o.look(runs(token_hashes("And the cat sat."), 3)), round(o.share, 2)
    (1, 0.25)
    """

    def __init__(self, documents: Iterable[str | Iterable[str]], length: int):
        parts = []
        for document in documents:
            reader = Runs(length)
            for piece in [document] if isinstance(document, str) else document:
                parts.append(np.unique(reader.add(piece)))
        self.length, self.known = (
            length,
            np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint64),
        )
        if not len(self.known):
            raise BadInput(
                f"the text of `eval_filename` has no run of {length} words; choose fewer `overlap_words`"
            )
        self.seen = np.zeros(len(self.known), bool)

    def look(self, found: np.ndarray) -> int:
        """How many of these runs are in the evaluation text."""
        at = np.minimum(np.searchsorted(self.known, found), len(self.known) - 1)
        hit = self.known[at] == found
        self.seen[at[hit]] = True
        return int(hit.sum())

    @property
    def share(self) -> float:
        """The share of the evaluation text's runs that were found so far."""
        return float(self.seen.mean())


class Twins:
    """Tells which documents came before, exactly or nearly. Of each group, the first stays.

    `threshold` is the Jaccard similarity of the sets of shingles, estimated from 128 hash values, above which
    documents are near duplicates; 1: only exact ones, without the library. The order of the documents
    decides which is the first; all else is a function of the texts. Holds about 6 kB per document.
    """

    def __init__(self, threshold: float = 0.8):
        self.threshold, self.index = threshold, None
        self._exact: dict[bytes, str] = {}
        self._values: dict[str, np.ndarray] = {}
        if threshold < 1:
            try:
                from datasketch import MinHash, MinHashLSH
            except ImportError:
                raise BadInput(
                    "near duplicates need the library datasketch; `near_duplicates` 1 looks for exact ones\n"
                    f"To install it: {pip('datasketch')}"
                ) from None
            # of an index's two errors, missing a pair weighs more: what it proposes is compared again
            self.index = MinHashLSH(threshold, PERMUTATIONS, weights=(0.2, 0.8))
            self._new = lambda: MinHash(PERMUTATIONS, seed=1, hashfunc=int)

    def reader(self) -> "Reader":
        """A reader of the next document."""
        return Reader(self._new() if self.index else None)

    def before(self, reader: "Reader", name: str) -> tuple[str, str] | None:
        """("exact" or "near", the first one's name) if it came before; else remember this one."""
        if name_before := self._exact.get(digest := reader.digest.digest()):
            return "exact", name_before
        if self.index:
            minhash, values = reader.minhash, reader.values()
            near = {
                other: float((self._values[other] == values).mean()) for other in self.index.query(minhash)
            }
            near = {other: share for other, share in near.items() if share >= self.threshold}
            if near:
                return "near", max(sorted(near), key=near.__getitem__)
            self.index.insert(name, minhash)
            self._values[name] = values
        self._exact[digest] = name
        return None


class Reader:
    """Reads one document in parts: a digest of its text (white space aside), and its MinHash."""

    def __init__(self, minhash):
        self.minhash, self.digest, self.runs = minhash, hashlib.sha256(), Runs(SHINGLE)
        self.words = 0

    def add(self, text: str) -> None:
        """Read the next part, which ends at the end of a word."""
        words = text.split()
        self.words += len(words)
        self.digest.update("".join(f"{word} " for word in words).encode("utf-8", "surrogatepass"))
        if self.minhash is not None:
            self._hash(self.runs.add(text))

    def values(self) -> np.ndarray:
        """The hash values of the document: uint64, (128,)."""
        self._hash(self.runs.whole())
        return self.minhash.hashvalues

    def _hash(self, found: np.ndarray) -> None:
        found = np.unique(found >> np.uint64(32))
        for i in range(0, len(found), BLOCK):
            self.minhash.update_batch(found[i : i + BLOCK].tolist())
