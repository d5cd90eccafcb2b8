"""Every case of `cases_*.py`, on 1, 2, 3, 4 and 8 ranks: one mpirun for each number runs all its cases."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("mpi4py", reason="cases among ranks need mpi4py and an MPI: pip install 'minimega[mpi]'")

from minimega import launch

HERE = Path(__file__).parent
SIZES = 1, 2, 3, 4, 8
LIMIT = 240  # seconds for one mpirun; a case has a limit of its own in ranks.py
sys.path.insert(0, str(HERE))
CASES = [(p, name) for p in SIZES for name in __import__("ranks").cases(p)]


@cache
def results(p: int) -> dict[str, str]:
    """What became of every case on p ranks: "ok", or what the job that it ended wrote."""
    todo = [name for size, name in CASES if size == p]
    found: dict[str, str] = {}
    while todo:  # a case that ends the job is followed by a job for those after it
        line, env = launch.command([str(HERE / "ranks.py"), *todo], p, threads=1)
        job = subprocess.Popen(
            line, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            said, _ = job.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            job.terminate()
            said, _ = job.communicate()
            said += f"\nno end within {LIMIT} s"
        done = [words[3:] for words in said.splitlines() if words.startswith("ok ")]
        found |= dict.fromkeys(done, "ok")
        todo = todo[len(done) :]
        if todo:
            found[todo.pop(0)] = said
    return found


@pytest.mark.parametrize(("ranks", "case"), CASES)
def test_ranks(ranks, case):
    said = results(ranks)[case]
    assert said == "ok", said
