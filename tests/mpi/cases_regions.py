"""The regions: the adjoint identity with its kinds, cut layers against whole ones, and planted mistakes.

B batch, T time, D width, F inner width.
"""

import numpy as np

from minimega.autograd import Tensor, op
from minimega.linear import linear
from minimega.ops import gelu
from minimega.parallel import regions
from minimega.parallel.regions import copy, cut, gather, join, reduce, scatter
from minimega.parameter import Parameter
from tests.mpi.adjoint import assert_adjoint, assert_whole, draw
from tests.mpi.ranks import sizes

KINDS = {  # region: kinds of x and y, kinds of dx and dy
    "copy": (("whole", "whole"), ("whole", "partial")),
    "reduce": (("partial", "whole"), ("whole", "whole")),
    "gather": (("cut", "whole"), ("cut", "partial")),
    "scatter": (("partial", "cut"), ("whole", "cut")),
    "cut": (("whole", "cut"), ("whole", "cut")),
    "join": (("cut", "whole"), ("cut", "whole")),
}


def hold(name, group, f=None, shape=(3, 7), axis=1):
    region = f or getattr(regions, name)
    where = {} if name in ("copy", "reduce") else {"axis": axis}
    if name in ("gather", "join"):
        where["length"] = shape[axis]
    assert_adjoint(lambda x: region(x, group=group, **where), group, shape, *KINDS[name], axis=axis)


def case_adjoint_identity(group):
    for name in KINDS:
        for shape in ((2, 8, 3), (3, 7), (1, 3, 2), (8,)):  # 8 divides by most, 7 and 3 by few
            for axis in range(len(shape)):
                hold(name, group, shape=shape, axis=axis)


def case_adjoint_identity_on_parts_of_the_world(group):
    part = group.split(group.rank % 2, "part")
    for name in KINDS:
        hold(name, part)


@sizes(2, 3, 4, 8)
def case_planted_mistakes_are_caught(group):
    def f_without_all_reduce(x, *, group):
        return x, lambda dy: dy

    def g_doubled(x, *, group):
        return group.all_reduce(x), lambda dy: 2 * dy

    def g_summed(x, *, group):
        return group.all_reduce(x), lambda dy: group.all_reduce(dy)

    def g_without_all_reduce(x, *, group):
        return x, lambda dy: dy

    def scatter_backward_zeros(x, *, group, axis):
        y, back = scatter(x, group=group, axis=axis)
        return y, lambda dy: np.where(group.rank == 0, back(dy)(), 0)

    def gather_of_a_rolled_order(x, *, group, axis, length):
        y, back = join(x, group=group, axis=axis, length=length)
        return np.roll(y, 1, axis), back

    for name, wrong in (
        ("copy", f_without_all_reduce),
        ("reduce", g_doubled),
        ("reduce", g_summed),
        ("reduce", g_without_all_reduce),
        ("gather", join),  # only slices in its backward
        ("join", gather),  # sums what is already whole
        ("scatter", scatter_backward_zeros),
        ("join", gather_of_a_rolled_order),
    ):
        try:
            hold(name, group, wrong)
            caught = 0
        except AssertionError:
            caught = 1
        assert group.all_reduce(np.array(caught)) > 0, (name, wrong)


def model(group, sequence_parallel, first=copy, last=reduce):
    """A whole x through a column-cut linear layer, gelu and a row-cut one; and their gradients, whole."""
    B, T, D, F = 2, 5, 4, 11  # no number of ranks divides 5 or 11
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, B, T, D))
    w1, b1, w2, b2 = (rng.standard_normal(s) for s in ((D, F), (F,), (F, D), (D,)))
    mine = group.piece(F)
    leaves = [Tensor(a) for a in (x, w1[:, mine], b1[mine], w2[mine], b2)]
    if sequence_parallel:
        h = gather(cut(leaves[0], group=group), group=group, length=T)
    else:
        h = first(leaves[0], group=group)
    h = linear(gelu(linear(h, leaves[1], leaves[2])), leaves[3])
    if sequence_parallel:
        y = scatter(h, group=group) + copy(leaves[4], group=group)  # every rank adds it to its own tokens
        y = join(y, group=group, length=T)
    else:
        y = last(h, group=group) + leaves[4]
    loss = (y * target).sum()
    loss.backward()
    dx, dw1, db1, dw2, db2 = (leaf.grad for leaf in leaves)
    whole = [dx, group.all_gather(dw1, 1, F), group.all_gather(db1, 0, F), group.all_gather(dw2, 0, F), db2]
    return (x, w1, b1, w2, b2, target), loss.data, whole


def plain(x, w1, b1, w2, b2, target):
    a = x @ w1 + b1
    a = a / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))
    return ((a @ w2 + b2) * target).sum()


def hold_model(group, **how):
    arrays, loss, gradients = model(group, **how)
    assert abs(loss - plain(*arrays)) < 1e-12 * abs(loss)
    rng = np.random.default_rng(1)
    for i, gradient in enumerate(gradients):  # finite differences of the whole model, along random directions
        for _ in range(2):
            step = 1e-5 * rng.standard_normal(arrays[i].shape)
            allowed = 1e-8 * np.abs(gradient).max() * np.abs(step).sum()
            up, down = (
                plain(*(a + s * step if j == i else a for j, a in enumerate(arrays))) for s in (1, -1)
            )
            assert abs((up - down) / 2 - np.vdot(gradient, step)) < allowed, i
    assert_whole(gradients[0], group)
    assert_whole(gradients[4], group)


def case_cut_layers_equal_the_whole_one(group):
    hold_model(group, sequence_parallel=False)


def case_cut_layers_with_cut_sequences(group):
    hold_model(group, sequence_parallel=True)


@sizes(2, 3)
def case_a_planted_mistake_in_cut_layers_is_caught(group):
    for wrong in (
        {"first": lambda x, group: x},
        {"last": lambda x, group: copy(reduce(x, group=group), group=group)},
    ):
        try:
            hold_model(group, sequence_parallel=False, **wrong)
        except AssertionError:
            continue
        raise RuntimeError(f"not caught: {wrong}")


def case_regions_on_tensors_and_the_message_that_travels(group):
    """f's message starts before the weight gradients are computed; the wait comes after."""
    order = []

    class Spy:
        rank, size = group.rank, group.size

        def start_all_reduce(self, x, op="sum", label=""):
            order.append("start")
            wait = group.start_all_reduce(x, op, label)
            return lambda: (order.append("wait"), wait())[1]

    x, w = Tensor(draw("whole", (3, 4), group, 0, 0)), Parameter((4, 2))
    w.data = np.ones((4, 2))
    z = x * 2.0
    h = copy(z, group=Spy())

    @op
    def spied(x, w):
        y, back = linear(x, w)

        def spied_back(dy):
            dx, dw, *_ = back(dy)
            return dx, lambda: (order.append("weights"), dw())[1]

        return y, spied_back

    spied(h, w).backward(np.ones((3, 2)))
    assert order == ["start", "weights", "wait"], order
    assert np.allclose(x.grad, 4.0 * group.size)
