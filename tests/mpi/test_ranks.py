"""Every case of `cases_*.py`, on 1, 2, 3, 4 and 8 ranks: one mpirun per number of ranks."""

import subprocess
from pathlib import Path

import pytest

pytest.importorskip("mpi4py", reason="cases among ranks need mpi4py and an MPI: pip install mpi4py mpich")

from minimega.ranks import launch
from tests.mpi.ranks import cases

HERE = Path(__file__).parent
LIMIT = 1200  # seconds for one mpirun; a case has its own limit in ranks.py


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_cases(ranks):
    todo, failed = cases(ranks), []
    assert len(todo) > 10
    while todo:  # a case that ends the job is followed by a job for those after it
        done, said = through(ranks, todo)
        assert todo[: len(done)] == done
        failed += [f"{name} on {ranks} ranks:\n{said}" for name in todo[len(done) : len(done) + 1]]
        todo = todo[len(done) + 1 :]
    assert not failed, "\n".join(failed)


def through(ranks: int, names: list[str]) -> tuple[list[str], str]:
    """Run cases among ranks until one ends the job; the names of those that passed, and what was written."""
    line, env = launch.command([str(HERE / "ranks.py"), *names], ranks, threads=1)
    job = subprocess.Popen(
        line, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        said, _ = job.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        job.terminate()
        said, _ = job.communicate()
        said += f"\nno end within {LIMIT} s"
    lines = said.splitlines()
    return [words[3:] for words in lines if words.startswith("ok ")], "\n".join(
        words for words in lines if not words.startswith("ok ")
    )
