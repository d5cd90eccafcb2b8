"""Predicted beside measured: the time of a step, and whether `--layout auto` chooses the fastest way.

    python -m tests.costs.quiet times       # a calibration, then shapes and cuts of 1, 2 and 4 ranks
    python -m tests.costs.quiet layouts     # 12 shapes: all ways over 2 and 4 ranks, and the chosen one
    python -m tests.costs.quiet times --keep --ranks 2 --steps 5    # the rates that were kept, one part
    python -m tests.costs.quiet layouts --keep --ranks 4 --shapes tiny wide

It needs a quiet machine: under load the clock on the wall is not comparable. `cpu` is what the step would
take on as many cores as there are, from the seconds of a core that ranks spent; a pipeline's actions are
replayed at their own costs. The calibration knows none of the shapes below: all of them are held out.
"""

import argparse
import json
import math
import subprocess
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from minimega.backend import keep_memory
from minimega.costs import Job, kept
from minimega.costs.choose import choose
from minimega.costs.here import step
from minimega.costs.stopwatch import Stopwatch, costs, orders
from minimega.errors import BadInput
from minimega.model import Config
from minimega.optim import AdamW
from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.parallel.schedules import times
from minimega.parallel.team import build
from minimega.ranks import launch
from minimega.ranks.mpi import world
from minimega.train import Recipe, train_step

BATCH = 8
SHAPES = {
    "tiny": {"vocab_size": 512},
    "wide": {"vocab_size": 512, "d_model": 256, "nhead": 8, "context": 64},
    "deep": {"vocab_size": 256, "d_model": 64, "num_layers": 8, "context": 64},
    "long": {"vocab_size": 512, "context": 256},
    "vocabulary": {"vocab_size": 4096, "d_model": 96, "context": 64},
    "small": {"vocab_size": 128, "d_model": 32, "num_layers": 4, "context": 32},
    "heads": {"vocab_size": 256, "d_model": 128, "nhead": 16, "context": 64, "num_layers": 4},
    "relu": {"vocab_size": 256, "d_model": 128, "activation": "relu", "context": 64, "num_layers": 4},
    "post": {"vocab_size": 256, "d_model": 96, "norm_position": "post", "context": 96, "num_layers": 4},
    "narrow": {"vocab_size": 256, "d_model": 48, "num_layers": 4, "context": 128},
    "thick": {"vocab_size": 256, "d_model": 192, "nhead": 6, "num_layers": 4, "context": 32},
    "no attention": {"vocab_size": 256, "d_model": 128, "attention": False, "num_layers": 4, "context": 64},
}
CUTS = {
    1: [{}, {"accumulate": 2}, {"recompute": "full"}],
    2: [{"dp": 2}, {"tp": 2}, {"pp": 2, "micro_batches": 4}, {"dp": 2, "zero": 1}, {"cp": 2}],
    4: [{"dp": 4}, {"tp": 2, "dp": 2}, {"dp": 2, "pp": 2}, {"pp": 4, "micro_batches": 4}],
}


def jobs_of_times(ranks: int) -> list[Job]:
    """Some cuts of the first shapes."""
    named = ("tiny", "wide", "deep", "long", "vocabulary")
    found = [Job(Config(**SHAPES[name]), Layout(**cut), BATCH) for name in named for cut in CUTS[ranks]]
    return [job for job in found if possible(job)]


def possible(job: Job) -> bool:
    """Whether training takes this layout."""
    try:
        job.layout.check(job.config, job.batch)
        job.layout.check(job.config)
    except BadInput:
        return False
    return True


def measure(path: str, steps: int) -> None:
    """On ranks: the shortest of some steps of each job in a file, in seconds on the wall and of a core.

    The jobs take turns, so that what else the machine does slows all of them alike.
    """
    keep_memory()
    group = world()
    jobs = [
        Job(Config(**told["config"]), Layout(**told["layout"]), told["batch"])
        for told in json.loads(Path(path).read_text())
    ]
    crowd, runs = max(1.0, group.size / launch.cores()), []
    for job in jobs:
        g = grid(group, job.layout)
        watch = Stopwatch(g.pipeline)
        model, team = build(job.config, g, run=watch.run)
        team.draw(model)
        runs.append((job, watch, model, team, AdamW()))
    found = [(math.inf, math.inf)] * len(jobs)
    for turn in range(1 + steps):
        for n, run in enumerate(runs):
            both = one_step(group, *run, crowd)
            if turn:  # the first warms up
                found[n] = tuple(map(min, both, found[n]))
    if group.rank == 0:
        Path(path).write_text(json.dumps(found))


def one_step(group, job: Job, watch: Stopwatch, model, team, adam, crowd: float) -> tuple[float, float]:
    """A step's seconds on the wall, and those of a core that it would take; see the head of this file."""
    ids = np.arange(job.batch * job.config.context).reshape(job.batch, -1) * 7919 % job.config.vocab_size
    group.barrier()
    begun, core = time.perf_counter(), time.process_time()
    train_step(model, adam, Recipe(9), 1, ids, ids, team=team)
    wall = float(group.all_reduce(np.array(time.perf_counter() - begun), "max"))
    core = float(group.all_reduce(np.array(time.process_time() - core))) / group.size
    if job.layout.pp == 1:
        return wall, core * crowd
    events, parts = watch.gathered(), job.layout.accumulate
    work = sum(e.cost for rank in events for e in rank) / len(events)
    alone = max(end for rank in times(orders(events), costs(events)) for *_, end in rank)
    cpu = parts * max(alone, crowd * work) + crowd * max(core - parts * work, 0.0)
    return wall, float(group.all_reduce(np.array(cpu))) / group.size


def measured(jobs: list[Job], ranks: int, steps: int) -> list[tuple[float, float]]:
    """`measure` on ranks that are started for it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.json"
        told = [{"config": j.config.as_dict(), "layout": asdict(j.layout), "batch": j.batch} for j in jobs]
        path.write_text(json.dumps(told))
        root = Path(__file__).parents[2]
        line, env = launch.command(
            [str(root / "tests/costs/quiet.py"), "measure", str(path), "--steps", str(steps)], ranks, 1
        )
        subprocess.run(line, env=env | {"PYTHONPATH": str(root)}, check=True)
        return json.loads(path.read_text())


def say_times(rates: list, ranks: list[int], steps: int) -> None:
    """The table of predicted and measured times, and how far they are apart."""
    off, of_core = [], []
    for n in ranks:
        jobs = jobs_of_times(n)
        for job, (wall, cpu) in zip(jobs, measured(jobs, n, steps), strict=True):
            told = step(job, kept.of(rates, n))
            off.append(told.seconds / wall - 1)
            # more ranks than cores wait for messages without a core
            of_core.append((told.seconds - told.messages * (n > launch.cores())) / cpu - 1)
            name = next(name for name, shape in SHAPES.items() if Config(**shape) == job.config)
            cut = f"{job.layout} {job.layout.parts} parts {job.layout.recompute}"
            print(
                f"{name:<11}{cut:<44}measured {1e3 * wall:7.1f} ms (cpu {1e3 * cpu:7.1f})   predicted "
                f"{1e3 * told.seconds:7.1f}  {off[-1]:+6.1%}  cpu {of_core[-1]:+6.1%}",
                flush=True,
            )
    for name, errors in (("wall", off), ("cpu", of_core)):
        sizes = np.abs(errors)
        if len(sizes):
            near, worst = np.mean(sizes <= 0.15), sizes.max()
            print(
                f"{name}: {len(sizes)} rows, off {sizes.mean():.1%}, {near:.0%} within 15%, worst {worst:.1%}"
            )


def say_layouts(rates: list, ranks: list[int], steps: int, shapes: list[str]) -> None:
    """For each shape the chosen way, its measured time, and the fastest measured of all ways."""
    slower = []
    for n in ranks:
        for name in shapes:
            job = Job(Config(**SHAPES[name]), batch=BATCH)
            found = choose(job, [n], rates, None)
            times = measured([replace(job, layout=way.layout) for way in found], n, steps)
            (mine, _), best = times[0], min(range(len(times)), key=lambda i: times[i][0])
            slower.append(mine / times[best][0] - 1)
            print(
                f"{n} ranks  {name:<13}chosen {found[0].layout!s:<32}{1e3 * mine:7.1f} ms   fastest of "
                f"{len(found)}: {found[best].layout!s:<40}{1e3 * times[best][0]:7.1f} ms  {slower[-1]:+6.1%}",
                flush=True,
            )
    share, worst = np.mean(np.array(slower) <= 0.1), max(slower)
    print(f"{len(slower)} shapes: the choice is the fastest or within 10% for {share:.0%}, worst {worst:.1%}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("times", "layouts", "measure"))
    parser.add_argument("path", nargs="?")
    parser.add_argument("--ranks", type=int, nargs="*", default=None)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=list(SHAPES), help="of layouts")
    parser.add_argument("--keep", action="store_true", help="use the rates that were kept")
    o = parser.parse_args()
    if o.what == "measure":
        measure(o.path, o.steps)
        return
    begun = time.perf_counter()
    rates = kept.known() if o.keep else []
    rates = rates or kept.renewed()[0]
    print(f"calibration: {time.perf_counter() - begun:.1f} s, {[r.ranks for r in rates]} ranks")
    if o.what == "times":
        say_times(rates, o.ranks or [1, 2, 4], o.steps)
    else:
        say_layouts(rates, o.ranks or [2, 4], o.steps, o.shapes)


if __name__ == "__main__":
    main()
