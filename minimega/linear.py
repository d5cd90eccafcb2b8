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


Stds = tuple[float | None, float | None]  # of the initial weights of two linear layers
FAN_IN: Stds = (None, None)


class Linear(Layer):
    """y = x W + b: (..., I) -> (..., O). The weight is (I, O); torch's is its transpose.

    It starts normal with standard deviation `std`, the bias at 0. By default std is 1/sqrt(I), which keeps
    the size of what passes through (LeCun et al. 1998, "Efficient BackProp", section 4.6); the GPT has 0.02.

    >>> import numpy as np
    >>> layer = Linear(2, 16)
    >>> layer, layer(np.zeros((4, 2))).shape
    (Linear(2 -> 16), (4, 16))
    >>> layer(np.zeros((4, 8)))
    Traceback (most recent call last):
    minimega.errors.BadInput: Linear: expected (..., 2), got (4, 8)
    """

    cuts: tuple[int | None, int | None] = (None, None)  # the axes along which weight and bias are cut

    def __init__(self, d_in: int, d_out: int, bias: bool = True, std: float | None = None):
        std = max(d_in, 1) ** -0.5 if std is None else std
        self.weight = Parameter((d_in, d_out), std=std, axis=self.cuts[0])
        self.bias = Parameter((d_out,), axis=self.cuts[1]) if bias else None

    def forward(self, x, place=None):
        """(..., I) -> (..., O)."""
        self.expect(x, self.weight.shape[0])
        return linear(x, self.weight, self.bias)


class ColumnLinear(Linear):
    """A linear layer cut by its outputs: each rank holds some of the columns.

    (B, T, I) -> (B, T, O), of which this rank computes its piece (Shoeybi et al. 2019, section 3).
    """

    cuts = 1, 0

    def forward(self, x, place=None):
        """(B, T, I) -> this rank's columns of (B, T, O)."""
        self.expect(x, self.weight.shape[0])
        return linear(self.shares.enter(x, place, self.name), self.weight, self.bias)


class RowLinear(Linear):
    """A linear layer cut by its inputs: each rank holds some of the rows and computes a partial sum.

    (B, T, I), of which this rank has its piece -> (B, T, O). The bias is added once, to the full sum.
    """

    cuts = 0, None

    def forward(self, x, place=None):
        """This rank's features of (B, T, I) -> (B, T, O), summed over the ranks."""
        self.expect(x, self.weight.shape[0])
        y = self.shares.leave(linear(x, self.weight), self.name)
        return y if self.bias is None else y + self.bias
