"""The MLP: two linear layers with an activation between them, applied to each token separately.

D width, F hidden width.
"""

import math

import numpy as np

from minimega import ops
from minimega.autograd import op
from minimega.backend import library
from minimega.layer import Layer
from minimega.linear import ColumnLinear, RowLinear
from minimega.precision import wide

NODES = np.arange(-576, 577) / 64  # from -9 to 9: beyond, a normal's probability is 0 or 1 in float64
CDF = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in NODES])


def normal_cdf(x):
    """The probability that a standard normal is below x, and its density there: two arrays like x.

    NumPy has no error function: this is the Taylor series, to the fifth power, at the nearest of the NODES.
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


@op
def gelu_erf(x):
    """x times the probability that a standard normal is below x: exact, not GPT-2's tanh formula.

    Hendrycks and Gimpel 2016, section 2; `gelu` in the models of Hugging Face, whose `gelu_new` is ops.gelu.

    >>> gelu_erf(np.array([-1.0, 0.0, 1.0]))[0].round(4).tolist()
    [-0.1587, 0.0, 0.8413]
    """
    full = wide(x)
    return full * normal_cdf(full)[0], lambda dy: dy * _gelu_slope(wide(x))


def _gelu_slope(x):
    cdf, density = normal_cdf(x)
    return cdf + x * density


ACTIVATIONS = {"gelu": ops.gelu, "relu": ops.relu, "gelu-erf": gelu_erf}


class MLP(Layer):
    """D -> F, activation, F -> D; each rank holds some of the hidden features."""

    def __init__(self, d_model: int, d_hidden: int, activation: str = "gelu", std_out: float = 0.02):
        self.activation = ACTIVATIONS[activation]
        self.up = ColumnLinear(d_model, d_hidden)
        self.down = RowLinear(d_hidden, d_model, std_out)

    def forward(self, x, place):
        """(B, T, D) -> (B, T, D)."""
        return self.down(self.activation(self.up(x, place)), place)
