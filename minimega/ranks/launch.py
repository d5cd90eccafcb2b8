"""Starts ranks with the installed MPI, and ends them all when one fails."""

import contextlib
import os
import shutil
import signal
import sys
import time
import zlib
from array import array
from pathlib import Path
from typing import Any, NamedTuple

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from minimega.errors import BadInput, RunFailed, pip
from minimega.ranks import child, lifeline
from minimega.ranks.colour import error
from minimega.ranks.streams import make_usable, tell

INSTALL = pip("mpi4py", "mpich")
SHARED_MEMORY = 32 << 20  # bytes: enough shared memory for the ranks of one machine
RANKS_A_CORE = 8  # more overload the machine before they compute anything
# Each of these asks a run to save and stop at the end of its step. The launcher forwards them as SIGUSR1,
# which every mpirun passes to its ranks.
STOP_NAMES = "SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"
STOP_SIGNALS = tuple(getattr(signal, s) for s in STOP_NAMES if hasattr(signal, s))
THREADS = ("OPENBLAS", "OMP", "MKL", "NUMBA", "BLIS")  # each reads ..._NUM_THREADS when it is loaded
SHARED = "MINIMEGA_SHARED_CORES"  # set if the number of threads is our choice, not the user's
# What mpirun and srun set for a rank: the number of ranks, the number on this machine, and its own rank.
GIVEN = (
    ("PMI_SIZE", "MPI_LOCALNRANKS", "PMI_RANK"),  # MPICH and its relatives
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE", "SLURM_PROCID"),
)
# By default Open MPI refuses to run as root or with more ranks than cores, and binds each rank to one core.
# Laptops and containers need the opposite. The last one selects shared memory together with `btl` below.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_pml": "ob1",
}
ASK_MPI4PY = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.get_vendor()[0], ".".join(map(str, MPI.get_vendor()[1])), sep="|")
"""


def ranks_given() -> int | None:
    """The number of ranks that mpirun or srun started, this one included; None without them."""
    given = _given()
    return int(given[0]) if given else None


def ranks_here() -> int | None:
    """How many of them are on this machine, 1 if that is not said; None without mpirun or srun."""
    given = _given()
    return int(given[1]) if given and given[1].isdigit() else given and 1


def _given() -> tuple[str, str, str] | None:
    for size, local, rank in GIVEN:
        # A shell opened by srun is a step of one task, not a rank.
        if size in os.environ and (size, os.environ[size]) != ("SLURM_STEP_NUM_TASKS", "1"):
            return os.environ[size], os.environ.get(local, ""), os.environ.get(rank, "0")
    return None


def check_ranks(given: int, needed: int, cut: str) -> None:
    """Raise BadInput if mpirun started another number of ranks than the layout `cut` needs.

    >>> check_ranks(3, 4, "--tp 2 --dp 2")
    Traceback (most recent call last):
    minimega.errors.BadInput: 3 ranks were started, but --tp 2 --dp 2 needs 4: use mpirun -n 4
    """
    if given != needed:
        raise BadInput(f"{given} ranks were started, but {cut} needs {needed}: use mpirun -n {needed}")


def cores(limits: Path = Path("/sys/fs/cgroup")) -> int:
    """The number of cores that this process may use. A container may allow fewer than it shows."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(seen, _allowed(limits)))


def _allowed(limits: Path) -> int:
    """The whole cores' worth of time that Linux grants this group of processes, by cgroup v2 or v1."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # "max": ValueError; -1: no limit
            quota, period = map(int, " ".join((limits / name).read_text() for name in files).split())
            if quota > 0:
                return quota // period
    return sys.maxsize


def share() -> int:
    """Cores per rank on this machine, at least 1: the most threads that this rank should use."""
    given = _given()
    local = 1 if given is None else int(given[1]) if given[1].isdigit() else int(given[0])
    return max(1, cores() // local)


def thread_settings(threads: int) -> dict[str, str]:
    """The environment variables that give BLAS and compiled kernels this many threads."""
    return {f"{library}_NUM_THREADS": str(threads) for library in THREADS}


def _shared(threads: int) -> dict[str, str]:
    """The same, without variables that the user's shell sets; every library falls back to OMP_NUM_THREADS."""
    settings = thread_settings(threads)
    told = [name for name in settings if os.environ.get(name)]
    if "OMP_NUM_THREADS" in told:
        return {}
    return {k: v for k, v in settings.items() if k not in told} | ({} if told else {SHARED: "1"})


def set_threads(threads: int | None = None) -> None:
    """In a rank started by mpirun: set the number of threads, by default its part of the machine's cores.

    Libraries read the number when they are loaded, so the program restarts itself with it set. Call it before
    MPI starts. Does nothing in a single process, in a rank of our launcher, or if the number is already set.
    """
    given = _given()
    if not given or len(sys.orig_argv) < 2 or sys.orig_argv[-1] == "-" or lifeline.held():
        return
    wanted = thread_settings(threads) if threads else _shared(share())
    if all(os.environ.get(k) == v for k, v in wanted.items()):
        return
    if threads is None and any(k in os.environ for k in thread_settings(1)):
        return
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | wanted)


class NoMpi(BadInput):
    """There is no MPI that can start ranks."""


class Mpi(NamedTuple):
    """The MPI that mpi4py uses, and the path of its mpirun."""

    vendor: str
    version: str
    mpirun: str


def find_mpi() -> Mpi:
    """The MPI of this environment; raises NoMpi, with what to do, if none can start ranks."""
    if sys.platform == "win32":
        raise NoMpi(
            "on Windows the MPICH and Open MPI packages are empty stubs: "
            "use WSL (Windows' own Linux), or one rank"
        )
    import subprocess  # with tempfile and others for job.py, 5 ms that --help need not wait for

    asked = subprocess.run(child.python("-c", ASK_MPI4PY), capture_output=True, text=True)
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NoMpi(f"MPI ranks need mpi4py and an MPI, but: {reason}\nTo install both: {INSTALL}")
    vendor, version = asked.stdout.strip().split("|")
    tried = []
    for folder in (Path(sys.prefix, "bin"), Path(sys.executable).parent, None):
        for name in ("mpirun", "mpiexec", "mpirun.mpich", "mpirun.openmpi"):
            found = shutil.which(name, path=folder and str(folder))
            if found and found not in tried:
                tried.append(found)
                if _vendor_of(found) == vendor:
                    return Mpi(vendor, version, found)
    raise NoMpi(
        f"mpi4py uses {vendor} {version}, but its mpirun was not found"
        + (f" (another MPI's: {', '.join(tried)})" if tried else "")
        + f".\nInstall {vendor}'s mpirun, or reinstall both: {INSTALL}"
    )


def _vendor_of(mpirun: str) -> str:
    import subprocess  # see find_mpi

    said = subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout
    marks = {"Intel": "Intel MPI", "HYDRA": "MPICH", "Open MPI": "Open MPI", "OpenRTE": "Open MPI"}
    return next((vendor for mark, vendor in marks.items() if mark in said), "")


def command(argv: list[str], ranks: int, threads: int | None = None) -> tuple[list[str], dict[str, str]]:
    """The mpirun command that runs `python argv...` on `ranks` ranks of this machine, and its environment."""
    mpi = find_mpi()
    _check_file_size()
    extra = {}
    if mpi.vendor == "Open MPI":
        old = mpi.version.startswith(("1.", "2.", "3.", "4."))
        extra = OPEN_MPI | {"OMPI_MCA_btl": "self,vader" if old else "self,sm"}
    shared = {} if threads else _shared(max(1, cores() // ranks))
    # Shell settings win; --threads beats them.
    env = extra | dict(os.environ) | (thread_settings(threads) if threads else shared)
    return [mpi.mpirun, "-n", str(ranks), *child.python(*argv)], env


def _check_file_size() -> None:
    """Raise BadInput if the shell's limit on file sizes is too small for shared memory, which is a file."""
    if resource and 0 <= (limit := resource.getrlimit(resource.RLIMIT_FSIZE)[0]) < SHARED_MEMORY:
        raise BadInput(
            f"the ranks' shared memory is a file, and the shell limits files to {limit // 1024:,} KiB: "
            "run ulimit -f unlimited, or use one rank"
        )


def check_crowd(ranks: int, oversubscribe: bool = False, cure: str = "; `oversubscribe` allows it") -> None:
    """Raise BadInput if there are too many ranks for the cores; `cure` ends the message.

    >>> check_crowd(9 * cores())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    minimega.errors.BadInput: ... ranks are more than 8 per core (... here); `oversubscribe` allows it
    """
    if ranks > RANKS_A_CORE * cores() and not oversubscribe:
        raise BadInput(f"{ranks} ranks are more than {RANKS_A_CORE} per core ({cores()} here){cure}")


def start(argv: list[str], ranks: int, threads: int | None = None) -> int:
    """Run `python argv...` on `ranks` ranks of this machine; returns the exit status.

    The ranks' output passes through. The first Ctrl-C or SIGTERM goes to all ranks as SIGUSR1, so a run can
    save at the end of its step. A second one, or ranks that make no progress after it, end the job. Each rank
    has `threads` threads; None: cores/ranks. Raises NoMpi if there is no MPI.
    """
    from minimega.ranks.job import Job  # see find_mpi

    return Job(*command(argv, ranks, threads), ranks).status


def hold() -> None:
    """In a rank of our own launcher: end with the launcher from here on."""
    given = _given()
    lifeline.hold(int(given[2]) if given else 0)


def guard() -> None:
    """In a rank, once MPI runs: an uncaught error ends the whole job, by `fail`."""
    make_usable()
    out: Any = sys.stdout
    if hasattr(out, "reconfigure"):
        out.reconfigure(line_buffering=True, write_through=False)  # each line in one write
    sys.excepthook = lambda kind, error, where: sys.exit(fail(error))


def fail(error: BaseException) -> int:
    """`last_words` for an error: BadInput and RunFailed by their message, any other with its traceback."""
    import traceback  # a millisecond, and only for an error

    known = isinstance(error, BadInput | RunFailed)
    text = f"minimega: {error}" if known else "".join(traceback.format_exception(error)).rstrip()
    return last_words(text, 2 if isinstance(error, BadInput) else 1)


def last_words(text: str, status: int) -> int:
    """Write why this rank ends to standard error, once for all ranks with the same text; returns the status.

    Ranks that do not end would wait for this one forever, so after a second of grace the whole job is
    aborted with this status. In a single process it only writes.
    """
    lifeline.tell(said=text)
    mpi = getattr(sys.modules.get("mpi4py"), "MPI", None)
    if mpi is None or not mpi.Is_initialized() or mpi.COMM_WORLD.size == 1:
        given = _given()
        if not given or given[2] == "0":  # before MPI runs, all ranks fail alike
            tell(error(text))
        return status
    world = mpi.COMM_WORLD
    alike = _alike(world, text)
    if not alike:
        tell(error(f"rank {world.rank} of {world.size}: {text}"))
    elif world.rank == 0:
        tell(error(text))
    if alike is None:
        time.sleep(0.1)  # lets mpirun pass the text on before it kills all ranks
        world.Abort(status)
    return status


def _alike(world, text: str, grace: float = 1.0) -> bool | None:
    """Whether every rank ends with this text; None if some rank does not end within `grace` seconds."""
    crc = zlib.crc32(text.encode())
    mine, largest = array("q", [crc, -crc]), array("q", [0, 0])
    request = world.Iallreduce(mine, largest, sys.modules["mpi4py"].MPI.MAX)
    end = time.monotonic() + grace
    while not request.Test():
        if time.monotonic() > end:
            return None
        time.sleep(0.005)
    return largest[0] == -largest[1]
