"""ZeRO: the three stages are the model that one rank trains."""

from dataclasses import replace
from itertools import product

from cases_model import grids, on
from equal import assert_equal
from ranks import sizes

STAGES = 1, 2, 3


@sizes(2, 3, 4, 8)
def case_each_stage(group):
    for g, stage in product(grids(group), STAGES):
        assert_equal(replace(on(g, frozenset({"dropout", "deep"})), zero=stage), g)
