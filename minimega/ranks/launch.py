"""Starting ranks with the MPI that is here, and ending them all when one of them fails."""

import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
import zlib
from array import array
from pathlib import Path
from typing import NamedTuple

try:
    import resource
except ImportError:  # Windows
    resource = None

from minimega.errors import BadInput, RunFailed, pip
from minimega.ranks import child, lifeline
from minimega.ranks.job import Job
from minimega.ranks.streams import make_usable, tell

INSTALL = f"{pip('mpi4py', 'mpich')} brings both"
SHARED_MEMORY = 32 << 20  # bytes of a file that are enough for the ranks that one machine can serve
RANKS_A_CORE = 8  # more of them take the machine down before they compute anything
# Any of them asks a run to save and stop at the end of its step; the launcher hands SIGUSR1 on, since every
# mpirun passes that one to its ranks.
STOP_NAMES = "SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"
STOP_SIGNALS = tuple(getattr(signal, s) for s in STOP_NAMES if hasattr(signal, s))
THREADS = ("OPENBLAS", "OMP", "MKL", "NUMBA", "BLIS")  # each reads ..._NUM_THREADS when it is loaded
SHARED = "MINIMEGA_SHARED_CORES"  # beside them where they come from here, and not from the user
# What mpirun and srun tell a rank: the number of ranks, of those on this machine, and its own number.
GIVEN = (
    ("PMI_SIZE", "MPI_LOCALNRANKS", "PMI_RANK"),  # MPICH and its relatives
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE", "SLURM_PROCID"),
)
# Open MPI refuses to run as root or with more ranks than cores, and binds each rank to one core: not what a
# laptop or a container needs. The last two are the shared memory of one machine, by version.
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
    """How many ranks mpirun or srun started this process among; None where it was started alone."""
    given = _given()
    return int(given[0]) if given else None


def _given() -> tuple[str, str, str] | None:
    for size, local, rank in GIVEN:
        # A shell that srun opened is a step of one task: it is no rank.
        if size in os.environ and (size, os.environ[size]) != ("SLURM_STEP_NUM_TASKS", "1"):
            return os.environ[size], os.environ.get(local, ""), os.environ.get(rank, "0")
    return None


def check_ranks(given: int, needed: int, cut: str) -> None:
    """BadInput where mpirun started another number of ranks than the cut needs.

    >>> check_ranks(3, 4, "--tp 2 --dp 2")
    Traceback (most recent call last):
    minimega.errors.BadInput: 3 ranks were started, but --tp 2 --dp 2 needs 4: say mpirun -n 4
    """
    if given != needed:
        raise BadInput(f"{given} ranks were started, but {cut} needs {needed}: say mpirun -n {needed}")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share() -> int:
    """The cores of this process among the ranks on its machine: as many threads as it should have at most."""
    given = _given()
    local = 1 if given is None else int(given[1]) if given[1].isdigit() else int(given[0])
    return max(1, cores() // local)


def thread_settings(threads: int) -> dict[str, str]:
    """The variables that give BLAS and compiled kernels this many threads."""
    return {f"{library}_NUM_THREADS": str(threads) for library in THREADS}


def _shared(threads: int) -> dict[str, str]:
    """The same, less what the user's shell sets; every library falls back to OMP_NUM_THREADS."""
    settings = thread_settings(threads)
    told = [name for name in settings if os.environ.get(name)]
    if "OMP_NUM_THREADS" in told:
        return {}
    return {k: v for k, v in settings.items() if k not in told} | ({} if told else {SHARED: "1"})


def set_threads(threads: int | None = None) -> None:
    """Among ranks that mpirun started: share the machine's cores between them, unless the user did.

    Libraries read the number when they are loaded, so the program begins once more, with it set. To be
    called before MPI starts; does nothing in a process alone, in a rank of our launcher, or where the number
    is set already.
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


class Mpi(NamedTuple):
    """The MPI that mpi4py stands on, and the mpirun that belongs to it."""

    vendor: str
    version: str
    mpirun: str


def find_mpi() -> Mpi:
    """The MPI of this environment (BadInput, with what to do, where there is none that can start ranks)."""
    if sys.platform == "win32":
        raise BadInput(
            "on Windows the packages of MPICH and Open MPI are empty stubs: "
            "use WSL (Windows' own Linux), or one rank"
        )
    asked = subprocess.run(child.python("-c", ASK_MPI4PY), capture_output=True, text=True)
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BadInput(f"more than one rank needs mpi4py and an MPI, but: {reason}\n{INSTALL}")
    vendor, version = asked.stdout.strip().split("|")
    tried = []
    for folder in (Path(sys.prefix, "bin"), Path(sys.executable).parent, None):
        for name in ("mpirun", "mpiexec", "mpirun.mpich", "mpirun.openmpi"):
            found = shutil.which(name, path=folder and str(folder))
            if found and found not in tried:
                tried.append(found)
                if _vendor_of(found) == vendor:
                    return Mpi(vendor, version, found)
    raise BadInput(
        f"mpi4py stands on {vendor} {version}, but no mpirun of it is here"
        + (f" ({', '.join(tried)}: another MPI's)" if tried else "")
        + f".\nInstall {vendor}'s mpirun, or both anew: {INSTALL}"
    )


def _vendor_of(mpirun: str) -> str:
    said = subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout
    marks = {"Intel": "Intel MPI", "HYDRA": "MPICH", "Open MPI": "Open MPI", "OpenRTE": "Open MPI"}
    return next((vendor for mark, vendor in marks.items() if mark in said), "")


def command(argv: list[str], ranks: int, threads: int | None = None) -> tuple[list[str], dict[str, str]]:
    """The mpirun line that starts `python argv...` on so many ranks of this machine, and its environment."""
    mpi = find_mpi()
    _check_file_size()
    extra = {}
    if mpi.vendor == "Open MPI":
        old = mpi.version.startswith(("1.", "2.", "3.", "4."))
        extra = OPEN_MPI | {"OMPI_MCA_btl": "self,vader" if old else "self,sm"}
    shared = {} if threads else _shared(max(1, cores() // ranks))
    # What the shell says of MPI and of threads stays; a number of threads in so many words is stronger.
    env = extra | dict(os.environ) | (thread_settings(threads) if threads else shared)
    return [mpi.mpirun, "-n", str(ranks), *child.python(*argv)], env


def _check_file_size() -> None:
    """BadInput where the shell limits files so much that ranks cannot share memory, which is a file too."""
    if resource and 0 <= (limit := resource.getrlimit(resource.RLIMIT_FSIZE)[0]) < SHARED_MEMORY:
        raise BadInput(
            f"the ranks' shared memory is a file, and files may have {limit // 1024:,} KiB here: "
            "ulimit -f unlimited lifts that; one rank needs none"
        )


def check_crowd(ranks: int, oversubscribe: bool = False, cure: str = "; --oversubscribe allows it") -> None:
    """BadInput for so many ranks that the cores cannot serve them.

    >>> check_crowd(9 * cores())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    minimega.errors.BadInput: ... ranks are more than 8 on each of ... cores; --oversubscribe allows it
    """
    if ranks > RANKS_A_CORE * cores() and not oversubscribe:
        raise BadInput(f"{ranks} ranks are more than {RANKS_A_CORE} on each of {cores()} cores{cure}")


def start(argv: list[str], ranks: int, threads: int | None = None) -> int:
    """Run `python argv...` on so many ranks of this machine and give the exit status.

    What the ranks write passes through. The first Ctrl-C or SIGTERM is handed to all of them as SIGUSR1, so
    that a run can save at the end of its step; a second one, or ranks that do not get on, end the job.
    `threads` of each rank: cores/ranks unless given. BadInput where there is no MPI to start them with.
    """
    return Job(*command(argv, ranks, threads), ranks).status


def hold() -> None:
    """In a rank: end with the launcher from here on, if this program's own started it."""
    given = _given()
    lifeline.hold(int(given[2]) if given else 0)


def guard() -> None:
    """In a rank, once MPI is up: an error that nobody catches ends the whole job, by `fail`."""
    make_usable()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True, write_through=False)  # each line at once and in one piece
    sys.excepthook = lambda kind, error, where: sys.exit(fail(error))


def fail(error: BaseException) -> int:
    """`last_words` for an error: BadInput and RunFailed in one sentence, anything else with its traceback."""
    known = isinstance(error, BadInput | RunFailed)
    text = f"minimega: {error}" if known else "".join(traceback.format_exception(error)).rstrip()
    return last_words(text, 2 if isinstance(error, BadInput) else 1)


def last_words(text: str, status: int) -> int:
    """Write what ended this rank to the error stream, once for all ranks that end alike; gives the status.

    Ranks that do not end would wait for this one for ever: after a second of grace the whole job is ended,
    with this status. In a process alone it writes and returns.
    """
    lifeline.tell(said=text)
    mpi = getattr(sys.modules.get("mpi4py"), "MPI", None)
    if mpi is None or not mpi.Is_initialized() or mpi.COMM_WORLD.size == 1:
        given = _given()
        if not given or given[2] == "0":  # before MPI is up, every rank meets what one meets
            tell(text)
        return status
    world = mpi.COMM_WORLD
    alike = _alike(world, text)
    if not alike:
        tell(f"rank {world.rank} of {world.size}: {text}")
    elif world.rank == 0:
        tell(text)
    if alike is None:
        time.sleep(0.1)  # for mpirun to pass the words on before it ends everything
        world.Abort(status)
    return status


def _alike(world, text: str, grace: float = 1.0) -> bool | None:
    """Whether every rank ends with this text; None where not every rank ends within the grace, in seconds."""
    crc = zlib.crc32(text.encode())
    mine, largest = array("q", [crc, -crc]), array("q", [0, 0])
    request = world.Iallreduce(mine, largest, sys.modules["mpi4py"].MPI.MAX)
    end = time.monotonic() + grace
    while not request.Test():
        if time.monotonic() > end:
            return None
        time.sleep(0.005)
    return largest[0] == -largest[1]
