"""Collectives against NumPy on the arrays of all ranks."""

import numpy as np

from minimega.ranks.group import pieces
from tests.mpi.adjoint import assert_whole
from tests.mpi.ranks import sizes


def everyone(group, shape, dtype="float64"):
    """What each rank of the group holds, on all ranks."""
    return [np.random.default_rng(r).standard_normal(shape).astype(dtype) for r in range(group.size)]


def case_all_reduce(group):
    for shape in ((), (1,), (7,), (3, 5), (0,), (40_000,)):
        for dtype, close in (("float64", 1e-14), ("float32", 1e-5), ("float16", 2e-2), ("bfloat16", 0.1)):
            xs = everyone(group, shape, dtype)
            before = xs[group.rank].copy()
            y = group.all_reduce(xs[group.rank])
            assert y.dtype == dtype and y.shape == shape
            assert np.abs(y - sum(x.astype("f8") for x in xs)).max(initial=0) < close * group.size
            assert (group.all_reduce(xs[group.rank], "max") == np.max(xs, axis=0)).all()
            assert (xs[group.rank] == before).all(), "the input was changed"
            assert_whole(y, group)
    ints = group.all_reduce(np.array([group.rank, 1 << 40]))
    assert ints.tolist() == [sum(range(group.size)), group.size << 40]


def case_sums_have_the_same_bits_each_time(group):
    for size in (5, 1000, 70_001):
        x = everyone(group, size, "float32")[group.rank]
        first, rows = group.all_reduce(x), group.reduce_scatter(x)
        waits = [group.start_all_reduce(x) for _ in range(3)]
        assert all((wait() == first).all() for wait in waits)
        assert (group.reduce_scatter(x) == rows).all()
        assert_whole(first, group)


def case_gather_and_scatter(group):
    p, r = group.size, group.rank
    for shape in ((2 * p, 3), (p + 1, 2), (3, 2 * p + 1, 2), (2, 1)):  # even, uneven, more ranks than entries
        for axis in range(len(shape)):
            for dtype in ("float64", "float32", "float16", "bfloat16", "int64"):
                xs = [(100 * x).astype(dtype) for x in everyone(group, shape)]
                cut = [xs[0].take(range(s.start, s.stop), axis) for s in pieces(shape[axis], p)]
                y = group.all_gather(cut[r], axis - len(shape), length=shape[axis])
                assert y.dtype == dtype and (y == xs[0]).all()
                total = np.sum([x.astype("f8") for x in xs], axis=0).take(
                    range(*group.piece(shape[axis]).indices(shape[axis])), axis
                )
                z = group.reduce_scatter(xs[r], axis)
                assert z.dtype == dtype and z.shape == cut[r].shape
                assert np.allclose(z, total, rtol=1e-2 if "float16" in dtype else 1e-5, atol=1)
    assert group.all_gather(np.full((1, 2), r)).tolist() == [[i, i] for i in range(p)]


def case_rows_to_all_ranks(group):
    """Rank r sends rank q as many rows as (3 r + q) mod 4 says, each with r, q and its number."""
    p, r = group.size, group.rank

    def rows(source, to):
        return np.array([[source, to, n] for n in range((3 * source + to) % 4)]).reshape(-1, 3)

    for dtype in ("float64", "float16", "int64"):
        x = np.concatenate([rows(r, q) for q in range(p)]).astype(dtype)
        sends, receives = (
            [len(f(q)) for q in range(p)] for f in (lambda q: rows(r, q), lambda q: rows(q, r))
        )
        y = group.all_to_all(x, sends, receives)
        assert y.dtype == dtype and (y == np.concatenate([rows(q, r) for q in range(p)])).all()
        assert (group.all_to_all(y, receives, sends) == x).all(), "the way back"
    assert group.all_to_all(np.zeros((0, 3)), [0] * p, [0] * p).shape == (0, 3)
    if p > 1:
        try:
            group.all_to_all(np.zeros((2, 3)), [1] * p + [2], [1] * p)
        except ValueError as error:
            assert "2 rows cannot be sent as" in str(error)
        else:
            raise AssertionError("not refused")


@sizes(2, 3)
def case_a_piece_of_another_length_is_refused(group):
    try:
        group.all_gather(np.zeros(3), length=4 * group.size)
    except ValueError as error:
        assert "holds 3 entries of axis 0, but its piece" in str(error)
    else:
        raise AssertionError("not refused")


def case_broadcast_and_single_messages(group):
    p, r = group.size, group.rank
    for root in range(p):
        mine = np.full((2, 3), r, "float32")
        assert (group.broadcast(mine, root) == root).all()
        assert (mine == r).all()
    if p == 1:
        return
    for dtype in ("float16", "bfloat16", "bool", "float64"):
        sent = group.start_send(np.full((3, 2), r % 2, dtype), to=(r + 1) % p)
        wait = group.start_receive(np.empty((3, 2), dtype), source=(r - 1) % p)
        assert (wait() == (r - 1) % p % 2).all()
        sent()


def case_arrays_in_any_order_of_memory(group):
    xs = everyone(group, (4, 6))
    x = xs[group.rank]
    for way in (np.asfortranarray(x), x.T.copy().T, np.repeat(x, 2, axis=0)[::2], x[::-1][::-1]):
        assert np.allclose(group.all_reduce(way), sum(xs))
        assert np.allclose(group.all_gather(way), np.concatenate(xs))
        assert np.allclose(group.reduce_scatter(way), sum(xs)[group.piece(4)])
    assert np.allclose(group.all_reduce(np.broadcast_to(x[0], (3, 6))), sum(y[0] for y in xs))


def case_messages_under_way_together(group):
    xs = everyone(group, 1000)
    waits = [group.start_all_reduce(xs[group.rank] * k) for k in range(5)]
    small = group.all_reduce(np.array(1.0))
    rows = group.start_reduce_scatter(xs[group.rank])
    for k, wait in reversed(list(enumerate(waits))):
        assert np.allclose(wait(), k * sum(xs))
        assert wait() is wait(), "a second wait gives the same array"
    assert small == group.size
    assert np.allclose(rows(), sum(xs)[group.piece(1000)])


def case_groups_within_groups(group):
    p, r = group.size, group.rank
    colour = int(r >= p // 2)
    part = group.split(colour, "half")
    members = [q for q in range(p) if int(q >= p // 2) == colour]
    assert part.ranks == tuple(members) and part.rank == members.index(r) and part.size == len(members)
    assert part.all_reduce(np.array(r)) == sum(members)
    alone = part.split(part.rank)
    assert alone.size == 1 and alone.ranks == (r,) and alone.all_reduce(np.array(r)) == r
    inner = group.split(r % 2, "parity").split(0, "again")
    assert inner.ranks == tuple(q for q in range(p) if q % 2 == r % 2)
    assert inner.counter is group.counter


@sizes(2, 3, 4, 8)
def case_messages_are_counted(group):
    p = group.size
    part = group.split(0, "counted")
    part.all_reduce(np.zeros(1000, "f4"), label="mlp")
    part.all_reduce(np.zeros(10, "f8"), label="mlp")
    part.start_all_reduce(np.zeros(1000, "f4"), label="attention")()
    part.all_gather(np.zeros((2, part.piece(21).stop - part.piece(21).start)), 1, length=21)
    part.reduce_scatter(np.zeros(21), label="mlp")
    part.broadcast(np.zeros(8, "i4"))
    rows = [1 + 2 * (q == part.rank) for q in range(p)]
    part.all_to_all(np.zeros((p + 2, 5), "f4"), rows, rows)
    part.barrier()
    count = part.counter.total
    row = count("counted", "all-reduce", "mlp")
    assert (row.calls, row.bytes) == (2, 4080) and np.isclose(row.wire, 2 * (p - 1) / p * 4080)
    assert count("counted", "all-reduce").bytes == 8080
    row = count("counted", "all-gather")
    assert (row.calls, row.bytes) == (1, 336) and np.isclose(row.wire, (p - 1) / p * 336)
    row = count("counted", "reduce-scatter", "mlp")
    assert (row.calls, row.bytes) == (1, 168) and np.isclose(row.wire, (p - 1) / p * 168)
    assert count("counted", "broadcast").bytes == 32
    row = count("counted", "all-to-all")  # a row to each other rank leaves this one
    assert (row.calls, row.bytes, row.wire) == (1, 20 * (p + 2), 20 * (p - 1))
    assert count("counted").calls == 7
    assert "counted" in part.report() and "attention" in part.report()
