"""Attention: each token averages the values of other tokens, weighted by how well query and key match.

B batch, T time of the queries, S time of the keys, D width, H heads, C = D/H width of a head.
"""

import numpy as np

from minimega.autograd import op
from minimega.backend import library
from minimega.errors import BadInput
from minimega.layer import Layer
from minimega.layer import place as place_of
from minimega.linear import FAN_IN, ColumnLinear, RowLinear, Stds
from minimega.precision import narrow, product, wide


@op
def attention(q, k, v, causal: bool = True, keep=None, p: float = 0.0, seen=None):
    """softmax(q k^T / sqrt(C)) v per head: (B, H, T, C), (B, H, S, C), (B, H, S, C) -> (B, H, T, C).

    Vaswani et al. 2017, equation 1. Causal: the T queries are the last of the S tokens, and each sees the
    keys up to its own position. Keys and values may come from another text (cross attention, with
    causal=False). `keep` and `p` drop weights as in `ops.dropout`, with a mask (B, H, T, S). `seen` (B, S),
    booleans, hides keys from all queries: padding. Each query must see a key.
    """
    scale = q.shape[-1] ** -0.5
    scaled = narrow(wide(q) * scale, q)  # scaling q is cheaper than scaling T x S scores
    w = attention_weights(scaled, k, causal, seen)  # (B, H, T, S)

    def dropped(w):
        return w if keep is None else narrow(wide(w) * keep() * (1 / (1 - p)), w)

    y = narrow(product(dropped(w), v), q)  # kept

    def back(dy):
        dv = product(dropped(w).swapaxes(-1, -2), dy)
        dw = dropped(wide(product(dy, v.swapaxes(-1, -2))))
        # softmax: ds_j = w_j (dw_j - sum_i w_i dw_i), and that sum is dy . y, since y = sum_i w_i v_i
        dw -= (dy * y).sum(axis=-1, keepdims=True)
        dw *= w
        ds = dw
        dq = wide(product(ds, k))
        dq *= scale
        return dq, product(ds.swapaxes(-1, -2), scaled), dv

    return y, back


def attention_weights(scaled, k, causal: bool = True, seen=None):
    """The attention weights (B, H, T, S) of queries already scaled; each row sums to 1."""
    s = attention_scores(scaled, k, causal)
    if seen is not None:
        s += library(s).where(seen, 0, -np.inf).astype(s.dtype)[:, None, None]  # (B, 1, 1, S)
    s -= s.max(axis=-1, keepdims=True)
    w = library(s).exp(s, out=s)
    w /= w.sum(axis=-1, keepdims=True)
    return narrow(w, scaled)  # kept, the largest array of a block


def attention_scores(scaled, k, causal: bool = True):
    """How well queries and keys match, (B, H, T, S): -inf where the key is later than the query."""
    s = wide(product(scaled, k.swapaxes(-1, -2)))  # (B, H, T, S)
    if causal:
        t, n = s.shape[-2:]
        xp = library(s)
        s += xp.where(xp.tri(t, n, n - t, dtype=bool), 0, -np.inf).astype(s.dtype)
    return s


@op
def self_attention(
    qkv, heads: int, causal: bool = True, keep=None, p: float = 0.0, recall=None, attend=attention
):
    """Self-attention, with queries, keys and values side by side: (B, T, 3D) -> (B, T, D).

    The last axis is (H, 3, C): a head's query, key and value are adjacent, so a cut between heads splits no
    head. `recall(k, v)` may prepend the keys and values of earlier tokens; `attend` is `attention`, or its
    equivalent for a sequence that is cut over ranks.
    """
    batch, time, width = qkv.shape
    split = qkv.reshape(batch, time, heads, 3, width // (3 * heads))  # (B, T, H, 3, C)
    q, k, v = split.transpose(3, 0, 2, 1, 4)  # each (B, H, T, C)
    if recall is not None:
        k, v = recall(k, v)
    y, inner = attend(q, k, v, causal, keep, p)

    def back(dy):
        dqkv = library(dy).empty(split.shape, dy.dtype)
        parts = dqkv.transpose(3, 0, 2, 1, 4)  # views: the three gradients are written in place
        for part, d in zip(parts, inner(heads_apart(dy, heads)), strict=True):
            part[...] = d
        return dqkv.reshape(qkv.shape)

    return y.transpose(0, 2, 1, 3).reshape(batch, time, width // 3), back


def heads_apart(x, heads: int):
    """Split the features into heads: (B, T, D) -> (B, H, T, C)."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(0, 2, 1, 3)


def check_heads(d_model: int, nhead: int) -> None:
    """Raise BadInput if the features do not split evenly into heads."""
    if nhead < 1 or d_model % nhead:
        raise BadInput(
            f"d_model {d_model} cannot be split into {nhead} heads: choose an nhead that divides d_model"
        )


class Core(Layer):
    """Attention without the projections, for this rank's heads: (B, T, 3D) -> (B, T, D).

    It has no parameters, takes little arithmetic and keeps most of what a block keeps, the weights
    (B, H, T, T): selective recomputation recomputes this part (Korthikanti et al. 2022, section 5). Dropout
    applies to the weights.
    """

    def __init__(self, nhead: int, dropout: float, causal: bool = True):
        self.nhead, self.dropout, self.causal = nhead, dropout, causal

    @property
    def heads(self) -> slice:
        """The heads that this rank holds."""
        return self.shares.group.piece(self.nhead)

    def forward(self, qkv, place=None):
        """(B, T, 3D) -> (B, T, D), this rank's heads of both."""
        place = place or place_of(qkv.data)
        heads = library(place.positions).arange(self.heads.start, self.heads.stop)
        inner = heads[:, None, None], place.positions[:, None], place.positions
        return self_attention(
            qkv,
            heads=len(heads),
            causal=self.causal,
            keep=place.keep(self.name, self.dropout, *inner),
            p=self.dropout,
            recall=lambda k, v: place.recall(self.name, k, v),
            attend=place.attend or attention,
        )


class Attention(Layer):
    """Self-attention with its two projections; each rank holds some of the heads.

    Not causal: each token sees all others, as in BERT (Devlin et al. 2018). Weights start as those of
    `Linear`, or with the given two standard deviations, one for each projection.

    >>> Attention(16, nhead=4)(np.zeros((1, 3, 16))).shape
    (1, 3, 16)
    """

    def __init__(
        self, d_model: int, nhead: int, dropout: float = 0.0, causal: bool = True, stds: Stds = FAN_IN
    ):
        check_heads(d_model, nhead)
        self.qkv = ColumnLinear(d_model, 3 * d_model, std=stds[0])
        self.core: Layer = Core(nhead, dropout, causal)
        self.out = RowLinear(d_model, d_model, std=stds[1])

    def forward(self, x, place=None):
        """(B, T, D) -> (B, T, D)."""
        self.expect(x, self.qkv.weight.shape[0], "B, T")
        return self.out(self.core(self.qkv(x, place), place), place)
