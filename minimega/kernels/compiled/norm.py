"""norm.layer_norm with one pass over each row, which is in the cache, each way.

D width, N rows.
"""

import numpy as np
from numba import njit

from minimega.kernels.compiled.fits import fits
from minimega.kernels.compiled.scalar import ANY_ORDER, EXACT, dot, total


@njit(**ANY_ORDER)
def _variance(x, mean):
    s = x[0] * 0
    for j in range(x.size):
        s += (x[j] - mean) * (x[j] - mean)
    return s / x.dtype.type(x.size)


@njit(**EXACT)
def _forward(x, w, b, eps, y, xhat, r):
    kind = x.dtype.type
    d = kind(w.size)
    for i in range(r.size):
        row = x[i]
        mean = total(row) / d
        scale = kind(1) / np.sqrt(_variance(row, mean) + kind(eps))
        r[i] = scale
        for j in range(w.size):
            h = (row[j] - mean) * scale
            xhat[i, j] = h
            y[i, j] = h * w[j] + b[j]


@njit(**EXACT)
def _backward(dy, xhat, r, w, dx, dw, db):
    kind = dy.dtype.type
    d = kind(w.size)
    for i in range(r.size):
        for j in range(w.size):
            g, h = dy[i, j], xhat[i, j]
            dw[j] += g * h
            db[j] += g
            dx[i, j] = g * w[j]
        mean, along = total(dx[i]) / d, dot(dx[i], xhat[i]) / d
        for j in range(w.size):
            dx[i, j] = (dx[i, j] - mean - xhat[i, j] * along) * r[i]


def layer_norm(x, w, b, eps: float = 1e-5):
    """See norm.layer_norm."""
    if not fits(x, w, b) or w.shape != b.shape or w.shape != x.shape[-1:]:
        return NotImplemented
    if eps < np.finfo(x.dtype).tiny:  # the readable one says what is wrong
        return NotImplemented
    rows = np.ascontiguousarray(x).reshape(-1, w.size)  # (N, D)
    w, b = np.ascontiguousarray(w), np.ascontiguousarray(b)
    y, xhat, r = np.empty_like(rows), np.empty_like(rows), np.empty(len(rows), x.dtype)
    _forward(rows, w, b, eps, y, xhat, r)

    def back(dy):
        dx, dw, db = np.empty_like(xhat), np.zeros_like(w), np.zeros_like(w)
        _backward(np.ascontiguousarray(dy).reshape(xhat.shape), xhat, r, w, dx, dw, db)
        return dx.reshape(x.shape), dw, db

    return y.reshape(x.shape), back
