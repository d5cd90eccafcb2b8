"""Which array library owns an array, and the few operations that NumPy and CuPy do not share.

Nothing here imports CuPy: an array that came from it brings its library along.

16-bit floats (float16, bfloat16) are what is kept and sent. What is computed from them is computed in
float32: an operation widens what it takes (`wide`, `product`), and rounds what it gives or keeps (`narrow`)
once. For other types all three change nothing.
"""

import ctypes
import sys
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from minimega.errors import BadInput, pip


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


def to_numpy(array) -> np.ndarray:
    """A NumPy array of the same values (a copy from the GPU where it was there)."""
    return array.get() if library(array) is not np else np.asarray(array)


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
