"""Measures this machine for the planner: products, memory-bound operations and messages, each by its size.

About three seconds for each number of ranks. All ranks measure at the same time, because they share caches
and memory when they train. Computation is timed in seconds of a core where a rank has one thread, which other
load on the machine changes little; messages and several threads by the clock on the wall. What ranks that are
threads wait for the interpreter, some 5 % of a step of a small model, is not counted.
"""

import functools
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from minimega import ops
from minimega.attention import attention, self_attention
from minimega.backend import keep_memory
from minimega.costs.here import WIDTHS
from minimega.costs.overheads import mean, with_overheads
from minimega.costs.rates import Rates, Table
from minimega.embedding import embedding
from minimega.head import cross_entropy
from minimega.linear import linear
from minimega.mlp import gelu_erf
from minimega.norm import layer_norm
from minimega.optim import AdamW, sum_of_squares
from minimega.parallel.context import ring_attention
from minimega.parameter import Parameter
from minimega.ranks.group import SELF, Group
from minimega.ranks.launch import cores
from minimega.ranks.mpi import world as start_world
from minimega.ranks.threads import on_ranks

ROWS, ACROSS = (16, 128, 512, 2048), (32, 128, 512)
NUMBERS = 1 << 6, 1 << 11, 1 << 14, 1 << 17, 1 << 20
VOCABULARIES = 64, 512, 4096
HEADS, SIDES = (2, 16, 64), (16, 64, 128)
BYTES = 1 << 8, 1 << 13, 1 << 17, 1 << 21
ENOUGH = 0.02  # seconds of a measurement after which three calls are enough
COLD = 4 << 20  # numbers: what backward reads was saved so long ago that it is in no cache


def measure(world: Group, threads: int = 1, known: Rates | None = None) -> Rates:
    """The rates of this machine with all ranks of the world at work; every rank calls it.

    Ranks that are more than the cores compute as fast as `known`, those of a rank for each core.
    """
    core = threads == 1
    clock = time.thread_time if core else time.perf_counter
    means = known.tables if known else computation(world, clock)
    return with_overheads(Rates(world.size, threads, cores(), means | messages(world)), world, core)


def computation(world: Group, clock: Callable[[], float]) -> dict[str, Table]:
    """The seconds of every operation by its size, the mean of all ranks."""
    found: dict[str, list] = {}
    for name, rows, width, f in operations():
        world.barrier()
        found.setdefault(name, []).append((rows, width, shortest(f, clock)))
    return {
        name: Table(tuple((r, w, mean(world, s)) for r, w, s in points)) for name, points in found.items()
    }


def shortest(f: Callable[[], object], clock: Callable[[], float], most: int = 7) -> float:
    """The shortest time of some calls of f, after one to warm up."""
    f()
    took: list[float] = []
    while len(took) < most and (len(took) < 3 or sum(took) < ENOUGH):
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
                qkv, dy = array(1, side, 3 * heads * width), array(1, side, heads * width)
                ring = functools.partial(ring_attention, group=SELF, window=np.arange(side))
                for name, attend in (("attention", attention), ("ring", ring)):
                    yield from both(
                        f"{name} {width}",
                        heads,
                        side,
                        lambda qkv=qkv, heads=heads, attend=attend: self_attention(qkv, heads, attend=attend),
                        dy,
                    )
    for n in NUMBERS:
        many, adam = [Parameter((n, 1)).draw(0) for _ in range(min(8, max(1, COLD // n)))], AdamW()
        for i, p in enumerate(many):
            p.name, p.grad = str(i), p.data + 1

        def each(f: Callable, many=many) -> Callable:
            """f of one parameter after another, so that a large one is in no cache."""
            these = itertools.cycle(many)
            return lambda: f(next(these))

        yield "squares", n, 1, each(sum_of_squares)
        yield "update", n, 1, each(lambda p, adam=adam: adam.step([p], 1e-3))
        yield "clip", n, 1, each(lambda p: p.grad * np.float32(0.5))
        yield "plus", n, 1, each(lambda p: p.grad + p.data)
        yield "copy", n, 1, each(lambda p: np.concatenate([p.data]))


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
                for _ in range(15 if nbytes < BYTES[-1] else 6):
                    group.barrier()
                    begun = time.perf_counter()
                    call(x)
                    took.append(time.perf_counter() - begun)
                middle = sorted(took)[len(took) // 3]
                points.append((nbytes, 1, max(mean(world, middle), 1e-7)))
            found[f"{kind} of {size}"] = Table(tuple(points))
    return found


def main(out: str, threads: str = "1", known: str = "") -> None:
    """Measure on so many threads, or else on the ranks that mpirun started, and write the rates as JSON.

    `known` names a file of rates of fewer ranks, written like this.
    """
    keep_memory()
    before = Rates.of(json.loads(Path(known).read_text())) if known else None
    with threadpool_limits(1):  # two ranks of one thread beat one rank of two
        if int(threads) > 1:
            with on_ranks(int(threads)) as run:
                first, rates = True, run(functools.partial(measure, known=before))[0]
        else:
            group = start_world()
            first, rates = group.rank == 0, measure(group, known=before)
    if first:
        Path(out).write_text(json.dumps(rates.as_dict()), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
