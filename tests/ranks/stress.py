"""One training step many times on ranks that are threads, some of which come late: always the same bits.

    python -m tests.ranks.stress [RUNS]        (200 of each, by default)

A torn read, a result that depends on the order of arrival, or a deadlock shows here: load helps to find it.
"""

import hashlib
import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np

import minimega as mm
from minimega import random
from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.parallel.team import build
from minimega.ranks.threads import Memory

SHAPE = {"vocab_size": 24, "context": 8, "d_model": 16, "nhead": 4, "num_layers": 2, "dropout": 0.1}
LAYOUTS = (
    Layout(tp=2, dp=2, sequence=True),
    Layout(pp=2, dp=2, micro_batches=2),
    Layout(dp=4, zero=3),
    Layout(tp=2, cp=2),
)
LATEST = 0.003  # seconds; most ranks come almost at once


def step(group, layout: Layout) -> tuple[float, float, str]:
    """Loss, gradient norm and a digest of this rank's weights after one step in float32."""
    ids = np.random.default_rng(0).integers(2, 24, (8, 9))
    model, team = build(mm.Config(**SHAPE), grid(group, layout))
    team.draw(model, 0, "float32")
    with np.errstate(invalid="ignore"):
        record = mm.train_step(model, mm.AdamW(), mm.Recipe(steps=1), 1, ids[:, :-1], ids[:, 1:], team=team)
    digest = hashlib.sha256()
    for p in team.owned(model):
        digest.update(np.ascontiguousarray(p.data).tobytes())
    return record["loss"], record["grad_norm"], digest.hexdigest()


@contextmanager
def late() -> Iterator[None]:
    """Inside, every rank sleeps for a random time before each collective and each message."""
    calls = itertools.count()

    def slowed(act):
        def after_a_sleep(self, *how):
            u = float(random.uniform(random.key(7, "late"), np.array(next(calls))))
            time.sleep(LATEST * u**4)
            return act(self, *how)

        return after_a_sleep

    names = "meet", "send", "receive"
    with mock.patch.multiple(Memory, **{name: slowed(getattr(Memory, name)) for name in names}):
        yield


def sets_of_bits(layout: Layout, runs: int, slow: bool) -> int:
    """How many different results there were."""
    with mm.on_ranks(layout.ranks) as run:
        first = tuple(run(lambda group: step(group, layout)))
        if not slow:
            return len({first, *(tuple(run(lambda group: step(group, layout))) for _ in range(runs - 1))})
        with late():
            return len({first, *(tuple(run(lambda group: step(group, layout))) for _ in range(runs))})


if __name__ == "__main__":
    runs, worst = int(sys.argv[1]) if len(sys.argv) > 1 else 200, 1
    for slow, layout in itertools.product((False, True), LAYOUTS):
        found = sets_of_bits(layout, runs, slow)
        worst = max(worst, found)
        how = "ranks that come late" if slow else "as they come"
        print(f"{layout}, {runs} runs, {how}: {found} set{'s' * (found > 1)} of bits", flush=True)
    sys.exit(worst > 1)
