"""Which array library owns an array, and the few operations that NumPy and CuPy do not share.

Nothing here imports CuPy: an array that came from it brings its library along.
"""

import ctypes
import sys
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from minimega.errors import BadInput


def library(*arrays) -> ModuleType:
    """The library that owns these arrays: CuPy if any of them lives on a GPU, NumPy otherwise.

    >>> library(np.zeros(2)).__name__
    'numpy'
    """
    for array in arrays:
        if type(array).__module__.partition(".")[0] == "cupy":
            return sys.modules["cupy"]
    return np


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
            "--device cuda needs CuPy, which is not installed: pip install 'minimega[cuda12]' (or cuda13)"
        ) from None
    if not cupy.is_available():
        raise BadInput("--device cuda: CuPy finds no usable GPU on this machine; leave the option out")
    return cupy


def to_numpy(array) -> np.ndarray:
    """A NumPy array of the same values (a copy from the GPU where it was there)."""
    return array.get() if library(array) is not np else np.asarray(array)


def sum_rows(rows, ids, count: int):
    """Add up the rows that share an id: (N, D) rows and (N,) ids give (count, D) sums.

    Rows of one id are added in a fixed order, so the sums are the same bits on every run: NumPy sorts
    the ids and adds up runs (`np.add.at` is several times slower), CuPy multiplies by a one-hot matrix.

    >>> sum_rows(np.array([[1.0], [2.0], [4.0]]), np.array([2, 0, 2]), 3).ravel().tolist()
    [2.0, 0.0, 5.0]
    """
    xp = library(rows)
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
