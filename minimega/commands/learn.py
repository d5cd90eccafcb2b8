"""`minimega learn`: the lessons with what is done, and a lesson's copy, check, hint and solution."""

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace as Options

from minimega.errors import BadInput, nearest, pip
from minimega.learn import page, shelf
from minimega.learn.verdict import verdict_apart
from minimega.ranks.child import program, python
from minimega.ranks.streams import say

ACTIONS = ("open", "start", "check", "hint", "solution")
CHOOSES = ("open", "start")  # without a number: the first lesson that is not done


def run(o: Options) -> int:
    """Do what `minimega learn [ACTION [LESSON]]` says; 1 where a check says "not yet"."""
    # a shell that stands in the learner's folder means that folder
    mine = Path() if "folder" not in o.given and Path(shelf.PROGRESS).exists() else Path(o.folder)
    if not o.action:
        say(overview(mine))
        return 0
    if o.action not in ACTIONS:
        near = nearest(o.action, ACTIONS) or f": it takes {', '.join(ACTIONS)}, or nothing for the list"
        raise BadInput(f"learn does not know {o.action!r}{near}")
    if not o.lesson and o.action not in CHOOSES:
        raise BadInput(f"learn {o.action} needs the number of a lesson: {program()} learn {o.action} 02")
    lesson = shelf.find(o.lesson) if o.lesson else shelf.following(mine) or shelf.lessons()[-1]
    if o.action in CHOOSES:
        jupyter = _jupyter(lesson) if o.action == "open" else []  # asked for before anything is copied
        path, new = shelf.start(lesson, mine)
        say(f"{path} is {'yours now' if new else 'there already: it is yours, and stays as it is'}")
        if jupyter:
            say("Jupyter opens it in your browser; Ctrl-C here ends Jupyter.")
            os.execv(sys.executable, [*jupyter, str(mine)])
        say(_then(lesson))
    elif o.action == "check":
        return _check(lesson, mine)
    else:
        say(getattr(shelf.exercise(lesson.number), o.action.upper()).rstrip())
    return 0


def _check(lesson: shelf.Lesson, mine: Path) -> int:
    path = shelf.copy_of(lesson, mine)
    if path is None:
        raise BadInput(
            f"{mine} holds no {lesson.name}.ipynb; begin with: {program()} learn start {lesson.number}"
        )
    found = verdict_apart(lesson.number, shelf.exercise_cell(path))
    if found.ok:
        shelf.record(lesson.number, mine)
    say(page.line(lesson.number, found))
    if found.ok:
        say(_what_next(mine, lesson.number))
    return 0 if found.ok else 1


def _then(lesson: shelf.Lesson) -> str:
    words = "To open it in Jupyter: {0} open {1}; to judge it here: {0} check {1}"
    return words.format(f"{program()} learn", lesson.number)


def _jupyter(lesson: shelf.Lesson) -> list[str]:
    """How Jupyter is called, from this very environment: another one's may know no minimega."""
    if importlib.util.find_spec("notebook") is None:
        raise BadInput(f"there is no Jupyter beside this Python: {pip('notebook')}")
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    page = f"--JupyterNotebookApp.default_url=/notebooks/{lesson.name}.ipynb"
    return python("-m", "notebook", "--log-level=WARN", page, *root)


def overview(mine: Path) -> str:
    """The list: number, title, whether it is done or there is a copy, and what to type next."""
    done, known, rows = shelf.passed(mine), shelf.lessons(), []
    width, where = max(len(lesson.title) for lesson in known), "here" if mine == Path() else f"in {mine}"
    for lesson in known:
        state = "done" if lesson.number in done else where if shelf.copy_of(lesson, mine) else ""
        rows.append(f"  {lesson.number}  {lesson.title:<{width}}  {state}".rstrip())
    return "\n".join([*rows, "", _what_next(mine)])


def _what_next(mine: Path, number: str = "") -> str:
    lesson = shelf.following(mine, number)
    if lesson is None:
        return "All of them are done."
    if shelf.copy_of(lesson, mine):
        return f"You are at lesson {lesson.number}. {_then(lesson)}"
    return f"Next: {program()} learn open {lesson.number}"
