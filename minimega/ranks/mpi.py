"""Groups of ranks over MPI: each collective of `Group` as one message over flat, contiguous buffers.

x the array that goes in, y the one that comes out; `counts` numbers of elements, by rank.
"""

from collections.abc import Sequence

import numpy as np

from minimega.backend import library
from minimega.errors import BadInput
from minimega.precision import wide
from minimega.ranks import launch
from minimega.ranks.counter import Counter
from minimega.ranks.group import Group, Wait, pieces
from minimega.ranks.rollcall import RollCall
from minimega.ranks.transport import ways


class Ranks(Group):
    """A group of several ranks over an mpi4py communicator.

    `ways` are the two transports: for NumPy arrays, and for GPU arrays.
    """

    def __init__(self, comm, ways: tuple, name: str, counter: Counter, ranks: Sequence[int]):
        super().__init__(name, counter, ranks)
        self.comm, self.ways, self.rank, self.size = comm, ways, comm.rank, comm.size
        self.roll = ways[0].roll
        self.cuts: dict[tuple, Group] = {}  # groups split off so far: MPI allows only a few thousand

    def __repr__(self) -> str:
        return ", ".join([f"{self.name}: {self.size} ranks", *dict.fromkeys(map(str, self.ways))])

    def start_all_reduce(self, x, op="sum", label=""):
        """One all-reduce; 16-bit floats are summed in float32."""
        x, dtype = _summable(x)
        y = library(x).empty_like(x)
        self._count("all-reduce", label, x.nbytes)
        return _then(self._way(x).all_reduce(x.reshape(-1), y.reshape(-1), op), y, dtype)

    def start_all_gather(self, x, axis=0, length=None, label=""):
        """One all-gather into a flat buffer; for axis > 0 the wait puts the pieces in place."""
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
        """One reduce-scatter; 16-bit floats are summed in float32."""
        x, dtype = _summable(x)
        axis %= x.ndim
        xp, shapes = library(x), self._shapes(x.shape, axis, x.shape[axis])
        counts = [int(np.prod(s)) for s in shapes]
        if axis:  # each rank's piece must be contiguous in memory
            front = (slice(None),) * axis
            x = xp.concatenate([x[(*front, s)].reshape(-1) for s in pieces(x.shape[axis], self.size)])
        y = xp.empty(shapes[self.rank], x.dtype)
        self._count("reduce-scatter", label, x.nbytes)
        return _then(self._way(x).reduce_scatter(x.reshape(-1), y.reshape(-1), counts), y, dtype)

    def start_all_to_all(self, x, sends, receives, label=""):
        """One all-to-all of whole rows."""
        x = _contiguous(x)
        if sum(sends) != len(x):
            raise ValueError(f"all_to_all: {len(x)} rows cannot be sent as {list(sends)}")
        y = library(x).empty((sum(receives), *x.shape[1:]), x.dtype)
        row = int(np.prod(x.shape[1:]))
        kept = sends[self.rank] * row * x.itemsize
        self._count("all-to-all", label, x.nbytes, x.nbytes - kept)
        counts = [n * row for n in sends], [n * row for n in receives]
        return _then(self._way(x).all_to_all(x.reshape(-1), y.reshape(-1), *counts), y)

    def start_broadcast(self, x, root=0, label=""):
        """One broadcast; ranks other than `root` receive into a new array."""
        y = _contiguous(x)
        y = y if self.rank == root else library(y).empty_like(y)
        self._count("broadcast", label, y.nbytes)
        return _then(self._way(y).broadcast(y.reshape(-1), root), y)

    def start_send(self, x, to, label=""):
        """One send; the wait keeps x alive."""
        x = _contiguous(x)
        self._count("send", label, x.nbytes)
        return _then(self._way(x).send(x.reshape(-1), to), x)

    def start_receive(self, y, source):
        """One receive into y, which must be contiguous."""
        return _then(self._way(y).receive(y.reshape(-1), source), y)

    def busy(self, what):
        """Tell all ranks of the world that this rank will be busy for long (see rollcall.py)."""
        return self.roll.busy(what)

    def barrier(self):
        """MPI's barrier, with a wait that leaves the core to others."""
        self.ways[0].barrier()()

    def split(self, colour, name=""):
        """One MPI split; a split by the same function and name returns the same group again."""
        if not callable(colour):
            return self._cut(colour, name)
        cut = name, *map(colour, range(self.size))  # the same on all ranks, so all hit or miss together
        if cut not in self.cuts:
            self.cuts[cut] = self._cut(colour(self.rank), name)
        return self.cuts[cut]

    def _cut(self, colour: int, name: str) -> Group:
        self.barrier()  # a wait inside Split itself would not be reported
        comm = self.comm.Split(colour)  # no key: ranks keep this group's order
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
    """All ranks that mpirun or srun started, or a group of one; xp is the library of the model's arrays.

    From here on an error on one rank is printed once, with the rank, and ends the job. The group's `repr`
    says how arrays travel. Raises BadInput if mpi4py finds no MPI, or another MPI than mpirun's.
    """
    launch.hold()
    given = launch.ranks_given() or 1
    if given == 1:
        return Group("world")
    launch.set_threads(threads)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise BadInput(
            f"{given} ranks were started, but mpi4py finds no MPI. To install both: {launch.INSTALL}"
        ) from error
    if given != MPI.COMM_WORLD.size:
        raise BadInput(
            f"mpirun started {given} ranks, but mpi4py sees {MPI.COMM_WORLD.size}: they belong to different "
            f"MPIs.\nUse {launch.find_mpi().mpirun}, or leave mpirun out: minimega starts the ranks itself."
        )
    launch.guard()
    # Our own communicator: COMM_WORLD stays free for the last words of a job that fails.
    comm = MPI.COMM_WORLD.Dup()
    comm.Set_name("world")
    return Ranks(comm, ways(comm, xp, RollCall(comm)), "world", Counter(), range(comm.size))


def _contiguous(x):
    x = library(x).asarray(x)
    return x if x.flags.c_contiguous else x.copy(order="C")


def _then(wait: Wait, y, dtype=None) -> Wait:
    """Wait, then return y, rounded to dtype if there is one."""

    def done():
        wait()
        return y if dtype is None else y.astype(dtype, copy=False)

    return done


def _summable(x) -> tuple:
    """x as MPI can sum it, and the dtype to round to: 16-bit floats are summed in float32, rounded once."""
    x = _contiguous(x)
    return wide(x), x.dtype


def _split(y, counts: Sequence[int]) -> list:
    return library(y).split(y, np.cumsum(counts)[:-1].tolist())
