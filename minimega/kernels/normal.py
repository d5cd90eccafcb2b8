"""The normal distribution from a table and a short series: NumPy has no error function."""

import math

import numpy as np

from minimega.backend import library

NODES = np.arange(-576, 577) / 64  # from -9 to 9: beyond, a normal's probability is 0 or 1 in float64
CDF = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in NODES])


def normal_cdf(x):
    """The probability that a standard normal is below x, and its density there: two arrays like x.

    This is the Taylor series, to the fifth power, at the nearest of the NODES.
    The next term is below 1e-15.
    """
    xp = library(x)
    x = xp.clip(x, -9, 9)
    k = xp.nan_to_num(xp.rint(64 * x))
    at = (k / 64).astype(x.dtype)
    d = x - at  # at most 1/128
    # the derivatives of the density at `at` are Hermite polynomials times the density
    a2 = at * at
    series = d * (3 - 6 * a2 + a2 * a2) / 120 + (3 * at - at * a2) / 24
    series = d * (d * (d * series + (a2 - 1) / 6) - at / 2) + 1
    near = xp.exp(-a2 / 2) * (2 * math.pi) ** -0.5
    cdf = xp.asarray(CDF.astype(x.dtype))[(k + 576).astype(int)] + d * near * series
    return cdf, xp.exp(-x * x / 2) * (2 * math.pi) ** -0.5
