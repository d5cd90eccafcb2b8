"""LayerNorm: normalises each token's features to mean 0 and variance 1, with a learned scale and shift.

D width.
"""

from minimega.autograd import op
from minimega.backend import library
from minimega.layer import Layer
from minimega.parameter import Parameter
from minimega.precision import check_eps, narrow, wide


@op
def layer_norm(x, w, b, eps: float = 1e-5):
    """y = (x - mean) / sqrt(variance + eps) * w + b over the last axis: (..., D), (D,), (D,) -> (..., D).

    Ba, Kiros and Hinton 2016, equation 4. Raises BadInput if eps vanishes in the type of x.
    """
    full = wide(x)
    check_eps(eps, full.dtype)
    centred = full - full.mean(axis=-1, keepdims=True)
    r = 1 / library(x).sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)  # (..., 1)
    xhat = centred * r
    y = xhat * w
    y += b
    xhat = narrow(xhat, x)  # kept

    def back(dy):
        dxhat = dy * w
        # The mean and the variance depend on x too. That removes two components of dxhat from the plain
        # r * dxhat: the one along the ones vector, and the one along xhat.
        dx = dxhat - dxhat.mean(axis=-1, keepdims=True)
        dx -= xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)
        dx *= r
        rows = tuple(range(dy.ndim - 1))
        return dx, lambda: (dy * xhat).sum(axis=rows), lambda: dy.sum(axis=rows)

    return y, back


class LayerNorm(Layer):
    """Layer normalisation over d_model features; the scale starts at 1, the shift at 0."""

    def __init__(self, d_model: int, eps: float = 1e-5):
        self.eps = eps
        self.weight = Parameter((d_model,), mean=1.0)
        self.bias = Parameter((d_model,))

    def forward(self, x, place=None):
        """(..., D) -> (..., D)."""
        self.expect(x, self.weight.shape[0])
        return layer_norm(x, self.weight, self.bias, eps=self.eps)
