"""`minimega doctor`: checks the setup step by step. Each line ends in ok or in what to do."""

import json
import platform
import re
import shlex
import subprocess
import sys
import time
from importlib import import_module, metadata
from types import SimpleNamespace

import numpy as np

from minimega.commands import threads
from minimega.commands.progress import busy
from minimega.costs.memory import size
from minimega.errors import BadInput, pip
from minimega.kernels import choose
from minimega.ranks import launch, transport
from minimega.ranks.colour import judged
from minimega.ranks.group import Group
from minimega.ranks.job import line_for_ranks
from minimega.ranks.mpi import world
from minimega.ranks.streams import say

SECONDS = 60  # time limit for ranks to start and exchange a few messages
PYTHON = (3, 11)


def run(options: SimpleNamespace | None = None) -> int:
    """Check everything that a run may need and print a line for each. Returns 0 if CPU runs work, else 1.

    What only a GPU or several ranks need is advice if it is not installed. `options.ranks` ranks are tried
    (default 2).
    """
    ranks = getattr(options, "ranks", None) or 2
    launch.check_crowd(ranks, getattr(options, "oversubscribe", False))
    steps = [_python(), _numpy(), _kernels(), *_ranks(ranks), *_gpu()]
    for what, found, cure, needed in steps:
        advice = judged(cure, False) if needed else cure
        say(f"{what:<14} {found}: {advice or judged('ok', True)}")
    return int(any(cure and needed for _, _, cure, needed in steps))


# A step: what was checked, what was found, what to do ("" if nothing), and whether CPU runs need it.
Step = tuple[str, str, str, bool]


def _python() -> Step:
    old = sys.version_info < PYTHON
    cure = f"minimega needs Python {'.'.join(map(str, PYTHON))} or newer" if old else ""
    return "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", cure, True


def _numpy() -> Step:
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    name = f"{blas.get('name', 'no BLAS')} {blas.get('version', '')}".strip()
    slow = "" if blas.get("found") else f"matrix products will be slow: {pip('--force-reinstall', 'numpy')}"
    return "NumPy", f"{np.__version__} with {name}", slow, False


def _kernels() -> Step:
    """The compiled versions, tried once: the first time compiles them."""
    if not _version("numba"):
        return "kernels", "none", f"not needed; training is faster with {pip('numba')}", False
    try:
        with busy("compiling"):
            count = len(choose.load("numba"))
    except Exception as error:  # a broken installation may raise anything
        return "kernels", f"numba: {error}".splitlines()[0], "--kernels none trains without it", False
    return "kernels", f"{count} functions compiled by numba {_version('numba')}", "", False


def _ranks(ranks: int) -> list[Step]:
    if not _version("mpi4py"):
        return [("MPI", "not installed", f"to use ranks that are processes, {launch.INSTALL}", False)]
    try:
        mpi = launch.find_mpi()
    except BadInput as error:
        return [("MPI", "mpi4py cannot start ranks", str(error).replace("\n", " "), True)]
    steps = [("MPI", f"{mpi.vendor} {mpi.version}, {mpi.mpirun}, mpi4py {_version('mpi4py')}", "", True)]
    line, env = launch.command(["-m", "minimega.commands.doctor"], ranks)
    start = time.perf_counter()
    try:
        with line_for_ranks() as (_, told), busy(f"starting {ranks} ranks"):
            job = subprocess.run(line, env=env | told, capture_output=True, text=True, timeout=SECONDS)
        said = (job.stderr.strip().splitlines() or [f"exit status {job.returncode}"])[-1]
        failed = f"failed ({said}); to reproduce: {shlex.join(line)}" if job.returncode else ""
    except subprocess.TimeoutExpired:
        failed = f"no answer within {SECONDS} s; to reproduce: {shlex.join(line)}"
    took = time.perf_counter() - start
    if failed:
        return [*steps, ("ranks start", f"{ranks} ranks", failed, True)]
    found = json.loads(job.stdout.splitlines()[-1])
    right = "" if found["right"] else f"wrong sum: reinstall MPI, {launch.INSTALL}"
    cores = launch.cores()
    crowd = "more ranks than cores, so ranks wait for each other" if ranks > cores else ""
    return [
        *steps,
        ("ranks start", f"{ranks} ranks in {took:.1f} s", "", True),
        ("all-reduce", found["group"], right, True),
        ("latency", f"{found['latency'] * 1e6:.0f} us for an all-reduce of 8 bytes", "", False),
        ("bandwidth", f"{size(found['bandwidth'])}/s in an all-reduce of 8 MB", "", False),
        ("threads", f"{found['threads']} per rank, {ranks} ranks, {cores} cores", crowd, False),
    ]


def _gpu() -> list[Step]:
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        said = re.sub(r"(\d+) MiB", lambda found: size(int(found[1]) * 2**20), asked.stdout)
        gpus = said.strip().splitlines() if asked.returncode == 0 else []
    except (OSError, subprocess.TimeoutExpired):
        gpus = []
    if not gpus:
        return [("GPU", "none found", "not needed, everything runs on the CPU", False)]
    steps = [("GPU", "; ".join(gpus), "", False)]
    try:
        cupy = import_module("cupy")
        works = float(cupy.ones(3).sum()) == 3
    except Exception as error:  # a broken installation may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return [
            *steps,
            ("CuPy", reason, f"for --device cuda, {pip('cupy-cuda12x')} (or cupy-cuda13x)", False),
        ]
    steps.append(("CuPy", cupy.__version__, "" if works else "wrong sum on the GPU: reinstall CuPy", False))
    if not _version("mpi4py"):
        return steps
    nccl, cuda = transport.has_nccl(), transport.knows_cuda()
    slower = "messages go through the host, which is slower"
    return [
        *steps,
        (
            "NCCL",
            "found" if nccl else "not found",
            "" if nccl else f"{slower}: {pip('nvidia-nccl-cu12')}",
            False,
        ),
        ("CUDA in MPI", "yes" if cuda else "no", "" if nccl or cuda else slower, False),
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def measure(group: Group) -> dict:
    """Check an all-reduce and time it: latency in seconds (8 bytes), bandwidth in bytes per second (8 MB)."""

    def fastest(x, repeats: int) -> float:
        times = []
        for _ in range(5):
            group.barrier()
            start = time.perf_counter()
            for _ in range(repeats):
                group.all_reduce(x)
            times.append((time.perf_counter() - start) / repeats)
        return float(group.all_reduce(np.array(min(times)), "max"))

    x = np.arange(1 << 20, dtype="float64")
    right = (group.all_reduce(x * (group.rank + 1)) == x * group.size * (group.size + 1) / 2).all()
    return {
        "group": repr(group),
        "right": bool(group.all_reduce(np.array(int(right))) == group.size),
        "latency": fastest(np.ones(1), 100),
        "bandwidth": x.nbytes / fastest(x, 2),
        "threads": threads.used(),
    }


if __name__ == "__main__":  # runs on each rank
    everyone = world()
    found = measure(everyone)
    if everyone.rank == 0:
        say(json.dumps(found))
