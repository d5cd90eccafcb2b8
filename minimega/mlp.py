"""The MLP: two linear layers around an activation, on each token alone.

D width, F hidden width.
"""

from minimega import ops
from minimega.layer import Layer
from minimega.linear import Linear

ACTIVATIONS = {"gelu": ops.gelu, "relu": ops.relu}


class MLP(Layer):
    """D -> F, activation, F -> D; place is not needed, since no token looks at another."""

    def __init__(self, d_model: int, d_hidden: int, activation: str = "gelu", std_out: float = 0.02):
        self.activation = ACTIVATIONS[activation]
        self.up = Linear(d_model, d_hidden)
        self.down = Linear(d_hidden, d_model, std=std_out)

    def forward(self, x, place):
        return self.down(self.activation(self.up(x)))
