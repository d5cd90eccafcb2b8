"""The scale of the loss, which keeps float16 gradients from being rounded to zero.

The smallest float16 above zero is 6e-8, and many gradients of activations are smaller. The loss is multiplied
by a large number before the backward pass, and so is every gradient; those of the parameters, which are
float32, are divided by it before anything looks at them (Micikevicius et al. 2017, section 3.2). bfloat16 has
the range of float32 and needs none.
"""

import functools
import math
from dataclasses import dataclass
from types import ModuleType

import ml_dtypes  # from here on NumPy knows "bfloat16"
import numpy as np

from minimega.backend import library
from minimega.errors import BadInput, RunFailed
from minimega.kernels import half


class Unscaled:
    """The loss as it is: a gradient that is not finite is a failure, and no step is skipped."""

    value, skips = 1.0, False

    def after(self, fits: bool) -> dict:
        return {}


@dataclass
class LossScale:
    """A power of two, so that scaling rounds nothing, sought while training (section 5 of the same).

    Where a gradient does not fit into float16 it is halved, and that step is skipped; after `every` steps in
    a row that fit it is doubled. All ranks see the same norm of all gradients, so they have the same scale.

    >>> scale = LossScale(value=8.0, every=2)
    >>> [scale.after(fits)["loss_scale"] for fits in (False, True, True, True)]    # what each step used
    [8.0, 4.0, 4.0, 8.0]
    """

    value: float = 2.0**16
    good: int = 0  # steps in a row that fitted
    every: int = 1000
    least: float = 1.0
    skips = True

    def after(self, fits: bool) -> dict:
        """What a step adds to the log; the next step has the new scale. RunFailed where none is left."""
        record = {"loss_scale": self.value, "skipped": not fits}
        self.good = self.good + 1 if fits else 0
        if not fits:
            self.value /= 2
        elif self.good == self.every:
            self.value, self.good = 2 * self.value, 0
        if self.value < self.least:
            raise RunFailed(
                f"gradients do not fit into float16 even with the loss scaled by {2 * self.value:g}: "
                f"the run diverges.\nA lower --lr may help, or --dtype bfloat16 with the range of float32."
            )
        return record


Scale = Unscaled | LossScale
UNSCALED = Unscaled()


def loss_scale(dtype: str) -> Scale:
    """The scale with which a run in this type begins."""
    return LossScale() if dtype == "float16" else UNSCALED


HALF = np.dtype("float16"), np.dtype(ml_dtypes.bfloat16)


@functools.cache
def check_type(xp: ModuleType, dtype: str) -> None:
    """BadInput where a library has no arrays of this type: bfloat16 came with CuPy 14."""
    try:
        xp.ones((1, 1), dtype) @ xp.ones((1, 1), dtype)
    except Exception as why:
        raise BadInput(f"{dtype} needs another CuPy, 14 or later: {str(why).splitlines()[0]}") from None


def wide(x):
    """x in the type in which it is computed: float32 for 16-bit floats, its own for all others, numbers too.

    >>> wide(np.ones(2, "bfloat16")).dtype, wide(np.ones(2)).dtype
    (dtype('float32'), dtype('float64'))
    """
    if not hasattr(x, "dtype") or x.dtype not in HALF:
        return x
    return half.to_float32(x) if x.dtype == HALF[0] and library(x) is np else x.astype("float32")


def narrow(y, *xs):
    """y rounded to the 16-bit type that the arrays among xs have; y itself where they have another.

    What is too large becomes infinity, without a warning: whoever looks for it finds it.

    >>> narrow(np.float32([1e-9, 1e9]), np.ones(2, "float16"), 0.5)
    array([ 0., inf], dtype=float16)
    """
    types = {x.dtype for x in xs if hasattr(x, "dtype")}
    if len(types) != 1 or not types.issubset(HALF):
        return y
    with np.errstate(over="ignore"):
        if HALF[0] in types and y.dtype == "float32" and library(y) is np:
            return half.to_float16(y)
        return y.astype(*types, copy=False)


def product(a, b):
    """a @ b. 16-bit floats are multiplied as their library does it fast.

    NumPy multiplies them in float32 and gives that: its own products of them are 300 times slower. CuPy has
    the GPU multiply 16 bits by 16 bits, add up in 32, and give 16.
    """
    if library(a, b) is np:
        return wide(a) @ wide(b)
    small = next((x for x in (a, b) if x.dtype in HALF), a)
    return narrow(a, small) @ narrow(b, small)


def finite(x) -> bool:
    """Whether every entry is finite. A GPU is waited for.

    A sum shows it in one pass, where it is finite itself: it may also overflow, over entries that do not.

    >>> finite(np.full(9, 6e4, "float16")), finite(np.full(9, 1e308)), finite(np.array([np.inf, -np.inf]))
    (True, True, False)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(float(wide(x).sum())) or bool(library(x).isfinite(x).all())


def check_eps(eps: float, dtype) -> None:
    """BadInput for an eps that vanishes in the type of the numbers that it is added to, so that 0/0 is left.

    Subnormal numbers count as vanished: GPUs may flush them to zero. An eps of 0 is taken at its word.
    """
    least = float(np.finfo("float32" if np.dtype(dtype) in HALF else dtype).tiny)
    if 0 < eps < least:
        raise BadInput(
            f"eps {eps} vanishes beside numbers of {np.dtype(dtype)}: choose at least {1.05 * least:.2g}"
        )
