"""The project stays small enough to read: the README states its size, and no file grows too long."""

import re
from pathlib import Path

import pytest

from tests.test_ladder import code_lines

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "minimega").rglob("*.py"))
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
PARTS = {  # how the README states the size of each part: N stands for its lines of code
    "The files directly in `minimega/` are a complete GPT: N lines of code": (ROOT / "minimega").glob("*.py"),
    "Cutting it over ranks, in every way, takes N more lines": (ROOT / "minimega/parallel").rglob("*.py"),
    "`minimega/` has N lines of code in total": FILES,
}


@pytest.mark.parametrize("sentence", PARTS)
def test_the_readme_says_how_many_lines_there_are(sentence):
    stated = re.search(re.escape(sentence).replace("N", r"([\d,]+)"), README)
    assert stated, f"README.md states the size as: {sentence}"
    assert abs(int(stated[1].replace(",", "")) - sum(map(code_lines, PARTS[sentence]))) <= 100


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_can_be_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 300


def test_the_tests_of_a_room_stand_in_a_folder_of_its_name():
    ours = {"campaign", "golden", "lessons", "mpi", "parity", "planted", "wrong_backwards"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("*.py"))}
    rooms = {path.parent.name for path in (ROOT / "minimega").glob("*/__init__.py")}
    assert folders - ours <= rooms and rooms <= folders, (folders - ours) ^ rooms
