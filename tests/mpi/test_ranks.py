"""Cases on ranks of MPI: a few in `make test`, all in `make test-ranks` (as threads: test_threads.py)."""

import subprocess
from pathlib import Path

import pytest

pytest.importorskip("mpi4py", reason="cases among ranks need mpi4py and an MPI: pip install mpi4py mpich")

from minimega.ranks import launch
from tests.mpi.ranks import SIZES, cases, of_processes

HERE = Path(__file__).parent
LIMIT = 1200  # seconds for one mpirun; a case has its own limit in ranks.py

FEW = (  # and all that measure processes
    "cases_comm.",  # every kind of message
    "cases_regions.",  # the adjoint identity, with planted mistakes
    "cases_chat.case_the_loss",  # steps in every layout, on two ranks
    "cases_pipeline.case_weights_that_are_not_finite",  # an error on one rank stops all
    "cases_model.case_a_rank_without_a_piece",
    "cases_checkpoint.case_a_rank_that_fails",
    "cases_pipeline.case_planted_mistakes",
    "cases_timeline.case_clocks",
)


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_few_cases(ranks):
    few = FEW if ranks == 2 else tuple(name for name in FEW if not name.startswith("cases_chat"))
    run([name for name in cases(ranks) if name.startswith(few) or of_processes(name)], ranks)


@pytest.mark.ranks
@pytest.mark.parametrize("ranks", SIZES)
def test_all_cases(ranks):
    run(cases(ranks), ranks)


def run(todo: list[str], ranks: int) -> None:
    """Run cases on so many ranks; a case that ends the job is followed by a job for those after it."""
    failed = []
    assert len(todo) > 10
    while todo:
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
