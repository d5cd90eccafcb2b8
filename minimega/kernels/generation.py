"""Versions for generation, with NumPy alone: a product of few rows, and a choice that sorts few tokens.

B texts, V vocabulary, M rows, I and O the widths of input and output.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import numpy as np

from minimega.backend import library
from minimega.kernels import chosen

T = TypeVar("T")
FEW = 16  # rows: from twice as many on, the usual product is as fast
BLOCK, SMALL = 64, 1_000_000  # columns; multiplications up to which OpenBLAS does not repack the matrix
WIDE = 4096  # a vocabulary from which on sorting takes long
BINS, FAR = 2048, 40.0  # bins over the exponents from 0 to -FAR; less than 1e-17 of the largest lies below


@contextmanager
def quick() -> Iterator[None]:
    """A context with the versions of this file, beside those that the run chose; also a decorator."""
    token = chosen.set({**chosen.get(), **VERSIONS})
    try:
        yield
    finally:
        chosen.reset(token)


def quickly(steps: Iterator[T]) -> Iterator[T]:
    """The same steps of a generator, each taken with the versions of this file.

    A generator has its caller's context: `quick` inside it would hold between its steps too.

    >>> list(quickly(n * n for n in range(3)))
    [0, 1, 4]
    """
    while True:
        with quick():
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step


def linear(x, w, b=None, transposed=False):
    """`linear.linear` of a few rows with a transposed w (O, I): by blocks of it, which are read only once.

    A whole product first copies w into another order, which takes longer than multiplying it by so few rows.
    """
    rows = x.reshape(-1, x.shape[-1])  # (M, I)
    count, inner = rows.shape
    if library(x, w) is not np or not transposed or not 1 < count <= FEW or x.dtype != w.dtype:
        return NotImplemented
    step = min(BLOCK, SMALL // (count * inner) // 16 * 16)
    if step == 0 or x.dtype.kind != "f" or x.dtype.itemsize < 4:
        return NotImplemented
    y = np.empty((count, len(w)), x.dtype)  # (M, O)
    for o in range(0, len(w), step):
        np.matmul(rows, w[o : o + step].T, out=y[:, o : o + step])
    if b is not None:
        y += b

    def back(dy):
        dy = dy.reshape(-1, len(w))  # (M, O)
        return (dy @ w).reshape(x.shape), lambda: dy.T @ rows, lambda: dy.sum(axis=0)

    return y.reshape(*x.shape[:-1], len(w)), back


def choose(logits, uniform, temperature=1.0, top_k=0, top_p=1.0):
    """`sample.choose`, which sorts only the tokens that are about as likely as the chosen one.

    A histogram of the probabilities tells in which bin the cumulative distribution reaches the number. Sums
    are in another order than the readable function's, so their last bits differ: in about one of 1e12 choices
    that could give the neighbouring token.
    """
    if temperature == 0 or library(logits) is not np or logits.shape[-1] < WIDE:
        return NotImplemented
    most = logits.max(axis=-1)
    if not np.isfinite(most.astype(np.float64)).all():
        return NotImplemented
    found = [
        _choose(row.astype(np.float64), u, temperature, top_k, top_p)
        for row, u in zip(logits, uniform, strict=True)
    ]
    return np.array(found, np.int64)


def _choose(row: np.ndarray, uniform: float, temperature: float, top_k: int, top_p: float) -> int:
    ids = None
    if 0 < top_k < len(row):
        least = np.partition(row, -top_k)[-top_k]
        above = np.flatnonzero(row > least)
        ids = np.sort(np.concatenate((above, np.flatnonzero(row == least)[: top_k - len(above)])))
        row = row[ids]
    with np.errstate(over="ignore"):
        exponents = (row - row.max()) / temperature
    p = np.exp(exponents)
    bins = np.minimum(exponents * (-BINS / FAR), BINS - 1).astype(np.int64)
    heights = np.bincount(bins, p)
    ends = np.cumsum(heights)
    total = ends[-1]
    if top_p < 1:
        token, total = _reach(row, p, bins, ends, top_p * total, "left")
    token, _ = _reach(row, p, bins, ends, uniform * total, "right")
    return int(token if ids is None else ids[token])


def _reach(row, p, bins, ends, mass: float, side: Literal["left", "right"]) -> tuple[int, float]:
    """The token at which the cumulative distribution reaches `mass` ("left") or passes it; its value there.

    Most likely tokens come first, equally likely ones by id.
    """
    full = np.flatnonzero(np.diff(ends, prepend=0.0) > 0)[-1]
    bin_ = min(int(np.searchsorted(ends, mass, side)), full)
    inside = np.flatnonzero(bins == bin_)
    inside = inside[np.argsort(-row[inside], kind="stable")]
    line = np.cumsum(p[inside]) + (ends[bin_ - 1] if bin_ else 0.0)
    place = min(int(np.searchsorted(line, mass, side)), int((p[inside] > 0).sum()) - 1)
    return inside[place], line[place]


VERSIONS = {"minimega.linear.linear": linear, "minimega.sample.choose": choose}
