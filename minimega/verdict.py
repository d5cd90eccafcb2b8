"""Rounding or a bug: how far two arrays may be apart, and where a mistake begins.

The distance of two arrays is max|a - b| / max|b|. Rounding explains eps sqrt(n) k of it: a sum of n terms in
another order is off by about eps sqrt(n), and a number goes through k such sums, two in a block, one in the
embedding and one in the head. The errors of several steps add up. 16-bit numbers are added up in float32, and
only the sum is rounded: n is 1 for them.
"""

from pathlib import Path
from types import SimpleNamespace as Options
from typing import NamedTuple

import ml_dtypes
import numpy as np

from minimega import checkpoint
from minimega.backend import HALF
from minimega.model import Config
from minimega.optim import OPTIMIZERS


class Off(NamedTuple):
    """How far two arrays are apart, and how many times as far as rounding explains."""

    distance: float
    share: float

    wrong = property(lambda self: self.share > 1)

    def __str__(self) -> str:
        return f"{self.distance:.1e}{'!' if self.wrong else ' '}" if self.distance else "0 "


Found = dict[str, dict[str, Off]]  # by kind ("gradient", "weight"...) and by name


def eps(dtype: str) -> float:
    """The distance from 1 to the next number of this type."""
    return float(ml_dtypes.finfo(dtype).eps)


def explained(dtype: str, config: Config, batch: int) -> tuple[float, str]:
    """The distance that rounding explains in one step on a batch of so many sequences; and as a formula.

    >>> explained("float32", Config(vocab_size=200), batch=16)[1]
    'float32: 1.2e-07 x sqrt(2048) x 6'
    """
    terms, sums = max(batch * config.context, config.d_hidden, config.vocab_size), 2 * config.num_layers + 2
    terms = 1 if np.dtype(dtype) in HALF else terms
    return eps(dtype) * terms**0.5 * sums, f"{dtype}: {eps(dtype):.1e} x sqrt({terms}) x {sums}"


def off(a, b, limit: float, least: float = 0.0) -> Off:
    """The distance; where b is zero but for rounding, beside `least`, that is the measure.

    >>> off(np.array([1.0, 2.0]), np.array([1.0, 2.2]), limit=1e-5)
    Off(distance=0.09090909090909098, share=9090.909090909097)
    """
    a, b = np.float64(a), np.float64(b)
    apart, size = float(np.abs(a - b).max()), float(np.abs(b).max())
    size = size if size > limit * least else least
    distance = apart / size if size and np.isfinite(apart) else float("inf") if apart else 0.0
    return Off(distance, distance / limit)


def trained(run_a: Path, run_b: Path, o: Options, rates: float, limit: float) -> Found:
    """Two checkpoints of one step: the weights, and each array of the optimizer.

    `rates` is the sum of all learning rates so far. AdamW and its relatives divide a gradient by its own
    size: an entry whose gradient is small beside the others' is off by as much more, up to the whole step,
    and any entry by a hundredth of the steps.
    """
    weights_a, weights_b, slots_a, slots_b = (
        checkpoint.open_parts(run, kind) for kind in checkpoint.KINDS for run in (run_a, run_b)
    )
    found: Found = {"weight": {}} | {slot: {} for slot in OPTIMIZERS[o.optimizer].slots}
    for name in weights_b:
        a, b, free = weights_a.whole(name), weights_b.whole(name), 0.0
        for slot in list(found)[1:]:
            x, y = (slots.whole(f"{name}/{slot}") for slots in (slots_a, slots_b))
            found[slot][name] = off(x, y, limit)
            if slot in ("square", "squares"):
                size = np.sqrt(np.float64(y))  # of the gradients so far
                free = rates * np.minimum(2, 0.01 + limit * size.max() / (size + o.eps))
        b = np.float64(b)
        apart = np.abs(np.float64(a) - b)
        share = float((apart / (limit * np.abs(b).max() + free + 1e-300)).max())
        share = share if np.isfinite(share) else np.inf
        found["weight"][name] = Off(off(a, b, limit).distance, share)
    return found


def begins(found: Found) -> str:
    """Where a mistake begins, in a sentence; nothing where all is rounding.

    Data meets the layers in their order, a backward pass in the reverse order.
    """
    wrong = {kind: {name: x.share for name, x in row.items() if x.wrong} for kind, row in found.items()}
    if names := list(wrong.pop("output")):
        return f"It begins in the forward pass of {names[0]}."
    numbers, gradients = wrong.pop("number"), [name.rpartition(".")[0] for name in wrong.pop("gradient")]
    if "loss" in numbers:
        return "All layers before it agree, the loss does not: it begins in the head."
    if gradients:
        return f"The forward pass agrees; it begins in the backward pass, at {gradients[-1]}" + (
            f", and goes on to {gradients[0]}." if gradients[0] != gradients[-1] else "."
        )
    if numbers:
        return "All gradients agree, their norm does not."
    # Each further step carries a mistake on into all layers, a little: only what is far off counts here.
    for kind in (*(k for k in wrong if k != "weight"), "weight"):
        if names := [n for n, share in wrong.get(kind, {}).items() if 10 * share > max(wrong[kind].values())]:
            return f"One batch gives the same in both now; their training parts at {names[-1]} ({kind})."
    return ""
