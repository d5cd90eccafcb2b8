"""y = x W + b.

B batch, T time, I and O the widths of input and output.
"""

from minimega.autograd import Parameter, op
from minimega.layer import Layer


@op
def linear(x, w, b=None):
    """y = x w + b over the last axis: (..., I), (I, O), (O,) -> (..., O).

    >>> import numpy as np
    >>> y, back = linear(np.ones((2, 3)), np.ones((3, 4)), np.zeros(4))
    >>> dx, dw, db = back(np.ones((2, 4)))
    >>> y[0, 0], dx[0, 0], dw()[0, 0], db()[0]
    (np.float64(3.0), np.float64(4.0), np.float64(2.0), np.float64(2.0))
    """
    shape, rows = x.shape, x.reshape(-1, x.shape[-1])  # (BT, I): one large product instead of B small ones
    y = rows @ w  # (BT, O)
    if b is not None:
        y += b

    def back(dy):
        dy = dy.reshape(-1, w.shape[1])  # (BT, O)
        # every row used the same w and b: their gradients are sums over the rows
        return (dy @ w.T).reshape(shape), lambda: rows.T @ dy, lambda: dy.sum(axis=0)

    return y.reshape(*shape[:-1], w.shape[1]), back


class Linear(Layer):
    """A learned linear map from d_in to d_out; weights start normal with deviation std, the bias at 0."""

    def __init__(self, d_in: int, d_out: int, std: float = 0.02):
        self.weight = Parameter((d_in, d_out), std=std)
        self.bias = Parameter((d_out,))

    def forward(self, x):
        return linear(x, self.weight, self.bias)
