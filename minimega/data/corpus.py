"""Corpora: the built-in tales, and `open_corpus` for all (documents.py: Python's documentation, files).

A corpus is a list of documents, split into a training part and a held-out part. A document is a str, or, if
it comes from a file, an iterator of str pieces.

The tales are English (tales_en.py) or Chinese (tales_zh.py); the lowest possible loss on them is known
exactly (grammar.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, overload

import numpy as np

from minimega import random
from minimega.data import chat
from minimega.data.documents import Texts, pydoc, read
from minimega.data.grammar import Grammar, surprises
from minimega.data.tales_en import ENGLISH, GRAMMAR, MEN, WOMEN
from minimega.data.tales_zh import CHINESE

__all__ = (
    "BUILT_IN", "CHINESE", "ENGLISH", "GRAMMAR", "GRAMMARS", "MEN", "WOMEN",
    "Corpus", "Tales", "bigram_floor", "open_corpus", "surprises", "tell",
)  # fmt: skip
GRAMMARS = {grammar.name: grammar for grammar in (ENGLISH, CHINESE)}
BUILT_IN = *GRAMMARS, "pydoc"
tell = ENGLISH.tell
_NUMBERS = np.arange(40)  # more than any tale has choices


@dataclass(frozen=True)
class Tales:
    """`count` tales from number `first` on, of the endless sequence of a seed; the held-out ones come next.

    >>> learned, held_out = Tales(count=200, seed=1).split()
    >>> len(list(learned.documents())), len(list(held_out.documents())), held_out.first
    (200, 10, 200)
    """

    count: int
    seed: int = 0
    first: int = 0
    grammar: Grammar = ENGLISH

    def told(self) -> Iterator[tuple[str, list[tuple[int, int]]]]:
        """Each tale and its choices, as `Grammar.tell` returns them."""
        for i in range(self.first, self.first + self.count):
            key = random.key(self.seed, self.grammar.name, i)
            yield self.grammar.tell(iter(random.uniform(key, _NUMBERS).tolist()))

    def documents(self) -> Iterator[str]:
        """The texts of the tales."""
        return (text for text, _ in self.told())

    def split(self, share: float = 0.05) -> tuple["Tales", "Tales"]:
        """All of these to train on, and `share` times as many further tales (at least 1), held out."""
        further = max(1, round(self.count * share))
        return self, replace(self, count=further, first=self.first + self.count)

    def floor(self) -> float:
        """The lowest possible loss in nats per token: a perfect reader's mean over all words and ends."""
        return float(np.concatenate([surprises(*tale) for tale in self.told()]).mean())


# each: documents(), the same at each call; split() -> training, held out; floor()
Corpus = Tales | Texts | chat.Dialogues


@overload
def open_corpus(name: Literal["tales", "tales-zh"], seed: int = 0, tales: int = 12_000) -> Tales: ...
@overload
def open_corpus(name: str, seed: int = 0, tales: int = 12_000) -> Corpus: ...
def open_corpus(name: str, seed: int = 0, tales: int = 12_000) -> Corpus:
    """Open a corpus: "tales" or "tales-zh" (`tales` of them, drawn from the seed), "pydoc", a file or folder.

    A file whose name ends in .jsonl holds dialogues (see chat.py).

    Raises BadInput if the path is missing or empty.

    >>> learned, held_out = open_corpus("tales", tales=200).split()
    >>> next(learned.documents())[:9], len(list(held_out.documents()))
    ('When the ', 10)
    """
    if name in GRAMMARS:
        return Tales(tales, seed, grammar=GRAMMARS[name])
    if chat.is_dialogues(name):
        return chat.read(name)
    return pydoc() if name == "pydoc" else read(name)


def bigram_floor(inputs: np.ndarray, targets: np.ndarray) -> float:
    """The lowest loss of any bigram model on these targets, in nats per token (targets below 0: not counted).

    It is the entropy of the next token given the current one, from their counts in this text.

    >>> bool(bigram_floor(np.array([1, 1, 2, 2]), np.array([2, 2, 1, 3])) == np.log(2) / 2)
    True
    """
    inputs, targets = inputs[targets >= 0], targets[targets >= 0].astype(np.int64)
    pairs = np.unique(inputs * (targets.max() + 1) + targets, return_counts=True)[1]
    ones = np.unique(inputs, return_counts=True)[1]
    return float(((ones * np.log(ones)).sum() - (pairs * np.log(pairs)).sum()) / len(targets))
