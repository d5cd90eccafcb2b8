"""Warm-ups and stretches: one of each for every lesson."""

import pytest

from minimega.commands import cli
from minimega.learn import shelf

NUMBERS = [lesson.number for lesson in shelf.lessons()]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lesson_has_a_warm_up_and_a_stretch(number):
    sizes = shelf.sizes()
    warm_up = sizes.WARM_UPS[number]
    assert sizes.judge(number, warm_up.right).ok and len(warm_up.right) <= 80
    for wrong in ("0", "...", f"2 * ({warm_up.right})", f"-({warm_up.right})", "x +", "1 / 0", "'a'"):
        found = sizes.judge(number, wrong)
        assert not found.ok and len(str(found).splitlines()) <= 2, wrong
    assert sizes.STRETCHES[number]


def test_a_warm_up_in_a_shell(capsys):
    assert cli.main(["learn", "warm-up", "03"]) == 0
    assert 'learn warm-up 03 "..."' in capsys.readouterr().out
    assert cli.main(["learn", "warm-up", "03", "x @ w"]) == 1
    assert "Warm-up 03 not yet: this is something else" in capsys.readouterr().out
    assert cli.main(["learn", "warm-up", "3", "b + x @ w"]) == 0
    assert "Warm-up 03 passed: that is it" in capsys.readouterr().out
    assert cli.main(["learn", "stretch", "03"]) == 0
    assert cli.main(["learn", "warm-up"]) == 2 and cli.main(["learn", "check", "02", "03"]) == 2
