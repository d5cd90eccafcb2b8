"""`minimega bench --scaling`: how the cost of a step grows with each size, beside what theory says.

Theory is the arithmetic alone: the operations per token (`bench.operations`) times the tokens, divided among
the ranks. It says how a step grows, and not how long it takes: its line goes through the largest step of an
axis, or for ranks through the step of one rank.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace as Options

from threadpoolctl import threadpool_limits

from minimega.commands import bench
from minimega.commands.bench_steps import minimega_step, step_on_ranks
from minimega.commands.options import model_config
from minimega.commands.plan_text import table
from minimega.commands.progress import busy, say
from minimega.costs import Job
from minimega.costs.memory import check_fits
from minimega.errors import BadInput
from minimega.model import Config
from minimega.parallel.layout import Layout
from minimega.ranks import launch, threads
from minimega.ranks.group import Group

LONGEST = 10.0  # seconds that all steps of a point may take by theory: longer ones end an axis
MOST = 64  # times the smallest size
Shape = tuple[Config, int, int]  # the model, the batch, and the ranks
AXES: dict[str, Callable[[Shape, int], Shape]] = {
    "batch": lambda shape, n: (shape[0], shape[1] * n, 1),
    "width": lambda shape, n: (_wide(shape[0], n), shape[1], 1),
    "layers": lambda shape, n: (replace(shape[0], num_layers=shape[0].num_layers * n), shape[1], 1),
    "context": lambda shape, n: (replace(shape[0], context=shape[0].context * n), shape[1], 1),
    "ranks": lambda shape, n: (shape[0], shape[1], n),
}


def _wide(config: Config, n: int) -> Config:
    """The configuration with so many times the width, in as many times the heads: a head keeps its width."""
    d, hidden, heads = (n * size for size in (config.d_model, config.d_hidden, config.nhead))
    return replace(config, d_model=d, d_hidden=hidden, nhead=heads)


def run(o: Options) -> int:
    """Measure each axis from the shape of the options on, and print tables or JSON."""
    config = model_config(o, o.vocab_size or 512)
    if o.device != "cpu":
        raise BadInput("bench --scaling is for --device cpu")
    check_fits(Job(config, batch=o.train_batch_size, dtype=o.dtype, optimizer=o.optimizer))
    chosen = bench.settled(o, config)
    base = config, o.train_batch_size, 1
    found: dict = {"start": {"layers": config.num_layers, "width": config.d_model}, "axes": {}}
    with busy("measuring the first point"):
        first = seconds(o, base)
    for axis in AXES:
        with busy(f"measuring how a step grows with its {axis}"):
            found["axes"][axis] = grown(axis, base, first, lambda shape: seconds(o, shape), o)
    found |= {"batch": o.train_batch_size, "context": config.context, "conditions": chosen}
    say(json.dumps(found, indent=1) if o.json else text(found))
    if o.picture:
        from minimega.pictures.bench import scaling_picture  # needs matplotlib, which takes long to import

        scaling_picture(o.picture, found["axes"])
        if not o.json:
            say(f"\nthe picture: {o.picture}")
    return 0


def grown(axis: str, base: Shape, first: float, measure: Callable[[Shape], float], o: Options) -> dict:
    """The points of an axis: sizes, measured and theoretical seconds; and why it ends."""
    took, shapes, ended = [first], [base], f"{MOST} times the smallest"
    while len(shapes) <= math.log2(MOST):
        shape = AXES[axis](base, 2 ** len(shapes))
        if reason := why_not(shape, took[-1] * cost(shape) / cost(shapes[-1]), o):
            ended = reason
            break
        took.append(measure(shape))
        shapes.append(shape)
    known = 0 if axis == "ranks" else -1  # small steps are calls of Python more than arithmetic
    theory = [took[known] * cost(shape) / cost(shapes[known]) for shape in shapes]
    points = [list(point) for point in zip([size_of(axis, s) for s in shapes], took, theory, strict=True)]
    return {"points": points, "slopes": list(slopes(points)), "ended": ended}


def why_not(shape: Shape, theory: float, o: Options) -> str:
    """Why a point cannot be measured; empty if it can."""
    config, batch, ranks = shape
    if ranks > launch.cores():
        return f"{launch.cores()} cores"
    if batch % ranks:
        return f"a batch of {batch}"
    try:
        check_fits(Job(config, Layout(dp=ranks), batch=batch, dtype=o.dtype, optimizer=o.optimizer))
    except BadInput:
        return "memory"
    return f"steps of {theory:.1f} s" if theory * (o.num_steps + 1) > LONGEST else ""


def size_of(axis: str, shape: Shape) -> int:
    """The size of a shape along an axis."""
    config, batch, ranks = shape
    sizes = {"width": config.d_model, "layers": config.num_layers, "context": config.context}
    return {"batch": batch, "ranks": ranks, **sizes}[axis]


def cost(shape: Shape) -> float:
    """The operations that each rank does in a step."""
    config, batch, ranks = shape
    return bench.operations(config) * batch * config.context / ranks


def slopes(points: list[list[float]]) -> Iterator[tuple[float, float]]:
    """Between each two points, how steep measurement and theory are: 1 if time grows as the size does.

    >>> [tuple(map(float, both)) for both in slopes([[1, 1.0, 1.0], [2, 4.0, 2.0]])]
    [(2.0, 1.0)]
    """
    for (a, *before), (b, *after) in pairwise(points):
        measured, theory = (math.log(y / x) / math.log(b / a) for x, y in zip(before, after, strict=True))
        yield measured, theory


def seconds(o: Options, shape: Shape) -> float:
    """The seconds of the shortest step of this shape, on ranks that are threads with one BLAS thread each."""
    config, batch, ranks = shape
    o = Options(**vars(o) | {"train_batch_size": batch})
    if ranks > 1:
        with threads.on_ranks(ranks, 600.0) as run_, threadpool_limits(1, user_api="blas"):
            return max(run_(lambda world: min(_on_ranks(o, config, world))))
    step, took = minimega_step(config, o, o.dtype), []
    for _ in range(1 + o.num_steps):
        begun = time.perf_counter()
        step()
        took.append(time.perf_counter() - begun)
    return min(took[1:])


def _on_ranks(o: Options, config: Config, world: Group) -> list[float]:
    step, took = step_on_ranks(config, o, world), []
    for _ in range(1 + o.num_steps):
        world.barrier()
        begun = time.perf_counter()
        step()
        took.append(time.perf_counter() - begun)
    return took[1:]


def text(found: dict) -> str:
    """A table for each axis."""
    start, tokens = found["start"], f"{found['batch']} x {found['context']} tokens"
    lines = [
        f"from {start['layers']} layers of width {start['width']}, {tokens}",
        f"{found['conditions']}; the shortest step of each",
        "theory: the arithmetic alone, as fast as in the last row (ranks: the first); slope 1: in proportion",
    ]
    for axis, one in found["axes"].items():
        rows: list[list[object]] = [[axis, "ms", "theory", "slope", "by theory", ""]]
        steep = [("", ""), *((f"{a:.2f}", f"{b:.2f}") for a, b in one["slopes"])]
        for (size, took, theory), both in zip(one["points"], steep, strict=True):
            rows.append([str(size).rjust(7), f"{1e3 * took:,.1f}", f"{1e3 * theory:,.1f}", *both, ""])
        lines += ["", table(rows), f"ends at: {one['ended']}"]
    return "\n".join(lines)
