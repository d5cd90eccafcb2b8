"""The judges, against solutions changed by machine: a few here, all of them by `make mutants`."""

import pytest

from minimega.learn import shelf
from tests.lessons.mutants.__main__ import some
from tests.lessons.mutants.changes import changes
from tests.lessons.mutants.trial import trial

pytestmark = pytest.mark.lessons
SHORT = 8  # changes of each lesson


@pytest.mark.parametrize("number", [lesson.number for lesson in shelf.lessons()])
def test_a_changed_solution_is_caught_or_makes_no_difference(number):
    found = changes(shelf.exercise(number).SOLUTION)
    assert len(found) >= 60
    ends = {change.line: trial(number, change.source, draws=40) for change in some(found, SHORT)}
    assert {line: found for line, found in ends.items() if found.end == "hole"} == {}
    assert sum(found.end == "caught" for found in ends.values()) >= SHORT // 2


def test_a_solution_makes_no_difference_and_a_planted_hole_is_seen():
    solution = shelf.exercise("12").SOLUTION
    assert trial("12", solution).end == "equal"
    assert trial("12", solution.replace("targets >= 0", "targets > 0")).end == "caught"
    assert (
        trial("12", solution.replace("        total", "        while True: pass\n        total")).end
        == "caught"
    )


def test_a_judge_of_one_row_has_holes(monkeypatch):
    exercise = shelf.exercise("12")
    monkeypatch.setattr(exercise, "SEVERAL", [(1.875, exercise.targets(12, 12))])
    assert trial("12", exercise.SOLUTION.replace("(targets >=", "(targets[0] >=")).end == "hole"
