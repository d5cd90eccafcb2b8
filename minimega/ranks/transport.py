"""How arrays travel: as flat contiguous buffers over MPI or NCCL.

Each way has the same calls, which start a message and return a function that waits for it, and
`over(comm)`, the same way among the ranks of another communicator. `x` goes in, `y` is filled.
"""

import functools
import os
import subprocess
import time
from collections.abc import Callable
from types import ModuleType

import numpy as np

from minimega.backend import library
from minimega.ranks.child import python
from minimega.ranks.rollcall import RollCall


def wait_for(request, look: Callable[..., None], *of) -> None:
    """Wait, and leave the core to others meanwhile; once it takes long, look(since when, *of) every few ms.

    MPI's own wait keeps the core, so that the rank that is waited for may not run: with 8 ranks on 2 cores
    MPICH took 6 ms for an all-reduce of 8 bytes and 23 ms for one of 256 KB; with this wait it
    takes 0.5 ms and 3 ms. With a core for each rank both take the same.
    """
    polls, begun = 0, 0.0
    while not request.Test():
        polls += 1
        if polls > 300 and polls % 8 == 0:
            time.sleep(5e-5)
            if polls % 128 == 0:
                begun = begun or time.monotonic()
                look(begun, *of)


class Mpi:
    """MPI takes the arrays as they are: NumPy's, or the GPU's where MPI knows CUDA.

    Sums go with their type; what is only moved goes as bytes, so that every type can be.
    """

    def __init__(self, comm, name: str = "", roll: RollCall | None = None):
        from mpi4py import MPI  # starts MPI: only now, when there are ranks

        self.comm, self.name, self.roll, self.byte = comm, name, roll, MPI.BYTE
        self.ops = {"sum": MPI.SUM, "max": MPI.MAX}

    def __str__(self) -> str:
        return self.name

    def over(self, comm) -> "Mpi":
        return type(self)(comm, self.name, self.roll)

    @functools.cached_property
    def ranks(self) -> list[int]:
        """The numbers that the ranks have in the world."""
        world = self.roll.comm.Get_group()
        return self.comm.Get_group().Translate_ranks(list(range(self.comm.size)), world)

    def all_reduce(self, x, y, op):
        return self._started("all-reduce", None, self.comm.Iallreduce, _ready(x), y, self.ops[op])

    def reduce_scatter(self, x, y, counts):
        return self._started(
            "reduce-scatter", None, self.comm.Ireduce_scatter, _ready(x), y, counts, self.ops["sum"]
        )

    def all_gather(self, x, y, counts):
        counts = [c * y.itemsize for c in counts]
        return self._started(
            "all-gather", None, self.comm.Iallgatherv, self._bytes(x), [y.view("uint8"), counts, self.byte]
        )

    def all_to_all(self, x, y, sends, receives):
        out, into = ([n * x.itemsize for n in counts] for counts in (sends, receives))
        return self._started(
            "all-to-all", None, self.comm.Ialltoallv, [_ready(x), out, self.byte], [y, into, self.byte]
        )

    def broadcast(self, y, root):
        return self._started("broadcast", None, self.comm.Ibcast, self._bytes(y), root)

    def send(self, x, to):
        return self._started("send", to, self.comm.Isend, self._bytes(x), to)

    def receive(self, y, source):
        return self._started("receive", source, self.comm.Irecv, self._bytes(y), source)

    def barrier(self):
        return self._started("barrier", None, self.comm.Ibarrier)

    def _bytes(self, x) -> list:
        return [_ready(x).view("uint8"), x.nbytes, self.byte]  # bfloat16 is no type that MPI can be told

    def _started(self, what: str, peer: int | None, call, *args):
        request = call(*args)
        # args: the buffers must live until then
        return lambda: (wait_for(request, self._look, what, peer), args)[1]

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
    """x, once the GPU has computed it: MPI knows nothing of the GPU's queue."""
    if library(x) is not np:
        library(x).cuda.get_current_stream().synchronize()
    return x


class Staged(Mpi):
    """The GPU's arrays over an MPI that knows no CUDA: copied through page-locked memory of the host."""

    def all_reduce(self, x, y, op):
        return self._back(y, lambda host: super(Staged, self).all_reduce(_down(x), host, op))

    def reduce_scatter(self, x, y, counts):
        return self._back(y, lambda host: super(Staged, self).reduce_scatter(_down(x), host, counts))

    def all_gather(self, x, y, counts):
        return self._back(y, lambda host: super(Staged, self).all_gather(_down(x), host, counts))

    def all_to_all(self, x, y, sends, receives):
        return self._back(y, lambda host: super(Staged, self).all_to_all(_down(x), host, sends, receives))

    def broadcast(self, y, root):
        if self.comm.rank == root:
            return super().broadcast(_down(y), root)
        return self._back(y, lambda host: super(Staged, self).broadcast(host, root))

    def send(self, x, to):
        return super().send(_down(x), to)

    def receive(self, y, source):
        return self._back(y, lambda host: super(Staged, self).receive(host, source))

    def _back(self, y, start):
        host = _pinned(y)
        wait = start(host)

        def finish():
            wait()
            y.set(host)
            library(y).cuda.get_current_stream().synchronize()  # before `host` may be used again

        return finish


def _pinned(x) -> np.ndarray:
    memory = library(x).cuda.alloc_pinned_memory(max(1, x.nbytes))
    return np.frombuffer(memory, x.dtype, x.size)


def _down(x) -> np.ndarray:
    host = _pinned(x)
    x.get(out=host)
    return host


class Nccl(Staged):
    """NVIDIA's library carries the collectives from GPU to GPU, on a queue beside that of the computation.

    Single messages between two ranks, and all-to-all, which is made of such, go through the host: in one
    queue they could wait for each other.
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
        kind, op = self._type(x), getattr(self.nccl, f"NCCL_{op.upper()}")
        return self._queued(
            lambda queue: self.ring.allReduce(x.data.ptr, y.data.ptr, x.size, kind, op, queue), x, y
        )

    def reduce_scatter(self, x, y, counts):
        kind, starts = self._type(x), _starts(x, counts)

        def call(queue):
            for r, n in enumerate(counts):
                self.ring.reduce(starts[r], y.data.ptr, n, kind, self.nccl.NCCL_SUM, r, queue)

        return self._queued(call, x, y)

    def all_gather(self, x, y, counts):
        starts, byte = _starts(y, counts), self.nccl.NCCL_UINT8

        def call(queue):
            for r, n in enumerate(counts):
                self.ring.broadcast(x.data.ptr, starts[r], n * y.itemsize, byte, r, queue)

        return self._queued(call, x, y)

    def broadcast(self, y, root):
        at, byte = y.data.ptr, self.nccl.NCCL_UINT8
        return self._queued(lambda queue: self.ring.broadcast(at, at, y.nbytes, byte, root, queue), y)

    def _type(self, x) -> int:
        kind = {"f4": "FLOAT32", "f8": "FLOAT64", "i4": "INT32", "i8": "INT64"}[x.dtype.str[1:]]
        return getattr(self.nccl, f"NCCL_{kind}")

    def _queued(self, call, *arrays):
        """Start a call after what was computed so far; the wait puts what is computed later after it."""
        self.queue.wait_event(self.cuda.get_current_stream().record())
        self.nccl.groupStart()  # pieces of different lengths go as one message each, all at once
        call(self.queue.ptr)
        self.nccl.groupEnd()
        done = self.queue.record()
        return lambda: (self.cuda.get_current_stream().wait_event(done), arrays)[0]


def _starts(x, counts) -> list[int]:
    return [x.data.ptr + x.itemsize * sum(counts[:r]) for r in range(len(counts))]


def ways(comm, xp: ModuleType, roll: RollCall | None = None) -> tuple[Mpi, Mpi]:
    """How NumPy's arrays and how xp's travel; takes the GPU of the rank's number on its machine, modulo."""
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
        return host, Mpi(comm, "GPU arrays through MPI, which knows CUDA", roll)
    return host, Staged(comm, "GPU arrays through page-locked memory of the host", roll)


def _all(comm, here: bool) -> bool:
    votes = np.zeros(comm.size, bool)
    comm.Allgather(np.array([here]), votes)
    return bool(votes.all())


# One message from a GPU to itself; an MPI that takes the pointer for one of the host's dies here.
CUDA_TRIAL = """
import cupy
from mpi4py import MPI
x, y = cupy.arange(1 << 16), cupy.zeros(1 << 16, int)
cupy.cuda.Device().synchronize()
MPI.COMM_SELF.Sendrecv(x, 0, recvbuf=y, source=0)
assert (x == y).all()
"""


def has_nccl() -> bool:
    """Whether CuPy finds NVIDIA's library of collectives."""
    try:
        from cupy.cuda import nccl
    except ImportError:
        return False
    return bool(nccl.available)


def knows_cuda() -> bool:
    """Whether MPI takes pointers of the GPU: tried in a process of its own, which may crash."""
    alone = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI_COMM", "PRTE", "SLURM"))}
    try:
        return not subprocess.run(
            python("-c", CUDA_TRIAL), env=alone, capture_output=True, timeout=60
        ).returncode
    except subprocess.TimeoutExpired:
        return False
