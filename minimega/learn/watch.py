"""Judge a learner's copies at each save, until they are all passed or the learner stops it."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from minimega.errors import BadInput
from minimega.learn import shelf
from minimega.learn.verdict import Verdict, verdict_apart
from minimega.ranks.colour import paint

EVERY = 0.3  # seconds between two looks at the files


class Saved(NamedTuple):
    """An answer as it was saved: the exercise's cell, and the code cells above it."""

    lesson: shelf.Lesson
    cell: str
    above: list[str]


def saves(mine: Path, only: shelf.Lesson | None = None) -> Iterator[Saved | str]:
    """Each answer that is saved in the learner's folder, and first the one of the lesson that comes next.

    Yields a sentence instead for a copy that cannot be read. A save that leaves the code as it was is none:
    Jupyter saves by itself. Never ends.
    """
    stamps: dict[Path, tuple[int, int]] = {}
    answers: dict[Path, Saved | str] = {}
    first = only or shelf.following(mine)
    begun = False
    while True:
        for lesson in [only] if only else shelf.lessons():
            path = shelf.copy_of(lesson, mine)
            stamp = _stamp(path)
            if path is None or stamp is None or stamps.get(path) == stamp:
                continue
            stamps[path] = stamp
            answer = _read(lesson, path)
            new = path not in answers or answers[path] != answer
            answers[path] = answer
            if new and (begun or lesson == first):
                yield answer
        begun = True
        time.sleep(EVERY)


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        found = path.stat() if path else None
    except OSError:  # while an editor replaces it
        return None
    return (found.st_mtime_ns, found.st_size) if found else None


def _read(lesson: shelf.Lesson, path: Path) -> Saved | str:
    try:
        return Saved(lesson, shelf.exercise_cell(path), shelf.cells_above(path))
    except BadInput as error:
        return str(error)


def judged(answer: Saved, mine: Path) -> Verdict:
    """The verdict on what was saved; a pass is recorded."""
    found = verdict_apart(answer.lesson.number, answer.cell, others=answer.above)
    if found.ok:
        shelf.record(answer.lesson.number, mine)
    return found


def progress(mine: Path, width: int = 42) -> str:
    """A line that shows how many of the lessons are done.

    >>> progress(Path("nowhere"), width=7)
    '[>------] 0 of 21 lessons done'
    """
    done, known = len(shelf.passed(mine)), len(shelf.lessons())
    full = done * width // known
    bar = ("#" * full + ">" + "-" * width)[:width]
    head = paint(bar[:full], "green", sys.stdout)
    return f"[{head}{bar[full:]}] {done} of {known} lessons done"
