"""Transports: flat contiguous buffers over MPI or NCCL.

All transports have the same calls. Each starts a message and returns a function that waits for it. x is sent,
y is filled; `counts`, `sends` and `receives` are numbers of elements, by rank.
"""

import functools
import os
import subprocess
from types import ModuleType

import numpy as np

from minimega.backend import library
from minimega.ranks.child import python
from minimega.ranks.rollcall import RollCall, wait_for


class Mpi:
    """Arrays passed to MPI directly: NumPy's, or the GPU's if MPI is CUDA-aware.

    Sums are sent with their dtype. All other data is sent as bytes, so any dtype works.
    """

    def __init__(self, comm, name: str = "", roll: RollCall | None = None):
        from mpi4py import MPI  # the import starts MPI: only when there are ranks

        self.comm, self.name, self.roll, self.byte = comm, name, roll, MPI.BYTE
        self.ops = {"sum": MPI.SUM, "max": MPI.MAX}

    def __str__(self) -> str:
        return self.name

    def over(self, comm) -> "Mpi":
        """The same transport over another communicator."""
        return type(self)(comm, self.name, self.roll)

    @functools.cached_property
    def ranks(self) -> list[int]:
        """The world numbers of the communicator's ranks."""
        assert self.roll  # there is one as soon as there are ranks
        world = self.roll.comm.Get_group()
        return self.comm.Get_group().Translate_ranks(list(range(self.comm.size)), world)

    def all_reduce(self, x, y, op):
        """Sum (or "max") all ranks' x into y."""
        return self._started("all-reduce", None, self.comm.Iallreduce, _ready(x), y, self.ops[op])

    def reduce_scatter(self, x, y, counts):
        """Sum all ranks' x; y gets this rank's `counts[rank]` elements of it."""
        return self._started(
            "reduce-scatter", None, self.comm.Ireduce_scatter, _ready(x), y, counts, self.ops["sum"]
        )

    def all_gather(self, x, y, counts):
        """Concatenate all ranks' x, of `counts[r]` elements each, into y."""
        counts = [c * y.itemsize for c in counts]
        return self._started(
            "all-gather", None, self.comm.Iallgatherv, self._bytes(x), [y.view("uint8"), counts, self.byte]
        )

    def all_to_all(self, x, y, sends, receives):
        """Send `sends[r]` elements of x to each rank r; y gets `receives[r]` from it."""
        out, into = ([n * x.itemsize for n in counts] for counts in (sends, receives))
        return self._started(
            "all-to-all", None, self.comm.Ialltoallv, [_ready(x), out, self.byte], [y, into, self.byte]
        )

    def broadcast(self, y, root):
        """Send root's y to all; the others' y is filled."""
        return self._started("broadcast", None, self.comm.Ibcast, self._bytes(y), root)

    def send(self, x, to):
        """Send x to rank `to`."""
        return self._started("send", to, self.comm.Isend, self._bytes(x), to)

    def receive(self, y, source):
        """Fill y from rank `source`."""
        return self._started("receive", source, self.comm.Irecv, self._bytes(y), source)

    def barrier(self):
        """Wait for all ranks."""
        return self._started("barrier", None, self.comm.Ibarrier)

    def _bytes(self, x) -> list:
        return [_ready(x).view("uint8"), x.nbytes, self.byte]  # MPI has no bfloat16

    def _started(self, what: str, peer: int | None, call, *args):
        request = call(*args)

        # the closure keeps args: MPI's buffers must live until the wait is over
        def wait(held: tuple = args):
            wait_for(request, self._look, what, peer)
            return held

        return wait

    def _look(self, begun: float, what: str, peer: int | None) -> None:
        if self.roll is None:
            return
        ranks, group = self.ranks, self.comm.Get_name()
        if peer is None:
            self.roll.look(begun, f"{what} in {group}", ranks)
        else:
            way = f"{what} {'to' if what == 'send' else 'from'} rank {ranks[peer]} in {group}"
            self.roll.look(begun, way, [ranks[peer]])


def _ready(x):
    """x, once the GPU has computed it: MPI does not wait for CUDA streams."""
    if library(x) is not np:
        library(x).cuda.get_current_stream().synchronize()
    return x


class Pinned(Mpi):
    """GPU arrays over an MPI that is not CUDA-aware, copied through page-locked host memory."""

    def all_reduce(self, x, y, op):
        """By way of the host."""
        return self._back(y, lambda host: super(Pinned, self).all_reduce(_down(x), host, op))

    def reduce_scatter(self, x, y, counts):
        """By way of the host."""
        return self._back(y, lambda host: super(Pinned, self).reduce_scatter(_down(x), host, counts))

    def all_gather(self, x, y, counts):
        """By way of the host."""
        return self._back(y, lambda host: super(Pinned, self).all_gather(_down(x), host, counts))

    def all_to_all(self, x, y, sends, receives):
        """By way of the host."""
        return self._back(y, lambda host: super(Pinned, self).all_to_all(_down(x), host, sends, receives))

    def broadcast(self, y, root):
        """By way of the host: down on the root, up on the others."""
        if self.comm.rank == root:
            return super().broadcast(_down(y), root)
        return self._back(y, lambda host: super(Pinned, self).broadcast(host, root))

    def send(self, x, to):
        """From a host copy of x."""
        return super().send(_down(x), to)

    def receive(self, y, source):
        """Into host memory, then to the GPU when the wait is over."""
        return self._back(y, lambda host: super(Pinned, self).receive(host, source))

    def _back(self, y, start):
        host = _pinned(y)
        wait = start(host)

        def finish():
            wait()
            y.set(host)
            library(y).cuda.get_current_stream().synchronize()  # before `host` may be freed

        return finish


def _pinned(x) -> np.ndarray:
    memory = library(x).cuda.alloc_pinned_memory(max(1, x.nbytes))
    return np.frombuffer(memory, x.dtype, x.size)


def _down(x) -> np.ndarray:
    host = _pinned(x)
    x.get(out=host)
    return host


class Nccl(Pinned):
    """Collectives from GPU to GPU through NCCL, on a CUDA stream beside the one that computes.

    Sends, receives and all-to-all (which consists of them) go through the host: on a single stream they could
    deadlock.
    """

    def __init__(self, comm, name: str = "", roll: RollCall | None = None):
        import cupy
        from cupy.cuda import nccl

        super().__init__(comm, name, roll)
        key = np.zeros(nccl.NCCL_UNIQUE_ID_BYTES, np.int8)
        if comm.rank == 0:
            key[:] = nccl.get_unique_id()
        comm.Bcast(key)
        self.ring = nccl.NcclCommunicator(comm.size, tuple(key.tolist()), comm.rank)
        self.nccl, self.cuda, self.queue = nccl, cupy.cuda, cupy.cuda.Stream(non_blocking=True)

    def all_reduce(self, x, y, op):
        """One call of NCCL."""
        kind, op = self._type(x), getattr(self.nccl, f"NCCL_{op.upper()}")
        return self._queued(
            lambda queue: self.ring.allReduce(x.data.ptr, y.data.ptr, x.size, kind, op, queue), x, y
        )

    def reduce_scatter(self, x, y, counts):
        """One reduce per rank, in a group of NCCL: its own reduce-scatter takes equal pieces only."""
        kind, starts = self._type(x), _starts(x, counts)

        def call(queue):
            for r, n in enumerate(counts):
                self.ring.reduce(starts[r], y.data.ptr, n, kind, self.nccl.NCCL_SUM, r, queue)

        return self._queued(call, x, y)

    def all_gather(self, x, y, counts):
        """One broadcast per rank, in a group of NCCL: its own all-gather takes equal pieces only."""
        starts, byte = _starts(y, counts), self.nccl.NCCL_UINT8

        def call(queue):
            for r, n in enumerate(counts):
                self.ring.broadcast(x.data.ptr, starts[r], n * y.itemsize, byte, r, queue)

        return self._queued(call, x, y)

    def broadcast(self, y, root):
        """One call of NCCL, in bytes."""
        at, byte = y.data.ptr, self.nccl.NCCL_UINT8
        return self._queued(lambda queue: self.ring.broadcast(at, at, y.nbytes, byte, root, queue), y)

    def _type(self, x) -> int:
        kind = {"f4": "FLOAT32", "f8": "FLOAT64", "i4": "INT32", "i8": "INT64"}[x.dtype.str[1:]]
        return getattr(self.nccl, f"NCCL_{kind}")

    def _queued(self, call, *arrays):
        """Start a call once all earlier computation is done; the wait makes later computation wait for it."""
        self.queue.wait_event(self.cuda.get_current_stream().record())
        self.nccl.groupStart()  # one message per piece, all at once
        call(self.queue.ptr)
        self.nccl.groupEnd()
        done = self.queue.record()
        return lambda: (self.cuda.get_current_stream().wait_event(done), arrays)[0]


def _starts(x, counts) -> list[int]:
    return [x.data.ptr + x.itemsize * sum(counts[:r]) for r in range(len(counts))]


def ways(comm, xp: ModuleType, roll: RollCall | None = None) -> tuple[Mpi, Mpi]:
    """The transports for NumPy arrays and for xp's, over one communicator.

    Selects this rank's GPU: its number on the machine, modulo the number of GPUs.
    """
    from mpi4py import MPI

    host = Mpi(comm, " ".join((MPI.get_vendor()[0], ".".join(map(str, MPI.get_vendor()[1])))), roll)
    if xp is np:
        return host, host
    local = comm.Split_type(MPI.COMM_TYPE_SHARED)
    gpus = xp.cuda.runtime.getDeviceCount()
    xp.cuda.Device(local.rank % gpus).use()
    if _all(comm, local.size <= gpus and has_nccl()):
        return host, Nccl(comm, "GPU arrays through NCCL", roll)
    if _all(comm, comm.rank > 0 or knows_cuda()):
        return host, Mpi(comm, "GPU arrays through CUDA-aware MPI", roll)
    return host, Pinned(comm, "GPU arrays through page-locked host memory", roll)


def _all(comm, here: bool) -> bool:
    votes = np.zeros(comm.size, bool)
    comm.Allgather(np.array([here]), votes)
    return bool(votes.all())


# One message from a GPU to itself. An MPI that is not CUDA-aware reads a host address and dies.
CUDA_TRIAL = """
import cupy
from mpi4py import MPI
x, y = cupy.arange(1 << 16), cupy.zeros(1 << 16, int)
cupy.cuda.Device().synchronize()
MPI.COMM_SELF.Sendrecv(x, 0, recvbuf=y, source=0)
assert (x == y).all()
"""


def has_nccl() -> bool:
    """Whether CuPy finds NCCL."""
    try:
        from cupy.cuda import nccl
    except ImportError:
        return False
    return bool(nccl.available)


def knows_cuda() -> bool:
    """Whether MPI is CUDA-aware: tried in a separate process, since it may crash."""
    alone = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI_COMM", "PRTE", "SLURM"))}
    try:
        return not subprocess.run(
            python("-c", CUDA_TRIAL), env=alone, capture_output=True, timeout=60
        ).returncode
    except subprocess.TimeoutExpired:
        return False
