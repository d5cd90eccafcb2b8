"""`minimega learn`: the lessons with what is done, and a lesson's copy, check, hint and solution."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace as Options

from minimega.errors import BadInput
from minimega.learn import page, shelf
from minimega.learn.judge import exercise, verdict_apart
from minimega.progress import program
from minimega.table import nearest

ACTIONS = ("start", "check", "hint", "solution")


def run_learning(o: Options) -> int:
    """Do what `minimega learn [ACTION [LESSON]]` says; 1 where a check says "not yet"."""
    # a shell that stands in the learner's folder means that folder
    mine = Path() if "folder" not in o.given and Path(shelf.PROGRESS).exists() else Path(o.folder)
    if not o.action:
        print(overview(mine))
        return 0
    if o.action not in ACTIONS:
        near = nearest(o.action, ACTIONS) or f": it takes {', '.join(ACTIONS)}, or nothing for the list"
        raise BadInput(f"learn does not know {o.action!r}{near}")
    if not o.lesson and o.action != "start":
        raise BadInput(f"learn {o.action} needs the number of a lesson: {program()} learn {o.action} 02")
    lesson = shelf.find(o.lesson) if o.lesson else _next(mine)
    if o.action == "start":
        path, new = shelf.start(lesson, mine)
        print(f"{path} is {'yours now' if new else 'there already: it is yours, and stays as it is'}")
        print(_then(lesson, mine))
    elif o.action == "check":
        return _check(lesson, mine)
    else:
        print(getattr(exercise(lesson.number), o.action.upper()).rstrip())
    return 0


def _check(lesson: shelf.Lesson, mine: Path) -> int:
    path = shelf.copy_of(lesson, mine)
    if path is None:
        raise BadInput(
            f"{mine} holds no {lesson.name}.ipynb; begin with: {program()} learn start {lesson.number}"
        )
    found = verdict_apart(exercise(lesson.number), shelf.exercise_cell(path))
    if found.ok:
        shelf.record(lesson.number, mine)
    print(page.line(lesson.number, found))
    return 0 if found.ok else 1


def _next(mine: Path) -> shelf.Lesson:
    """The first lesson that is not done (the last one where all are)."""
    done = shelf.passed(mine)
    return next((x for x in shelf.lessons() if x.number not in done), shelf.lessons()[-1])


def _then(lesson: shelf.Lesson, mine: Path) -> str:
    return f"Open it in Jupyter ({_jupyter()} notebook {mine}), then: {program()} learn check {lesson.number}"


def _jupyter() -> str:
    """How Jupyter is called: by its name, or where it lies beside this Python; else how it comes here."""
    beside = Path(sys.executable).with_name("jupyter")
    if shutil.which("jupyter") or not beside.exists():
        return "jupyter" if shutil.which("jupyter") else "pip install 'minimega[lessons]', jupyter"
    return str(beside)


def overview(mine: Path) -> str:
    """The list: number, title, done or begun, and what to type next."""
    done, rows = shelf.passed(mine), []
    for lesson in shelf.lessons():
        state = "done" if lesson.number in done else "begun" if shelf.copy_of(lesson, mine) else ""
        rows.append(f"  {lesson.number}  {lesson.title:<60}  {state}".rstrip())
    lesson = _next(mine)
    if lesson.number in done:
        return "\n".join([*rows, "", "All of them are done."])
    if shelf.copy_of(lesson, mine):
        return "\n".join([*rows, "", f"You are at lesson {lesson.number}. {_then(lesson, mine)}"])
    return "\n".join([*rows, "", f"Next: {program()} learn start {lesson.number}"])
