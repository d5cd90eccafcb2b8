"""How a job scales: the best plan for 1 to 10,000 GPUs, and where each kind of parallelism stops paying.

Letters as in work.py.
"""

import math
from dataclasses import replace
from typing import NamedTuple

from minimega.costs.plan.estimate import Plan
from minimega.costs.plan.machine import Gpu, Machine
from minimega.costs.plan.search import WORDS, Fixed, search
from minimega.errors import BadInput
from minimega.model import Config

SIZES = 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 10000
TOKENS_OF_A_STEP = 2**22


class At(NamedTuple):
    """The best plan at a number of GPUs (of those `asked` for), or None if none fits; `why` says why."""

    gpus: int
    plan: Plan | None
    batch: int
    why: str = ""
    asked: int = 0


def scaling(config: Config, gpu: Gpu, dtype: str, batch: int | None = None) -> list[At]:
    """The best plan at each size, on the same batch. A size that nothing divides is rounded down.

    >>> from minimega.costs.plan.gpus import GPUS
    >>> table = scaling(Config(51200, 1024, 768, 12, 12), GPUS["a100-80gb"], "bfloat16", batch=512)
    >>> [at.gpus for at in table if at.plan][:3]
    [1, 2, 4]
    """
    sequences = batch or max(1, round(TOKENS_OF_A_STEP / config.context))
    found = [max((_at(config, gpu, dtype, sequences, n) for n in _near(size)), key=_speed) for size in SIZES]
    return [at._replace(asked=size) for at, size in zip(found, SIZES, strict=True)]


def _near(size: int) -> list[int]:
    """A size and, if it is no power of 2, the multiples of 512 and 2048 below it."""
    return [size] if size & (size - 1) == 0 else [size, size - size % 512, size - size % 2048]


def _speed(at: At) -> float:
    return 0.0 if at.plan is None else 1 / at.plan.iteration_seconds


def _at(config: Config, gpu: Gpu, dtype: str, batch: int, gpus: int) -> At:
    try:
        got = search(config, Machine(gpu, gpus), batch, dtype, Fixed())
    except BadInput:
        return At(gpus, None, batch, "no cut divides the batch and the model")
    if got.plans:
        return At(gpus, got.plans[0], batch)
    least = min(plan.memory["total"] for plan in got.too_large.values())
    return At(gpus, None, batch, f"needs {least / 2**30:.0f} GiB per GPU")


class Stops(NamedTuple):
    """Where a kind of parallelism stops paying: the sizes before and after, and why."""

    kind: str
    last: int
    why: str


def stops(config: Config, gpu: Gpu, dtype: str, batch: int) -> list[Stops]:
    """For each kind of parallelism alone, the largest group for which twice as many GPUs are 1.5 times as
    fast.

    Each kind is doubled by itself from the best small plan that fits, on a batch that stays the same.
    """
    found = []
    for kind in ("tp", "pp", "dp"):
        last, before, why = 1, None, "no more GPUs were tried"
        size = 1
        while size <= 4096:
            plan = _alone(config, gpu, dtype, batch, kind, size)
            if isinstance(plan, str):
                why = plan
                break
            if before is not None and before.iteration_seconds / plan.iteration_seconds < 1.5:
                why = _grown(before, plan)
                break
            last, before, size = size, plan, size * 2
        found.append(Stops(kind, last, why))
    return found


def _alone(config: Config, gpu: Gpu, dtype: str, batch: int, kind: str, size: int) -> Plan | str:
    """The fastest plan with `size` ranks of one kind and no others, whatever its memory; or why there is
    none.
    """
    sizes = {"tp": config.nhead, "pp": config.num_layers, "dp": batch}
    if size > sizes[kind] or (kind != "pp" and sizes[kind] % size):
        what = {"tp": "heads", "pp": "layers", "dp": "sequences of a step"}[kind]
        return f"there are {sizes[kind]} {what}"
    size_of = {"tp": 1, "pp": 1, "dp": 1} | {kind: size}
    fixed = Fixed(tp=size_of["tp"], pp=size_of["pp"], dp=size_of["dp"])
    roomy = replace(gpu, memory=math.inf)
    return search(config, Machine(roomy, size), batch, dtype, fixed).plans[0]


def _grown(before: Plan, after: Plan) -> str:
    """Which kind of time takes a larger share than it did."""
    share = {
        kind: after.seconds.get(kind, 0.0) / after.iteration_seconds
        - before.seconds.get(kind, 0.0) / before.iteration_seconds
        for kind in after.seconds
    }
    kind = max(share, key=lambda k: share[k])
    part = 100 * after.seconds[kind] / after.iteration_seconds
    return f"{WORDS[kind]} would take {part:.0f}% of the step"
