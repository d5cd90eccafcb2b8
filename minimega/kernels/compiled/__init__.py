"""Versions that numba compiles: one pass over memory where NumPy makes one for every step.

Each file has the name of the file that it speeds up, or of what it joins.
"""

from collections.abc import Callable

import numpy as np

from minimega.kernels.compiled import cache

with cache.kept():
    from minimega.kernels.compiled.attention import attention, self_attention
    from minimega.kernels.compiled.gelu import gelu
    from minimega.kernels.compiled.norm import layer_norm

VERSIONS: dict[str, Callable] = {
    "minimega.attention.attention": attention,
    "minimega.attention.self_attention": self_attention,
    "minimega.ops.gelu": gelu,
    "minimega.norm.layer_norm": layer_norm,
}


def warm(dtype: str) -> None:
    """Call each version once, forward and backward, so that it is compiled (or read) for this dtype."""
    row, x = np.ones(4, dtype), np.ones((2, 3, 4), dtype)
    qkv = np.ones((1, 8, 6), dtype)
    for y, back in (gelu(x), layer_norm(x, row, row), self_attention(qkv, 1)):
        back(np.ones_like(y))
