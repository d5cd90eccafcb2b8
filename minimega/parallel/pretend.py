"""A group whose other ranks are not there: to measure what one rank of many holds, on any machine."""

from minimega.backend import library
from minimega.parallel.comm import Group, pieces


class Pretend(Group):
    """One rank of `size`. What comes back from a collective has the shape that it would have, and this
    rank's numbers where those of the others would be; a message is received as zeros.

    >>> Pretend(4, rank=1).all_gather(np.ones((2, 3)), axis=1, length=12).shape
    (2, 12)
    """

    def __init__(self, size: int, rank: int = 0, name: str = "pretended"):
        super().__init__(name, ranks=range(size))
        self.size, self.rank = size, rank

    def start_all_reduce(self, x, op="sum", label=""):
        return lambda: x.copy()

    def start_all_gather(self, x, axis=0, length=None, label=""):
        length = x.shape[axis] * self.size if length is None else length
        return lambda: (
            library(x).resize(x.swapaxes(0, axis), (length, *x.swapaxes(0, axis).shape[1:])).swapaxes(0, axis)
        )

    def start_reduce_scatter(self, x, axis=0, label=""):
        here = pieces(x.shape[axis], self.size)[self.rank]
        return lambda: x[(*[slice(None)] * (axis % x.ndim), here)].copy()

    def start_send(self, x, to, label=""):
        return lambda: x

    def start_receive(self, y, source):
        y[...] = 0
        return lambda: y
