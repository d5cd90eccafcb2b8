"""How GPU arrays travel, with a fake CuPy whose arrays must not be passed to MPI directly.

The NCCL that pretends has the calls of CuPy's module (arguments in their order), and does them over MPI.
"""

import ctypes
import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np

from minimega.ranks.group import Counter
from minimega.ranks.mpi import Ranks
from tests.mpi.ranks import processes, sizes


class FakeArray(np.ndarray):
    """An array in host memory that claims to be CuPy's."""

    def get(self, out):
        out[...] = np.asarray(self)

    def set(self, x):
        assert type(x) is np.ndarray
        np.asarray(self)[...] = x

    data = property(lambda self: SimpleNamespace(ptr=self.ctypes.data))


FakeArray.__module__ = "cupy"


def on_gpu(x):
    return np.array(x).view(FakeArray)


class NoGpuArrays:
    """A communicator that refuses GPU arrays, as one without CUDA should."""

    def __init__(self, comm):
        self.comm = comm

    def __getattr__(self, name):
        found = getattr(self.comm, name)
        if not name.startswith("I"):
            return found

        def call(*args):
            for a in args:
                assert not isinstance(a[0] if isinstance(a, list) else a, FakeArray), (
                    f"{name} of a GPU's array"
                )
            return found(*args)

        return call


class FakeNccl:
    """ncclComm over MPI: pointers come in, as CuPy gives them."""

    def __init__(self, size, key, rank):
        from mpi4py import MPI

        assert len(key) == 128 and key[5] == -5 and 0 <= rank < size
        self.MPI, self.comm = MPI, FakeNccl.comm

    def at(self, pointer, count, kind):
        kind = np.dtype(kind)
        return np.frombuffer((ctypes.c_char * (count * kind.itemsize)).from_address(pointer), kind)

    def allReduce(self, x, y, count, kind, op, queue):
        self.comm.Allreduce(self.at(x, count, kind), self.at(y, count, kind), getattr(self.MPI, op))

    def reduce(self, x, y, count, kind, op, root, queue):
        mine = self.at(y, count, kind) if self.comm.rank == root else None
        self.comm.Reduce(self.at(x, count, kind), mine, getattr(self.MPI, op), root)

    def broadcast(self, x, y, count, kind, root, queue):
        if self.comm.rank == root:
            self.at(y, count, kind)[:] = self.at(x, count, kind)
        self.comm.Bcast(self.at(y, count, kind), root)


@contextmanager
def cupy(gpus=1, nccl=False):
    """Inside, CuPy and its NCCL seem to be installed; yields the module."""
    calls = []

    def log(name, value=None):
        return lambda *args, **options: (calls.append((name, *args)), value)[1]

    xp, cuda = ModuleType("cupy"), ModuleType("cupy.cuda")
    for f in (np.asarray, np.empty, np.empty_like, np.concatenate):
        setattr(xp, f.__name__, lambda *a, f=f, **o: f(*a, **o).view(FakeArray))
    xp.split, xp.cuda, xp.calls, xp.__path__, cuda.__path__ = np.split, cuda, calls, [], []
    stream = SimpleNamespace(
        synchronize=log("synchronize"), record=log("record", "event"), wait_event=log("wait"), ptr=7
    )
    cuda.get_current_stream = lambda: stream
    cuda.Stream = lambda non_blocking: stream
    cuda.alloc_pinned_memory = lambda n: (calls.append(("pinned", n)), bytearray(n))[1]
    cuda.runtime = SimpleNamespace(getDeviceCount=lambda: gpus)
    cuda.Device = lambda number: SimpleNamespace(
        use=log("use", None), number=calls.append(("device", number))
    )
    cuda.nccl = ModuleType("cupy.cuda.nccl")
    vars(cuda.nccl).update(
        available=nccl,
        NCCL_UNIQUE_ID_BYTES=128,
        get_unique_id=lambda: tuple(-i for i in range(128)),
        NcclCommunicator=FakeNccl,
        groupStart=log("groupStart"),
        groupEnd=log("groupEnd"),
        NCCL_SUM="SUM",
        NCCL_MAX="MAX",
        **{f"NCCL_{t.upper()}": t for t in ("float32", "float64", "int32", "int64", "uint8")},
    )
    modules = {"cupy": xp, "cupy.cuda": cuda, "cupy.cuda.nccl": cuda.nccl}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield xp
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})


def hold(gpu, group):
    """Every collective returns what it returns for NumPy arrays, as a GPU array."""
    p, r = group.size, group.rank
    x = np.random.default_rng(r).standard_normal((p + 1, 4))
    for dtype in ("float32", "float64", "int64", "float16"):
        a = (10 * x).astype(dtype)
        for name, args in (
            ("all_reduce", ()),
            ("all_reduce", ("max",)),
            ("reduce_scatter", ()),
            ("reduce_scatter", (1,)),
            ("all_gather", ()),
            ("all_gather", (1,)),
            ("broadcast", (p - 1,)),
        ):
            got, expected = getattr(gpu, name)(on_gpu(a), *args), getattr(group, name)(a, *args)
            assert type(got) is FakeArray and got.dtype == dtype, name
            assert np.allclose(np.asarray(got), expected, rtol=1e-2 if dtype == "float16" else 1e-5), name
        counts = [1] * p
        got, expected = (f.all_to_all(v, counts, counts) for f, v in ((gpu, on_gpu(a[:p])), (group, a[:p])))
        assert type(got) is FakeArray and (np.asarray(got) == expected).all(), "all_to_all"
    cut = on_gpu(x[group.piece(p + 1)])
    assert np.asarray(gpu.all_gather(cut, length=p + 1)).shape == x.shape
    sent = gpu.start_send(on_gpu(x), (r + 1) % p)
    got = gpu.start_receive(on_gpu(np.empty_like(x)), (r - 1) % p)()
    sent()
    assert (np.asarray(got) == np.random.default_rng((r - 1) % p).standard_normal(x.shape)).all()
    assert gpu.all_reduce(np.array(1)) == p, "the host's arrays go their own way"
    wait = gpu.start_all_reduce(on_gpu(x))
    assert wait() is wait() and np.allclose(np.asarray(wait()), group.all_reduce(x))


def gpu_group(comm, xp):
    from minimega.ranks import transport

    host, gpu = transport.ways(comm, xp)
    return Ranks(comm, (host, gpu), "world", Counter(), range(comm.size)), str(gpu)


@sizes(2, 3, 4)
@processes
def case_without_cuda_in_mpi_arrays_go_through_the_host(group):
    with cupy() as xp:  # one GPU for several ranks, and the trial of MPI fails: there is no CuPy
        gpu, how = gpu_group(NoGpuArrays(group.comm.Dup()), xp)
        assert "page-locked" in how and ("device", 0) in xp.calls
        hold(gpu, group)
        assert ("pinned", 8 * 4 * (group.size + 1)) in xp.calls


@sizes(2, 3, 4)
@processes
def case_with_a_gpu_each_nccl_carries_the_collectives(group):
    with cupy(gpus=group.size, nccl=True) as xp:
        FakeNccl.comm = group.comm.Dup()
        gpu, how = gpu_group(NoGpuArrays(group.comm.Dup()), xp)
        assert "NCCL" in how and ("device", group.rank) in xp.calls
        hold(gpu, group)
        names = [c[0] for c in xp.calls]
        assert names.count("groupStart") == names.count("groupEnd") > 10 and ("wait", "event") in xp.calls


@sizes(2)
@processes
def case_an_mpi_that_knows_cuda_takes_arrays_as_they_are(group):
    from minimega.ranks.transport import Mpi

    with cupy() as xp:
        ways = Mpi(group.comm), Mpi(group.comm, "direct")
        hold(Ranks(group.comm, ways, "world", Counter(), group.ranks), group)
        names = [c[0] for c in xp.calls]
        assert "synchronize" in names and "pinned" not in names
