"""The project stays small enough to read: the README states its size, and no file grows too long."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "minimega").rglob("*.py"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
CORE = (
    "autograd ops parameter layer embedding norm linear attention mlp head model optim train backend random"
)
PARTS = {  # how the README states the size of each part: N stands for its lines
    "`minimega/` is N lines": FILES,
    "engine, operations, layers, model, optimizers and loop are N lines": [
        ROOT / "minimega" / f"{name}.py" for name in CORE.split()
    ],
    "cutting all that over ranks, in every way, is N more": (ROOT / "minimega/parallel").rglob("*.py"),
}


@pytest.mark.parametrize("sentence", PARTS)
def test_the_readme_says_how_many_lines_there_are(sentence):
    stated = re.search(re.escape(sentence).replace("N", r"([\d,]+)"), README)
    assert stated, f"README.md states the size as: {sentence}"
    assert abs(int(stated[1].replace(",", "")) - sum(map(lines, PARTS[sentence]))) <= 100


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_can_be_read_in_one_sitting(path):
    assert lines(path) < 300
