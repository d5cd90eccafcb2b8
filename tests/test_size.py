"""The project stays small enough to read: the README states its size, and no file grows too long."""

import re
from pathlib import Path

import pytest

from tests.test_ladder import code_lines

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "minimega").rglob("*.py"))
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
CHINESE = "".join((ROOT / "README.zh-CN.md").read_text(encoding="utf-8").split())
FLAT = [path for path in FILES if path.parent.name == "minimega" and path.name[0] != "_"]
PARTS = {  # how the README states the size of each part: N stands for its lines of code
    "The files directly in `minimega/` are a complete GPT: N lines of code": (ROOT / "minimega").glob(
        "[!_]*.py"
    ),
    "Cutting it over ranks, in every way, takes N more lines": (ROOT / "minimega/parallel").rglob("*.py"),
    "`minimega/` has N lines of code in total": FILES,
}


IN_CHINESE = ("从数组到生成文本共N行代码", "各种切分加起来只要再读N行", "整个`minimega/`共N行代码")


def stated(sentence: str, text: str) -> int:
    found = re.search(re.escape(sentence).replace("N", r"([\d,]+)"), text)
    assert found, f"the README states the size as: {sentence}"
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("sentence", PARTS)
def test_the_readme_says_how_many_lines_there_are(sentence):
    assert abs(stated(sentence, README) - sum(map(code_lines, PARTS[sentence]))) <= 100


@pytest.mark.parametrize(("english", "chinese"), list(zip(PARTS, IN_CHINESE, strict=True)))
def test_the_chinese_readme_says_the_same(english, chinese):
    assert abs(stated(english, README) - stated(chinese, CHINESE)) <= 100


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_can_be_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 300


def test_the_tests_of_a_room_stand_in_a_folder_of_its_name():
    ours = {"campaign", "golden", "gpu", "lessons", "mpi", "parity", "planted", "wrong_backwards"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("*.py"))}
    rooms = {path.parent.name for path in (ROOT / "minimega").glob("*/__init__.py")}
    assert folders - ours <= rooms and rooms <= folders, (folders - ours) ^ rooms
