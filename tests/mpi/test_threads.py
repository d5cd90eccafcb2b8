"""Every case of `cases_*.py` on ranks that are threads; those that measure processes run on MPI alone.

`make test` runs them on 2 and 4 ranks, some on 2 alone; `make test-ranks` the others, 1, 3 and 8 as well."""

import importlib

import numpy as np
import pytest

from minimega.ranks.threads import on_ranks
from tests.mpi.ranks import LIMIT, SIZES, cases, of_processes, often

# By name, then by size: ranks of another number are compared with the same serial runs.
CASES = sorted((name, ranks) for ranks in SIZES for name in cases(ranks) if not of_processes(name))


def named(name: str, ranks: int):
    marks = () if often(name, ranks) else pytest.mark.ranks
    return pytest.param(name, ranks, marks=marks, id=f"{name.removeprefix('cases_')}-{ranks}")


@pytest.mark.parametrize(("name", "ranks"), [named(*each) for each in CASES])
def test_case(name, ranks):
    file, case = name.split(".")

    def f(group):
        with np.errstate(invalid="ignore"):
            getattr(importlib.import_module(f"tests.mpi.{file}"), case)(group)

    with on_ranks(ranks, seconds=LIMIT) as run:
        run(f)


def test_only_what_measures_processes_is_left_to_mpi():
    names = {name for ranks in SIZES for name in cases(ranks)}
    assert {name for name in names if of_processes(name)} == {
        "cases_context.case_checked_collectives_change_nothing",
        "cases_gpu.case_an_mpi_that_knows_cuda_takes_arrays_as_they_are",
        "cases_gpu.case_with_a_gpu_each_nccl_carries_the_collectives",
        "cases_gpu.case_without_cuda_in_mpi_arrays_go_through_the_host",
        "cases_zero.case_what_a_rank_holds_is_what_the_formula_says",
    }
