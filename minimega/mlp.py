"""The MLP: two linear layers with an activation between them, applied to each token separately.

D width, F hidden width.
"""

from minimega import ops
from minimega.autograd import op
from minimega.errors import BadInput
from minimega.kernels.normal import normal_cdf
from minimega.layer import Layer
from minimega.linear import FAN_IN, ColumnLinear, RowLinear, Stds
from minimega.precision import wide


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
    """D -> F, activation, F -> D; each rank holds some of the hidden features.

    Weights start as those of `Linear`, or with the given two standard deviations, of the way up and down.

    >>> MLP(8, 32), MLP(8, 32, "relu")(np.zeros((4, 8))).shape
    (MLP(8 -> 32 -> 8), (4, 8))
    """

    def __init__(self, d_model: int, d_hidden: int, activation: str = "gelu", stds: Stds = FAN_IN):
        if activation not in ACTIVATIONS:
            raise BadInput(f"activation is {activation!r}; it can be {' or '.join(ACTIVATIONS)}")
        self.activation = ACTIVATIONS[activation]
        self.up = ColumnLinear(d_model, d_hidden, std=stds[0])
        self.down = RowLinear(d_hidden, d_model, std=stds[1])

    def forward(self, x, place=None):
        """(..., D) -> (..., D)."""
        return self.down(self.activation(self.up(x, place)), place)
