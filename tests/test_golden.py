"""minimega against numbers that torch computed: tests/golden, made by tests/parity/make_golden.py."""

import numpy as np
import pytest

from tests.golden import cases
from tests.golden.mistakes import MISTAKES, PLANTED, RUNS


def within(off: dict[str, float], most: float) -> None:
    far = {name: d for name, d in off.items() if not d < most}
    assert not far, f"further than {most} from torch: {far}"


@pytest.mark.parametrize("dtype", cases.TOLERANCE)
@pytest.mark.parametrize("group", ["ops", "models"])
def test_values_and_gradients(group, dtype):
    within(cases.distances(RUNS[group](dtype=dtype), cases.stored(group)), cases.TOLERANCE[dtype])


def test_optimizers_over_100_steps():
    within(cases.distances(cases.run_optimizers(), cases.stored("optimizers")), 1e-10)


def test_200_steps_of_adamw_in_float64():
    within(cases.distances(cases.run_training(), cases.stored("training")), 1e-10)


def test_200_steps_of_adamw_in_float32():
    ours, theirs = cases.run_training("float32"), cases.stored("training")
    assert np.abs(ours["losses"] - theirs["losses"]).max() < 1e-3
    # that figure says something only of a run that learned, and that was clipped now and then
    assert theirs["losses"][-1] < 0.5 * theirs["losses"][0]
    assert 20 < (theirs["gradient norms"] > 1).sum() < 180


@pytest.mark.parametrize(("mistake", "group"), PLANTED)
def test_a_planted_mistake_is_noticed(mistake, group, monkeypatch):
    plant, _ = MISTAKES[mistake]
    plant(monkeypatch)
    theirs = cases.stored(group)
    if group == "training":
        theirs = {name: a[:40] for name, a in theirs.items()}
        ours = cases.run_training(steps=40)
    else:
        ours = RUNS[group]()
    with pytest.raises(AssertionError, match="from torch"):
        within(cases.distances(ours, theirs), 1e-5)


def test_a_changed_number_is_noticed():
    theirs = cases.stored("models")
    for name, numbers in theirs.items():
        changed = numbers.copy()
        changed[-1] += 1e-9 * np.abs(numbers).max()
        assert cases.distance(numbers, changed) > 1e-10, name
