"""Every exercise: the solution passes, the stub is "not written yet", each wrong answer gets its sentence."""

import re

import pytest

from minimega.learn import shelf
from minimega.learn.verdict import verdict_apart
from tests.lessons.wrong import judge, wrong_answers

WRONG = wrong_answers()
pytestmark = pytest.mark.lessons
NUMBERS = [lesson.number for lesson in shelf.lessons()]


def lines_of(number: str) -> set[str]:
    """The lines of a solution that its stub does not have."""
    found = shelf.exercise(number)
    return {line.split("#")[0].strip() for line in found.SOLUTION.splitlines()} - set(
        map(str.strip, shelf.stub(number).splitlines())
    )


@pytest.mark.parametrize("number", NUMBERS)
def test_the_exercise_is_whole(number):
    found = shelf.exercise(number)
    assert found.TASK.strip() and "\n" not in found.TASK
    assert f"def {shelf.wanted(number)}(" in found.SOLUTION
    for hint in (found.HINT, found.MORE):  # the first says where to look
        assert hint.strip() and not lines_of(number) & set(map(str.strip, hint.splitlines()))
    assert len(found.HINT) < len(found.MORE)
    cells = shelf.cells(shelf.find(number).source)
    assert [c.source for c in cells if "exercise" in c.tags] == [shelf.stub(number).rstrip("\n")]
    assert f"check({int(number)}, {shelf.wanted(number)})" in [c.source for c in cells]
    assert len(WRONG.get(number, ())) >= 3, (
        f"tests/lessons/wrong/w{number}_name.py: three wrong answers at least"
    )


@pytest.mark.parametrize("number", NUMBERS)
def test_the_solution_passes_and_the_stub_is_not_written_yet(number):
    found = shelf.exercise(number)
    solved = judge(number, found.SOLUTION)
    assert solved.ok, solved
    assert verdict_apart(number, found.SOLUTION).ok  # as the shell runs it, in a separate process
    stub = judge(number, shelf.stub(number))
    assert not stub.ok and stub.sentence.startswith("not written yet: ")


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("gives", ["1.0", "(1.0, 2.0, 3.0, 4.0)"])
def test_an_answer_of_another_form_hears_of_the_form(number, gives):
    """Whatever the function or its back returns, the judge itself never raises."""
    found = shelf.exercise(number)
    sources = [f"def {shelf.wanted(number)}(*args, **options):\n    return {gives}\n"]
    if "def back(" in found.SOLUTION:
        sources.append(re.sub(r"\n        return [^\n]*", f"\n        return {gives}", found.SOLUTION))
    for source in sources:
        told = judge(number, source)
        assert not told.ok
        assert "Error" not in told.sentence or "is not a token" in told.sentence, told


@pytest.mark.parametrize(
    ("number", "wrong"),
    [pytest.param(n, w, id=f"{n}: {w.mistake}") for n, wrongs in WRONG.items() for w in wrongs],
)
def test_a_wrong_answer_hears_why(number, wrong):
    found = judge(number, wrong.source)
    assert not found.ok
    assert re.search(wrong.says, found.sentence), found
    assert "Traceback" not in str(found) and len(str(found).splitlines()) <= 4
    told = {
        line for line in lines_of(number) if len(line) > 8 and line in str(found) and line not in wrong.source
    }
    assert not told, "a verdict never holds the solution"
