"""The causes of a wrong backward pass: what each word means, and how it is recognised.

A detector compares two Jacobians of shape (axes of y, axes of x): A, which `back` gives, and J, the true one.
Each kind of mistake has its own form there, whatever the function computes. The table lists the causes in the
order in which they are tried.
"""

from collections.abc import Callable
from dataclasses import dataclass

from minimega.gradcheck.causes.entries import (
    broadcast,
    inner_transposed,
    mask,
    overwritten,
    scale,
    shifted,
    sign,
    transposed,
    unmasked,
    zero,
)
from minimega.gradcheck.causes.evidence import CLOSE, Evidence, Finding
from minimega.gradcheck.causes.rest import digits
from minimega.gradcheck.causes.terms import apart, low_rank, mean, path, rank_one

__all__ = ["CAUSES", "CLOSE", "Cause", "Evidence", "Finding"]


@dataclass(frozen=True)
class Cause:
    """What a cause means, its detector, and a looser detector that is asked only if nothing else fits."""

    means: str
    sees: Callable | None = None
    suspects: Callable | None = None


CAUSES: dict[str, Cause] = {
    "random": Cause("the forward gives a different output on each call"),
    "mutated": Cause("an input, the output y or dy is changed in place"),
    "stateful": Cause("a second call of `back` gives a different gradient"),
    "count": Cause("`back` gives too few or too many gradients, or not a tuple of them"),
    "shape": Cause("the gradient's shape differs from its argument's, and no sum or axis order explains it"),
    "zero": Cause("never filled in: zero everywhere, or in whole slices", zero),
    "sign": Cause("the right size but the wrong sign", sign),
    "scale": Cause("off by a constant factor; if it is an axis length, the detail names the axis", scale),
    "broadcast": Cause("a broadcast axis is not summed, or the wrong axis is", broadcast),
    "transposed": Cause("the entries are in the wrong axis order", transposed, inner_transposed),
    "shifted": Cause("off by one along an axis", shifted),
    "overwritten": Cause(
        "gradients of repeated indices overwrite each other instead of adding up", overwritten
    ),
    "mean": Cause("a mean term of a normalisation is missing or wrong", mean),
    "rank-one": Cause("the sum term of softmax or cross-entropy is missing or wrong", rank_one, low_rank),
    "path": Cause("one term of a sum or product rule is missing, such as the residual", path, apart),
    "mask": Cause(
        "the gradient passes where the forward passes nothing, or the other way round", mask, unmasked
    ),
    "precision": Cause(
        "digits are lost: right in float64 but not within float32's rounding, or wrong in the last digits",
        suspects=digits,
    ),
    "kink": Cause("left and right slopes differ: a note on these entries, which `ok` ignores"),
    "unknown": Cause("none of these; the detail describes what was seen"),
}
