"""The causes of a wrong backward pass: what each word means, and how it is recognised.

A detector looks at two Jacobians, the one that `back` gives (A) and the true one (J), of shape (axes of y,
axes of x): what is missing or moved has a form of its own there, whatever the function computes. The table
holds the words in the order in which they are tried.
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
    """What a word means, how it is seen, and a looser sign that is asked for only where nothing fits."""

    means: str
    sees: Callable | None = None
    suspects: Callable | None = None


CAUSES: dict[str, Cause] = {
    "random": Cause("the forward gives another output from call to call"),
    "mutated": Cause("an input, the output y or dy is changed in place"),
    "stateful": Cause("a second call of `back` gives another answer"),
    "count": Cause("`back` gives fewer or more gradients than there are arguments, or no tuple of them"),
    "shape": Cause("the gradient has another shape than its argument, and no sum or axis order explains it"),
    "zero": Cause("never filled in: zeros everywhere, or in whole slices", zero),
    "sign": Cause("the right size with the wrong sign", sign),
    "scale": Cause("a constant factor, named by the axis whose length it is", scale),
    "broadcast": Cause("a broadcast axis is not summed, or another one is", broadcast),
    "transposed": Cause("the entries stand in another axis order", transposed, inner_transposed),
    "shifted": Cause("off by one along an axis", shifted),
    "overwritten": Cause("repeated indices overwrite instead of add", overwritten),
    "mean": Cause("a mean term of a normalisation is missing or wrong", mean),
    "rank-one": Cause("the sum term of softmax or cross-entropy is missing or wrong", rank_one, low_rank),
    "path": Cause("one term of a sum or of a product rule is left out, such as the residual", path, apart),
    "mask": Cause(
        "gradient where the forward passes none, none where it does, or another mask", mask, unmasked
    ),
    "precision": Cause(
        "digits are lost: right in float64 and wrong beyond float32's rounding, or wrong in the last digits",
        suspects=digits,
    ),
    "kink": Cause("left and right slopes disagree: a note on entries; `ok` is judged on the others"),
    "unknown": Cause("none of these; the detail says which pattern was seen"),
}
