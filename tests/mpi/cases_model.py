"""The model on many ranks is the one that one rank trains: every layout, with every pair of factors."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
from adjoint import assert_whole
from equal import FACTORS, PAIRS, STEPS, Case, assert_equal
from ranks import sizes

from minimega.parallel.comm import Group
from minimega.parallel.data import Reducer
from minimega.parallel.grid import Grid, grid

LAYOUTS = {  # by the number of ranks: (tp, dp, sequence parallelism)
    1: [(1, 1, False), (1, 1, True)],
    2: [(2, 1, False), (2, 1, True), (1, 2, False), (1, 2, True)],
    3: [(3, 1, False), (3, 1, True), (1, 3, False)],
    4: [(4, 1, False), (4, 1, True), (2, 2, False), (2, 2, True), (1, 4, False)],
    6: [(2, 3, False), (3, 2, True)],
    8: [(8, 1, True), (4, 2, False), (4, 2, True), (2, 4, False), (2, 4, True), (1, 8, False)],
}
ALONE = [frozenset({f}) for f in (*FACTORS, "deep", "no attention")]


def grids(group) -> list[Grid]:
    return [grid(group, *layout) for layout in LAYOUTS[group.size]]


def on(g: Grid, factors=frozenset(), dtype="float64") -> Case:
    """A case that this grid can share out: two sequences a replica at least, heads for all ranks."""
    return Case(factors, max(4, 2 * g.data.size), 6 if g.tensor.size == 3 else 8, dtype)


@sizes(1)
def case_the_factors_cover_all_pairs(group):
    for a, b in combinations(FACTORS, 2):
        seen = {(a in factors, b in factors) for factors in PAIRS}
        assert seen == set(product((False, True), repeat=2)), (a, b)


@sizes(1, 2, 3, 4)
def case_each_factor_alone(group):
    for g, factors in product(grids(group), ALONE):
        assert_equal(on(g, factors), g)


def case_all_pairs_in_float64(group):
    for g, factors in product(grids(group), PAIRS):
        assert_equal(on(g, factors), g)


def case_all_pairs_in_float32(group):
    for g, factors in product(grids(group), PAIRS):
        assert_equal(on(g, factors, "float32"), g)


@sizes(8)
def case_six_ranks(group):
    part = group.split(group.rank < 6)
    for g, factors, dtype in product(grids(part), PAIRS, ("float64", "float32")):
        assert_equal(on(g, factors, dtype), g)
