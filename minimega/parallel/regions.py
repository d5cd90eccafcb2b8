"""The places where a cut model differs from a whole one: pure functions that differentiate.

Each says what kind of value goes in and comes out, and in its backward what kind of gradient: *whole* (equal
on all ranks), *cut* (each holds its piece of an axis) or *partial* (the sum over the ranks is meant).

                 value               gradient (from right to left)
    copy         whole   -> whole    whole <- partial      f of Shoeybi et al. 2019, section 3
    reduce       partial -> whole    whole <- whole        g of the same
    gather       cut     -> whole    cut   <- partial      g of Korthikanti et al. 2022, section 4.2
    scatter      partial -> cut      whole <- cut          g-bar of the same
    cut          whole   -> cut      whole <- cut
    join         cut     -> whole    cut   <- whole

`gather` and `join` look alike forward. They differ in who uses the whole value: ranks that each compute
another part of the model with it have each a part of its gradient (partial, so it is summed); ranks that all
compute the same have all the same gradient (whole: summing it would count it p times).

With a group of one every region is the identity and costs nothing. p ranks.
"""

from minimega.autograd import op
from minimega.ranks.group import Group, pieces


@op
def copy(x, *, group: Group, label: str = ""):
    """Hand a whole x to ranks that each go another way with it: identity, backward all-reduce.

    Each rank's way gives a part of the gradient. Their sum travels while the caller goes on: the gradient is
    a function that waits for it.
    """
    return x, lambda dy: group.start_all_reduce(dy, label=label)


@op
def reduce(x, *, group: Group, label: str = ""):
    """Add up what each rank computed: all-reduce, backward identity.

    y = x_0 + ... + x_(p-1), so dL/dx_r = dL/dy on every rank.
    """
    return group.all_reduce(x, label=label), lambda dy: dy


@op
def gather(x, *, group: Group, axis: int = 1, length: int | None = None, label: str = ""):
    """Make an axis whole for ranks that each go another way with it: all-gather, backward reduce-scatter.

    `length` is that of the whole axis, where the pieces are not equally long.
    """
    y = group.all_gather(x, axis, length, label)
    return y, lambda dy: group.start_reduce_scatter(dy, axis, label)


@op
def scatter(x, *, group: Group, axis: int = 1, label: str = ""):
    """Add up what each rank computed and keep one piece each: reduce-scatter, backward all-gather."""
    length = x.shape[axis]
    y = group.reduce_scatter(x, axis, label)
    return y, lambda dy: group.start_all_gather(dy, axis, length, label)


@op
def cut(x, *, group: Group, axis: int = 1, label: str = ""):
    """Keep this rank's piece of a whole x: a slice, backward all-gather."""
    length = x.shape[axis]
    y = x[_piece(x.ndim, axis, length, group)]
    return y, lambda dy: group.start_all_gather(dy, axis, length, label)


@op
def join(x, *, group: Group, axis: int = 1, length: int | None = None, label: str = ""):
    """Make an axis whole for ranks that all do the same with it: all-gather, backward a slice."""
    y = group.all_gather(x, axis, length, label)
    return y, lambda dy: dy[_piece(dy.ndim, axis, dy.shape[axis], group)]


def _piece(ndim: int, axis: int, length: int, group: Group) -> tuple:
    return (*[slice(None)] * (axis % ndim), pieces(length, group.size)[group.rank])
