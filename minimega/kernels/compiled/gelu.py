"""ops.gelu in one pass each way.

With u = sqrt(2/pi) (x + 0.044715 x^3) the readable (1 + tanh(u)) / 2 is s = 1 / (1 + exp(-2u)): one
exponential, and no cancellation where tanh is near -1. The backward computes s again, so only x is kept.
"""

import numpy as np
from numba import njit

from minimega.kernels.compiled.fits import fits
from minimega.kernels.compiled.scalar import EXACT, exp

SCALE, CUBE, SATURATED = 2 * float(np.sqrt(2 / np.pi)), 0.044715, 1e4  # as in ops.py; SCALE is that of 2u


@njit(**EXACT)
def _forward(x, y):
    kind = x.dtype.type
    scale, cube, one = kind(-SCALE), kind(CUBE), kind(1)
    for i in range(x.size):
        a = x[i]
        y[i] = a * (one / (one + exp(scale * a * (one + cube * a * a))))


@njit(**EXACT)
def _backward(x, dy, dx):
    kind = x.dtype.type
    scale, cube, one, three, most = kind(SCALE), kind(CUBE), kind(1), kind(3), kind(SATURATED)
    for i in range(x.size):
        a = x[i]
        square = cube * a * a
        s = one / (one + exp(-scale * a * (one + square)))
        inner = scale * a * (one + three * square)
        inner = inner if inner < most else most  # it would overflow where s (1 - s) is 0
        inner = inner if inner > -most else -most
        dx[i] = dy[i] * (s + s * (one - s) * inner)


def gelu(x):
    """See ops.gelu."""
    if not fits(x):
        return NotImplemented
    flat = x.reshape(-1)
    y = np.empty_like(flat)
    _forward(flat, y)

    def back(dy):
        dx = np.empty_like(flat)
        _backward(flat, dy.reshape(-1), dx)
        return dx.reshape(x.shape)

    return y.reshape(x.shape), back
