"""Measures this machine for the planner: products, memory-bound operations and messages, each by its size.

About three seconds for each number of ranks. All ranks measure at the same time, because they share caches
and memory when they train. Computation is timed in seconds of a core where a rank is a process of one thread,
which other load on the machine changes little. By the clock on the wall: messages, several BLAS threads, and
ranks that are threads, since they also wait for the interpreter.
"""

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from minimega import ops
from minimega.attention import attention
from minimega.backend import keep_memory
from minimega.costs import Job
from minimega.costs.here import WIDTHS, passes, update
from minimega.costs.part import part
from minimega.costs.rates import Rates, Table
from minimega.embedding import embedding
from minimega.head import cross_entropy
from minimega.linear import linear
from minimega.mlp import gelu_erf
from minimega.model import Config, gpt
from minimega.norm import layer_norm
from minimega.optim import AdamW, sum_of_squares
from minimega.parallel.layout import Layout
from minimega.parameter import Parameter
from minimega.ranks.group import Group
from minimega.ranks.launch import cores
from minimega.ranks.mpi import world as start_world
from minimega.ranks.threads import on_ranks
from minimega.train import Alone, Recipe, train_step

ROWS, ACROSS = (16, 256, 2048), (32, 128, 512)
NUMBERS = 1 << 10, 1 << 14, 1 << 17, 1 << 20
VOCABULARIES = 64, 512, 4096
HEADS, SIDES = (2, 16, 64), (16, 64, 128)
BYTES = 1 << 8, 1 << 13, 1 << 17, 1 << 21
ENOUGH = 0.03  # seconds of a measurement after which five calls are enough
COLD = 4 << 20  # numbers: what backward reads was saved so long ago that it is in no cache


def measure(world: Group, threads: int = 1) -> Rates:
    """The rates of this machine with all ranks of the world at work; every rank calls it."""
    alone = threads == 1 and not world.in_process
    clock = time.thread_time if alone else time.perf_counter
    found: dict[str, list] = {}
    for name, rows, width, f in operations():
        world.barrier()
        found.setdefault(name, []).append((rows, width, shortest(f, clock)))
    means = {
        name: Table(tuple((r, w, _mean(world, s)) for r, w, s in points)) for name, points in found.items()
    }
    rates = Rates(world.size, threads, cores(), means | messages(world))
    return with_overheads(rates, world, clock)


def _mean(world: Group, seconds: float) -> float:
    return float(world.all_reduce(np.array(seconds))) / world.size


def shortest(f: Callable[[], object], clock: Callable[[], float], most: int = 7) -> float:
    """The shortest time of some calls of f, after one to warm up."""
    f()
    took: list[float] = []
    while len(took) < most and (len(took) < 5 or sum(took) < ENOUGH):
        begun = clock()
        f()
        took.append(clock() - begun)
    return max(min(took), 1e-7)


def operations() -> Iterator[tuple[str, int, int, Callable]]:
    """(name, rows, width, a function that does it) of all that is measured on one rank."""

    def array(*shape: int):
        return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)

    def both(name: str, rows: int, width: int, f: Callable, dy) -> Iterator[tuple[str, int, int, Callable]]:
        """An operation and its backward pass, whose gradients may be functions."""
        yield name, rows, width, f
        backs = itertools.cycle([f()[1] for _ in range(min(8, max(1, COLD // (rows * width))))])

        def backward():
            dxs = next(backs)(dy)
            for dx in dxs if isinstance(dxs, tuple) else (dxs,):
                dx() if callable(dx) else None

        yield f"{name} back", rows, width, backward

    for rows in ROWS:
        for width in ACROSS:
            x, w, b = array(rows, width), array(width, width), array(width)
            ids = np.arange(rows) * 7 % width
            yield from both("linear", rows, width, lambda x=x, w=w, b=b: linear(x, w, b), x)
            yield from both("norm", rows, width, lambda x=x, b=b: layer_norm(x, b, b), x)
            for name, f in (("gelu", ops.gelu), ("relu", ops.relu), ("gelu-erf", gelu_erf)):
                yield from both(name, rows, width, lambda x=x, f=f: f(x), x)
            yield from both("embedding", rows, width, lambda w=w, ids=ids: embedding(w, ids), x)
            yield "add", rows, width, lambda x=x, b=b: x + b
            yield "sum", rows, width, lambda x=x: x.sum(axis=0)
            yield "dropout", rows, width, lambda x=x: x * (x > 0.1)
    for rows in ROWS:
        for width in VOCABULARIES:
            x, ids = array(rows // 4, width), np.arange(rows // 4) * 7 % width
            yield from both(
                "cross-entropy", rows // 4, width, lambda x=x, ids=ids: cross_entropy(x, ids), 1.0
            )
    for heads in HEADS:
        for side in SIDES:
            for width in WIDTHS:
                q = array(1, heads, side, width)
                yield from both(f"attention {width}", heads, side, lambda q=q: attention(q, q, q), q)
    for n in NUMBERS:
        p, adam = Parameter((n, 1)).draw(0), AdamW()
        p.name, p.grad = "p", p.data + 1
        yield "squares", n, 1, lambda p=p: sum_of_squares(p)
        yield "update", n, 1, lambda p=p, adam=adam: adam.step([p], 1e-3)
        yield "copy", n, 1, lambda p=p: np.concatenate([p.data])


def messages(world: Group) -> dict[str, Table]:
    """The seconds of each kind of message by its bytes, in the world and in groups of two."""
    found: dict[str, Table] = {}
    sizes = sorted({2, world.size} - {1}) if world.size > 1 else []
    for size in sizes:
        group = world if size == world.size else world.split(lambda r: r // 2, "pairs")
        if world.size % size:
            continue
        right, left = (group.rank + 1) % size, (group.rank - 1) % size

        def passed(x, group=group, right=right, left=left):
            came = group.start_receive(np.empty_like(x), left)
            sent = group.start_send(x, right)
            came(), sent()

        kinds = {
            "all-reduce": group.all_reduce,
            "all-gather": lambda x, group=group: group.all_gather(x[: len(x) // group.size]),
            "reduce-scatter": group.reduce_scatter,
            "send": passed,
        }
        for kind, call in kinds.items():
            points = []
            for nbytes in BYTES:
                x, took = np.ones(nbytes // 4, np.float32), []
                for _ in range(15):
                    group.barrier()
                    begun = time.perf_counter()
                    call(x)
                    took.append(time.perf_counter() - begun)
                middle = sorted(took)[len(took) // 3]
                points.append((nbytes, 1, max(_mean(world, middle), 1e-7)))
            found[f"{kind} of {size}"] = Table(tuple(points))
    return found


TINY = Config(vocab_size=32, context=16, d_model=32, nhead=2, num_layers=1)
MIDDLE = Config(vocab_size=256, context=64, d_model=96, nhead=4, num_layers=2)
LARGE = replace(MIDDLE, context=128, d_model=160, num_layers=1)


def with_overheads(rates: Rates, world: Group, clock: Callable[[], float]) -> Rates:
    """The rates, with what steps cost beside their operations, from steps of four small models.

    In a step operations find fewer of their arrays in the caches than one by one: `scale` is by how much they
    take longer. What Python needs for a step, a part and a block shows in steps of almost no arithmetic.
    """

    def took(config: Config, batch: int, parts: int) -> tuple[Job, float]:
        model, adam = gpt(config).draw(0), AdamW()
        ids, team = np.arange(batch * config.context).reshape(batch, -1) % config.vocab_size, Alone(parts)
        world.barrier()
        seconds = shortest(lambda: train_step(model, adam, Recipe(1), 1, ids, ids, team=team), clock, 8)
        return Job(config, Layout(accumulate=parts), batch), _mean(world, seconds)

    runs = [took(TINY, 1, 1), took(replace(TINY, num_layers=5), 1, 1), took(TINY, 4, 4)]
    references = [took(MIDDLE, 8, 1), took(LARGE, 8, 1)]
    for _ in range(4):  # each is fitted with the others as they are
        bare = replace(rates, per_step=0.0, per_part=0.0, per_block=0.0)
        one, deep, parts = (seconds - alone(job, bare) for job, seconds in runs)
        block = max((deep - one) / 4, 0.0)
        part_ = max((parts - one) / 3 - block, 0.0)
        rates = replace(rates, per_block=block, per_part=part_, per_step=max(one - block - part_, 0.0))
        longer = 1.0
        for job, seconds in references:
            fixed = alone(job, rates) - alone(job, bare)
            longer *= max(seconds - fixed, 0.2 * seconds) / alone(job, bare)
        rates = replace(rates, scale=rates.scale * longer ** (1 / len(references)))
    return rates


def alone(job: Job, rates: Rates) -> float:
    """The seconds of a core for a step without messages."""
    own = part(job)
    return job.layout.parts * sum(map(sum, passes(own, rates))) + update(own, rates) + rates.per_step


def main(out: str, threads: str = "1") -> None:
    """Measure on so many threads, or else on the ranks that mpirun started, and write the rates as JSON."""
    keep_memory()
    with threadpool_limits(1):  # two ranks of one thread beat one rank of two
        if int(threads) > 1:
            with on_ranks(int(threads)) as run:
                first, rates = True, run(measure)[0]
        else:
            group = start_world()
            first, rates = group.rank == 0, measure(group)
    if first:
        Path(out).write_text(json.dumps(rates.as_dict()), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
