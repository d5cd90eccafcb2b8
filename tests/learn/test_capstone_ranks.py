"""The capstone on four ranks: solutions train the same model, and mistakes are named."""

import numpy as np
import pytest

from minimega.commands import cli
from minimega.errors import RunFailed
from minimega.learn import capstone, shelf
from minimega.learn.capstone_ranks import EVERY, RANKS_PARTS, RanksRace
from minimega.parallel.layout import Layout

SOLVED = {part.number: shelf.exercise(part.number).SOLUTION for part in EVERY}


@pytest.fixture
def mine(tmp_path):
    def put(changed: dict[str, tuple[str, str]], numbers=tuple(SOLVED)):
        shelf.start(shelf.find(1), tmp_path)
        for number in numbers:
            lesson, (right, wrong) = shelf.find(number), changed.get(number, ("", ""))
            assert right in SOLVED[number]
            solution = SOLVED[number].replace(right, wrong) if right else SOLVED[number]
            text = lesson.source.read_text(encoding="utf-8")
            text = text.replace(shelf.stub(number).rstrip("\n"), solution)
            (tmp_path / f"{lesson.name}.py").write_text(text, encoding="utf-8")
            shelf.record(number, tmp_path)
        return tmp_path

    return put


def near(mine, theirs):
    assert mine.loss == pytest.approx(theirs.loss, rel=1e-5)
    assert mine.norm == pytest.approx(theirs.norm, rel=1e-5)
    assert mine.gradients.keys() == theirs.gradients.keys()
    for name, g in theirs.gradients.items():
        assert np.abs(mine.gradients[name] - g).max() < 1e-4 * np.abs(g).max(), name


def test_own_functions_give_the_librarys_gradients_on_four_ranks_and_those_of_one(mine):
    folder = mine({})
    race = RanksRace(folder, steps=3, tales=60)
    own, theirs = race.first_step(EVERY), race.first_step([])
    near(own, theirs)
    near(own, RanksRace(folder, steps=3, tales=60, layout=Layout()).first_step([]))
    assert own.held == [2, 2, 1, 1]
    ran, plain = race.train(EVERY), race.train([])
    assert ran.losses == pytest.approx(plain.losses, rel=1e-4) and ran.losses[-1] < ran.losses[0]
    assert ran.held_out == pytest.approx(plain.held_out, rel=1e-4)
    assert list(ran.seconds) == [part.number for part in EVERY] and min(ran.seconds.values()) > 0


WRONG = {
    "07": ("dx = r * (dxhat - means)", "dx = r * dxhat", "the norm of the gradient is"),
    "11": ("w = w - lr * step", "w = w + lr * step", "after a step"),
    "16": ("y = group.all_reduce(z) + b2", "y = group.all_reduce(z + b2)", "the loss is"),
    "17": ("right = group.all_reduce(found * here)", "right = found * here", "the loss is"),
    "19": ("ahead = min(ranks - rank - 1, micro_batches)", "ahead = micro_batches", "rank 0 holds 4"),
    "21": (" / holders", "", "the norm of the gradient is"),
}


@pytest.mark.parametrize("number", WRONG)
def test_a_wrong_function_is_named_with_its_lesson(mine, number):
    *change, says = WRONG[number]
    parts = [part for part in EVERY if part.number in (number, "08")]
    (found,) = RanksRace(mine({number: change}), steps=2, tales=60).differences(parts)
    assert f"of lesson {number}: " in found and says in found


FAILS = {
    "16": ("dz = dy", "dz = 1 / 0", r"MLP on ranks of lesson 16 failed: ZeroDivisionError at line 12, `dz ="),
    "17": ("place = targets - first", "place = 1 / 0", r"of lesson 17 failed: Zero.* line 8, `p"),
    "19": ("n - ahead)]", "n + 1 - ahead)]", r"pipeline of lesson 19 failed: ValueError: .* before what it"),
    "21": ("total = sum(", "total = 1 / 0 + sum(", r"over ranks of lesson 21 failed: Zero.* line 3, `t"),
}


@pytest.mark.parametrize("number", FAILS)
def test_one_that_fails_is_named_with_its_line(mine, number):
    *change, says = FAILS[number]
    with pytest.raises(RunFailed, match=says):
        RanksRace(mine({number: change}), steps=2, tales=60).train(RANKS_PARTS)


def test_the_command(mine, monkeypatch, capsys):
    monkeypatch.setattr(capstone, "TALES", 60)
    folder = str(mine({}, ("21",)))
    assert cli.main(["learn", "capstone", "ranks", "2", "--folder", folder]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Yours: norm over ranks (21)\nThe library's: all else, as LayerNorm (07)")
    assert "Ranks: 4 threads, --tp 2 --dp 1 --pp 2\n" in said and "  norm over ranks: 100 %" in said
    mine({"21": (" / holders", "")}, ("21",))
    assert cli.main(["learn", "capstone", "ranks", "1", "--folder", folder]) == 1
    assert "Different: your norm over ranks of lesson 21: the norm" in capsys.readouterr().out
    assert cli.main(["learn", "capstone", "ranks", "no", "--folder", folder]) == 2
    assert cli.main(["learn", "capstone", "2", "3", "--folder", folder]) == 2
