"""Ranks on paper: the shapes that each rank of many would hold, computed in one process."""

from collections.abc import Callable, Sequence

from minimega.backend import library
from minimega.ranks.group import Group


class Paper(Group):
    """One rank of `size`, without the others. It can be split into groups like real ranks.

    A collective returns an array of the right shape, filled with this rank's own numbers. A receive
    returns zeros.

    >>> Paper(4, rank=1).all_gather(np.ones((2, 3)), axis=1, length=12).shape
    (2, 12)
    >>> Paper(8, rank=5).split(lambda r: r % 2).ranks
    (1, 3, 5, 7)
    """

    def __init__(self, size: int, rank: int = 0, name: str = "world", ranks: Sequence[int] | None = None):
        super().__init__(name, ranks=range(size) if ranks is None else ranks)
        self.rank, self.size = rank, size

    def split(self, colour: int | Callable[[int], int], name: str = ""):
        """This rank's group among ranks of the same colour; `colour` must be a function."""
        if not callable(colour):
            raise TypeError("ranks on paper are split by a function from a rank to its colour")
        same = [r for r in range(self.size) if colour(r) == colour(self.rank)]
        return Paper(len(same), same.index(self.rank), name, [self.ranks[r] for r in same])

    def start_all_reduce(self, x, op="sum", label=""):
        """A copy of x."""
        return lambda: x.copy()

    def start_all_gather(self, x, axis=0, length=None, label=""):
        """x, repeated along the axis to its whole length."""
        first = x.swapaxes(0, axis)
        shape = len(first) * self.size if length is None else length, *first.shape[1:]
        return lambda: library(x).resize(first, shape).swapaxes(0, axis)

    def start_reduce_scatter(self, x, axis=0, label=""):
        """This rank's piece of x."""
        here = self.piece(x.shape[axis])
        return lambda: x[(*[slice(None)] * (axis % x.ndim), here)].copy()

    def start_send(self, x, to, label=""):
        """Nothing is sent."""
        return lambda: x

    def start_receive(self, y, source):
        """y, filled with zeros."""
        y[...] = 0
        return lambda: y
