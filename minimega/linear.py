"""The linear layer y = x W + b, with W cut by columns or by rows under tensor parallelism.

B batch, T time, I and O the widths of input and output.
"""

from minimega.autograd import op
from minimega.layer import Layer
from minimega.parameter import Parameter
from minimega.precision import product


@op
def linear(x, w, b=None, transposed: bool = False):
    """y = x w + b over the last axis: (..., I), (I, O), (O,) -> (..., O). A `transposed` w is (O, I).

    >>> import numpy as np
    >>> y, back = linear(np.ones((2, 3)), np.ones((3, 4)), np.zeros(4))
    >>> dx, dw, db = back(np.ones((2, 4)))
    >>> y[0, 0], dx[0, 0], dw()[0, 0], db()[0]
    (np.float64(3.0), np.float64(4.0), np.float64(2.0), np.float64(2.0))
    """
    shape, rows = x.shape, x.reshape(-1, x.shape[-1])  # (BT, I): one large product, not B small ones
    w = w.T if transposed else w  # (I, O)
    y = product(rows, w)  # (BT, O)
    if b is not None:
        y += b

    def back(dy):
        dy = dy.reshape(-1, w.shape[1])  # (BT, O)
        # every row used the same w and b: their gradients are sums over the rows
        return (
            product(dy, w.T).reshape(shape),
            lambda: product(dy.T, rows) if transposed else product(rows.T, dy),
            lambda: dy.sum(axis=0),
        )

    return y.reshape(*shape[:-1], w.shape[1]), back


class ColumnLinear(Layer):
    """A linear layer cut by its outputs: each rank holds some of the columns.

    (B, T, I) -> (B, T, O), of which this rank computes its piece (Shoeybi et al. 2019, section 3). Weights
    start normal with standard deviation std, the bias at 0.
    """

    def __init__(self, d_in: int, d_out: int, std: float = 0.02):
        self.weight = Parameter((d_in, d_out), std=std, axis=1)
        self.bias = Parameter((d_out,), axis=0)

    def forward(self, x, place):
        """(B, T, I) -> this rank's columns of (B, T, O)."""
        return linear(self.shares.enter(x, place, self.name), self.weight, self.bias)


class RowLinear(Layer):
    """A linear layer cut by its inputs: each rank holds some of the rows and computes a partial sum.

    (B, T, I), of which this rank has its piece -> (B, T, O). The bias is added once, to the full sum.
    """

    def __init__(self, d_in: int, d_out: int, std: float = 0.02):
        self.weight = Parameter((d_in, d_out), std=std, axis=0)
        self.bias = Parameter((d_out,))

    def forward(self, x, place=None):
        """This rank's features of (B, T, I) -> (B, T, O), summed over the ranks."""
        return self.shares.leave(linear(x, self.weight), self.name) + self.bias
