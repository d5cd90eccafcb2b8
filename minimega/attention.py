"""Attention: each token gathers what other tokens hold, weighted by how well query and key agree.

B batch, T queries in time, S keys in time, D width, H heads, C = D/H width of a head.
"""

import numpy as np

from minimega.autograd import op
from minimega.backend import library
from minimega.layer import Layer
from minimega.linear import ColumnLinear, RowLinear
from minimega.precision import narrow, product, wide


@op
def attention(q, k, v, causal: bool = True, keep=None, p: float = 0.0):
    """softmax(q k^T / sqrt(C)) v for each head: (B, H, T, C), (B, H, S, C), (B, H, S, C) -> (B, H, T, C).

    Vaswani et al. 2017, equation 1. Causal: the T queries are the last of the S tokens, and each sees the
    keys up to its own place. Keys and values may come from another text (cross attention, with
    causal=False). `keep` and `p` drop weights as in `ops.dropout`, mask (B, H, T, S).
    """
    scale = q.shape[-1] ** -0.5
    scaled = narrow(wide(q) * scale, q)  # scaling q is cheaper than scaling T x S scores
    w = attention_weights(scaled, k, causal)  # (B, H, T, S)

    def dropped(w):
        return w if keep is None else narrow(wide(w) * keep() * (1 / (1 - p)), w)

    y = narrow(product(dropped(w), v), q)

    def back(dy):
        dv = product(dropped(w).swapaxes(-1, -2), dy)
        dw = dropped(wide(product(dy, v.swapaxes(-1, -2))))
        # softmax: ds_j = w_j (dw_j - sum_i w_i dw_i), and that sum is dy . y, since y = sum_i w_i v_i
        dw -= (wide(dy) * y).sum(axis=-1, keepdims=True)
        dw *= w
        ds = dw
        dq = wide(product(ds, k))
        dq *= scale
        return dq, product(ds.swapaxes(-1, -2), scaled), dv

    return y, back


def attention_weights(scaled, k, causal: bool = True):
    """The weights (B, H, T, S), each row adding up to 1, of queries that are scaled already."""
    s = attention_scores(scaled, k, causal)
    s -= s.max(axis=-1, keepdims=True)
    w = library(s).exp(s, out=s)
    w /= w.sum(axis=-1, keepdims=True)
    return narrow(w, scaled)


def attention_scores(scaled, k, causal: bool = True):
    """How well queries and keys agree, (B, H, T, S): -inf where the key is later than the query."""
    s = wide(product(scaled, k.swapaxes(-1, -2)))  # (B, H, T, S)
    if causal:
        t, n = s.shape[-2:]
        later = ~np.tri(t, n, n - t, dtype=bool)
        s += library(s).asarray(np.where(later, -np.inf, 0).astype(s.dtype))
    return s


@op
def self_attention(
    qkv, heads: int, causal: bool = True, keep=None, p: float = 0.0, recall=None, attend=attention
):
    """Attention of a text to itself, its queries, keys and values side by side: (B, T, 3D) -> (B, T, D).

    The last axis is (H, 3, C): a head's query, key and value stand together, so that a cut between heads
    cuts no head. `recall(k, v)` may put the keys and values of earlier tokens before these; `attend` is
    `attention`, or what gives the same of a text that is cut.
    """
    batch, time, width = qkv.shape
    split = qkv.reshape(batch, time, heads, 3, width // (3 * heads))  # (B, T, H, 3, C)
    q, k, v = split.transpose(3, 0, 2, 1, 4)  # each (B, H, T, C)
    if recall is not None:
        k, v = recall(k, v)
    y, inner = attend(q, k, v, causal, keep, p)

    def back(dy):
        dqkv = library(dy).empty(split.shape, dy.dtype)
        parts = dqkv.transpose(3, 0, 2, 1, 4)  # views: three gradients written into their places
        for part, d in zip(parts, inner(heads_apart(dy, heads)), strict=True):
            part[...] = d
        return dqkv.reshape(qkv.shape)

    return y.transpose(0, 2, 1, 3).reshape(batch, time, width // 3), back


def heads_apart(x, heads: int):
    """(B, T, D) -> (B, H, T, C)."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(0, 2, 1, 3)


class Core(Layer):
    """Attention without the projections, of a rank's heads: (B, T, 3D) -> (B, T, D).

    It has no parameters and keeps most of what a block keeps, the weights (B, H, T, T), for little
    arithmetic: what selective recomputation computes again (Korthikanti et al. 2022, section 5). Dropout
    falls on the weights.
    """

    def __init__(self, nhead: int, dropout: float):
        self.nhead, self.dropout = nhead, dropout

    @property
    def heads(self) -> slice:
        """The heads that this rank holds."""
        return self.shares.group.piece(self.nhead)

    def forward(self, qkv, place):
        heads = library(place.window).arange(self.heads.start, self.heads.stop)
        inner = heads[:, None, None], place.window[:, None], place.window
        return self_attention(
            qkv,
            heads=len(heads),
            keep=place.keep(self.name, self.dropout, *inner),
            p=self.dropout,
            recall=lambda k, v: place.recall(self.name, k, v),
            attend=place.attend or attention,
        )


class Attention(Layer):
    """Causal self-attention with its two projections, its heads shared out over ranks."""

    def __init__(self, d_model: int, nhead: int, dropout: float = 0.0, std_out: float = 0.02):
        self.qkv = ColumnLinear(d_model, 3 * d_model)
        self.core: Layer = Core(nhead, dropout)
        self.out = RowLinear(d_model, d_model, std_out)

    def forward(self, x, place):
        return self.out(self.core(self.qkv(x, place), place), place)
