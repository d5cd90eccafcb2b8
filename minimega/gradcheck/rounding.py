"""Is a gradient right within the rounding of its own precision?

The effect of rounding is measured: how much the float64 gradient changes when the inputs move by their own
rounding. A backward pass that is off by much more loses digits that the inputs had.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from minimega.backend import to_numpy
from minimega.gradcheck.differences import Subject

SUM = 32  # roundings allowed in one sum
SHAKEN = 16  # allowed multiple of the change caused by moving the inputs by their rounding


@dataclass
class Fault:
    """The worst entry of an argument's gradient: in low precision, in float64, and a sentence."""

    argument: int
    place: tuple[int, ...]
    low: float
    high: float
    error: float
    detail: str


def beyond_rounding(
    subject: Subject, x: list, dy: np.ndarray, gradients: list, largest: float, rng: np.random.Generator
) -> Iterator[Fault]:
    """Yield the arguments whose gradient, in their own precision, is further off than rounding explains.

    x are the float64 arrays and `gradients` their gradients for dy. `largest` is the largest slope of all
    arguments: a gradient that is 0 in theory is compared with the rounding of that slope.
    """
    eps = max(np.finfo(a.dtype).eps for a in subject.arrays)
    if eps <= np.finfo(np.float64).eps:
        return
    at = subject.linearize(subject.arrays)
    rounded = at.back(dy.astype(to_numpy(at.outputs).dtype))
    moved = [[a * (1 + eps * rng.choice([-1, 1], a.shape)) for a in x] for _ in range(3)]
    shaken = [subject.linearize(arrays).back(dy.copy()) for arrays in moved]
    longest = SUM + np.sqrt(max(a.size for a in x))
    for i, (g, high) in enumerate(zip(rounded, gradients, strict=True)):
        if g is None or high is None or not high.size or g.shape != high.shape:
            continue
        size = np.max(np.abs(high))
        change = max(np.max(np.abs(other[i] - high)) for other in shaken)
        allowed = eps * max(longest * size, 4 * largest) + SHAKEN * change
        off = np.where(np.isfinite(g), np.abs(g - high), np.inf)
        if not np.max(off) <= allowed:
            place = tuple(int(k) for k in np.unravel_index(np.argmax(off), off.shape))
            error = float(np.max(off) / size) if size else np.inf
            explained = f"rounding explains only {allowed / size:.1e}" if size else "the true gradient is 0"
            text = f"right in float64, off by {error:.1e} in {subject.arrays[i].dtype}; {explained}"
            yield Fault(i, place, float(g[place]), float(high[place]), error, text)
