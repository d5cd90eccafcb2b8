"""16-bit floats, and the loss scale that keeps float16 gradients from rounding to zero.

16-bit floats (float16, bfloat16) are stored and sent; arithmetic runs in float32. An operation widens its
inputs (`wide`, `product`) and rounds what it returns or keeps (`narrow`) once. All three leave other types
as they are.

The smallest float16 above zero is 6e-8, and many gradients of activations are smaller. So the loss, and with
it every gradient, is multiplied by a large number before the backward pass; the parameters' gradients, which
are float32, are divided by it before they are used (Micikevicius et al. 2017, section 3.2). bfloat16 has the
range of float32 and needs no scale.
"""

import functools
import math
from dataclasses import dataclass
from types import ModuleType

import ml_dtypes  # registers "bfloat16" with NumPy
import numpy as np

from minimega.backend import library
from minimega.errors import BadInput, RunFailed
from minimega.kernels import half, replaceable


class Unscaled:
    """No loss scale: a non-finite gradient is an error, and no step is skipped."""

    value, skips = 1.0, False

    def after(self, fits: bool) -> dict:
        """What a step adds to the log: nothing."""
        return {}


@dataclass
class LossScale:
    """A dynamic loss scale (the same paper, section 5): a power of two, so scaling does not round.

    When a gradient overflows float16, the scale is halved and the step skipped; after `every` steps in a row
    without an overflow it is doubled. All ranks see the same global norm, so they have the same scale.

    >>> scale = LossScale(value=8.0, every=2)
    >>> [scale.after(fits)["loss_scale"] for fits in (False, True, True, True)]    # used by each step
    [8.0, 4.0, 4.0, 8.0]
    """

    value: float = 2.0**16
    good: int = 0  # steps in a row without an overflow
    every: int = 1000
    least: float = 1.0
    skips = True

    def after(self, fits: bool) -> dict:
        """Update the scale for the next step; returns what this step adds to the log.

        Raises RunFailed if the new scale is below `least`.
        """
        record = {"loss_scale": self.value, "skipped": not fits}
        self.good = self.good + 1 if fits else 0
        if not fits:
            self.value /= 2
        elif self.good == self.every:
            self.value, self.good = 2 * self.value, 0
        if self.value < self.least:
            raise RunFailed(
                f"gradients do not fit into float16 even with the loss scaled by {2 * self.value:g}: "
                f"the run diverges.\nA lower `lr` may help, or `dtype` bfloat16 with the range of float32."
            )
        return record


Scale = Unscaled | LossScale
UNSCALED = Unscaled()


def loss_scale(dtype: str) -> Scale:
    """The loss scale that a run in this dtype starts with."""
    return LossScale() if dtype == "float16" else UNSCALED


HALF = np.dtype("float16"), np.dtype(ml_dtypes.bfloat16)


@functools.cache
def check_type(xp: ModuleType, dtype: str) -> None:
    """Raise BadInput if the library cannot multiply arrays of this dtype: bfloat16 needs CuPy 14."""
    try:
        xp.ones((1, 1), dtype) @ xp.ones((1, 1), dtype)
    except Exception as why:
        raise BadInput(f"{dtype} needs another CuPy, 14 or later: {str(why).splitlines()[0]}") from None


def wide(x):
    """float32 if x is 16-bit, else x itself (Python numbers too).

    >>> wide(np.ones(2, "bfloat16")).dtype, wide(np.ones(2)).dtype
    (dtype('float32'), dtype('float64'))
    """
    if not hasattr(x, "dtype") or x.dtype not in HALF:
        return x
    return half.to_float32(x) if x.dtype == HALF[0] and library(x) is np else x.astype("float32")


def narrow(y, *xs):
    """y rounded to the 16-bit dtype of the float arrays among xs; y itself if they have another, or differ.

    Values out of range become infinity, without a warning: the check for non-finite values finds them.

    >>> narrow(np.float32([1e-9, 1e9]), np.ones(2, "float16"), 0.5)
    array([ 0., inf], dtype=float16)
    """
    types = {x.dtype for x in xs if _is_float(x)}
    if len(types) != 1 or not types.issubset(HALF) or not _is_float(y):
        return y
    with np.errstate(over="ignore"):
        if HALF[0] in types and y.dtype == "float32" and library(y) is np:
            return half.to_float16(y)
        return y.astype(*types, copy=False)


def widened(back, *xs):
    """`back`, which gets dy in float32 if any of the xs is 16-bit."""
    return (lambda dy: back(wide(dy))) if any(getattr(x, "dtype", None) in HALF for x in xs) else back


def _is_float(x) -> bool:
    return hasattr(x, "dtype") and x.dtype.kind not in "iub"  # bfloat16 is of kind V


@replaceable
def product(a, b):
    """a @ b; 16-bit floats are multiplied in the way that is fast for their library.

    NumPy: in float32, which is also the result, because its 16-bit products are 300 times slower. CuPy: the
    GPU multiplies 16-bit matrices, accumulates in 32 bits and returns 16. Stacks of float16 matrices CuPy
    itself multiplies in float32, and those of bfloat16 not at all.
    """
    if library(a, b) is np or max(a.ndim, b.ndim) > 2:
        return wide(a) @ wide(b)
    small = next((x for x in (a, b) if x.dtype in HALF), a)
    return narrow(a, small) @ narrow(b, small)


def finite(x) -> bool:
    """Whether every entry of x is finite; waits for the GPU.

    A finite sum proves it in one pass. A sum can also overflow over finite entries: only then is each tested.

    >>> finite(np.full(9, 6e4, "float16")), finite(np.full(9, 1e308)), finite(np.array([np.inf, -np.inf]))
    (True, True, False)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(float(wide(x).sum())) or bool(library(x).isfinite(x).all())


def check_eps(eps: float, dtype) -> None:
    """Raise BadInput if eps underflows in the dtype that it is added to, which would leave 0/0.

    Subnormal numbers count as underflow: GPUs may flush them to zero. An eps of exactly 0 is allowed.
    """
    least = float(np.finfo("float32" if np.dtype(dtype) in HALF else dtype).tiny)
    if 0 < eps < least:
        raise BadInput(f"eps {eps} is too small for {np.dtype(dtype)}: choose at least {1.05 * least:.2g}")
