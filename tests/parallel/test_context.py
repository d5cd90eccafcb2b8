"""Ring attention with threads as ranks: balanced, and equal to plain attention.

What needs an MPI, and the model, is in mpi/cases_context.py.
"""

import queue
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minimega.attention import attention
from minimega.autograd import Tensor, saved_bytes
from minimega.gradcheck import assert_gradients, check
from minimega.layer import place
from minimega.parallel import context
from minimega.parallel.context import blocks, halves, ring_attention, share
from minimega.ranks.group import SELF, Group


class Thread(Group):
    """One rank of several that are threads: what it sends is put into a queue. `said` is what it did."""

    def __init__(self, rank: int, size: int, ways: dict):
        super().__init__("context")
        self.rank, self.size, self.ways, self.said = rank, size, ways, []

    def start_send(self, x, to, label=""):
        self.said.append(f"send {label}")
        self.ways[self.rank, to].put(x.copy())
        return lambda: x

    def start_receive(self, y, source):
        def wait():
            self.said.append("wait")
            y[...] = self.ways[source, self.rank].get(timeout=10)
            return y

        self.said.append("receive")
        return wait


def threads(size: int) -> list[Thread]:
    ways = {(a, b): queue.Queue() for a in range(size) for b in range(size)}
    return [Thread(rank, size, ways) for rank in range(size)]


def each(f, *args) -> list:
    """Call f with each rank's arguments, on all ranks at the same time."""
    with ThreadPoolExecutor(len(args[0])) as pool:
        return list(pool.map(f, *args))


def tokens(group: Group, length: int) -> np.ndarray:
    return np.concatenate([np.arange(length)[half] for half in halves(length, group.size)[group.rank]])


def ring(size: int, q, k, v, causal=True, mask=None, p=0.0, ranks=None):
    """Ring attention of whole arrays, cut over ranks and put together: an operation like `attention`."""
    if any(
        map(np.iscomplexobj, (q, k, v))
    ):  # the checker's complex step: only ranks with tokens would notice
        raise TypeError("complex scores have no order")
    length, ranks = q.shape[2], ranks or (threads(size) if size > 1 else [SELF])
    held = [tokens(group, length) for group in ranks]
    keep = None if mask is None else lambda queries, keys: mask[:, :, queries, keys]

    def attend(group, mine):
        parts = (x[:, :, mine] for x in (q, k, v))
        return ring_attention(*parts, causal, keep, p, group=group, window=np.arange(length))

    def together(parts):
        whole = np.full(q.shape, np.nan, parts[0].dtype)
        for mine, part in zip(held, parts, strict=True):
            whole[:, :, mine] = part
        return whole

    made = each(attend, ranks, held)

    def back(dy):
        found = each(lambda one, mine: one[1](dy[:, :, mine]), made, held)
        return tuple(map(together, zip(*found, strict=True)))

    return together([y for y, _ in made]), back


# ranks, tokens, width of a head; some ranks have an empty half, and some no token at all
SHAPES = [(1, 1, 2), (1, 7, 4), (2, 8, 3), (2, 13, 2), (3, 11, 1), (4, 21, 3), (4, 5, 2), (5, 3, 2)]


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("size, length, width", SHAPES)
def test_ring_attention_is_attention(size, length, width, causal, dropped, rng):
    q, k, v, dy = rng.standard_normal((4, 2, 3, length, width)) * 3
    mask = rng.random((2, 3, length, length)) < 0.7
    y, back = ring(size, q, k, v, causal, mask if dropped else None, 0.3)
    want, want_back = attention(q, k, v, causal, (lambda: mask) if dropped else None, 0.3)
    for got, right in zip((y, *back(dy)), (want, *want_back(dy)), strict=True):
        np.testing.assert_allclose(got, right, rtol=0, atol=1e-12 * max(1, np.abs(right).max()))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("size, length, width", SHAPES)
def test_gradients(size, length, width, causal, rng):
    q, k, v = rng.standard_normal((3, 1, 2, length, width))
    mask = rng.random((1, 2, length, length)) < 0.7
    assert_gradients(lambda *qkv: ring(size, *qkv, causal, mask, 0.3), q, k, v, directions=3)


@pytest.mark.parametrize("size", [1, 3])
def test_huge_scores_that_grow_from_block_to_block(size):
    """Each row's largest score comes last or first: what was added up is scaled down, or not."""
    for order in (1, -1):
        k = np.linspace(-3e4, 3e4, 12)[::order].astype(np.float32).reshape(1, 1, 12, 1)
        q, v = np.ones_like(k), np.arange(12, dtype=np.float32).reshape(1, 1, 12, 1)
        y, back = ring(size, q, k, v)
        np.testing.assert_array_equal(y.ravel(), np.arange(12) if order == 1 else np.zeros(12))
        assert all(np.isfinite(d).all() and d.dtype == np.float32 for d in back(np.ones_like(y)))


@pytest.mark.parametrize("size", [2, 4])
def test_float32_stays_and_is_as_near_as_plain_attention(size, rng):
    q, k, v, dy = rng.standard_normal((4, 2, 3, 32, 4))
    right, right_back = attention(q, k, v)
    qkv = [x.astype(np.float32) for x in (q, k, v)]
    (y, back), (plain, plain_back) = ring(size, *qkv), attention(*qkv)
    dy32 = dy.astype(np.float32)
    for got, near, want in zip(
        (y, *back(dy32)), (plain, *plain_back(dy32)), (right, *right_back(dy)), strict=True
    ):
        assert got.dtype == np.float32
        assert np.abs(got - want).max() < 3 * np.abs(near - want).max()


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("length", [16, 48, 53])
def test_every_rank_has_as_many_blocks_and_all_that_is_seen_is_in_one(size, length):
    seen = np.zeros((length, length), int)
    for r in range(size):
        mine = [at for j in range(size) for at in blocks(length, size, r, j)]
        assert len(mine) == 2 * size + 1
        assert sum(at.queries == at.keys for at in mine) == 2
        for at in mine:
            seen[at.queries, at.keys] += 1
        for j in (j for j in range(size) if j != r):  # the same in every step of the ring except the first
            assert len(blocks(length, size, r, j)) == 2
    within = np.tri(length, dtype=bool)
    assert (seen[within] == 1).all() and seen.sum() - within.sum() <= length**2 / (2 * size)
    assert sum(len(blocks(length, size, 0, j, causal=False)) for j in range(size)) == 4 * size


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_blocks_are_of_the_tokens_that_the_ranks_hold(size):
    """Rows and columns are places on the ranks, queries and keys the same ones in the window."""
    for length in (1, 7, 20):
        held = [tokens(Thread(r, size, {}), length) for r in range(size)]
        assert sorted(np.concatenate(held)) == list(range(length))
        for r, j in np.ndindex(size, size):
            for at in blocks(length, size, r, j):
                assert (held[r][at.rows] == np.arange(length)[at.queries]).all()
                assert (held[j][at.columns] == np.arange(length)[at.keys]).all()


def test_messages_travel_while_a_block_is_computed(rng):
    q, k, v = rng.standard_normal((3, 1, 1, 8, 2))
    ranks = threads(2)

    class Mask:
        """Drawn by the rank that computes the block: the queries' positions show which one it is."""

        def __getitem__(self, place):
            said = ranks[int(place[2][0, 0] in range(2, 6))].said
            said += ["block"] * (said[-1] != "block")
            return True

    y, back = ring(2, q, k, v, mask=Mask(), ranks=ranks)
    sent = "receive", "send kv", "block"
    assert [r.said for r in ranks] == [[*sent, "wait", "block"]] * 2
    for rank in ranks:
        rank.said.clear()
    back(y)
    gradients = "receive", "send dkv", "wait"  # the wait is for messages sent earlier: keys and values
    home = "wait", "receive", "send dkv", "wait"  # the gradients that arrived, and its own
    assert [r.said for r in ranks] == [[*sent, *gradients, "block", *home]] * 2


@pytest.mark.parametrize("length", [64, 128])
def test_nothing_of_the_size_of_the_weights_is_kept(length, rng):
    """Queries, keys, values, the output, and one number per row."""
    qkv = [Tensor(rng.standard_normal((2, 3, length, 4))) for _ in range(3)]
    y = ring_attention(*qkv, group=SELF, window=np.arange(length))
    numbers = 2 * 3 * length * (4 * 4 + 1)
    assert sum(saved_bytes(y).values()) == 8 * (numbers + length)  # and the positions in the window


def test_a_rank_alone_has_all_tokens_and_attends_as_ever():
    inputs = np.zeros((2, 5), int)
    at = place(inputs)
    assert share(inputs, inputs, at, SELF) == (inputs, inputs, at) and at.attend is None


def test_each_rank_has_its_tokens_targets_and_places():
    inputs = np.arange(2 * 9).reshape(2, 9)
    for group in threads(2):
        mine, targets, at = share(inputs, -inputs, place(inputs, start=100), group)
        assert at.positions.tolist() == [[100, 101, 102, 107, 108], [103, 104, 105, 106]][group.rank]
        assert (mine == inputs[:, at.positions - 100]).all() and (targets == -mine).all()


def home_before_the_last_rank(x, j, length, group, label):
    at_last = label == "dkv" and j == (group.rank + 1) % group.size
    return (lambda: x) if at_last else context_pass_on(x, j, length, group, label)


def blocks_of_the_own_keys(length, size, r, j, causal):
    return blocks(length, size, r, r, causal)


context_pass_on = context.pass_on


@pytest.mark.parametrize(
    "name, wrong", [("pass_on", home_before_the_last_rank), ("blocks", blocks_of_the_own_keys)]
)
def test_planted_mistakes_are_found(name, wrong, rng, monkeypatch):
    q, k, v = rng.standard_normal((3, 1, 2, 8, 3))
    want = attention(q, k, v)[0]
    monkeypatch.setattr(context, name, wrong)
    y = ring(2, q, k, v)[0]
    assert np.abs(y - want).max() > 1e-3 or not check(lambda *qkv: ring(2, *qkv), q, k, v).ok
