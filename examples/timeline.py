"""Every pipeline schedule in turn on the same ranks: waiting in theory, and as measured.

    mpirun -n 4 python examples/timeline.py
    mpirun -n 4 python examples/timeline.py --device cuda

Waiting ranks are the bubble. Theory computes it from the costs of the actions: 1 for a forward and 2 for a
backward pass, or the measured ones. With a core (or a GPU) per rank the wall time comes close. With fewer
cores, the CPU times, replayed in the order of the run, still do. `minimega timeline` draws it.
"""

import sys
from dataclasses import replace

import numpy as np

import minimega as mm
from minimega.backend import device
from minimega.costs.stopwatch import Stopwatch, as_it_was, costs, departure, mean_costs, orders
from minimega.parallel.bubble import bubble, held, waiting
from minimega.parallel.grid import Layout, grid
from minimega.parallel.schedules import SCHEDULES
from minimega.parallel.team import build
from minimega.ranks.mpi import world

STEPS = 3  # the last one is reported


def main(xp=np) -> None:
    ranks = world(xp)
    p, m, cut = ranks.size, 2 * ranks.size, grid(ranks, Layout(pp=ranks.size))
    config = mm.Config(vocab_size=211, context=64, d_model=128, nhead=4, num_layers=2 * p)
    text = xp.asarray(
        np.random.default_rng(0).integers(211, size=(2 * m, 65))
    )  # m micro-batches of 2 sequences
    line = "{:<16}{:>7}{:>15}{:>10}{:>11}   {}".format
    if ranks.rank == 0:
        print(f"time spent waiting: {p} rank{'s' * (p > 1)}, {m} micro-batches")
        print(line("", "theory", "at mean costs", "replayed", "wall time", "micro-batches held, by rank"))
    watch = Stopwatch(cut.pipeline, xp)
    for name, schedule_of in SCHEDULES.items():
        v = 2 if name == "interleaved" and p > 1 else 1
        schedule = schedule_of(p, m, v)
        layout = replace(cut.layout, micro_batches=m, pipeline=name, virtual_stages=v)
        model, team = build(config, replace(cut, layout=layout), run=watch.run)
        team.draw(model, seed=0, xp=xp)
        for _ in range(STEPS):
            ranks.barrier()
            team.gradients(model, text[:, :-1], text[:, 1:])
        events = watch.gathered()

        assert departure(schedule, events) == "", "a rank departed from its schedule"
        for r, of_rank in enumerate(events):
            for kind in {a.kind for a in schedule[r] if a.kind.startswith(("forward", "backward"))}:
                passed = [e.action.key for e in of_rank if e.action.kind == kind]
                assert sorted(passed) == [(n, c) for n in range(m) for c in range(v)], (
                    "a micro-batch ran twice or not at all"
                )
        most = [max(e.held for e in of_rank) for of_rank in events]
        assert most == [held(of_rank) for of_rank in schedule], (
            "a rank held more or fewer micro-batches than its schedule says"
        )
        shares = (
            bubble(schedule),
            bubble(schedule, mean_costs(events)),
            bubble(orders(events), costs(events)),
            waiting(as_it_was(events)),
        )
        if ranks.rank == 0:
            in_flight = "  ".join(
                f"{n} of {held(of_rank)}" for n, of_rank in zip(most, schedule, strict=True)
            )
            print(line(name, *(f"{x:.1%}" for x in shares), in_flight))


main(device("cuda" if "cuda" in sys.argv else "cpu"))
