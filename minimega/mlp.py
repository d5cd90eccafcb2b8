"""The MLP: two linear layers with an activation between them, applied to each token separately.

D width, F hidden width.
"""

from minimega import ops
from minimega.layer import Layer
from minimega.linear import ColumnLinear, RowLinear

ACTIVATIONS = {"gelu": ops.gelu, "relu": ops.relu}


class MLP(Layer):
    """D -> F, activation, F -> D; each rank holds some of the hidden features."""

    def __init__(self, d_model: int, d_hidden: int, activation: str = "gelu", std_out: float = 0.02):
        self.activation = ACTIVATIONS[activation]
        self.up = ColumnLinear(d_model, d_hidden)
        self.down = RowLinear(d_hidden, d_model, std_out)

    def forward(self, x, place):
        """(B, T, D) -> (B, T, D)."""
        return self.down(self.activation(self.up(x, place)), place)
