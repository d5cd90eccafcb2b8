"""Small programs on several ranks, each with a time limit of its own."""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

LAUNCH = "import sys; from minimega.launch import start; sys.exit(start(sys.argv[2:], int(sys.argv[1])))"


@dataclass
class Ended:
    status: int
    out: str
    err: str
    seconds: float


def run(folder: Path, ranks: int, program: str, *args: str, send: tuple = (), limit: float = 30) -> Ended:
    """Write the program into the folder and start it as `minimega train --tp` starts its ranks.

    `send`: signals for the launcher; each is sent when the program has written one more line "ready".
    """
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install 'minimega[mpi]'")
    path = folder / "program.py"
    path.write_text(program)
    begin = time.monotonic()
    job = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(ranks), str(path), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
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
    return Ended(job.returncode, said + out, err, time.monotonic() - begin)
