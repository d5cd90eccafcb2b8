"""Runs cases on ranks of MPI: `mpirun -n 4 python ranks.py cases_comm.case_a cases_regions.case_b ...`.

A case is a function of the group of all ranks, in a file `cases_*.py` beside this one. The ranks may be
processes or threads (test_threads.py): see together.py for what threads share. Rank 0 writes `ok NAME` when
all ranks are through. What fails, or hangs for longer than LIMIT, ends the job with its traceback.
"""

import faulthandler
import importlib
import sys
import warnings
from pathlib import Path

import numpy as np

from minimega.ranks.mpi import world

sys.path.insert(0, str(Path(__file__).parents[2]))  # ranks start without it, as they do for a user

SIZES = 1, 2, 3, 4, 8
LIMIT = 240  # seconds for one case: for hangs, not for a busy machine


def sizes(*numbers: int):
    """Marks a case that only makes sense among these numbers of ranks."""

    def mark(case):
        case.sizes = numbers
        return case

    return mark


def seldom(*numbers: int):
    """Marks a case that runs on these numbers of threads in `make test-ranks` alone."""

    def mark(case):
        case.seldom = numbers
        return case

    return mark


def processes(case):
    """Marks a case that measures a process for each rank, or MPI itself."""
    case.processes = True
    return case


def of_processes(name: str) -> bool:
    """Whether only ranks of MPI can pass it."""
    file, case = name.split(".")
    return hasattr(getattr(importlib.import_module(f"tests.mpi.{file}"), case), "processes")


def often(name: str, ranks: int) -> bool:
    """Whether `make test` runs it on so many threads; `make test-ranks` runs every case on every number."""
    file, case = name.split(".")
    known = getattr(importlib.import_module(f"tests.mpi.{file}"), case)
    return ranks in (2, 4) and ranks not in getattr(known, "seldom", ())


def cases(ranks: int) -> list[str]:
    """The names of all cases for this number of ranks, in the order of the files."""
    found = []
    for path in sorted(Path(__file__).parent.glob("cases_*.py")):
        module = importlib.import_module(f"tests.mpi.{path.stem}")
        found += [
            f"{path.stem}.{name}"
            for name, case in vars(module).items()
            if name.startswith("case_") and ranks in getattr(case, "sizes", (ranks,))
        ]
    return found


def main(names: list[str]) -> None:
    warnings.simplefilter("error")
    # Products of odd shapes sometimes set this flag although the numbers are right. The comparisons find
    # values that are not finite.
    np.seterr(invalid="ignore")
    group = world()
    for name in names:
        module, case = name.split(".")
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        getattr(importlib.import_module(f"tests.mpi.{module}"), case)(group)
        group.barrier()
        faulthandler.cancel_dump_traceback_later()
        if group.rank == 0:
            sys.stdout.write(f"ok {name}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
