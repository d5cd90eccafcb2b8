"""Mistakes planted in the source, one at a time: do the tests notice? `python -m tests.planted`.

run.py, parallel.py, objectives.py, interop.py   the mistakes, by what they are in
__main__.py                          plants them and runs their tests

A mistake names no file: its right text is looked for in the whole package, and has to be there once. A test
is named by its function, and looked for in all of tests/ too. So both may move.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mistake:
    """A sentence, the right text, the wrong text, and the tests that notice.

    A test is `test_name`, `test_name[id]`, or a case among ranks: `cases_zero.case_each_stage 2`. Where
    `hangs`, a test that does not end has noticed.
    """

    what: str
    right: str
    wrong: str
    tests: tuple[str, ...]
    hangs: bool = False

    def place(self, root: Path = ROOT) -> Path:
        """The one file that has the right text, once."""
        files = sorted((root / "minimega").rglob("*.py"))
        found = {path: path.read_text(encoding="utf-8").count(self.right) for path in files}
        found = {path: n for path, n in found.items() if n}
        assert list(found.values()) == [1], f"{self.what}: {self.right!r} has to be there once: {found}"
        return next(iter(found))

    def planted(self, root: Path = ROOT) -> str:
        """The text of its file with the mistake in it."""
        return self.place(root).read_text(encoding="utf-8").replace(self.right, self.wrong)


def find_test(name: str, root: Path = ROOT) -> str:
    """pytest's id of the test of this name: the one file that has it, and the name."""
    line = re.compile(rf"^def {re.escape(name.partition('[')[0])}\(", re.MULTILINE)
    files = sorted((root / "tests").rglob("test_*.py"))
    found = [path for path in files if line.search(path.read_text(encoding="utf-8"))]
    assert len(found) == 1, f"{name} has to be in one file of tests/, and is in {found}"
    return f"{found[0].relative_to(root).as_posix()}::{name}"


def is_case(test: str) -> bool:
    return " " in test
