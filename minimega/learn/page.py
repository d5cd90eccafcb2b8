"""The functions that a lesson's cells call. Most print or display, and return None."""

import inspect
import sys
import textwrap
from pathlib import Path

import numpy as np

from minimega.errors import BadInput, RunFailed
from minimega.learn import sandbox as stage
from minimega.learn import shelf
from minimega.learn.verdict import Verdict, verdict
from minimega.ranks.colour import coloured
from minimega.ranks.streams import say

ROOT = Path(__file__).resolve().parents[2]


class RanksFailed(RunFailed):
    """Ranks started from a cell failed; a notebook shows only the message, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def check(number: int, function) -> None:
    """Judge an exercise and print the verdict. If it passes, record that and link to the next lesson."""
    lesson = shelf.find(number)
    found = verdict(shelf.exercise(lesson.number), function)
    text = line(lesson.number, found)
    say(_wrapped(text) if _notebook() else text)
    if found.ok and shelf.record(lesson.number, Path()) and (after := shelf.following(Path(), lesson.number)):
        path, _ = shelf.start(after, Path())
        _show(f"Next: [{after.number}, {after.title}]({path})")  # a link that Jupyter opens


def line(number: str, found: Verdict) -> str:
    """The verdict as printed, with "passed" or "not yet" in colour on a terminal or in a notebook."""
    word = "passed" if found.ok else "not yet"
    if coloured(sys.stdout) or _notebook():
        word = f"\033[{32 if found.ok else 31}m{word}\033[0m"
    text = str(found)
    return text if text.startswith("not written yet") else f"Lesson {number} {word}: {text}"


def hint(number: int, more: bool = False) -> None:
    """Print the hint of an exercise: where to look, or with `more` how to go about it."""
    found = shelf.exercise(shelf.find(number).number)
    say(found.MORE if more else f"{found.HINT}\n(hint({number}, more=True) says more)")


def solution(number: int) -> None:
    """Show the solution of an exercise."""
    _show_code(f"```python\n{shelf.exercise(shelf.find(number).number).SOLUTION}```")


def show(thing) -> None:
    """Show the current source of a library function or class, with its file and line."""
    thing = inspect.unwrap(thing)
    lines, first = inspect.getsourcelines(thing)
    path = Path(inspect.getsourcefile(thing) or "").relative_to(ROOT).as_posix()
    _show_code(f"`{path}`, line {first}\n\n```python\n{textwrap.dedent(''.join(lines))}```")


def _notebook() -> bool:
    """Whether this code runs in a notebook's kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _wrapped(text: str, width: int = 100) -> str:
    """Break long lines between words, with the indentation that they have: Jupyter breaks them anywhere."""
    indents = (line[: len(line) - len(line.lstrip(" "))] for line in text.split("\n"))
    lines = zip(text.split("\n"), indents, strict=True)
    return "\n".join(textwrap.fill(line, width, subsequent_indent=indent) for line, indent in lines)


def _show_code(markdown: str) -> None:
    # nbconvert's pages do not set code in outputs in a monospace font
    face = '<div style="font-family: monospace; font-size: 87%">\n\n{}\n\n</div>'
    _show(face.format(markdown) if _notebook() else markdown)


def _show(markdown: str) -> None:
    """Display Markdown in a notebook, else print it."""
    if _notebook():
        from IPython.display import Markdown, display

        display(Markdown(markdown))
    else:
        say(markdown)


def ranks(count: int, program: str, limit: float = 30.0) -> list[dict[str, np.ndarray]]:
    """Run a program on `count` ranks, print what each rank prints, and return the arrays that each kept.

    The program can use `np`, `mm` and `group` (all ranks); `keep(name=array)` returns an array to the cell.
    The ranks are threads of a process of their own. Raises RanksFailed if a rank raises, the ranks enter
    different collectives, there are too many for the cores, or they take longer than `limit` seconds.

    >>> ranks(1, "print(group.rank, 'of', group.size); keep(x=np.ones(2))")
    rank 0 | 0 of 1
    [{'x': array([1., 1.])}]
    """
    job = {"program": textwrap.dedent(program), "patience": limit / 3}
    try:
        left, trouble = stage.apart(job, count, limit)
    except BadInput as error:  # too many ranks
        raise RanksFailed(str(error)) from None
    for rank, one in enumerate(left):
        for said in one.said.splitlines():
            say(f"rank {rank} | {said}")
    if trouble:
        raise RanksFailed(trouble)
    return [one.kept for one in left]
