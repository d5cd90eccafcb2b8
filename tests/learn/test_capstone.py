"""The capstone: solutions in the place of the library's functions train the same model."""

import pytest

from minimega.commands import cli
from minimega.learn import capstone, shelf

SOLVED = {part.number: shelf.exercise(part.number).SOLUTION for part in capstone.PARTS}


@pytest.fixture
def mine(tmp_path):
    def put(solved: dict[str, str]):
        shelf.start(shelf.find(1), tmp_path)
        for number, solution in solved.items():
            lesson = shelf.find(number)
            text = lesson.source.read_text(encoding="utf-8").replace(
                shelf.stub(number).rstrip("\n"), solution
            )
            (tmp_path / f"{lesson.name}.py").write_text(text, encoding="utf-8")
            shelf.record(number, tmp_path)
        return tmp_path

    return put


def test_own_functions_train_the_same_model(mine):
    race = capstone.Race(steps=4, tales=60)
    own = capstone.own_parts(mine(SOLVED))
    assert [one.part for one in own] == capstone.PARTS
    losses = [line.loss for line in race.run(own)]
    assert losses == pytest.approx([line.loss for line in race.run([])], rel=1e-5)
    assert losses[-1] < losses[0] and all(one.seconds[0] > 0 for one in own)
    loss, share = race.score()
    assert race.floor < race.bigram and share == (race.bigram - loss) / (race.bigram - race.floor)


def test_a_wrong_function_shows_and_one_that_fails_is_named(mine):
    race = capstone.Race(steps=3, tales=60)
    wrong = SOLVED["07"].replace("dx = r * (dxhat - means)", "dx = r * dxhat")
    losses = [line.loss for line in race.run(capstone.own_parts(mine({"07": wrong})))]
    assert abs(losses[-1] - [line.loss for line in race.run([])][-1]) > 1e-4
    broken = SOLVED["09"].replace("dx = dy *", "dx = 1 / 0 + dy *")
    with pytest.raises(
        Exception, match=r"your GELU of lesson 09 failed: ZeroDivisionError at line 11, `dx = 1"
    ):
        list(race.run(capstone.own_parts(mine({**SOLVED, "09": broken}))))


def test_the_command(mine, monkeypatch, capsys):
    monkeypatch.setattr(capstone, "TALES", 60)
    folder = ["--folder", str(mine({"09": SOLVED["09"]}))]
    assert cli.main(["learn", "capstone", "2", *folder]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Yours: GELU (09)\n") and "after 2 steps" in said and "  GELU: 100 %" in said


def test_nothing_passed_yet(mine, capsys):
    assert cli.main(["learn", "capstone", "--folder", str(mine({}))]) == 2
    assert "pass one of the lessons 06, 07, 08, 09, 11 first" in capsys.readouterr().err
    assert cli.main(["learn", "capstone", "0"]) == 2
