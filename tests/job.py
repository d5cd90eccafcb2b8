"""Small programs on several ranks, each with its own time limit; commands whose ranks are threads."""

import io
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from minimega.commands.cli import main
from minimega.commands.options import of_command

LAUNCH = """
import sys
from minimega.ranks import job, launch
job.PATIENCE = float(sys.argv[1])
sys.exit(launch.start(sys.argv[3:], int(sys.argv[2])))
"""


@dataclass
class Ended:
    status: int
    out: str
    err: str
    seconds: float


def begin(folder: Path, ranks: int, program: str, *args: str, patience: float = 4.0) -> subprocess.Popen:
    """Write the program into the folder and start it as `minimega train --tp` starts its ranks."""
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
    path = folder / "program.py"
    path.write_text(program)
    line = [sys.executable, "-c", LAUNCH, str(patience), str(ranks), str(path), *args]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(
    folder: Path, ranks: int, program: str, *args: str, send: tuple = (), limit: float = 30, **how
) -> Ended:
    """`begin`, and wait for its end.

    `send`: signals for the launcher; each is sent when the program has written one more line "ready".
    """
    start = time.monotonic()
    job = begin(folder, ranks, program, *args, **how)
    said = ""
    try:
        for number in send:
            while (line := job.stdout.readline()) != "ready\n":
                assert line, f"it ended before it was ready: {job.stderr.read()}"
                said += line
            job.send_signal(number)
        out, err = job.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        for number in (signal.SIGTERM, signal.SIGTERM):  # the second one ends the ranks
            job.send_signal(number)
            time.sleep(0.2)
        out, err = job.communicate()
        pytest.fail(f"no end within {limit} s; it wrote:\n{out}\n{err}")
    return Ended(job.returncode, said + out, err, time.monotonic() - start)


def minimega(*words) -> subprocess.CompletedProcess:
    """A command in this process, as if it had its own; its ranks are threads, unless the words say how."""
    argv = [str(word) for word in words]
    if "launch" in of_command(argv[0]) and "--launch" not in argv:
        argv += ["--launch", "threads"]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        status = main(argv)
    return subprocess.CompletedProcess(argv, status, *(x.buffer.getvalue().decode() for x in (out, err)))
