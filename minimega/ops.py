"""Arithmetic, one function per operation: forward, then its backward as a closure.

dy is the gradient of the loss with respect to the output y, dx that with respect to x; dx.shape is always
x.shape. If the forward broadcast x, the backward sums over the repeated axes: each copy contributed its own
part of the gradient.

Gradients that may not be needed (of a constant, say) are returned as functions, called only if they are
needed. A closure keeps in memory every array that it names: if a shape is enough, it names the shape.

16-bit floats: sums and anything of several steps are computed in float32 (`wide`) and rounded once; a single
step (a + b) does the same by itself. `@op` rounds y and passes a float32 dy; the engine rounds the gradients.
`narrow` is only for what a closure keeps, which would otherwise take the memory of float32.
"""

import math
from typing import Any

import numpy as np

from minimega.autograd import op
from minimega.backend import library, normal_axis
from minimega.errors import BadInput
from minimega.precision import narrow, product, wide
from minimega.tensor import Tensor


def unbroadcast(dy, shape: tuple[int, ...]):
    """Sum dy over the axes along which an array of this shape was repeated.

    >>> unbroadcast(np.ones((4, 2, 3)), (2, 1)).tolist()
    [[12.0], [12.0]]
    """
    added = dy.ndim - len(shape)
    stretched = tuple(i + added for i, n in enumerate(shape) if n == 1 != dy.shape[i + added])
    if added or stretched:
        dy = dy.sum(axis=tuple(range(added)) + stretched, keepdims=True)
    return dy.reshape(shape)


@op
def add(a, b):
    """a + b, broadcasting."""
    sa, sb = np.shape(a), np.shape(b)
    return a + b, lambda dy: (lambda: unbroadcast(dy, sa), lambda: unbroadcast(dy, sb))


@op
def subtract(a, b):
    """a - b, broadcasting."""
    sa, sb = np.shape(a), np.shape(b)
    return a - b, lambda dy: (lambda: unbroadcast(dy, sa), lambda: unbroadcast(-dy, sb))


@op
def multiply(a, b):
    """a * b, broadcasting: each factor's gradient is dy times the other one."""
    return a * b, lambda dy: (
        lambda: unbroadcast(dy * b, np.shape(a)),
        lambda: unbroadcast(dy * a, np.shape(b)),
    )


@op
def divide(a, b):
    """a / b, broadcasting."""
    y, shape = narrow(a / b, a, b), np.shape(a)  # kept

    return y, lambda dy: (lambda: unbroadcast(dy / b, shape), lambda: unbroadcast(-dy * y / b, np.shape(b)))


@op
def power(a, b):
    """a to the power of b, broadcasting (a must not be negative if b needs a gradient)."""
    # each slope is 0 where its formula gives 0 times infinity: the first at b = 0, the second at a = 0
    return a**b, lambda dy: (
        lambda: unbroadcast(dy * b * wide(a) ** (wide(b) - 1 + (b == 0)), np.shape(a)),
        lambda: unbroadcast(dy * wide(a) ** b * library(a, b).log(wide(a) + (a == 0)), np.shape(b)),
    )


@op
def negative(x):
    """-x."""
    return -x, lambda dy: -dy


@op
def matmul(a, b):
    """a @ b over the last two axes, broadcasting those before: (..., M, K) @ (..., K, N) -> (..., M, N)."""
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError(f"matmul wants matrices, or stacks of them: {a.shape} @ {b.shape}")
    if a.shape[-1] != b.shape[-2]:
        sizes = f"{a.shape[-1]} columns on the left, {b.shape[-2]} rows on the right"
        raise BadInput(f"matmul: {a.shape} @ {b.shape}: {sizes}")

    def back(dy):
        return (
            lambda: unbroadcast(product(dy, b.swapaxes(-1, -2)), a.shape),
            lambda: unbroadcast(product(a.swapaxes(-1, -2), dy), b.shape),
        )

    return product(a, b), back


@op
def exp(x):
    """e to the x."""
    y = library(x).exp(x)
    return y, lambda dy: dy * y


@op
def log(x):
    """The natural logarithm."""
    return library(x).log(x), lambda dy: dy / x


@op
def sqrt(x):
    """The square root."""
    y = library(x).sqrt(x)
    return y, lambda dy: dy / (2 * y)


@op
def tanh(x):
    """The hyperbolic tangent."""
    y = library(x).tanh(x)
    return y, lambda dy: dy * (1 - wide(y) * y)


@op
def sum(x, axis=None, keepdims: bool = False):
    """The sum over the given axes (None: over all)."""
    axes = normal_axis(axis, x.ndim)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    shape = x.shape
    y = wide(x).sum(axis=axes, keepdims=keepdims)
    # every summand passes dy on unchanged
    return y, lambda dy: library(dy).broadcast_to(dy.reshape(kept), shape)


@op
def mean(x, axis=None, keepdims: bool = False):
    """The mean over the given axes (None: over all)."""
    y, back = sum(wide(x), axis, keepdims)
    count = math.prod(x.shape[a] for a in normal_axis(axis, x.ndim))
    return y / count, lambda dy: back(dy / count)


@op
def max(x, axis=None, keepdims: bool = False):
    """The largest entry along the given axes (None: all); entries that tie share the gradient equally."""
    axes = normal_axis(axis, x.ndim)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    y = x.max(axis=axes, keepdims=True)
    winners = x == y

    def back(dy):
        dy = dy.reshape(kept)
        return winners * (dy / winners.sum(axis=axes, keepdims=True, dtype=dy.dtype))

    return y if keepdims else y.squeeze(axes), back


@op
def reshape(x, *shape: int):
    """The same entries in another shape, like `ndarray.reshape`."""
    old = x.shape
    return x.reshape(*shape), lambda dy: dy.reshape(old)


@op
def transpose(x, *axes: int):
    """The axes in another order (reversed if none is given)."""
    given: Any = axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
    if given and sorted(a % x.ndim for a in given) != list(range(x.ndim)):
        raise ValueError(f"transpose takes all {x.ndim} axes in their new order, as NumPy's: not {given}")
    order = tuple(range(x.ndim)[a] for a in given) or tuple(reversed(range(x.ndim)))
    back_again = tuple(int(i) for i in np.argsort(order))
    return x.transpose(order), lambda dy: dy.transpose(back_again)


@op
def take(x, index):
    """x[index] with slices, integers or arrays; an entry that is taken twice gets both gradients."""
    shape, xp = x.shape, library(x)

    def back(dy):
        dx = xp.zeros(shape, dy.dtype)
        if _takes_once(index):
            dx[index] = dy
        else:
            xp.add.at(dx, index, dy)  # an assignment would keep only the last gradient of a repeated entry
        return dx

    return x[index], back


def _takes_once(index) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(isinstance(p, slice | int | type(None) | type(Ellipsis)) for p in parts)


@op
def concatenate(*xs, axis: int = 0):
    """The arrays joined along an axis; the gradient is split at the same places."""
    ends = np.cumsum([x.shape[axis] for x in xs])[:-1].tolist()
    return library(*xs).concatenate(xs, axis), lambda dy: tuple(library(dy).split(dy, ends, axis))


@op
def softmax(x, axis: int = -1):
    """exp(x) over its sum along an axis; the largest entry is subtracted first, so exp cannot overflow."""
    y = library(x).exp(wide(x) - x.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)
    y = narrow(y, x)  # kept
    # dy_i/dx_j = y_i (1[i=j] - y_j): the second term, summed over i, is y_j times the same number for every j
    return y, lambda dy: y * (dy - (dy * y).sum(axis=axis, keepdims=True))


@op
def log_softmax(x, axis: int = -1):
    """The logarithm of softmax(x), without dividing."""
    shifted = wide(x) - x.max(axis=axis, keepdims=True)
    y = shifted - library(x).log(library(x).exp(shifted).sum(axis=axis, keepdims=True))
    y = narrow(y, x)  # kept
    return y, lambda dy: dy - library(y).exp(wide(y)) * dy.sum(axis=axis, keepdims=True)


@op
def relu(x):
    """x where it is positive, 0 elsewhere."""
    return library(x).maximum(x, 0), lambda dy: dy * (x > 0)


GELU_SCALE, GELU_CUBE, SATURATED = float(np.sqrt(2 / np.pi)), 0.044715, 1e4  # 1 - t^2 is 0 long before


@op
def gelu(x):
    """x times the probability that a standard normal is below x, by the tanh formula of GPT-2.

    y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); Hendrycks and Gimpel 2016, section 2.
    """
    # in place: allocating arrays of this size costs more than the arithmetic (asarray: x may be a number)
    xp = library(x)
    t = xp.asarray(wide(x) * x)
    t *= GELU_CUBE
    t += 1
    t *= x
    t *= GELU_SCALE
    t = xp.tanh(t, out=t)

    def back(dy):
        # dy/dx = (1 + t)/2 + x/2 (1 - t^2) d(inner)/dx
        slope = xp.asarray(wide(x) * x)
        slope *= 3 * GELU_CUBE * GELU_SCALE
        slope += GELU_SCALE
        slope *= x
        xp.clip(slope, -SATURATED, SATURATED, out=slope)  # it would overflow where 1 - t^2 is 0
        slope *= 1 - wide(t) * t
        slope += t
        slope += 1
        slope *= 0.5
        slope *= dy
        return slope

    y = t + 1
    y *= 0.5
    y *= x
    t = narrow(t, x)  # kept
    return y, back


@op
def dropout(x, keep=None, p: float = 0.0):
    """Keep an entry with probability 1 - p and scale it by 1/(1 - p), which preserves the mean.

    Srivastava et al. 2014. `keep()` returns the mask, booleans of the shape of x; the backward pass calls it
    again instead of storing the mask. `keep=None` drops nothing.
    """
    if keep is None:
        return x, lambda dy: dy
    scale = 1 / (1 - p)
    return wide(x) * keep() * scale, lambda dy: dy * keep() * scale


_OPERATIONS = (add, subtract, multiply, divide, power, negative, matmul, exp, log, sqrt, tanh, relu, gelu)
_OPERATIONS += (sum, mean, max, softmax, log_softmax, reshape, transpose, take)
Tensor.operations |= {f.__name__: f for f in _OPERATIONS}
