"""What the steps of a run cost beside its operations one by one, measured on small models over all ranks."""

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from minimega.costs import Job
from minimega.costs.here import calls, step
from minimega.costs.rates import Rates
from minimega.model import Config
from minimega.optim import AdamW
from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.parallel.team import build
from minimega.ranks.group import Group
from minimega.train import Recipe, train_step

TURNS = 4  # of two steps of each small model
TINY = Config(vocab_size=32, context=16, d_model=32, nhead=2, num_layers=1)
MANY = Config(vocab_size=64, context=32, d_model=48, nhead=2, num_layers=6)
MIDDLE = Config(vocab_size=256, context=64, d_model=96, nhead=4, num_layers=2)
LARGE = replace(MIDDLE, context=128, d_model=160, num_layers=1)
EACH = 8  # sequences of a rank


def with_overheads(rates: Rates, world: Group, core: bool) -> Rates:
    """The rates, with what steps cost beside their operations one by one, from steps of small models.

    What Python needs for a step and a part shows in steps of almost no arithmetic. What it needs for a block
    does not: between large arrays the interpreter finds its own code and objects in no cache. So that, and
    by how much operations take longer for the same reason (`scale`), are fitted together to models of few
    large and of many small operations. The same models, cut, show what a message takes longer between two
    operations, when its array is in no cache, and how long ranks that are not quite in step wait for the
    slowest of them, which grows with the time between two messages.
    """
    n = world.size
    whole, cut = Layout(dp=n), Layout(tp=2, dp=n // 2)
    jobs = [Job(TINY, whole, n), Job(TINY, replace(whole, accumulate=4), 4 * n)]
    jobs += [Job(config, whole, EACH * n) for config in (MANY, MIDDLE, LARGE)]
    jobs += [Job(config, cut, EACH) for config in (MANY, MIDDLE, LARGE)] if n % 2 == 0 else []
    runs = timed(jobs, world, rates.crowd, core)
    fixed, references, tensor = runs[:2], runs[2:5], runs[5:]
    for _ in range(4):  # each is fitted with the others as they are
        bare = replace(rates, per_step=0.0, per_part=0.0)
        one, four = ((took - step(job, bare).seconds) / rates.crowd for job, took in fixed)
        part = max((four - one) / 3, 0.0)
        rates = replace(rates, per_part=part, per_step=max(one - part, 0.0))
        rates = replace(rates, **_longer(references, rates))
        rates = replace(rates, **_late(tensor, rates))
    return rates


def _longer(references: list[tuple[Job, float]], rates: Rates) -> dict[str, Any]:
    """What a block takes, and by how much operations take longer in a step than one by one."""
    bare, rows, rest = replace(rates, per_block=0.0, scale=1.0), [], []
    for job, took in references:
        fixed = step(job, replace(bare, scale=0.0)).seconds
        rows.append([rates.crowd * job.config.num_layers, step(job, bare).seconds - fixed])
        rest.append(took - fixed)
    block, scale = _fitted(rows, rest, [took for _, took in references])
    return {"per_block": block, "scale": max(scale, 0.2)}


def _late(cut: list[tuple[Job, float]], rates: Rates) -> dict[str, Any]:
    """What a message between two operations takes more, and what ranks wait for the slowest of them."""
    bare, rows, rest = replace(rates, per_message=0.0, skew=0.0), [], []
    for job, took in cut:
        told = step(job, bare)
        rows.append([calls(job), told.compute])
        rest.append(took - told.seconds)
    message, skew = _fitted(rows, rest, [took for _, took in cut]) if cut else (0.0, 0.0)
    # not more than was seen: however long they compute, ranks that wait leave their cores to the others
    latest = max((skew * compute / n for n, compute in rows), default=0.0)
    return {"per_message": message, "skew": skew, "latest": latest}


def _fitted(rows: list[list[float]], rest: list[float], took: list[float]) -> tuple[float, float]:
    """Two constants, neither below 0, whose sums by `rows` come nearest to `rest`, relative to `took`."""
    a, b = np.array(rows) / np.array(took)[:, None], np.array(rest) / np.array(took)
    both = np.linalg.lstsq(a, b)[0]
    if both.min() >= 0:
        return float(both[0]), float(both[1])
    alone = [max(float(column @ b / (column @ column)), 0.0) for column in a.T]
    far = [float(np.linalg.norm(column * x - b)) for column, x in zip(a.T, alone, strict=True)]
    return (alone[0], 0.0) if far[0] < far[1] else (0.0, alone[1])


def timed(jobs: list[Job], world: Group, crowd: float, core: bool = True) -> list[tuple[Job, float]]:
    """Each job with the shortest of some steps on all ranks, `crowd` of them on a core.

    They take turns, so that a disturbance meets all of them. Every rank calls it. With `core`, seconds of a
    core are those of a step on a quiet machine, as long as ranks hardly wait for each other.
    """
    steps, found = [runner(job, world) for job in jobs], [[] for _ in jobs]
    for _ in range(TURNS):
        for n, run in enumerate(steps):
            for _ in range(2):  # the second finds the caches as a run does, in which steps follow each other
                world.barrier()
                begun, spent = time.perf_counter(), time.thread_time()
                run()
                wall, spent = time.perf_counter() - begun, time.thread_time() - spent
                if core and jobs[n].layout.tp == 1:
                    took = crowd * mean(world, spent)
                else:
                    took = float(world.all_reduce(np.array(wall), "max"))
                found[n].append(took)
    # waits vary from step to step, with which ranks share a core: not the luckiest
    shortest = [
        sorted(each)[len(each) // 3 if job.layout.tp > 1 else 0]
        for job, each in zip(jobs, found, strict=True)
    ]
    return list(zip(jobs, shortest, strict=True))


def runner(job: Job, world: Group) -> Callable[[], object]:
    """A function that trains one step of a job over all ranks of the world."""
    model, team = build(job.config, grid(world, job.layout))
    team.draw(model)
    ids = np.arange(job.batch * job.config.context).reshape(job.batch, -1) % job.config.vocab_size
    return functools.partial(train_step, model, AdamW(), Recipe(1), 1, ids, ids, team=team)


def mean(world: Group, seconds: float) -> float:
    """The mean of all ranks' seconds."""
    return float(world.all_reduce(np.array(seconds))) / world.size
