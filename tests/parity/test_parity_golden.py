"""The golden files are what make_golden.py makes now; torch, asked directly, notices planted mistakes."""

import json

import pytest

from tests.golden import cases
from tests.golden.mistakes import MISTAKES, PLANTED, RUNS
from tests.parity import make_golden
from tests.test_golden import within


@pytest.fixture(scope="module")
def torch_says():
    return {group: answers() for group, answers in make_golden.GROUPS.items()}


@pytest.mark.parametrize("group", make_golden.GROUPS)
def test_golden_files_are_what_the_script_makes(group, torch_says):
    # another processor rounds differently: the last digits may differ
    within(cases.distances(torch_says[group], cases.stored(group)), 1e-12)


def test_golden_files_are_of_this_torch():
    assert json.loads((cases.FOLDER / "made_by.json").read_text()) == make_golden.made_by()


@pytest.mark.parametrize(("mistake", "group"), [p for p in PLANTED if p[1] != "training"])
def test_a_planted_mistake_is_noticed(mistake, group, monkeypatch, torch_says):
    plant, _ = MISTAKES[mistake]
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="from torch"):
        within(cases.distances(RUNS[group](), torch_says[group]), 1e-5)
