"""Attention to another text: queries from the target, keys and values from the source.

B batch, T tokens of the target, S tokens of the source, D width, H heads, C = D/H width of a head.
"""

from typing import Any

import numpy as np

from minimega.attention import attention, attention_weights, heads_apart
from minimega.autograd import no_grad, op
from minimega.backend import library, to_numpy
from minimega.layer import Around, Layer
from minimega.linear import ColumnLinear, RowLinear
from minimega.model import STD
from minimega.precision import wide


@op
def cross_attention(q, kv, heads: int, seen=None, keep=None, p: float = 0.0, recall=None):
    """Each token of the target averages values of the source: (B, T, D), (B, S, 2D) -> (B, T, D).

    Vaswani et al. 2017, section 3.2.3. The last axis of `kv` is (H, 2, C): a head's key and value are
    adjacent, so a cut between heads splits no head. `seen` (B, S) hides padding, `keep` and `p` drop weights
    with a mask (B, H, T, S). `recall(k, v)` may prepend the keys and values of an earlier call.

    >>> y, back = cross_attention(np.zeros((1, 1, 2)), np.array([[[9.0, 9, 1, 2], [9, 9, 3, 4]]]), heads=1)
    >>> dq, dkv = back(np.ones((1, 1, 2)))
    >>> y.tolist(), dkv[0, :, 2:].tolist()     # a query of zeros sees both tokens alike
    ([[[2.0, 3.0]]], [[0.5, 0.5], [0.5, 0.5]])
    """
    batch, length, width = kv.shape
    shape = batch, length, heads, 2, width // (2 * heads)
    k, v = kv.reshape(shape).transpose(3, 0, 2, 1, 4)  # each (B, H, S, C)
    if recall is not None:
        k, v = recall(k, v)
    y, inner = attention(heads_apart(q, heads), k, v, causal=False, keep=keep, p=p, seen=seen)

    def back(dy):
        dq, dk, dv = inner(heads_apart(dy, heads))  # (B, H, T, C), and two (B, H, S, C)
        dkv = library(dy).empty(shape, dk.dtype)
        # views, written in place; every query used the same keys and values: `inner` summed over the queries
        dkv[:, :, :, 0], dkv[:, :, :, 1] = dk.transpose(0, 2, 1, 3), dv.transpose(0, 2, 1, 3)
        return heads_together(dq), dkv.reshape(batch, length, width)

    return heads_together(y), back


def heads_together(x):
    """The features of all heads side by side: (B, H, T, C) -> (B, T, D)."""
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def both_ways(seen):
    """An `attend` for self-attention in which each token sees all others, except the padding: seen (B, T)."""

    def attend(q, k, v, causal, keep, p):
        return attention(q, k, v, causal=False, keep=keep, p=p, seen=seen)

    return attend


class CrossCore(Layer):
    """Cross-attention without the projections, for this rank's heads; see `attention.Core`."""

    def __init__(self, nhead: int, dropout: float, source_length: int):
        self.nhead, self.dropout, self.source_length = nhead, dropout, source_length

    @property
    def heads(self) -> slice:
        """The heads that this rank holds."""
        return self.shares.group.piece(self.nhead)

    def forward(self, q, kv, place):
        """(B, T, D), (B, S, 2D) -> (B, T, D), this rank's heads of all; `place` is that of the target."""
        xp = library(place.positions)
        heads, keys = xp.arange(self.heads.start, self.heads.stop), xp.arange(self.source_length)
        return cross_attention(
            q,
            kv,
            heads=len(heads),
            seen=visible(place.tokens, self.source_length),
            keep=place.keep(self.name, self.dropout, heads[:, None, None], place.positions[:, None], keys),
            p=self.dropout,
            recall=lambda k, v: place.recall(self.name, k, v),
        )


class CrossAttention(Layer):
    """Attention from the target to the source with its three projections; each rank holds some heads."""

    def __init__(self, d_model: int, nhead: int, dropout: float, std_out: float, source_length: int):
        self.q = ColumnLinear(d_model, d_model, std=STD)
        self.kv = ColumnLinear(d_model, 2 * d_model, std=STD)
        self.core: Layer = CrossCore(nhead, dropout, source_length)
        self.out = RowLinear(d_model, d_model, std=std_out)

    def forward(self, x, place, source):
        """x (B, T, D) of the target, source (B, S, D) -> (B, T, D)."""
        return self.out(self.core(self.q(x, place), self.kv(source, place), place), place)


class Watched(Around):
    """Cross-attention's core that also keeps its weights, (B, H, T, S)."""

    def forward(self, q, kv, place):
        """What the core returns."""
        core: Any = self.layer
        heads = core.heads.stop - core.heads.start
        k = (
            wide(kv.data).reshape(*kv.shape[:2], heads, 2, -1)[:, :, :, 0].transpose(0, 2, 1, 3)
        )  # (B, H, S, C)
        scaled = heads_apart(wide(q.data), heads) * k.shape[-1] ** -0.5
        seen = visible(place.tokens, core.source_length)
        self.weights = attention_weights(scaled, k, causal=False, seen=seen)
        return core(q, kv, place)


def looked_at(model, tokens):
    """How much each token of the target looks at each one of the source: (decoder blocks, T, S), heads' mean.

    `tokens` (1, S + T) is one pair, on one rank.
    """
    found, blocks = [], [block for block in model.layers.values() if hasattr(block, "cross")]
    for block in blocks:
        block.cross.branch.core = Watched(block.cross.branch.core)
    with no_grad():
        model.hidden(tokens)
    for block in blocks:
        found.append(to_numpy(block.cross.branch.core.weights[0].mean(axis=0)))
        block.cross.branch.core = block.cross.branch.core.layer
    return np.stack(found)


def visible(tokens, source_length: int):
    """Which tokens of the source are not padding: (B, T) -> booleans (B, S). The first one never is.

    >>> visible(np.array([[0, 5, 0, 0, 7]]), 3).tolist()
    [[True, True, False]]
    """
    seen = tokens[:, :source_length] != PAD
    seen[:, 0] = True
    return seen


PAD = 0  # the start token
