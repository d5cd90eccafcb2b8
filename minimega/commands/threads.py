"""The number of BLAS threads: given by the user, recorded by the run, or measured.

With one thread per core BLAS collapses under other load, since its threads wait for each other. A small
product gains nothing from a second thread. The number of threads changes the bits of a result, so a run
records it.
"""

import os
import time
from types import SimpleNamespace as Options

import numpy as np
from threadpoolctl import ThreadpoolController

from minimega.commands.options import layout_of
from minimega.model import Config
from minimega.precision import wide
from minimega.ranks import launch
from minimega.ranks.group import Group

SECONDS = 0.25  # length of the measurement
CLEARLY = 0.8  # more threads must take less than this share of the time
OPERATIONS = 2e8  # at most, in one product: some milliseconds


def settle(o: Options, world: Group, config: Config, rows: int | None = None) -> str:
    """Set the BLAS threads of this rank. All ranks use the first rank's number; `o.threads` becomes it.

    `rows` is the number of tokens that go through the model at once; by default, those of one part of a
    training step. Returns the number and how it was chosen, in words, or "" if there is no choice: the arrays
    are on a GPU, or this BLAS cannot be controlled.
    """
    blas = ThreadpoolController().select(user_api="blas")
    if not blas.lib_controllers or (o.device != "cpu" and not o.threads):
        return ""
    if o.threads:
        threads, why = o.threads, "--threads" if "threads" in o.given else "as in the run so far"
    elif told := _told(blas.info()[0]["internal_api"]):
        threads, why = told
    elif (most := max(1, launch.cores() // world.size) if world.in_process else launch.share()) == 1:
        threads, why = 1, "cores / ranks" if world.size > 1 else "one core"
    elif world.in_process and world.rank:  # the number is one for all: the first rank measures
        threads, why = 1, "measured"
    else:
        rows = rows or max(1, o.train_batch_size // (o.dp * layout_of(o).parts)) * config.context // o.cp
        threads, why = measured(blas, most, (rows, config.d_model, config.d_hidden or 4 * config.d_model), o)
    o.threads = int(world.broadcast(np.array(threads), label="threads"))
    ThreadpoolController().limit(limits=o.threads)
    each = " per rank" * (world.size > 1)
    return f"{o.threads} BLAS thread{'s' * (o.threads > 1)}{each} ({why})"


def used() -> int:
    """The number of threads that a matrix product uses now.

    A process may hold another BLAS than NumPy's: numba loads SciPy's where SciPy is installed.
    """
    blas = ThreadpoolController().select(user_api="blas").info()
    ours = [library for library in blas if "numpy" in library["filepath"]] or blas
    return ours[0]["num_threads"] if ours else launch.cores()


def _told(library: str) -> tuple[int, str] | None:
    """The number of threads set in the user's shell for this library, and the variable's name."""
    if launch.SHARED in os.environ:
        return None
    for name in (f"{library.upper()}_NUM_THREADS", "OMP_NUM_THREADS"):
        if (value := os.environ.get(name, "")).isdigit() and int(value):
            return int(value), name
    return None


def measured(blas, most: int, shape: tuple[int, int, int], o: Options) -> tuple[int, str]:
    """Measure a product of this shape (rows, inner, columns) with up to `most` threads.

    Returns the smallest number that no larger one clearly beats, and the word "measured".
    """
    counts = [2**n for n in range(most.bit_length()) if 2**n < most] + [most]
    rows, inner, columns = shape
    rows = int(max(1, min(rows, OPERATIONS / (2 * inner * columns))))
    dtype = wide(np.ones(1, o.dtype)).dtype
    a, b = np.ones((rows, inner), dtype), np.ones((inner, columns), dtype)

    def seconds(threads: int) -> float:
        with blas.limit(limits=threads):
            begun = time.perf_counter()
            a @ b
            return time.perf_counter() - begun

    return fewest(in_turn(counts, seconds)), "measured"


def in_turn(counts: list[int], seconds) -> dict[int, float]:
    """The mean seconds for each number of threads, measured in turn so that other work slows all alike."""
    end, spent = time.perf_counter() + SECONDS, {n: [] for n in counts}
    while time.perf_counter() < end or len(spent[counts[-1]]) < 2:
        for n in counts:
            spent[n].append(seconds(n))
    return {n: sum(times[1:]) / len(times[1:]) for n, times in spent.items()}  # the first starts the threads


def fewest(means: dict[int, float]) -> int:
    """The number of threads that is clearly faster than all smaller ones, by their mean times.

    >>> fewest({1: 1.0, 2: 0.55, 4: 0.5}), fewest({1: 1.0, 2: 0.9, 4: 0.7}), fewest({1: 1.0, 2: 3.0})
    (2, 4, 1)
    """
    best = 1
    for n, mean in sorted(means.items()):
        if mean < CLEARLY * means[best]:
            best = n
    return best
