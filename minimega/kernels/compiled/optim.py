"""optim.AdamW.update in one pass over the weight and its state, and optim.sum_of_squares without a copy."""

import math

import numpy as np
from numba import njit

from minimega.kernels.compiled.fits import fits
from minimega.kernels.compiled.scalar import ANY_ORDER, EXACT


@njit(**EXACT)
def _adamw(w, g, mean, square, shrink, betas, root, eps, step):
    kind = w.dtype.type
    shrink, root, eps, step = kind(shrink), kind(1 / root), kind(eps), kind(step)
    one, two = kind(1 - betas[0]), kind(1 - betas[1])
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
    root = math.sqrt(1 - self.beta2**self.steps)
    step = lr / (1 - self.beta1**self.steps)
    flat = (x.reshape(-1) for x in arrays)
    _adamw(*flat, 1 - lr * decay, (self.beta1, self.beta2), root, self.eps, step)
    return None


def sum_of_squares(p):
    """See optim.sum_of_squares."""
    if p.grad is None or not fits(p.grad) or not p.grad.flags.c_contiguous:
        return NotImplemented
    return float(_squares(p.grad.reshape(-1)))
