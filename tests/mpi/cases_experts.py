"""Experts shared out over ranks are those of one rank: every layout, and what travels between them."""

from itertools import product

import numpy as np
from equal import PAIRS, Case, assert_equal
from ranks import sizes

from minimega.parallel.grid import Grid, grid

LAYOUTS = {  # by the number of ranks: (tp, dp, sequence parallelism, pp, cp, ep)
    1: [(1, 1, False)],
    2: [(2, 1, False), (2, 1, True), (1, 2, False), (1, 2, False, 1, 1, 2)],
    3: [(1, 3, False, 1, 1, 3)],
    4: [(1, 4, False, 1, 1, 2), (1, 4, False, 1, 1, 4), (2, 2, False, 1, 1, 2), (2, 2, True, 1, 1, 2)],
    8: [(2, 2, False, 2, 1, 2), (2, 2, True, 2, 1, 2), (1, 4, False, 2, 1, 2)],
}
SCHEDULES = [("gpipe", 1), ("1f1b", 1), ("zero-bubble", 1), ("interleaved", 2)]


def layouts(group) -> list[Grid]:
    return [grid(group, *layout) for layout in LAYOUTS[group.size]]


def on(g: Grid, factors=frozenset(), dtype="float64", schedule="1f1b", v=1) -> Case:
    p = g.pipeline.size
    batch = max(4, 2 * g.data.size * p)
    layers = v * p + 1 if p > 1 else 1
    return Case(factors | {"experts"}, batch, 8, dtype, layers, schedule, v, p)


def case_each_layout(group):
    for g, dtype in product(layouts(group), ("float64", "float32")):
        assert_equal(on(g, dtype=dtype), g)


@sizes(8)
def case_every_schedule(group):
    for g, (schedule, v) in product(layouts(group), SCHEDULES):
        assert_equal(on(g, frozenset({"dropout"}), "float64", schedule, v), g)


@sizes(1, 2, 4)
def case_pairs_of_factors(group):
    for g, factors in product(layouts(group), PAIRS):
        assert_equal(on(g, factors), g)
