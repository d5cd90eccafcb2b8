"""How arrays travel: as flat contiguous buffers over MPI or NCCL.

Each way has the same six calls, which start a message and return a function that waits for it, and
`over(comm)`, the same way among the ranks of another communicator. `x` goes in, `y` is filled.
"""

import os
import subprocess
import sys
import time
from types import ModuleType

import numpy as np
from mpi4py import MPI

from minimega.backend import library

OPS = {"sum": MPI.SUM, "max": MPI.MAX}
# One message from a GPU to itself; an MPI that takes the pointer for one of the host's dies here.
CUDA_TRIAL = """
import cupy
from mpi4py import MPI
x, y = cupy.arange(1 << 16), cupy.zeros(1 << 16, int)
cupy.cuda.Device().synchronize()
MPI.COMM_SELF.Sendrecv(x, 0, recvbuf=y, source=0)
assert (x == y).all()
"""


def wait_for(request) -> None:
    """Wait, and leave the core to others meanwhile.

    MPI's own wait keeps the core: with 8 ranks on 2 cores that made an all-reduce of 256 KB 4 to 7 times as
    slow, since the rank that is waited for cannot run.
    """
    polls = 0
    while not request.Test():
        polls += 1
        if polls > 100 and polls % 8 == 0:
            time.sleep(5e-5)


class Mpi:
    """MPI takes the arrays as they are: NumPy's, or the GPU's where MPI knows CUDA.

    Sums go with their type; what is only moved goes as bytes, so that every type can be.
    """

    def __init__(self, comm, name: str = ""):
        self.comm, self.name = comm, name

    def __str__(self) -> str:
        return self.name

    def over(self, comm) -> "Mpi":
        return type(self)(comm, self.name)

    def all_reduce(self, x, y, op):
        return self._started(self.comm.Iallreduce, _ready(x), y, OPS[op])

    def reduce_scatter(self, x, y, counts):
        return self._started(self.comm.Ireduce_scatter, _ready(x), y, counts, MPI.SUM)

    def all_gather(self, x, y, counts):
        counts = [c * y.itemsize for c in counts]
        return self._started(self.comm.Iallgatherv, [_ready(x), x.nbytes, MPI.BYTE], [y, counts, MPI.BYTE])

    def broadcast(self, y, root):
        return self._started(self.comm.Ibcast, [_ready(y), y.nbytes, MPI.BYTE], root)

    def send(self, x, to):
        return self._started(self.comm.Isend, [_ready(x), x.nbytes, MPI.BYTE], to)

    def receive(self, y, source):
        return self._started(self.comm.Irecv, [_ready(y), y.nbytes, MPI.BYTE], source)

    def _started(self, call, *args):
        request = call(*args)
        return lambda: (wait_for(request), args)[0]  # args: the buffers must live until then


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

    Single messages between two ranks go through the host: in one queue they could wait for each other.
    """

    def __init__(self, comm, name: str = ""):
        import cupy
        from cupy.cuda import nccl

        super().__init__(comm, name)
        key = np.zeros(nccl.NCCL_UNIQUE_ID_BYTES, np.int8)
        if comm.rank == 0:
            key[:] = nccl.get_unique_id()
        comm.Bcast(key)
        self.nccl, self.queue = nccl, cupy.cuda.Stream(non_blocking=True)
        self.ring = nccl.NcclCommunicator(comm.size, tuple(key.tolist()), comm.rank)
        self.ops = {"sum": nccl.NCCL_SUM, "max": nccl.NCCL_MAX}
        self.types = {
            "f4": nccl.NCCL_FLOAT32,
            "f8": nccl.NCCL_FLOAT64,
            "i4": nccl.NCCL_INT32,
            "i8": nccl.NCCL_INT64,
        }

    def all_reduce(self, x, y, op):
        kind = self.types[x.dtype.str[1:]]
        return self._queued(
            lambda q: self.ring.allReduce(x.data.ptr, y.data.ptr, x.size, kind, self.ops[op], q), x, y
        )

    def reduce_scatter(self, x, y, counts):
        kind, size = self.types[x.dtype.str[1:]], x.itemsize
        at = [x.data.ptr + size * sum(counts[:r]) for r in range(len(counts))]
        return self._queued(
            lambda q: [
                self.ring.reduce(at[r], y.data.ptr, n, kind, self.nccl.NCCL_SUM, r, q)
                for r, n in enumerate(counts)
            ],
            x,
            y,
        )

    def all_gather(self, x, y, counts):
        counts = [n * y.itemsize for n in counts]
        at = [y.data.ptr + sum(counts[:r]) for r in range(len(counts))]
        return self._queued(
            lambda q: [
                self.ring.broadcast(x.data.ptr, at[r], n, self.nccl.NCCL_UINT8, r, q)
                for r, n in enumerate(counts)
            ],
            x,
            y,
        )

    def broadcast(self, y, root):
        return self._queued(lambda q: self.ring.bcast(y.data.ptr, y.nbytes, self.nccl.NCCL_UINT8, root, q), y)

    def _queued(self, call, *arrays):
        """Start a call after what was computed so far; the wait puts what is computed later after it."""
        import cupy

        self.queue.wait_event(cupy.cuda.get_current_stream().record())
        self.nccl.groupStart()  # pieces of different lengths go as one message each, all at once
        call(self.queue.ptr)
        self.nccl.groupEnd()
        done = self.queue.record()
        return lambda: (cupy.cuda.get_current_stream().wait_event(done), arrays)[0]


def ways(comm, xp: ModuleType) -> tuple[Mpi, Mpi]:
    """How NumPy's arrays and how xp's travel; takes the GPU of the rank's number on its machine, modulo."""
    version = ".".join(map(str, MPI.get_vendor()[1]))
    host = Mpi(comm, f"{MPI.get_vendor()[0]} {version}")
    if xp is np:
        return host, host
    local = comm.Split_type(MPI.COMM_TYPE_SHARED)
    gpus = xp.cuda.runtime.getDeviceCount()
    xp.cuda.Device(local.rank % gpus).use()
    if _all(comm, local.size <= gpus and xp.cuda.nccl.available):
        return host, Nccl(comm, "GPU arrays through NCCL")
    if _all(comm, comm.rank > 0 or knows_cuda()):
        return host, Mpi(comm, "GPU arrays through MPI, which knows CUDA")
    return host, Staged(comm, "GPU arrays through page-locked memory of the host")


def _all(comm, here: bool) -> bool:
    votes = np.array([here], "i4")
    comm.Allreduce(MPI.IN_PLACE, votes, MPI.MIN)
    return bool(votes[0])


def knows_cuda() -> bool:
    """Whether MPI takes pointers of the GPU: tried in a process of its own, which may crash."""
    alone = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI_COMM", "PRTE", "SLURM"))}
    try:
        return not subprocess.run(
            [sys.executable, "-c", CUDA_TRIAL], env=alone, capture_output=True, timeout=60
        ).returncode
    except subprocess.TimeoutExpired:
        return False
