"""The planted bugs: each is a mistake, its function is right without it, and a learner can find it."""

import pytest

from minimega.commands import cli
from minimega.learn import bugs
from minimega.learn.sandbox import define


@pytest.mark.parametrize("bug", bugs.TABLE, ids=lambda bug: bug.does)
def test_a_bug_is_one_and_without_it_all_is_right(bug):
    wrong, right = (define(bugs.source(bug, planted))[bug.function] for planted in (True, False))
    assert bugs.judge(right).ok
    found = bugs.judge(wrong)
    assert found.sentence.startswith("a gradient is still wrong")


def test_each_seed_has_its_own():
    assert {bugs.find(seed) for seed in range(100, 100 + len(bugs.TABLE))} == set(bugs.TABLE)
    assert len({bugs.own_seed(name) for name in ("ada", "grace", "alan", "root")}) == 4


def test_the_way_of_a_finder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["learn", "bug", "3"]) == 0
    assert "my-lessons/bug-3.py has a mistake" in capsys.readouterr().out
    path, bug = tmp_path / "my-lessons" / "bug-3.py", bugs.find(3)
    text = path.read_text(encoding="utf-8")
    assert cli.main(["learn", "check", "bug-3"]) == 1
    assert "bug-3 not yet: a gradient is still wrong" in capsys.readouterr().out
    command = text.split("minimega gradcheck ")[1].split("\n")[0]
    assert cli.main(["gradcheck", *command.split()]) == 1  # as the file says
    assert "WRONG" in capsys.readouterr().out
    path.write_text(text.replace(bug.wrong, bug.right), encoding="utf-8")
    assert cli.main(["learn", "bug", "3"]) == 0  # not written again
    assert cli.main(["learn", "check", "bug-3"]) == 0
    assert f"bug-3 passed: found: {bug.does}" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["bug -1", "bug three", "check bug-9", "check bug-x"])
def test_bad_input_is_said(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["learn", *words.split()]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
