"""The lessons in order, the learner's copies of them, and the learner's progress.

A lesson is lessons/NN_name.py, and the notebook built from it. A learner works in a folder of copies, which
are never overwritten; its progress.json lists the lessons whose exercise passed.
"""

import importlib.util
import json
import re
import sys
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from minimega.errors import BadInput, naming, nearest

PROGRESS = "progress.json"


class Lesson(NamedTuple):
    """One lesson; `title` and `question` are read from its source."""

    number: str
    name: str
    title: str
    question: str
    source: Path

    @property
    def notebook(self) -> Path:
        """The executed notebook beside the source."""
        return self.source.with_suffix(".ipynb")


class Cell(NamedTuple):
    """One cell of a lesson: `kind` is markdown or code."""

    kind: str
    tags: tuple[str, ...]
    source: str


def folder() -> Path:
    """The folder of the lessons: beside the package in a checkout, else the installed minimega_lessons."""
    beside = Path(__file__).resolve().parents[2] / "lessons"
    return beside if beside.is_dir() else Path(str(resources.files("minimega_lessons")))


def package() -> None:
    """Make the lessons importable as `minimega_lessons`, even from a checkout that is not installed."""
    if importlib.util.find_spec("minimega_lessons") is None:
        here = folder()
        spec = importlib.util.spec_from_file_location(
            "minimega_lessons", here / "__init__.py", submodule_search_locations=[str(here)]
        )
        assert spec and spec.loader  # as for every file that ends in .py
        sys.modules["minimega_lessons"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


def exercise(number: str) -> ModuleType:
    """A lesson's exercise: a module with TASK, HINT, MORE, SOLUTION and `judge`. BadInput if there is none.

    >>> exercise("03").TASK.startswith("Write")
    True
    """
    package()
    for path in (folder() / "exercises").glob(f"e{number}_*.py"):
        return importlib.import_module(f"minimega_lessons.exercises.{path.stem}")
    raise BadInput(f"lesson {number} has no exercise")


def sizes() -> ModuleType:
    """The module of warm-ups and stretches: WARM_UPS, STRETCHES and `judge`."""
    package()
    return importlib.import_module("minimega_lessons.exercises.sizes")


def stub(number: str) -> str:
    """The stub that the learner starts with: the lesson's cell tagged `exercise`."""
    return exercise_cell(find(number).source)


def wanted(number: str) -> str:
    """The name of the function that the learner writes: the first function in the stub.

    >>> wanted("03")
    'my_linear'
    """
    return stub(number).split("def ", 1)[1].split("(", 1)[0]


def lessons() -> list[Lesson]:
    """All lessons, in order.

    >>> [lesson.name for lesson in lessons()][0][:3]
    '01_'
    """
    return [_read(path) for path in sorted(folder().glob("[0-9][0-9]_*.py"))]


def _read(path: Path) -> Lesson:
    title = question = ""
    for cell in cells(path):
        if found := re.match(r"# Lesson \d\d: (.+)", cell.source):
            title = found[1]
        if found := re.search(r"^## The question\n+(.+?)(?:\n\n|\Z)", cell.source, re.DOTALL | re.MULTILINE):
            question = " ".join(found[1].split())
    return Lesson(path.stem[:2], path.stem, title, question, path)


def find(word: str | int) -> Lesson:
    """The lesson with this number or name. Raises BadInput if there is none.

    >>> find("2").name == find(2).name == find("derivative").name == find("02_derivative").name
    True
    """
    known, word = {lesson.name: lesson for lesson in lessons()}, str(word)
    for name, lesson in known.items():
        if word.zfill(2) == lesson.number or word in (name, name[3:]):
            return lesson
    near = nearest(word, [*known, *(name[3:] for name in known)])
    raise BadInput(f"there is no lesson {word!r}{near or '; minimega learn lists them'}")


def cells(path: Path) -> list[Cell]:
    """The cells of a notebook, or of a source in percent format. Raises BadInput if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            return [
                Cell(c["cell_type"], tuple(c["metadata"].get("tags", ())), "".join(c["source"]))
                for c in json.loads(text)["cells"]
            ]
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path} cannot be read as a lesson: {error}") from None
    heads = list(re.finditer(r"^# %%(.*)\n", text, re.MULTILINE))
    ends = [head.start() for head in heads[1:]] + [len(text)] * bool(heads)
    found = []
    for head, end in zip(heads, ends, strict=True):
        source, markdown = text[head.end() : end].strip("\n"), "[markdown]" in head[1]
        tags = re.search(r"tags=(\[.*\])", head[1])
        source = re.sub(r"^# ?", "", source, flags=re.MULTILINE) if markdown else source
        found.append(
            Cell("markdown" if markdown else "code", tuple(json.loads(tags[1]) if tags else ()), source)
        )
    return found


def exercise_cell(path: Path) -> str:
    """The source of the cell tagged `exercise`. Raises BadInput if there is none."""
    for cell in cells(path):
        if "exercise" in cell.tags:
            return cell.source
    raise BadInput(f'{path} has no cell tagged "exercise": restart the lesson in another `folder`')


def cells_above(path: Path) -> list[str]:
    """The sources of the code cells above the exercise's."""
    code = [cell for cell in cells(path) if cell.kind == "code"]
    at = next((i for i, cell in enumerate(code) if "exercise" in cell.tags), 0)
    return [cell.source for cell in code[:at]]


def start(lesson: Lesson, mine: Path) -> tuple[Path, bool]:
    """Copy a lesson's notebook into the learner's folder; returns the path, and False if it was there before.

    The copy has no outputs: the learner predicts them first, then runs the cells.
    """
    target = mine / lesson.notebook.name
    if target.exists():
        return target, False
    notebook = json.loads(lesson.notebook.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell.update({"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {})
    mine.mkdir(parents=True, exist_ok=True)
    # "x": do not overwrite a copy made in the meantime
    with naming(target), open(target, "x", encoding="utf-8") as file:
        file.write(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    if not (mine / PROGRESS).exists():
        _write(mine, ())
    return target, True


def copy_of(lesson: Lesson, mine: Path) -> Path | None:
    """The learner's copy: the notebook, else a .py in percent format, else None."""
    kinds = (mine / f"{lesson.name}.ipynb", mine / f"{lesson.name}.py")
    return next((path for path in kinds if path.is_file()), None)


def passed(mine: Path) -> set[str]:
    """The numbers of the lessons whose exercise passed. Raises BadInput if the file is unreadable."""
    try:
        return set(json.loads((mine / PROGRESS).read_text(encoding="utf-8"))["passed"])
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(
            f"{mine / PROGRESS} cannot be read; delete it to start over with no lessons done"
        ) from None


def following(mine: Path, number: str = "") -> Lesson | None:
    """The first unfinished lesson after this one, else the first unfinished one; None if all are done."""
    done, order = passed(mine), sorted(lessons(), key=lambda lesson: lesson.number <= number)
    return next((lesson for lesson in order if lesson.number not in done), None)


def record(number: str, mine: Path) -> bool:
    """Record that an exercise passed, if a lesson was started in this folder; returns whether one was."""
    if here := (mine / PROGRESS).exists():
        _write(mine, passed(mine) | {number})
    return here


def _write(mine: Path, numbers: Iterable[str]) -> None:
    with naming(mine / PROGRESS):
        (mine / PROGRESS).write_text(json.dumps({"passed": sorted(numbers)}) + "\n", encoding="utf-8")
