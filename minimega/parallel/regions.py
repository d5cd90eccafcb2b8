"""Regions: the differentiable functions where a cut model differs from a whole one.

Each states the kind of value that goes in and comes out, and the kind of gradient in its backward: *whole*
(equal on all ranks), *cut* (each rank holds its piece of an axis) or *partial* (the value is the sum over the
ranks).

                 value               gradient (from right to left)
    copy         whole   -> whole    whole <- partial      f of Shoeybi et al. 2019, section 3
    reduce       partial -> whole    whole <- whole        g of the same
    gather       cut     -> whole    cut   <- partial      g of Korthikanti et al. 2022, section 4.2
    scatter      partial -> cut      whole <- cut          g-bar of the same
    cut          whole   -> cut      whole <- cut
    join         cut     -> whole    cut   <- whole

`gather` and `join` have the same forward. They differ in what the ranks do with the whole value. If each rank
uses it in a different part of the model, each has a part of its gradient (partial, so it is summed). If all
ranks compute the same with it, all have the same gradient (whole; a sum would count it p times).

In a group of one every region is the identity and costs nothing. p ranks.
"""

from minimega.autograd import op
from minimega.ranks.group import Group, pieces


@op(exact=True)
def copy(x, *, group: Group, label: str = ""):
    """Pass a whole x to ranks that each compute something different with it: identity, backward all-reduce.

    Each rank has a part of the gradient. Backward returns a function that waits for their sum, so the
    message overlaps with computation.
    """
    return x, lambda dy: group.start_all_reduce(dy, label=label)


@op(exact=True)
def reduce(x, *, group: Group, label: str = ""):
    """Sum what the ranks computed: all-reduce, backward identity.

    y = x_0 + ... + x_(p-1), so dL/dx_r = dL/dy on every rank.
    """
    return group.all_reduce(x, label=label), lambda dy: dy


@op(exact=True)
def gather(x, *, group: Group, axis: int = 1, length: int | None = None, label: str = ""):
    """Make an axis whole for ranks that compute something different: all-gather, backward reduce-scatter.

    `length` is the length of the whole axis; None: all pieces are equally long.
    """
    y = group.all_gather(x, axis, length, label)
    return y, lambda dy: group.start_reduce_scatter(dy, axis, label)


@op(exact=True)
def scatter(x, *, group: Group, axis: int = 1, label: str = ""):
    """Sum what the ranks computed, and keep this rank's piece: reduce-scatter, backward all-gather."""
    length = x.shape[axis]
    y = group.reduce_scatter(x, axis, label)
    return y, lambda dy: group.start_all_gather(dy, axis, length, label)


@op(exact=True)
def cut(x, *, group: Group, axis: int = 1, label: str = ""):
    """Keep this rank's piece of a whole x: a slice, backward all-gather."""
    length = x.shape[axis]
    y = x[_piece(x.ndim, axis, length, group)]
    return y, lambda dy: group.start_all_gather(dy, axis, length, label)


@op(exact=True)
def join(x, *, group: Group, axis: int = 1, length: int | None = None, label: str = ""):
    """Make an axis whole for ranks that all compute the same with it: all-gather, backward a slice."""
    y = group.all_gather(x, axis, length, label)
    return y, lambda dy: dy[_piece(dy.ndim, axis, dy.shape[axis], group)]


def _piece(ndim: int, axis: int, length: int, group: Group) -> tuple:
    return (*[slice(None)] * (axis % ndim), pieces(length, group.size)[group.rank])
