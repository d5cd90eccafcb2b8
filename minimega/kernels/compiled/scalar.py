"""The exponential function as a polynomial, and sums of rows: what a processor does on many numbers at once.

A call of the C library's exp is made number by number; this is a straight line of multiplications and
additions, of which the compiler makes vector instructions.

    x = n log 2 + r, |r| <= log 2 / 2:    exp(x) = 2^n exp(r)

log 2 is split into a part with few digits, so that n times it is exact, and the rest (Cody and Waite 1980).
"""

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

# no `reassoc`: it would join the two parts of log 2 again; "contract" allows fused multiply-add
EXACT: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True, "cache": True}
# a sum may be taken in any order, which is what lets a processor add 16 numbers at once
ANY_ORDER: dict[str, Any] = EXACT | {"fastmath": {"contract", "reassoc", "nsz"}}
NO_NAN: dict[str, Any] = EXACT | {"fastmath": {"nnan", "nsz"}}

F = np.float32
LOG2E_32, HIGH_32, LOW_32 = F(1 / math.log(2)), F(0.693359375), F(math.log(2) - 0.693359375)
MOST_32, LEAST_32 = F(88.722839), F(-86.6)  # 2^128 is infinity; below, 2^-125 is taken for 0
TAYLOR_32 = tuple(F(c) for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2))
THIRD_32, HALF_32 = F(1.6666665459e-1), F(5.0000001201e-1)  # the nearest polynomial to exp, not quite 1/k!
LOG2E_64, HIGH_64 = 1 / math.log(2), 6.93145751953125e-1
LOW_64 = 1.42860682030941723212e-6
MOST_64, LEAST_64 = 709.782712893384, -708.0
A32, B32, C32, D32 = TAYLOR_32
ZERO, ONE, TWO, HALF, INFINITE = F(0), F(1), F(2), F(0.5), F(np.inf)
C13, C12, C11, C10, C9, C8 = (1 / math.factorial(k) for k in (13, 12, 11, 10, 9, 8))
C7, C6, C5, C4, C3 = (1 / math.factorial(k) for k in (7, 6, 5, 4, 3))


@njit(**EXACT)
def exp32(x):
    """exp of a float32, to 2 units in the last place; below -86.6 it is 0."""
    inside = x if x < MOST_32 else MOST_32
    inside = inside if inside > LEAST_32 else LEAST_32
    n = np.int32(inside * LOG2E_32 + (HALF if inside > ZERO else -HALF))
    k = F(n)
    r = inside - k * HIGH_32
    r = r - k * LOW_32
    p = ((((A32 * r + B32) * r + C32) * r + D32) * r + THIRD_32) * r + HALF_32
    p = p * r * r + r + ONE
    y = p * np.int32((n + np.int32(126)) << np.int32(23)).view(np.float32) * TWO  # 2^n may not fit: 2^(n-1)
    y = y if x >= LEAST_32 else ZERO
    y = y if x <= MOST_32 else INFINITE
    return y if x == x else x  # NaN


@njit(**EXACT)
def exp64(x):
    """exp of a float64, to 2 units in the last place; below -708 it is 0."""
    inside = x if x < MOST_64 else MOST_64
    inside = inside if inside > LEAST_64 else LEAST_64
    n = np.int64(inside * LOG2E_64 + (0.5 if inside > 0 else -0.5))
    k = np.float64(n)
    r = inside - k * HIGH_64
    r = r - k * LOW_64
    p = ((((((C13 * r + C12) * r + C11) * r + C10) * r + C9) * r + C8) * r + C7) * r
    p = (((p + C6) * r + C5) * r + C4) * r + C3
    p = (p * r + 0.5) * r * r + r + 1.0
    y = p * np.int64((n + np.int64(1022)) << np.int64(52)).view(np.float64) * 2.0
    y = y if x >= LEAST_64 else 0.0
    y = y if x <= MOST_64 else np.inf
    return y if x == x else x


def exp(x):
    """exp of a number of either type, inside of a compiled function."""
    return math.exp(x)


@overload(exp)
def _(x):
    return (lambda x: exp32(x)) if x == types.float32 else (lambda x: exp64(x))


@njit(**ANY_ORDER)
def total(x):
    """The sum of a row."""
    s = x[0] * 0
    for i in range(x.size):
        s += x[i]
    return s


@njit(**NO_NAN)
def largest(x):
    """The largest number of a row; of a row with a NaN, any of them."""
    most = x[0]
    for i in range(x.size):
        most = x[i] if x[i] > most else most
    return most


@njit(**ANY_ORDER)
def dot(x, y):
    """The inner product of two rows."""
    s = x[0] * y[0] * 0
    for i in range(x.size):
        s += x[i] * y[i]
    return s
