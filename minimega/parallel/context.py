"""Context parallelism: each rank holds some tokens of every sequence; keys and values go around a ring.

Only attention mixes tokens. There each rank keeps its queries, and receives the keys and values of one rank
after another; while it computes with them, they travel on to the next rank (ring attention: Liu, Zaharia and
Abbeel 2023). No rank holds the whole context or the T x T weights: memory per rank grows with T/p.

With a causal mask, later tokens attend to more keys. So the tokens are cut into 2p pieces, and rank r takes
the r-th from the front and the r-th from the end. Every rank then computes the same number of blocks (Brandon
et al. 2023 balance the ring in stripes; these halves are those of Dubey et al. 2024, section 3.3.2).

                               keys 0 1   2 3   4 5   6 7
    --cp 2   rank 0   queries 0 1    :                        #  a whole block
             rank 1           2 3    #     :                  :  half of one: on the diagonal
             rank 1           4 5    #     #     :
             rank 0           6 7    #     #     #     :

B batch, H heads, C width of a head, T tokens of the window, t queries, n keys; p ranks, r this rank, j the
rank whose keys and values are here.
"""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from minimega.attention import attention_scores
from minimega.autograd import op
from minimega.backend import library
from minimega.layer import Place
from minimega.precision import narrow, product, wide
from minimega.ranks.group import Group, Wait, pieces


def halves(length: int, size: int) -> list[tuple[slice, slice]]:
    """The two pieces of the tokens that each rank holds, by rank.

    >>> [(early.start, late.start) for early, late in halves(12, 3)]
    [(0, 10), (2, 8), (4, 6)]
    """
    cut = pieces(length, 2 * size)
    return list(zip(cut[:size], cut[: -size - 1 : -1], strict=True))


def share(inputs, targets, at: Place, group: Group) -> tuple:
    """This rank's inputs (B, t), targets (B, t) and place, of a batch (B, T) at a whole place.

    A group of one gets its arguments back.
    """
    if group.size == 1:
        return inputs, targets, at
    xp, length = library(inputs), inputs.shape[1]
    ours = halves(length, group.size)[group.rank]
    mine = xp.concatenate([xp.arange(half.start, half.stop) for half in ours])  # (t,)
    ring = functools.partial(ring_attention, group=group, window=at.positions)
    return (
        inputs[:, mine],
        targets[:, mine],
        replace(at, positions=at.positions[mine], attend=ring, length=length),
    )


class Block(NamedTuple):
    """Some queries and some keys, as slices of their ranks' tokens (rows, columns) and of the window."""

    rows: slice
    columns: slice
    queries: slice
    keys: slice


def blocks(length: int, size: int, r: int, j: int, causal: bool = True) -> list[Block]:
    """The blocks, half by half, in which a query of rank r attends to a key of rank j.

    If no half is empty, each rank r has 2p + 1 of them over all j.

    >>> [sum(len(blocks(12, 3, r, j)) for j in range(3)) for r in range(3)]
    [7, 7, 7]
    """

    def placed(rank: int) -> list[tuple[slice, slice]]:
        early, late = halves(length, size)[rank]
        n = early.stop - early.start
        return [(slice(0, n), early), (slice(n, n + late.stop - late.start), late)]

    return [
        Block(rows, columns, queries, keys)
        for (rows, queries), (columns, keys) in itertools.product(placed(r), placed(j))
        if _some(queries) and _some(keys) and (not causal or keys.start < queries.stop)
    ]


def _some(s: slice) -> bool:
    return s.stop > s.start


@op
def ring_attention(q, k, v, causal: bool = True, keep=None, p: float = 0.0, *, group: Group, window):
    """`attention` over a window (T,) that is cut over a group: q, k, v (B, H, t, C) -> y (B, H, t, C).

    Forward: softmax block by block. Exponentials are relative to the row's largest score so far; when a
    larger score comes, the sums so far are scaled down (Milakov and Gimelshein 2018, algorithm 3). Backward:
    the weights are recomputed from the log of each row's sum (Dao et al. 2022, section 3.1). The gradients of
    keys and values travel with them, and one rank further to their owner.

    `keep(queries, keys)` draws the dropout mask of a block, by positions in the window; `p` is the
    probability of a drop.
    """
    xp, length, scale = library(q), len(window), q.shape[-1] ** -0.5
    computed = wide(q[..., :0]).dtype  # of sums: float32 if q is 16-bit

    def scores(k, at: Block):
        """(B, H, t, n)"""
        scaled = narrow(wide(q[:, :, at.rows]) * scale, q)
        return attention_scores(scaled, k[:, :, at.columns], causal and at.queries == at.keys)

    def dropped(w, at: Block):
        if keep is None:
            return w
        return w * keep(window[at.queries, None], window[at.keys]) * (1 / (1 - p))

    y = xp.zeros((*q.shape[:-1], v.shape[-1]), computed)
    top = xp.full((*q.shape[:-1], 1), -xp.inf, computed)  # the largest score of each row so far
    total = xp.zeros_like(top)  # of exp(score - top)
    for j, (k_j, v_j) in around(xp.stack((k, v)), length, group):
        for at in blocks(length, group.size, group.rank, j, causal):
            here = (slice(None), slice(None), at.rows)
            w = scores(k_j, at)
            higher = xp.maximum(top[here], w.max(axis=-1, keepdims=True))
            w -= higher
            w = xp.exp(w, out=w)
            down = xp.exp(top[here] - higher)
            total[here] = total[here] * down + w.sum(axis=-1, keepdims=True)
            y[here] = y[here] * down + product(dropped(w, at), v_j[:, :, at.columns])
            top[here] = higher
    y /= total
    y = narrow(y, q)
    log_total = top + xp.log(total)  # log(sum of exp(score)), (B, H, t, 1)

    def back(dy):
        inner = (dy * y).sum(axis=-1, keepdims=True)  # softmax's sum of w dw, as in `attention`
        dq, home = xp.zeros(q.shape, computed), None
        for j, (k_j, v_j) in around(xp.stack((k, v)), length, group):
            dk, dv = dkv = xp.zeros((2, *k_j.shape), computed)  # our queries' part of rank j's gradients
            for at in blocks(length, group.size, group.rank, j, causal):
                rows, columns = (slice(None), slice(None), at.rows), (slice(None), slice(None), at.columns)
                w = scores(k_j, at)
                w -= log_total[rows]
                w = xp.exp(w, out=w)
                dv[columns] += product(dropped(w, at).swapaxes(-1, -2), dy[rows])
                dw = dropped(wide(product(dy[rows], v_j[columns].swapaxes(-1, -2))), at)
                dw -= inner[rows]
                dw *= w
                ds = dw
                dq[rows] += product(ds, k_j[columns])
                dk[columns] += product(ds.swapaxes(-1, -2), q[rows])
            if home:
                dkv += home()  # the sum over the ranks before us
            home = pass_on(dkv, j, length, group, "dkv")
        dk, dv = home()
        dk *= scale
        dq *= scale
        return dq, dk, dv

    return y, back


def around(kv, length: int, group: Group) -> Iterator[tuple]:
    """Yields each rank j and its keys and values (2, B, H, n, C), our own first.

    They travel on to the next rank while the caller works on them.
    """
    for step in range(group.size):
        j = (group.rank - step) % group.size
        last = step == group.size - 1
        coming = None if last else pass_on(kv, j, length, group, "kv")
        yield j, kv
        kv = coming() if coming else None


def pass_on(x, j: int, length: int, group: Group, label: str) -> Wait:
    """Send x, which belongs to rank j's tokens, to the next rank; the wait returns that of rank j - 1."""
    if group.size == 1:
        return lambda: x
    n = sum(half.stop - half.start for half in halves(length, group.size)[j - 1])
    y = library(x).empty((*x.shape[:3], n, x.shape[4]), x.dtype)
    came = group.start_receive(y, (group.rank - 1) % group.size)
    sent = group.start_send(x, (group.rank + 1) % group.size, label)
    return lambda: (sent(), came())[1]
