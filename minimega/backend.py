"""Which library owns an array, NumPy or CuPy, and the few operations in which the two differ.

CuPy is imported only for the device "cuda": a CuPy array already brings its library along.
"""

import ctypes
import sys
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from minimega.errors import BadInput, pip


def library(*arrays) -> ModuleType:
    """The library that owns these arrays: CuPy if any of them is on a GPU, else NumPy.

    >>> library(np.zeros(2)).__name__
    'numpy'
    """
    for array in arrays:
        if type(array).__module__.partition(".")[0] == "cupy":
            return sys.modules["cupy"]
    return np


def base_of(array):
    """The array that owns this array's memory: itself, or the array it is a view of."""
    while isinstance(array.base, np.ndarray) if library(array) is np else array.base is not None:
        array = array.base
    return array


def device(name: str) -> ModuleType:
    """The array library of a device: NumPy for "cpu", CuPy for "cuda".

    Raises BadInput if CuPy is not installed or finds no GPU.

    >>> device("cpu").__name__
    'numpy'
    """
    if name == "cpu":
        return np
    try:
        import cupy
    except ImportError:
        raise BadInput(
            f"`device` cuda needs CuPy, which is not installed: {pip('cupy-cuda12x')} (or cupy-cuda13x)"
        ) from None
    if not cupy.is_available():
        raise BadInput("`device` cuda: CuPy finds no usable GPU on this machine; use cpu")
    return cupy


def to_numpy(array) -> np.ndarray:
    """The same values as a NumPy array; a GPU array is copied to the host."""
    return array.get() if library(array) is not np else np.asarray(array)


def keep_memory() -> bool:
    """Tell malloc to keep freed memory: the next step's arrays then cause no page faults.

    One call made training steps 1.4 times as fast with glibc. Returns False, and does nothing, elsewhere.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of <malloc.h>
    return bool(mallopt(mmap_threshold, 1 << 30) and mallopt(trim_threshold, 2**31 - 1))


def normal_axis(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """The axes of a reduction as a sorted tuple of non-negative integers; None means all axes.

    >>> normal_axis(-1, 3), normal_axis(None, 2)
    ((2,), (0, 1))
    """
    axes = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    return tuple(sorted(range(ndim)[a] for a in axes))  # a % ndim would accept an axis out of range
