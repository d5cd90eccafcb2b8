"""attention.attention by blocks of queries: no array (T, S) is made, and keys later than a block are skipped.

A block's scores fit into the cache. Kept are two numbers a query, its largest score and the sum of the
exponentials, from which the backward computes the weights again (Dao et al. 2022).

B batch, T time of the queries, S time of the keys, H heads, C width of a head.
"""

from collections.abc import Iterator

import numpy as np
from numba import njit

from minimega.kernels.compiled.fits import fits
from minimega.kernels.compiled.scalar import EXACT, dot, exp, largest, total

QUERIES = 64  # of a block, at most; half of a short text, since two blocks skip a quarter of the products
CACHE = 1 << 19  # bytes of the scores of a block
FEWEST = 8  # queries: for fewer, as in generation, there is little to skip


@njit(**EXACT)
def _weights(s, scale, first, sums):
    """Turn scores (B, H, T, S) into weights in place; query i of them sees `first` + i keys."""
    kind = s.dtype.type
    for b in range(s.shape[0]):
        for h in range(s.shape[1]):
            for i in range(s.shape[2]):
                row, seen = s[b, h, i], min(first + i, s.shape[3])
                most = largest(row[:seen])
                for j in range(seen):
                    row[j] = exp((row[j] - most) * scale)
                part = kind(1) / total(row[:seen])
                for j in range(seen):
                    row[j] *= part
                row[seen:] = kind(0)
                sums[b, h, i, 0], sums[b, h, i, 1] = most, part


@njit(**EXACT)
def _gradients(s, ds, scale, first, sums, y, dy):
    """Turn scores into weights and the weights' gradients into those of the scores, both in place.

    softmax: ds_j = w_j (dw_j - sum_i w_i dw_i), and that sum is dy . y, since y = sum_i w_i v_i.
    """
    kind = s.dtype.type
    for b in range(s.shape[0]):
        for h in range(s.shape[1]):
            for i in range(s.shape[2]):
                row, d, seen = s[b, h, i], ds[b, h, i], min(first + i, s.shape[3])
                mean = dot(dy[b, h, i], y[b, h, i])
                most, part = sums[b, h, i, 0], sums[b, h, i, 1]
                for j in range(seen):
                    w = exp((row[j] - most) * scale) * part
                    row[j] = w
                    d[j] = w * (d[j] - mean) * scale
                row[seen:] = kind(0)
                d[seen:] = kind(0)


def blocks(shape: tuple[int, ...], keys: int, causal: bool, size: int) -> Iterator[tuple]:
    """Slices of batch, queries and keys, and how many keys the first query sees; last queries first."""
    batch, heads, time, _ = shape
    rows = min(QUERIES, max(time // 2, 16))
    many = max(1, CACHE // (size * heads * rows * keys))
    for b in range(0, batch, many):
        for a in reversed(range(0, time, rows)):
            end = min(a + rows, time)
            seen = keys - time + end if causal else keys
            yield slice(b, b + many), slice(a, end), slice(seen), keys - time + a + 1 if causal else keys


def forward(q, k, v, causal: bool, y, sums) -> None:
    """Fill y (B, H, T, C), and the largest scores and parts of a whole in sums (B, H, T, 2)."""
    scale, kt = q.dtype.type(q.shape[-1] ** -0.5), k.swapaxes(-1, -2)
    for b, queries, keys, first in blocks(q.shape, k.shape[2], causal, q.itemsize):
        s = q[b, :, queries] @ kt[b, :, :, keys]
        _weights(s, scale, first, sums[b, :, queries])
        np.matmul(s, v[b, :, keys], out=y[b, :, queries])


def backward(dy, q, k, v, causal: bool, kept: tuple, gradients: tuple) -> None:
    """Fill the gradients (dq, dk, dv); what was kept is (y, sums)."""
    (y, sums), (dq, dk, dv) = kept, gradients
    scale, kt, vt = q.dtype.type(q.shape[-1] ** -0.5), k.swapaxes(-1, -2), v.swapaxes(-1, -2)
    last = q.shape[2] - 1
    for b, queries, keys, first in blocks(q.shape, k.shape[2], causal, q.itemsize):
        here = b, slice(None), queries
        seen = b, slice(None), keys
        s, ds = q[here] @ kt[b, :, :, keys], dy[here] @ vt[b, :, :, keys]
        _gradients(s, ds, scale, first, sums[here], y[here], dy[here])
        np.matmul(ds, k[seen], out=dq[here])
        ds, w = ds.swapaxes(-1, -2), s.swapaxes(-1, -2)
        if queries.stop > last:  # the first block of a batch: its queries see all keys
            np.matmul(ds, q[here], out=dk[b])
            np.matmul(w, dy[here], out=dv[b])
        else:
            dk[seen] += ds @ q[here]
            dv[seen] += w @ dy[here]


def attention(q, k, v, causal: bool = True, keep=None, p: float = 0.0, seen=None):
    """See attention.attention."""
    if not usable(q, k, v) or keep is not None or seen is not None or (causal and k.shape[2] < q.shape[2]):
        return NotImplemented
    y, sums = _rows_of_heads(q), np.empty((*q.shape[:3], 2), q.dtype)
    forward(q, k, v, causal, y, sums)

    def back(dy):
        gradients = _rows_of_heads(q), _rows_of_heads(k), _rows_of_heads(v)
        backward(dy, q, k, v, causal, (y, sums), gradients)
        return gradients

    return y, back


def usable(q, k, v) -> bool:
    """Whether these are the arrays of several queries, their rows without gaps."""
    size = q.itemsize if fits(q, k, v) and q.ndim == 4 else 0
    return size > 0 and q.shape[2] >= FEWEST and all(x.strides[-1] == size for x in (q, k, v))


def _rows_of_heads(x):
    """A new array like x (B, H, T, C) that lies in memory as (B, T, H, C), joining heads copies nothing."""
    b, h, t, c = x.shape
    return np.empty((b, t, h, c), x.dtype).transpose(0, 2, 1, 3)


def self_attention(qkv, heads: int, causal: bool = True, keep=None, p: float = 0.0, recall=None, attend=None):
    """See attention.self_attention. Only with the attention above; the gradients are written side by side."""
    name = f"{getattr(attend, '__module__', '')}.{getattr(attend, '__name__', '')}"
    if keep is not None or not fits(qkv) or (attend and name != "minimega.attention.attention"):
        return NotImplemented
    batch, time, width = qkv.shape
    shape = batch, time, heads, 3, width // (3 * heads)
    q, k, v = qkv.reshape(shape).transpose(3, 0, 2, 1, 4)  # each (B, H, T, C)
    if not usable(q, k, v):
        return NotImplemented
    if recall is not None:  # from here on nothing may be declined: a cache remembers what it was shown
        k, v = recall(k, v)
    y, sums = _rows_of_heads(q), np.empty((*q.shape[:3], 2), q.dtype)
    forward(q, k, v, causal, y, sums)

    def back(dy):
        dqkv = np.empty(shape, dy.dtype)
        dy = dy.reshape(batch, time, heads, -1).transpose(0, 2, 1, 3)
        backward(dy, q, k, v, causal, (y, sums), tuple(dqkv.transpose(3, 0, 2, 1, 4)))
        return dqkv.reshape(qkv.shape)

    return y.transpose(0, 2, 1, 3).reshape(batch, time, width // 3), back
