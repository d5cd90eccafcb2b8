"""The guides that are sessions: each is typed as it stands, and answers as it says."""

from pathlib import Path

import pytest

from tests.guide import ROOT, differences


@pytest.mark.parametrize("page", ["first-hour", "planning"])
def test_a_session_answers_as_the_page_says(page, tmp_path):
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    assert differences(ROOT / f"docs/{page}.md", tmp_path) == []


def test_a_page_that_says_something_else_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n# six.py\nprint(6)\n```\n"
        "```console\n$ python six.py\n7\n$ echo one; echo two\none\n...\n```\n"
        "<!-- instead: echo short > long.txt -->\n```console\n$ sleep 600\nwhat it says\n```\n"
        "```console\n$ cat long.txt\nshort\n```\n"
        "```pycon\n>>> x = 2\n>>> x\n2\n```\n\n```pycon\n>>> x + 1\n4\n```\n",
        encoding="utf-8",
    )
    first, second = differences(page, tmp_path)
    assert "expected:\n7\ngot:\n6\n" in first and "Expected:\n    4\nGot:\n    3\n" in second


def test_every_block_of_the_first_hour_is_run():
    """No session hides in a kind of block that the runner does not know."""
    kinds = {line for line in Path(ROOT / "docs/first-hour.md").read_text().splitlines() if line[:3] == "```"}
    assert kinds == {"```", "```console", "```pycon", "```python"}
