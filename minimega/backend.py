"""Which array library owns an array, and the few operations that NumPy and CuPy do not share.

Nothing here imports CuPy: an array that came from it brings its library along.

16-bit floats (float16, bfloat16) are what is kept and sent. What is computed from them is computed in
float32: an operation widens what it takes (`wide`, `product`), and rounds what it gives or keeps (`narrow`)
once. For other types all three change nothing.
"""

import ctypes
import functools
import math
import sys
from collections.abc import Sequence
from types import ModuleType

import ml_dtypes  # from here on NumPy knows "bfloat16"
import numpy as np

from minimega import half
from minimega.child import pip
from minimega.errors import BadInput

HALF = np.dtype("float16"), np.dtype(ml_dtypes.bfloat16)


def library(*arrays) -> ModuleType:
    """The library that owns these arrays: CuPy if any of them lives on a GPU, NumPy otherwise.

    >>> library(np.zeros(2)).__name__
    'numpy'
    """
    for array in arrays:
        if type(array).__module__.partition(".")[0] == "cupy":
            return sys.modules["cupy"]
    return np


def base_of(array):
    """The array that owns the memory: itself, or that of which it is a view."""
    while library(array) is np and isinstance(array.base, np.ndarray):
        array = array.base
    return array


def device(name: str) -> ModuleType:
    """The array library for `--device`: NumPy for "cpu", CuPy for "cuda" (BadInput where there is none).

    >>> device("cpu").__name__
    'numpy'
    """
    if name == "cpu":
        return np
    try:
        import cupy
    except ImportError:
        raise BadInput(
            f"--device cuda needs CuPy, which is not installed: {pip('cupy-cuda12x')} (or cupy-cuda13x)"
        ) from None
    if not cupy.is_available():
        raise BadInput("--device cuda: CuPy finds no usable GPU on this machine; leave the option out")
    return cupy


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


def to_numpy(array) -> np.ndarray:
    """A NumPy array of the same values (a copy from the GPU where it was there)."""
    return array.get() if library(array) is not np else np.asarray(array)


def sum_rows(rows, ids, count: int):
    """Add up the rows that share an id: (N, D) rows and (N,) ids give (count, D) sums.

    Rows of one id are added in a fixed order, so the sums are the same bits on every run: NumPy sorts the
    ids and adds up runs (some times as fast as `np.add.at` where few ids come often, as fast where many
    come once), CuPy multiplies by a one-hot matrix. Sums of 16-bit rows are float32.

    >>> sum_rows(np.array([[1.0], [2.0], [4.0]]), np.array([2, 0, 2]), 3).ravel().tolist()
    [2.0, 0.0, 5.0]
    """
    xp, rows = library(rows), wide(rows)
    if xp is not np:
        one_hot = (xp.arange(count)[:, None] == ids[None, :]).astype(rows.dtype)  # (count, N)
        return one_hot @ rows
    sums = np.zeros((count, rows.shape[1]), rows.dtype)
    if len(ids):
        order = np.argsort(ids, kind="stable")
        ordered = ids[order]
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        sums[ordered[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return sums


def keep_memory() -> bool:
    """Tell the C library to keep freed memory, so that the next step's arrays fault in no new pages.

    One call made training steps 1.4 times as fast with glibc; elsewhere nothing is done (False).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of <malloc.h>
    return bool(mallopt(mmap_threshold, 1 << 30) and mallopt(trim_threshold, 2**31 - 1))


def normal_axis(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """The axes of a reduction as a sorted tuple of non-negative numbers (all of them for None).

    >>> normal_axis(-1, 3), normal_axis(None, 2)
    ((2,), (0, 1))
    """
    axes = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    return tuple(sorted(range(ndim)[a] for a in axes))  # a % ndim would take an axis that does not exist
