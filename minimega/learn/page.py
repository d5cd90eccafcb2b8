"""What the cells of a lesson call: each prints or shows, and gives nothing that a notebook would print."""

import inspect
import sys
import textwrap
from pathlib import Path

import numpy as np

from minimega.errors import RunFailed
from minimega.learn import shelf, stage
from minimega.learn.judge import Verdict, exercise, verdict

ROOT = Path(__file__).resolve().parents[2]


class RanksFailed(RunFailed):
    """Ranks that a cell started failed; a notebook shows the sentence alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def check(number: int, function) -> None:
    """Judge an exercise, say what is wrong, and remember in the learner's folder what passed."""
    lesson = shelf.find(number)
    found = verdict(exercise(lesson.number), function)
    if found.ok:
        shelf.record(lesson.number, Path())
    print(line(lesson.number, found))


def line(number: str, found: Verdict) -> str:
    """The verdict as it is printed, its first word in colour where colours show."""
    word = "passed" if found.ok else "not yet"
    if sys.stdout.isatty() or _notebook():
        word = f"\033[{32 if found.ok else 31}m{word}\033[0m"
    text = str(found)
    return text if text.startswith("not written yet") else f"Lesson {number} {word}: {text}"


def hint(number: int) -> None:
    """The next thought for an exercise."""
    print(exercise(shelf.find(number).number).HINT)


def solution(number: int) -> None:
    """The exercise's cell, solved."""
    _show(f"```python\n{exercise(shelf.find(number).number).SOLUTION}```")


def show(thing) -> None:
    """The source of a function or class of the library, as it stands now, under its file and line."""
    thing = inspect.unwrap(thing)
    lines, first = inspect.getsourcelines(thing)
    path = Path(inspect.getsourcefile(thing)).relative_to(ROOT).as_posix()
    _show(f"`{path}`, line {first}\n\n```python\n{textwrap.dedent(''.join(lines))}```")


def _notebook() -> bool:
    """Whether this runs in a notebook's kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _show(markdown: str) -> None:
    """Markdown where there is a notebook, else plain text."""
    if _notebook():
        from IPython.display import Markdown, display

        # nbconvert's pages set code in an output in no typewriter face of their own
        display(Markdown(f'<div style="font-family: monospace; font-size: 87%">\n\n{markdown}\n\n</div>'))
    else:
        print(markdown)


def ranks(count: int, program: str, limit: float = 30.0) -> list[dict[str, np.ndarray]]:
    """Run a program on so many ranks, print what each of them says, and give what each kept.

    The program finds `np`, `mm` and `group`, all the ranks; `keep(name=array)` hands an array to the cell. A
    rank that raises, ranks that do not meet in one collective, and a hang end the cell with a sentence.

    >>> ranks(1, "print(group.rank, 'of', group.size); keep(x=np.ones(2))")
    rank 0 | 0 of 1
    [{'x': array([1., 1.])}]
    """
    left, trouble = stage.apart({"program": textwrap.dedent(program), "patience": limit / 3}, count, limit)
    for rank, one in enumerate(left):
        for said in one.said.splitlines():
            print(f"rank {rank} | {said}")
    if trouble:
        raise RanksFailed(trouble)
    return [one.kept for one in left]
