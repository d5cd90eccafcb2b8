"""Code that runs in its own process always ends with a sentence, whatever it does."""

import re

import numpy as np
import pytest

from minimega.errors import BadInput
from minimega.learn import Cut, pieces_picture, ranks, shelf, show
from minimega.learn import sandbox as stage
from minimega.learn.page import RanksFailed
from minimega.learn.verdict import on_ranks, verdict, verdict_apart
from tests.learn.on_ranks import judge_sum, judge_sum_twice


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("while True: pass\ndef slope(f, x): return 1.0", r"^no end within 2 s: an endless loop\?$"),
        ("def slope(f, x):\n    while True: pass", "no end within 2 s"),
        ("def slope(f, x:", r"^SyntaxError at line 1, `def slope\(f, x:`"),
        ("def other(f, x): return 1.0", "the cell defines no slope"),
        ("1 / 0\ndef slope(f, x): return ...", "not written yet"),  # bare calls are skipped
        ("y = 1 / 0", "^ZeroDivisionError at line 1, `y = 1 / 0`: division by zero"),
        ("def slope(f, x): raise NotImplementedError", "^not written yet"),
        ("def slope(f, x): return 2 * ...", r"^not written yet: a value is still `\.\.\.` at line 1, `def"),
        ("import os\ndef slope(f, x): os._exit(3)", "ended without an error message"),
        ("def slope(f, x): exit()", "^SystemExit at line 1"),
        ("def slope(f, x): return 'steep'", "^the result is not an array of numbers but of type str$"),
        ("def slope(f): return 1.0", r"^TypeError: slope\(\) takes 1 positional argument but 2 were given"),
    ],
)
def test_a_cell_is_judged_apart(source, says):
    found = verdict_apart("02", source, limit=2 if "while" in source else 30)
    assert not found.ok and re.search(says, str(found)), found
    assert "Traceback" not in str(found)


def test_ranks_say_and_keep_in_their_order(capsys):
    kept = ranks(
        3, "print(group.rank, 'here')\nprint('of', group.size)\nkeep(x=group.all_reduce(np.ones(2)))"
    )
    said = [f"rank {r} | {text}" for r in range(3) for text in (f"{r} here", "of 3")]
    assert capsys.readouterr().out.splitlines() == said
    assert [k["x"].tolist() for k in kept] == [[3.0, 3.0]] * 3


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (
            "if group.rank == 1: 1 / 0\ngroup.barrier()",
            r"^rank 1 of 2: ZeroDivisionError at line 1, `if group",
        ),
        ("x = y", r"^NameError at line 1, `x = y`: name 'y' is not defined$"),
        ("if group.rank == 1: group.barrier()", "^ranks do not meet: rank 0 did not come"),
        ("group.barrier() if group.rank else group.all_reduce(np.ones(1))", "^ranks do not meet in one coll"),
        ("while group.rank == 1: pass", r"^no end of ranks? (0, )?1 within 3 s: waiting for a message"),
        (
            "if group.rank == 1:\n    import os\n    os._exit(3)\ngroup.barrier()",
            "rank 0|ended without an error message",
        ),
    ],
)
def test_a_rank_that_fails_ends_the_cell(program, says, capsys):
    limit = 3 if "while" in program else 30
    with pytest.raises(RanksFailed, match=says) as error:
        ranks(2, program, limit)
    assert error.value._render_traceback_() == [str(error.value)]  # no wall of a traceback in a notebook
    assert "Traceback" not in str(error.value)


def test_a_cell_on_ranks_needs_no_mpi(monkeypatch):
    def command(*_):
        raise BadInput("there is no mpirun here")

    monkeypatch.setattr(stage.launch, "command", command)
    assert [kept["n"] for kept in ranks(2, "keep(n=group.size)")] == [2, 2]
    with pytest.raises(RanksFailed, match=r"more than 8 per core"):
        ranks(10_000, "")


def test_ranks_that_print_parts_of_lines_keep_their_own_files(capsys):
    ranks(2, "for n in range(3):\n    print(group.rank, end='', flush=True)\n    group.barrier()\nprint()")
    assert capsys.readouterr().out == "rank 0 | 000\nrank 1 | 111\n"


SUM = "def total(x, group): return {}"


@pytest.mark.parametrize(
    ("body", "ok", "says"),
    [
        ("group.all_reduce(x)", True, "^the sum over the ranks$"),
        ("x", False, "^this is not the sum over the ranks$|^on rank 0 of 2: this is not"),
        ("group.all_reduce(x) if group.rank else x", False, "ranks do not meet|on rank 0 of 2: this is not"),
        ("group.all_reduce(x) / (1 - group.rank)", False, "rank 1 of 2"),
        ("...", False, "^not written yet: the sum is still"),
    ],
)
def test_a_function_is_judged_on_ranks(body, ok, says):
    f = stage.define(SUM.format(body))["total"]
    with np.errstate(all="ignore"):
        found = on_ranks(f, 2, judge_sum)
    assert found.ok == ok and re.search(says, found.sentence), found


def test_what_a_rank_finds_comes_before_that_others_miss_it():
    f = stage.define(SUM.format("group.all_reduce(x) + (group.rank == 1)"))["total"]
    found = on_ranks(f, 3, judge_sum_twice)
    assert found.sentence == "on rank 1 of 3: this is not the sum over the ranks", found


@pytest.mark.parametrize("axis", [0, 1, None, "partial"])
def test_pieces_of_a_matrix_are_drawn(axis, tmp_path, monkeypatch):
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    monkeypatch.setattr(pyplot, "show", lambda: pyplot.savefig(tmp_path / "p.png"))
    pieces_picture(Cut("x", (5, 3), axis), Cut("w", np.arange(15.0).reshape(5, 3), axis), ranks=3)
    pyplot.close()
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_the_library_is_shown_as_it_stands(capsys):
    show(stage.define)
    said = capsys.readouterr().out
    assert said.startswith("`minimega/learn/sandbox.py`, line ") and '"""Execute a learner' in said


def test_a_function_that_leaves_is_a_wrong_answer():
    def leaves(*_):
        raise SystemExit

    found = verdict(shelf.exercise("03"), leaves)
    assert not found.ok and found.sentence.startswith("SystemExit")
