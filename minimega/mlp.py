"""The MLP: two linear layers around an activation, on each token alone.

D width, F hidden width.
"""

from minimega import ops
from minimega.layer import Layer
from minimega.linear import ColumnLinear, RowLinear

ACTIVATIONS = {"gelu": ops.gelu, "relu": ops.relu}


class MLP(Layer):
    """D -> F, activation, F -> D; the hidden features are shared out."""

    def __init__(self, d_model: int, d_hidden: int, activation: str = "gelu", std_out: float = 0.02):
        self.activation = ACTIVATIONS[activation]
        self.up = ColumnLinear(d_model, d_hidden)
        self.down = RowLinear(d_hidden, d_model, std_out)

    def forward(self, x, place):
        return self.down(self.activation(self.up(x, place)), place)
