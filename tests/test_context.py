"""Ring attention in one process: every rank of a group is a thread. The balance, and plain attention's numbers.

What needs a real MPI, and the model, is in mpi/cases_context.py.
"""

import queue
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minimega.attention import attention
from minimega.autograd import Tensor, saved_bytes
from minimega.gradcheck import assert_gradients
from minimega.layer import place
from minimega.parallel import context
from minimega.parallel.comm import SELF, Group, pieces
from minimega.parallel.context import blocks, halves, ring_attention, share


class Thread(Group):
    """One rank of several that are threads; a send is put into a queue, and never waits."""

    def __init__(self, rank: int, ways: dict):
        super().__init__("context")
        self.rank, self.size, self.ways = rank, round(len(ways) ** 0.5), ways

    def start_send(self, x, to, label=""):
        self.counter.add(self.name, "send", label, x.nbytes, self.size)
        self.ways[self.rank, to].put(x.copy())
        return lambda: x

    def start_receive(self, y, source):
        def wait():
            y[...] = self.ways[source, self.rank].get(timeout=20)
            return y

        return wait


def on_threads(size: int, f) -> list:
    """f(group, tokens) on every rank; `tokens(T)` are the places of those that the rank holds."""
    ways = {(a, b): queue.Queue() for a in range(size) for b in range(size)}
    groups = [Thread(rank, ways) for rank in range(size)]
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(f, groups))


def held(group, length: int) -> np.ndarray:
    return np.concatenate([np.arange(length)[half] for half in halves(length, group.size)[group.rank]])


def ring(size: int, q, k, v, causal=True, mask=None, p=0.0, op=ring_attention):
    """Ring attention of whole arrays, cut over threads and put together: an operation like `attention`."""
    length = q.shape[2]
    window = np.arange(length)
    keep = None if mask is None else lambda queries, keys: mask[:, :, queries, keys]

    def together(parts, like):
        whole = np.full_like(like, np.nan)
        for rank, part in enumerate(parts):
            whole[:, :, held(Thread(rank, dict.fromkeys(range(size**2))), length)] = part
        return whole

    def forward(group):
        mine = held(group, length)
        parts = (x[:, :, mine] for x in (q, k, v))
        return op(*parts, causal, keep, p, group=group, window=window)

    made = on_threads(size, forward)

    def back(dy):
        # the closures know their groups, whose threads are new ones
        with ThreadPoolExecutor(size) as pool:
            ranks = [Thread(r, dict.fromkeys(range(size**2))) for r in range(size)]
            cut = [np.ascontiguousarray(dy[:, :, held(g, length)]) for g in ranks]
            parts = list(pool.map(lambda made, dy: made[1](dy), made, cut))
        return tuple(together([part[i] for part in parts], x) for i, x in enumerate((q, k, v)))

    return together([y for y, _ in made], q), back


SHAPES = [
    (1, 2, 1),
    (2, 8, 3),
    (2, 13, 2),
    (4, 8, 2),
    (4, 21, 3),
    (3, 11, 1),
    (4, 5, 2),
    (5, 3, 2),
    (1, 7, 4),
]


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("size, length, width", SHAPES)
def test_ring_attention_is_attention(size, length, width, causal, dropped, rng):
    q, k, v, dy = rng.standard_normal((4, 2, 3, length, width)) * 3
    mask = rng.random((2, 3, length, length)) < 0.7 if dropped else None
    y, back = ring(size, q, k, v, causal, mask, 0.3)
    want, want_back = attention(q, k, v, causal, mask is not None and (lambda: mask) or None, 0.3)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-12 * np.abs(want).max())
    for got, right in zip(back(dy), want_back(dy), strict=True):
        np.testing.assert_allclose(got, right, rtol=0, atol=1e-12 * np.abs(right).max())


@pytest.mark.parametrize("size, length, width", SHAPES[:6])
def test_gradients(size, length, width, rng):
    q, k, v = rng.standard_normal((3, 1, 2, length, width))
    mask = rng.random((1, 2, length, length)) < 0.7
    assert_gradients(lambda *qkv: ring(size, *qkv, True, mask, 0.3), q, k, v, directions=3)
