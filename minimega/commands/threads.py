"""How many threads BLAS gets: as the user says, as the run began, or as a short measurement finds best.

With one thread per core BLAS collapses beside other work, since its threads wait for each other, and a small
product gains nothing from a second thread. Another number of threads gives other bits: a run records its own.
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

SECONDS = 0.25  # of the measurement
CLEARLY = 0.8  # of the time with fewer threads: more of them must do with less
OPERATIONS = 2e8  # of one product at most, some milliseconds


def settle(o: Options, world: Group, config: Config, rows: int | None = None) -> str:
    """Set the threads of this rank; all ranks take the first one's number, which is put into `o.threads`.

    `rows` go through the model at once; by default, the tokens of one part of a training step. Gives the
    number and how it was chosen, in words; "" where there is nothing to choose: the arrays are on a GPU, or
    the BLAS here cannot be told.
    """
    blas = ThreadpoolController().select(user_api="blas")
    if not blas.lib_controllers or (o.device != "cpu" and not o.threads):
        return ""
    if o.threads:
        threads, why = o.threads, "--threads" if "threads" in o.given else "as the run began"
    elif told := _told(blas.info()[0]["internal_api"]):
        threads, why = told
    elif (most := launch.share()) == 1:
        threads, why = 1, "cores / ranks" if world.size > 1 else "one core"
    else:
        rows = rows or max(1, o.train_batch_size // (o.dp * layout_of(o).parts)) * config.context // o.cp
        threads, why = measured(blas, most, (rows, config.d_model, config.d_hidden or 4 * config.d_model), o)
    o.threads = int(world.broadcast(np.array(threads), label="threads"))
    ThreadpoolController().limit(limits=o.threads)
    each = " per rank" * (world.size > 1)
    return f"{o.threads} BLAS thread{'s' * (o.threads > 1)}{each} ({why})"


def used() -> int:
    """How many threads a product runs in here."""
    blas = ThreadpoolController().select(user_api="blas").info()
    return blas[0]["num_threads"] if blas else launch.cores()


def _told(library: str) -> tuple[int, str] | None:
    """What the user's shell says to this library, and in which variable."""
    if launch.SHARED in os.environ:
        return None
    for name in (f"{library.upper()}_NUM_THREADS", "OMP_NUM_THREADS"):
        if (value := os.environ.get(name, "")).isdigit() and int(value):
            return int(value), name
    return None


def measured(blas, most: int, shape: tuple[int, int, int], o: Options) -> tuple[int, str]:
    """The fewest threads that no larger number clearly beats at a product of this shape, up to `most`."""
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
    """The mean time with each number of threads, in turn, so that other work slows all of them alike."""
    end, spent = time.perf_counter() + SECONDS, {n: [] for n in counts}
    while time.perf_counter() < end or len(spent[counts[-1]]) < 2:
        for n in counts:
            spent[n].append(seconds(n))
    return {n: sum(times[1:]) / len(times[1:]) for n, times in spent.items()}  # the first one starts threads


def fewest(means: dict[int, float]) -> int:
    """The number that each smaller one is clearly slower than.

    >>> fewest({1: 1.0, 2: 0.55, 4: 0.5}), fewest({1: 1.0, 2: 0.9, 4: 0.7}), fewest({1: 1.0, 2: 3.0})
    (2, 4, 1)
    """
    best = 1
    for n, mean in sorted(means.items()):
        if mean < CLEARLY * means[best]:
            best = n
    return best
