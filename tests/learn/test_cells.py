"""The cells above an exercise: helpers, imports and what Jupyter alone understands."""

import pytest

from minimega.learn import cells, shelf
from minimega.learn.sandbox import CELL, define
from minimega.learn.verdict import on_ranks, verdict_apart

NORM = "def norm(own, group):\n    return math.sqrt(group.all_reduce(squares(own)))\n"
SQUARES = "def squares(own):\n    return sum(one(g) / n for g, n in own)\n"
ONE = "one = lambda g: (g * g).sum()\n"
HEAVY = "x = 1 / 0\nprint(y)\nwhile True:\n    pass\n"


@pytest.mark.parametrize(
    "others",
    [
        ["import math", SQUARES, ONE],
        [ONE, "def squares(own): return 7", "from math import *\nimport math", SQUARES],
        ["%matplotlib inline\nimport math\n!ls", f"%%time\n{ONE}", SQUARES, "a cell with an error ("],
        ["import math\n" + HEAVY + ONE, SQUARES],
    ],
)
def test_what_the_cell_needs_is_found_in_the_cells_above(others):
    for cell in (NORM, f"%%time\n{NORM}", f"%%time\n{NORM}\n%timeit norm\nnorm?\n"):
        found = verdict_apart("21", cell, others=others)
        assert found.ok, found


def test_only_what_is_needed_runs():
    whole = cells.source(
        "def f(x): return g(x) + k",
        ["k = 1\nx = y = 2\ny = k + 1", "def g(x): return h(x)\ndef h(x): return x * y"],
    )
    assert whole.above == "k = 1\ny = k + 1\ndef g(x):\n    return h(x)\ndef h(x):\n    return x * y"
    assert define(whole.cell, above=whole.above)["f"](3) == 7
    assert cells.source("def f(x):\n    y = x\n    return y", ["x = y = 1 / 0"]).above == ""
    assert cells.source("def f(: ", ["f = 1"]) == ("def f(: ", "")


def test_a_line_of_an_error_is_one_of_the_cell():
    found = verdict_apart(
        "02", "%%time\ndef slope(f, x):\n    return f(x) / zero\n", others=["import math", "zero = 0"]
    )
    assert found.sentence == "ZeroDivisionError at line 3, `return f(x) / zero`: float division by zero"
    assert verdict_apart("02", "def slope(f, x): return one", others=["one = 1"]).sentence.startswith(
        "a line of"
    )


@pytest.mark.parametrize("name", [CELL, "<timed exec>", "/tmp/ipykernel_1/2.py"])
def test_ranks_get_the_helpers_too(name, monkeypatch):
    """A function in a notebook, whose source is in the history of its cells."""
    history = ["import math, numpy as np", SQUARES, ONE, "check(21, norm)", f"%%time\n{NORM}", "norm"]
    names: dict = {}
    for cell in (history[0], SQUARES, ONE):
        exec(cell, names)
    exec(compile(NORM, name, "exec"), names)
    if name == CELL:
        names = define(NORM, above="\n".join(history[:3]))
    monkeypatch.setattr(cells, "_history", lambda: history)
    found = on_ranks(names["norm"], 4, shelf.exercise("21").on_rank)
    assert found.ok, found
