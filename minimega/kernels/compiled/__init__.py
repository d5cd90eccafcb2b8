"""Versions that numba compiles: one pass over memory where NumPy makes one for every step.

Each file has the name of the file that it speeds up, or of what it joins.
"""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from minimega.kernels.compiled import cache

with cache.kept():
    from minimega.kernels.compiled.attention import attention, self_attention
    from minimega.kernels.compiled.gelu import gelu
    from minimega.kernels.compiled.head import cross_entropy
    from minimega.kernels.compiled.norm import layer_norm
    from minimega.kernels.compiled.optim import sum_of_squares, update

VERSIONS: dict[str, Callable] = {
    "minimega.attention.attention": attention,
    "minimega.attention.self_attention": self_attention,
    "minimega.ops.gelu": gelu,
    "minimega.head.cross_entropy": cross_entropy,
    "minimega.norm.layer_norm": layer_norm,
    "minimega.optim.AdamW.update": update,
    "minimega.optim.sum_of_squares": sum_of_squares,
}


def warm(dtype: str) -> None:
    """Call each version once, forward and backward, so that it is compiled (or read) for this dtype."""
    row, x = np.ones(4, dtype), np.ones((2, 3, 4), dtype)
    qkv = np.ones((1, 8, 6), dtype)
    for y, back in (gelu(x), layer_norm(x, row, row), self_attention(qkv, 1)):
        back(np.ones_like(y))
    cross_entropy(x, np.array([[0, 1, -1]] * 2))[1](1.0)
    rule = SimpleNamespace(beta1=0.9, beta2=0.99, steps=1, eps=1e-8)
    update(rule, row, row.copy(), 1e-3, 0.0, row.copy(), row.copy())
    sum_of_squares(SimpleNamespace(grad=row))
