"""Rounding or a bug: how far two arrays may be apart, and where a mistake begins.

The distance of two arrays is max|a - b| / max|b|. Rounding explains eps sqrt(n) k of it: a sum of n terms in
another order is off by about eps sqrt(n), and a number goes through k such sums: two per block, one in the
embedding and one in the head. The errors of several steps add up. 16-bit numbers are summed in float32 and
only the sum is rounded, so n is 1 for them.
"""

from pathlib import Path
from types import SimpleNamespace as Options
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from minimega.checkpoint import checkpoint
from minimega.model import Config
from minimega.optim import OPTIMIZERS
from minimega.precision import HALF


class Off(NamedTuple):
    """The distance of two arrays, and the distance that rounding explains."""

    distance: float
    explained: float

    @property
    def share(self) -> float:
        """The distance as a share of the explained one."""
        return self.distance / self.explained if self.distance else 0.0

    @property
    def wrong(self) -> bool:
        """Whether rounding does not explain the distance."""
        return self.share > 1

    def __str__(self) -> str:
        """
        >>> str(Off(3e-6, 2e-6))
        '3.0e-06     2.0e-06     150%  !'
        """
        distance = f"{self.distance:.1e}" if self.distance else "0"
        share = "<1%" if 0 < self.share < 0.01 else f"{self.share:.0%}" if self.share < 100 else "huge"
        return f"{distance:>7}{self.explained:>12.1e}{share:>9}  {'!' if self.wrong else ''}".rstrip()


HEAD = f"{'distance':>8}{'explained':>12}{'ratio':>8}"


Found = dict[str, dict[str, Off]]  # by kind ("gradient", "weight"...) and by name


def eps(dtype: str) -> float:
    """The distance from 1 to the next number of this dtype."""
    return float(ml_dtypes.finfo(dtype).eps)


def explained(dtype: str, config: Config, batch: int) -> tuple[float, str]:
    """The distance that rounding explains after one step on `batch` sequences, and its formula as text.

    >>> explained("float32", Config(vocab_size=200), batch=16)[1]
    'float32: 1.2e-07 x sqrt(2048) x 6'
    """
    terms, sums = max(batch * config.context, config.d_hidden, config.vocab_size), 2 * config.num_layers + 2
    terms = 1 if np.dtype(dtype) in HALF else terms
    return eps(dtype) * terms**0.5 * sums, f"{dtype}: {eps(dtype):.1e} x sqrt({terms}) x {sums}"


def off(a, b, limit: float, least: float = 0.0, room: float = 0.0) -> Off:
    """The distance of a and b, relative to max|b|, or to `least` if b is zero apart from rounding.

    Rounding explains `limit`, plus `room` per entry, in units of b (see commands/kinks.py).

    >>> off(np.array([1.0, 2.0]), np.array([1.0, 2.2]), limit=1e-5)
    Off(distance=0.09090909090909098, explained=1e-05)
    """
    a, b = np.float64(a), np.float64(b)
    apart, size = float(np.abs(a - b).max()), float(np.abs(b).max())
    size = size if size > limit * least else least
    distance = apart / size if size and np.isfinite(apart) else float("inf") if apart else 0.0
    return Off(distance, limit + (room / size if size else 0.0))


class Trained(NamedTuple):
    """The comparison of two checkpoints of one step: weights and optimizer state.

    For the next step: `free` is how far apart the optimizer may have moved the weights. `moved` is A's
    weights, clipped to the explained distance from B's.
    """

    found: Found
    free: dict[str, np.ndarray]
    moved: dict[str, np.ndarray]

    @property
    def wrong(self) -> bool:
        """Whether rounding does not explain one of the distances."""
        return any(x.wrong for kind in self.found.values() for x in kind.values())


def trained(
    runs: tuple[Path, Path], o: Options, rates: float, limit: float, step: int, room: dict, free: dict
) -> Trained:
    """Compare A's checkpoint of one step with B's.

    `rates` is the sum of all learning rates since the previous checkpoint, whose weights may be `free` apart.
    AdamW and its relatives divide a gradient by its own size, so small gradients amplify rounding: an entry
    may be off by up to the whole step if its gradient is smaller than most, and any entry by 1% of the steps.
    `room` is the extra tolerance of a gradient's entry in each step, for ReLU kinks and for
    weights that are slightly apart.
    """
    weights_a, weights_b, slots_a, slots_b = (
        checkpoint.open_parts(run, kind) for kind in checkpoint.KINDS for run in runs
    )
    found: Found = {kind: {} for kind in ("weight", *OPTIMIZERS[o.optimizer].slots)}
    made = Trained(found, {}, {})
    for name in weights_b:
        a, b = (np.float64(weights.whole(name)) for weights in (weights_a, weights_b))
        more, moves = room.get(name, 0.0), rates * room.get(name, 0.0)
        for slot in list(found)[1:]:
            x, y = (slots.whole(f"{name}/{slot}") for slots in (slots_a, slots_b))
            found[slot][name] = off(x, y, limit, room=_in_slot(slot, o, np.float64(y), step, more))
            if slot == "velocity":
                moves = rates * more * sum(o.beta1**k for k in range(step))
            if slot in ("square", "squares"):
                kept = 1 - o.beta2**step if slot == "square" else 1.0
                size = np.sqrt(np.float64(y) / kept)  # of the gradients so far
                moves = rates * np.minimum(2, 0.01 + (limit * size.max() + more) / (size + o.eps))
        made.free[name] = free.get(name, 0.0) + moves
        apart = np.abs(a - b)
        size, allowed = np.abs(b).max() or 1.0, limit * np.abs(b).max() + made.free[name] + 1e-300
        made.moved[name] = np.clip(np.where(np.isfinite(a), a, b), b - allowed, b + allowed)
        at = np.argmax(np.where(np.isfinite(apart), apart, np.inf) / allowed)
        distance = float(apart.flat[at] / size)
        explained = float(np.broadcast_to(allowed, apart.shape).flat[at] / size)
        found["weight"][name] = Off(distance if np.isfinite(distance) else np.inf, explained)
    return made


def _in_slot(slot: str, o: Options, y: Any, step: int, room: float) -> float:
    """How far an entry of the optimizer's state may be off if each gradient is off by up to `room`."""
    if slot == "velocity":  # a sum of gradients, weighted by powers of beta1
        return room * sum(o.beta1**k for k in range(step))
    if slot == "square":  # a mean of squares with total weight 1 - beta2^step
        weight = 1 - o.beta2**step
        return 2 * room * float(np.sqrt(y.max() * weight)) + weight * room**2
    if slot == "squares":  # a sum of squares
        return 2 * room * float(np.sqrt(y.max() * step)) + step * room**2
    return room  # a mean


def begins(found: Found) -> str:
    """A sentence that says where a mistake begins, or "" if all is rounding.

    The forward pass runs through the layers in order, the backward pass in reverse.
    """
    wrong = {kind: {name: x.share for name, x in row.items() if x.wrong} for kind, row in found.items()}
    if names := list(wrong.pop("output")):
        return f"It begins in the forward pass of {names[0]}."
    numbers, gradients = wrong.pop("number"), [name.rpartition(".")[0] for name in wrong.pop("gradient")]
    if "loss" in numbers:
        return "All layers agree, but the loss does not: it begins in the head."
    if gradients:
        return f"The forward pass agrees; it begins in the backward pass, at {gradients[-1]}" + (
            f", and continues to {gradients[0]}." if gradients[0] != gradients[-1] else "."
        )
    if numbers:
        return "All gradients agree, but their norm does not."
    # Later steps spread a mistake to all layers. Only entries that are far off count here.
    for kind in (*(k for k in wrong if k != "weight"), "weight"):
        if names := [n for n, share in wrong.get(kind, {}).items() if 10 * share > max(wrong[kind].values())]:
            return f"Both compute this batch alike; training diverges at {names[-1]} ({kind})."
    return ""
