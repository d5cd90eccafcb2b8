"""The project stays small enough to read: the README states its size, and no file grows too long."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "minimega").rglob("*.py"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_the_readme_says_how_many_lines_there_are():
    stated = re.search(r"`minimega/` is ([\d,]+) lines", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert stated, "README.md states the size as: `minimega/` is N lines"
    assert abs(int(stated[1].replace(",", "")) - sum(map(lines, FILES))) <= 100


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_can_be_read_in_one_sitting(path):
    assert lines(path) < 300
