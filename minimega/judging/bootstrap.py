"""Confidence intervals by resampling (Efron 1979), and two systems compared (Koehn 2004).

N texts, S statistics of a text, R resamples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minimega import random
from minimega.errors import BadInput

LEVEL = 0.95


@dataclass(frozen=True)
class Figure:
    """A score of N texts: statistics of each text (N, S), and what the score is, given their sums (S,).

    A mean over texts has S = 2: the text's value and 1. BLEU has counts of matching n-grams: no text is read
    again for the score of a resample.

    >>> mean_of([1.0, 2.0, 6.0]).value
    3.0
    """

    parts: np.ndarray
    score: Callable[[np.ndarray], float]

    @property
    def value(self) -> float:
        """The score of all texts."""
        return float(self.score(self.parts.sum(axis=0)))


def mean_of(values) -> Figure:
    """The mean of one number per text, as a Figure."""
    values = np.asarray(values, np.float64)
    return Figure(np.stack([values, np.ones_like(values)], axis=1), lambda sums: float(sums[0] / sums[1]))


def weights(count: int, resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each of `count` texts is in each resample: (N,) int64, R times.

    A resample draws N texts with replacement. Its draws are a function of the seed and its number, so two
    systems that are judged on the same texts get the same resamples.

    >>> [int(w.sum()) for w in weights(5, 2)]
    [5, 5]
    """
    key, texts = random.key(seed, "bootstrap"), np.arange(count)
    for r in range(resamples):
        drawn = (random.uniform(key, r, texts) * count).astype(np.int64)
        yield np.bincount(drawn, minlength=count)


def resampled(figure: Figure, resamples: int, seed: int = 0) -> np.ndarray:
    """The score of each resample: (R,)."""
    rows = weights(len(figure.parts), resamples, seed)
    return np.array([figure.score(w @ figure.parts) for w in rows])


def interval(scores: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The percentiles that enclose this share of the resamples' scores.

    >>> interval(np.arange(101.0), level=0.5)
    (25.0, 75.0)
    """
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def compare(a: Figure, b: Figure, resamples: int = 1000, seed: int = 0) -> dict:
    """System a against system b on the same texts: paired bootstrap (Koehn 2004, section 4).

    Returns `value` (of b), `difference` (a minus b), its `interval`, and `won`: the share of resamples in
    which a scores higher, equal scores counting half. Raises BadInput for different numbers of texts.

    >>> found = compare(mean_of([2, 3, 4]), mean_of([1, 2, 3]), resamples=100)
    >>> found["difference"], found["won"]
    (1.0, 1.0)
    """
    if len(a.parts) != len(b.parts):
        raise BadInput(f"{len(a.parts)} texts cannot be paired with {len(b.parts)}: give the same number")
    found: dict[str, Any] = {"value": b.value, "difference": a.value - b.value}
    if resamples:
        differences = resampled(a, resamples, seed) - resampled(b, resamples, seed)
        found["interval"] = interval(differences)
        found["won"] = float(((differences > 0) + 0.5 * (differences == 0)).mean())
    return found
