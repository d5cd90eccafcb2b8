"""Regions in a group of one: the identity, at no cost."""

import numpy as np
import pytest

from minimega.autograd import Tensor
from minimega.parallel import regions
from minimega.ranks.group import SELF, Counter, pieces


@pytest.mark.parametrize("name", ["copy", "reduce", "gather", "scatter", "cut", "join"])
def test_alone_a_region_is_the_identity(name, rng):
    region = getattr(regions, name)
    x, dy = rng.standard_normal((2, 3, 4))
    y, back = region(x, group=SELF)
    dx = back(dy)
    dx = dx() if callable(dx) else dx
    assert np.shares_memory(x, y) and np.shares_memory(dx, dy)
    t = Tensor(x)
    region(t, group=SELF).backward(dy)
    assert (t.grad == dy).all()


def test_collectives_alone_are_the_identity(rng):
    x = rng.standard_normal((3, 4))
    assert SELF.all_reduce(x) is x and SELF.start_all_reduce(x, "max")() is x
    assert SELF.all_gather(x, 1, length=4) is x and SELF.reduce_scatter(x, 1) is x
    assert SELF.broadcast(x) is x and SELF.split(3).size == 1 and SELF.all_to_all(x, [3], [3]) is x
    SELF.barrier()
    assert SELF.counter.total().calls == 0
    with pytest.raises(ValueError, match="no rank 1 to send to"):
        SELF.start_send(x, 1)
    with pytest.raises(ValueError, match="no rank 1 to receive from"):
        SELF.start_receive(x, 1)


@pytest.mark.parametrize("length", [0, 1, 5, 8, 17])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_pieces_cover_an_axis_once(length, size):
    cut = pieces(length, size)
    assert [i for s in cut for i in range(s.start, s.stop)] == list(range(length))
    lengths = [s.stop - s.start for s in cut]
    assert len(cut) == size and max(lengths) - min(lengths) <= 1


def test_counts_follow_the_ring():
    counter = Counter()
    for kind, sent in (("all-reduce", 150), ("all-gather", 75), ("reduce-scatter", 75), ("send", 100)):
        counter.add("tensor", kind, "mlp", 100, size=4)
        assert counter.total(kind=kind).wire == sent
    counter.add("experts", "all-to-all", "mlp", 100, size=4, wire=70)  # 70 bytes leave the rank
    assert counter.total(kind="all-to-all").wire == 70
    counter.traffic.pop(("experts", "all-to-all", "mlp"))
    assert (counter.total().calls, counter.total(label="mlp").bytes, counter.total("data").calls) == (
        4,
        400,
        0,
    )
