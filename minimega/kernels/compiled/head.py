"""head.cross_entropy in one pass over each token's logits: its probabilities are never stored.

The backward computes them again from two numbers a token, its largest logit and the sum of the exponentials.

N tokens, V vocabulary.
"""

import numpy as np
from numba import njit

from minimega.kernels.compiled.fits import fits
from minimega.kernels.compiled.scalar import EXACT, exp, largest, total


@njit(**EXACT)
def _forward(x, ids, sums):
    """The loss, summed over the counted tokens in float64; fills sums (N, 2)."""
    kind, loss = x.dtype.type, 0.0
    each = np.empty(x.shape[1], x.dtype)
    for i in range(ids.size):
        row = x[i]
        most = largest(row)
        for j in range(row.size):
            each[j] = exp(row[j] - most)
        whole = total(each)
        sums[i, 0], sums[i, 1] = most, kind(1) / whole
        if ids[i] >= 0:
            loss += np.log(whole) - (row[ids[i]] - most)
    return loss


@njit(**EXACT)
def _backward(x, ids, sums, each, dx):
    kind = x.dtype.type
    for i in range(ids.size):
        row, d = x[i], dx[i]
        counted = kind(each) if ids[i] >= 0 else kind(0)
        most, part = sums[i, 0], sums[i, 1] * counted
        for j in range(row.size):
            d[j] = exp(row[j] - most) * part
        if ids[i] >= 0:
            d[ids[i]] -= counted


def cross_entropy(logits, targets, count=None, first: int = 0, group=None, vocabulary=None):
    """See head.cross_entropy. Only of a whole vocabulary, and of targets that are tokens of it or -1."""
    if not fits(logits) or type(targets) is not np.ndarray or targets.dtype.kind != "i":
        return NotImplemented
    size = logits.shape[-1]
    if targets.shape != logits.shape[:-1] or first or getattr(group, "size", 1) != 1:
        return NotImplemented
    if vocabulary not in (None, size) or targets.min() < -1 or targets.max() >= size:
        return NotImplemented
    x, ids = np.ascontiguousarray(logits).reshape(-1, size), targets.ravel()
    sums, kind = np.empty((len(ids), 2), x.dtype), x.dtype.type
    count = max(int((ids >= 0).sum() if count is None else count), 1)
    loss = kind(_forward(x, ids, sums) / count)

    def back(dy):
        dx = np.empty_like(x)
        _backward(x, ids, sums, float(dy) / count, dx)
        return dx.reshape(logits.shape)

    return loss, back
