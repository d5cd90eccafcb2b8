"""optim.AdamW.update in one pass over the weight and its state, and optim.sum_of_squares without a copy."""

import math

import numpy as np
from numba import njit

from minimega.kernels.compiled.fits import fits
from minimega.kernels.compiled.scalar import ANY_ORDER, EXACT


@njit(**EXACT)
def _adamw(w, g, mean, square, numbers):
    kind = w.dtype.type
    shrink, root, eps, step = kind(numbers[0]), kind(numbers[1]), kind(numbers[2]), kind(numbers[3])
    one, two = kind(numbers[4]), kind(numbers[5])
    for i in range(w.size):
        m = mean[i] + one * (g[i] - mean[i])
        v = square[i] + two * (g[i] * g[i] - square[i])
        mean[i], square[i] = m, v
        w[i] = w[i] * shrink - step * (m / (np.sqrt(v) * root + eps))


@njit(**ANY_ORDER)
def _squares(g):
    s = 0.0
    for i in range(g.size):
        x = np.float64(g[i])
        s += x * x
    return s


def update(self, w, g, lr, decay, mean, square):
    """See optim.AdamW.update."""
    arrays = w, g, mean, square
    if not fits(*arrays) or not all(x.flags.c_contiguous and x.shape == w.shape for x in arrays):
        return NotImplemented
    shrink, step = 1 - lr * decay, lr / (1 - self.beta1**self.steps)
    root = 1 / math.sqrt(1 - self.beta2**self.steps)
    numbers = shrink, root, self.eps, step, 1 - self.beta1, 1 - self.beta2
    w, g, mean, square = (x.reshape(-1) for x in arrays)
    _adamw(w, g, mean, square, numbers)
    return None


def sum_of_squares(p):
    """See optim.sum_of_squares."""
    if p.grad is None or not fits(p.grad) or not p.grad.flags.c_contiguous:
        return NotImplemented
    return float(_squares(p.grad.reshape(-1)))
