"""Groups of ranks and the messages between them.

A value over the p ranks of a group is *whole* (equal on all), *cut* (each rank holds a piece of one axis) or
*partial* (the sum over the ranks is the value). Callers know the interface of `Group` alone: the group of one
has it too, and there every collective is the identity, so no code asks whether it runs in parallel.

p ranks, n bytes of the whole array, r the rank.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import numpy as np

from minimega import launch
from minimega.backend import library, wide
from minimega.errors import BadInput
from minimega.parallel.counter import Counter
from minimega.parallel.rollcall import RollCall
from minimega.parallel.transport import ways

Wait = Callable[[], object]  # waits for a message under way and gives the array; may be called again


def pieces(length: int, size: int) -> list[slice]:
    """Where an axis is cut for `size` ranks: as evenly as it can be, the longer pieces first.

    >>> pieces(7, 3)
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    ends = [r * (length // size) + min(r, length % size) for r in range(size + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


class Group:
    """Ranks that work together; made as it stands here, a group of one, in which nothing is sent.

    `rank` is this rank's number within the group and `size` the number of ranks; `ranks` are their numbers
    in the world. Each collective must be entered by all ranks of the group, in one order, and each gives a
    new array, or x itself. `start_...` starts one and returns a function that waits for it: between the
    two calls x must not change. `label` is for the counter. Sums have the same bits on all ranks.

    >>> SELF.all_reduce(np.ones(2)).tolist(), SELF.rank, SELF.size
    ([1.0, 1.0], 0, 1)
    """

    rank, size = 0, 1

    def __init__(self, name: str = "self", counter: Counter | None = None, ranks: Sequence[int] = (0,)):
        self.name, self.ranks = name, tuple(ranks)
        self.counter = Counter() if counter is None else counter

    def __repr__(self) -> str:
        return f"{self.name}: a group of one"

    def all_reduce(self, x, op: str = "sum", label: str = ""):
        """The sum (or "max") of every rank's x, on every rank: partial -> whole."""
        return self.start_all_reduce(x, op, label)()

    def all_gather(self, x, axis: int = 0, length: int | None = None, label: str = ""):
        """Every rank's piece of an axis, one after another, on every rank: cut -> whole.

        `length` is that of the whole axis, cut as `pieces` says; None means that all pieces are as long as x.
        """
        return self.start_all_gather(x, axis, length, label)()

    def reduce_scatter(self, x, axis: int = 0, label: str = ""):
        """This rank's piece (cut as `pieces` says) of the sum of every rank's x: partial -> cut."""
        return self.start_reduce_scatter(x, axis, label)()

    def all_to_all(self, x, sends: Sequence[int], receives: Sequence[int], label: str = ""):
        """Rows for every rank: the first `sends[0]` of x go to rank 0, the next to rank 1..., cut -> cut.

        What comes, `receives[r]` rows from rank r, stands in the order of the ranks. All ranks together
        only put rows in another order: the way back (the same, with sends and receives swapped) undoes it.
        """
        return self.start_all_to_all(x, sends, receives, label)()

    def broadcast(self, x, root: int = 0, label: str = ""):
        """The x of rank `root`, on every rank; the others give an array of the same shape and type."""
        return self.start_broadcast(x, root, label)()

    def busy(self, what: str) -> AbstractContextManager:
        """Around long work of one rank: `what` it is doing, for those that wait for it meanwhile."""
        return nullcontext()

    def piece(self, length: int) -> slice:
        """This rank's piece of an axis of this length."""
        return pieces(length, self.size)[self.rank]

    def report(self) -> str:
        """What this rank sent so far, in this group and in all that share its counter."""
        return str(self.counter)

    # What a group of several ranks does in its own way:

    def start_all_reduce(self, x, op: str = "sum", label: str = "") -> Wait:
        return lambda: x

    def start_all_gather(self, x, axis: int = 0, length: int | None = None, label: str = "") -> Wait:
        return lambda: x

    def start_reduce_scatter(self, x, axis: int = 0, label: str = "") -> Wait:
        return lambda: x

    def start_all_to_all(self, x, sends: Sequence[int], receives: Sequence[int], label: str = "") -> Wait:
        return lambda: x

    def start_broadcast(self, x, root: int = 0, label: str = "") -> Wait:
        return lambda: x

    def start_send(self, x, to: int, label: str = "") -> Wait:
        """Send x to one rank of the group, which enters `start_receive`; x is free when the wait is over."""
        raise ValueError(f"a group of one has no rank {to} to send to")

    def start_receive(self, y, source: int) -> Wait:
        """Receive an array into y, which has its shape and type; y is filled when the wait is over."""
        raise ValueError(f"a group of one has no rank {source} to receive from")

    def barrier(self) -> None:
        """Wait until all ranks of the group are here."""

    def split(self, colour: int, name: str = "") -> "Group":
        """Cut the group: ranks of one colour form a group, in their order in this one.

        A rank gives its colour, or the function that gives it to each rank of the group.
        """
        return Group(name or self.name, self.counter, self.ranks)


SELF = Group()


class Ranks(Group):
    """A group of several ranks over a communicator of mpi4py; `ways` carries NumPy's arrays and the GPU's."""

    def __init__(self, comm, ways: tuple, name: str, counter: Counter, ranks: Sequence[int]):
        super().__init__(name, counter, ranks)
        self.comm, self.ways, self.rank, self.size = comm, ways, comm.rank, comm.size
        self.roll = ways[0].roll
        self.cuts: dict[tuple, Group] = {}  # the groups cut so far: an MPI has some thousand communicators

    def __repr__(self) -> str:
        return ", ".join([f"{self.name}: {self.size} ranks", *dict.fromkeys(map(str, self.ways))])

    def start_all_reduce(self, x, op="sum", label=""):
        x, dtype = _summable(x)
        y = library(x).empty_like(x)
        self._count("all-reduce", label, x.nbytes)
        wait = self._way(x).all_reduce(x.reshape(-1), y.reshape(-1), op)
        return lambda: (wait(), y.astype(dtype, copy=False))[1]

    def start_all_gather(self, x, axis=0, length=None, label=""):
        x = _contiguous(x)
        axis %= x.ndim
        length = x.shape[axis] * self.size if length is None else length
        shapes = self._shapes(x.shape, axis, length)
        if x.shape != shapes[self.rank]:
            raise ValueError(
                f"all_gather: rank {self.rank} of {self.size} holds {x.shape[axis]} entries of axis {axis}, "
                f"but its piece of {length} has {shapes[self.rank][axis]}"
            )
        counts = [int(np.prod(s)) for s in shapes]
        y = library(x).empty(sum(counts), x.dtype)
        self._count("all-gather", label, y.nbytes)
        wait = self._way(x).all_gather(x.reshape(-1), y, counts)

        def whole():
            wait()
            if axis == 0 or not y.size:
                return y.reshape(*x.shape[:axis], length, *x.shape[axis + 1 :])
            parts = [part.reshape(s) for part, s in zip(_split(y, counts), shapes, strict=True)]
            return library(y).concatenate(parts, axis)

        return whole

    def start_reduce_scatter(self, x, axis=0, label=""):
        x, dtype = _summable(x)
        axis %= x.ndim
        xp, shapes = library(x), self._shapes(x.shape, axis, x.shape[axis])
        counts = [int(np.prod(s)) for s in shapes]
        if axis:  # the pieces must stand one after another in memory
            front = (slice(None),) * axis
            x = xp.concatenate([x[(*front, s)].reshape(-1) for s in pieces(x.shape[axis], self.size)])
        y = xp.empty(shapes[self.rank], x.dtype)
        self._count("reduce-scatter", label, x.nbytes)
        wait = self._way(x).reduce_scatter(x.reshape(-1), y.reshape(-1), counts)
        return lambda: (wait(), y.astype(dtype, copy=False))[1]

    def start_all_to_all(self, x, sends, receives, label=""):
        x = _contiguous(x)
        if sum(sends) != len(x):
            raise ValueError(f"all_to_all: {len(x)} rows cannot be sent as {list(sends)}")
        y = library(x).empty((sum(receives), *x.shape[1:]), x.dtype)
        row = int(np.prod(x.shape[1:]))
        kept = sends[self.rank] * row * x.itemsize
        self._count("all-to-all", label, x.nbytes, x.nbytes - kept)
        counts = [n * row for n in sends], [n * row for n in receives]
        wait = self._way(x).all_to_all(x.reshape(-1), y.reshape(-1), *counts)
        return lambda: (wait(), y)[1]

    def start_broadcast(self, x, root=0, label=""):
        y = _contiguous(x)
        y = y if self.rank == root else library(y).empty_like(y)
        self._count("broadcast", label, y.nbytes)
        wait = self._way(y).broadcast(y.reshape(-1), root)
        return lambda: (wait(), y)[1]

    def start_send(self, x, to, label=""):
        x = _contiguous(x)
        self._count("send", label, x.nbytes)
        wait = self._way(x).send(x.reshape(-1), to)
        return lambda: (wait(), x)[1]

    def start_receive(self, y, source):
        wait = self._way(y).receive(y.reshape(-1), source)
        return lambda: (wait(), y)[1]

    def busy(self, what):
        return self.roll.busy(what)

    def barrier(self):
        self.ways[0].barrier()()

    def split(self, colour, name=""):
        if not callable(colour):
            return self._cut(colour, name)
        cut = name, *map(colour, range(self.size))  # the same on all ranks: they remember alike
        if cut not in self.cuts:
            self.cuts[cut] = self._cut(colour(self.rank), name)
        return self.cuts[cut]

    def _cut(self, colour: int, name: str) -> Group:
        self.barrier()  # MPI waits without a word in Split itself
        comm = self.comm.Split(colour)  # without a key, the order of this group
        everyone, members = self.comm.Get_group(), comm.Get_group()
        places = members.Translate_ranks(list(range(comm.size)), everyone)
        ranks, name = [self.ranks[i] for i in places], name or self.name
        if comm.size == 1:
            return Group(name, self.counter, ranks)
        comm.Set_name(name)
        return Ranks(comm, tuple(way.over(comm) for way in self.ways), name, self.counter, ranks)

    def _way(self, x):
        return self.ways[library(x) is not np]

    def _count(self, kind: str, label: str, nbytes: int, wire: float | None = None) -> None:
        self.counter.add(self.name, kind, label, nbytes, self.size, wire)

    def _shapes(self, shape: tuple, axis: int, length: int) -> list[tuple]:
        return [(*shape[:axis], s.stop - s.start, *shape[axis + 1 :]) for s in pieces(length, self.size)]


def world(xp=np, threads: int | None = None) -> Group:
    """All ranks that mpirun or srun started (a group of one without them); xp owns the model's arrays.

    From here on an error on one rank is printed once, with the rank, and ends the job. Its `repr` says
    how arrays travel. BadInput where mpi4py, or the MPI that mpirun belongs to, is not there.
    """
    launch.hold()
    given = launch.ranks_given() or 1
    if given == 1:
        return Group("world")
    launch.set_threads(threads)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise BadInput(f"{given} ranks were started, but mpi4py finds no MPI: {launch.INSTALL}") from error
    if given != MPI.COMM_WORLD.size:
        raise BadInput(
            f"mpirun started {given} ranks, but mpi4py sees {MPI.COMM_WORLD.size}: they belong to different "
            f"MPIs.\nUse {launch.find_mpi().mpirun}, or leave mpirun out: minimega starts the ranks itself."
        )
    launch.guard()
    # A communicator of our own: that of all ranks stays free for the last words of a job that fails.
    comm = MPI.COMM_WORLD.Dup()
    comm.Set_name("world")
    return Ranks(comm, ways(comm, xp, RollCall(comm)), "world", Counter(), range(comm.size))


def _contiguous(x):
    x = library(x).asarray(x)
    return x if x.flags.c_contiguous else x.copy(order="C")


def _summable(x) -> tuple:
    """x as MPI can add it up, and its own type: a 16-bit float is summed in 32 bits, and rounded once."""
    x = _contiguous(x)
    return wide(x), x.dtype


def _split(y, counts: Sequence[int]) -> list:
    return library(y).split(y, np.cumsum(counts)[:-1].tolist())
