"""The planted mistakes match the source, and one is tried here; to try all: python -m tests.planted."""

import ast

import pytest

from tests.planted import ROOT, Mistake, find_test, is_case
from tests.planted.__main__ import copy_of_the_project, verdict
from tests.planted.table import MISTAKES


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_a_mistake_can_be_planted_and_names_tests_that_there_are(mistake):
    ast.parse(mistake.planted())
    assert mistake.right != mistake.wrong and mistake.tests
    for test in mistake.tests:
        if is_case(test):
            name, ranks = test.split()
            path, case = name.split(".")
            assert f"def {case}(" in (ROOT / "tests" / "mpi" / f"{path}.py").read_text(encoding="utf-8")
            assert ranks in "12348"
        else:
            assert "::" in find_test(test)


def test_mistakes_are_told_apart():
    assert len({mistake.what for mistake in MISTAKES}) == len(MISTAKES) >= 40


def test_one_is_caught_and_what_changes_nothing_survives():
    right, test = "if self.value < self.least:", "test_the_scale_grows_shrinks_and_gives_up"
    (real,) = (mistake for mistake in MISTAKES if mistake.right == right)
    harmless = Mistake("no mistake", right, "if self.least > self.value:", (test,))
    with copy_of_the_project() as project:
        assert real.tests == harmless.tests
        assert [verdict(project, mistake)[0] for mistake in (real, harmless)] == ["caught", "survived"]
        assert real.place(project).read_text() == real.place().read_text()
