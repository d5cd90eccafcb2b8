"""Judge a learner's function: say what is wrong in a sentence that never gives away the solution.

Each exercise has a `judge(f)` that returns a Verdict, built with the helpers here. If the function raises or
is not written yet, `verdict` says so.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from minimega import random
from minimega.errors import BadInput
from minimega.learn import cells, sandbox, shelf
from minimega.learn.guard import copied


class Verdict(NamedTuple):
    """Whether the function is right, a sentence that says why not, and the numbers that show it."""

    ok: bool
    sentence: str
    detail: str = ""

    def __str__(self) -> str:
        return self.sentence + (f"\n    {self.detail}" if self.detail else "")


class NotWritten(BadInput):
    """The stub, or a part of it, is unchanged."""

    def __init__(self, what: str):
        super().__init__(f"not written yet: {what}")


def verdict(exercise: ModuleType, f: Callable) -> Verdict:
    """The judge's verdict on f; an exception from f, or a stub, becomes a verdict too."""
    try:
        return exercise.judge(sandbox.watched(f, exercise))
    except (Exception, SystemExit) as error:
        return Verdict(False, raised(error, f))


def raised(error: BaseException, f: Callable) -> str:
    """The exception as a sentence, with the line of f's cell."""
    file = getattr(getattr(inspect.unwrap(f), "__code__", None), "co_filename", sandbox.CELL)
    return sandbox.what_happened(error, file)


def verdict_apart(number: str, source: str, limit: float = 60.0, others: Sequence[str] = ()) -> Verdict:
    """The verdict on a cell's source, judged in its own process, within `limit` seconds.

    `others` are the cells above it: helpers and imports may stand there.
    """
    whole = cells.source(source, list(others))
    return judged_apart(whole, shelf.wanted(number), shelf.exercise(number).judge, 1, limit)


def on_ranks(f: Callable, ranks: int, on_rank: Callable, limit: float = 30.0) -> Verdict:
    """Run f on several ranks; `on_rank(f, group)`, from the exercise's file, judges it on each of them.

    The source of f's cell is sent to a process whose threads are the ranks. Ranks that enter different
    collectives end with a message; `on_rank` must call f the same way on all ranks. It may return at the
    first wrong value while other ranks go on: its verdict wins over their complaint that it is missing.
    """
    lesson = re.search(r"exercises\.e(\d\d)_", on_rank.__module__)
    name = shelf.wanted(lesson[1]) if lesson else f.__name__  # a lambda does not know its name
    return judged_apart(cells.source_of(f, name), name, on_rank, ranks, limit)


def judged_apart(source: cells.Source, name: str, judge: Callable, ranks: int, limit: float) -> Verdict:
    """The verdict of `judge`, a function of some module, on the function `name` of a source."""
    job = {"source": source, "name": name, "module": judge.__module__, "judge": judge.__name__}
    left, trouble = sandbox.apart({**job, "patience": limit / 3}, ranks, limit)
    raised = any(one.error and not one.error.startswith(sandbox.APART) for one in left)
    verdicts = [Verdict(*one.verdict) if one.verdict else None for one in left]
    for rank, one in enumerate(verdicts):
        if one and not one.ok and not raised:  # other ranks may have waited for this one in vain
            alike = all(other and other.sentence == one.sentence for other in verdicts)
            return one if alike else one._replace(sentence=f"on rank {rank} of {ranks}: {one.sentence}")
    if trouble:
        head, *more = trouble.splitlines()
        return Verdict(False, head, "\n    ".join(more))
    assert verdicts[0]  # else there was trouble
    return verdicts[0]


def written(value, what: str):
    """The value; raises NotWritten if it is what a stub gives: `...` or None."""
    if value is Ellipsis:
        raise NotWritten(f"{what} is still `...`")
    if value is None:
        raise NotWritten(f"{what} is None (or is a `return` missing?)")
    return value


TWO_THINGS = "your function should give two things: y, and the function back"


def parts(value, names: Sequence[str], otherwise: str) -> tuple:
    """The tuple or list `value`, a part per name. Raises BadInput(otherwise), or NotWritten for a stub."""
    if not (
        isinstance(written(value, "what your function gives"), tuple | list) and len(value) == len(names)
    ):
        raise BadInput(otherwise)
    return tuple(written(part, name) for part, name in zip(value, names, strict=True))


def gradients(given, names: Sequence[str]) -> tuple:
    """What back gave, as a tuple with one gradient per name. Raises BadInput or NotWritten if it is not.

    >>> gradients((1.0, 2.0), ["dx"])
    Traceback (most recent call last):
    minimega.errors.BadInput: back gives 2 gradients; it should give 1: dx
    """
    given = written(given, "what back gives")
    stacked = isinstance(given, np.ndarray) and given.ndim and len(given) == len(names) > 1
    given = tuple(given) if isinstance(given, tuple | list) or stacked else (given,)
    if len(given) != len(names):
        wants = ", ".join(names)
        raise BadInput(f"back gives {len(given)} gradients; it should give {len(names)}: {wants}")
    for g, name in zip(given, names, strict=True):
        if not callable(written(g, name)) and _numbers(g) is None:
            raise BadInput(f"{name} {_no_numbers(g)}")
    return given


class Case(NamedTuple):
    """Arguments, the expected value, and the sentence for a wrong one (or a function of the wrong value)."""

    arguments: tuple
    value: Any
    says: str | Callable[[np.ndarray], str]
    tolerance: float = 1e-6


def values(f: Callable, cases: list[Case], right: str) -> Verdict:
    """Compare f with the value of each case, in order; the first that differs gives the verdict.

    A result that is not numeric, or has the wrong shape, is reported as such, without the case's sentence.

    >>> cases = [Case((2.0,), 4.0, "the square of 2 is not 2 + 2")]
    >>> values(lambda x: 3 * x, cases, "a square").sentence
    'the square of 2 is not 2 + 2'
    """
    for case in cases:
        got = written(f(*copied(case.arguments)), "what your function gives")
        if problem := unlike(got, case.value, "the result", case.tolerance):
            numbers = _numbers(got)
            if numbers is None or numbers.shape != np.shape(case.value):
                return Verdict(False, problem)
            says = case.says(numbers) if callable(case.says) else case.says
            return Verdict(False, says, problem)
    return Verdict(True, right)


def unlike(got, value, what: str, tolerance: float = 1e-6) -> str:
    """How `got` differs from the expected value, in words; "" if it does not.

    >>> unlike(np.ones((2, 3)), np.ones(3), "y")
    'y has shape (2, 3); it should be (3,)'
    """
    numbers, value = _numbers(got), np.asarray(value, float)
    if numbers is None:
        return f"{what} {_no_numbers(got)}"
    if (got := numbers).shape != value.shape:
        return f"{what} has shape {got.shape}; it should be {value.shape}"
    off = np.abs(got - value)
    if np.all(off <= tolerance * (1 + np.abs(value))):
        return ""
    at = np.unravel_index(np.argmax(np.where(np.isfinite(off), off, np.inf)), off.shape)
    place = f" at {tuple(map(int, at))}" if at else ""
    return f"{what} is {got[at]:.10g}{place}; it should be {value[at]:.10g}"


def which(got, known: Iterable[tuple[str, object]], otherwise: str = "") -> str:
    """The sentence of the first typical value that `got` equals; `otherwise` if it equals none.

    >>> which(6.0, {"that is the sum": 5.0, "that is the product": 6.0}.items())
    'that is the product'
    """
    return next((says for says, value in known if not unlike(got, value, "")), otherwise)


def sharper(found: Verdict, says: str) -> Verdict:
    """The verdict with its first part (up to ";") replaced by `says`, unless that is empty."""
    _, mark, rest = found.sentence.partition(";")
    return found._replace(sentence=says + mark + rest) if says else found


def _no_numbers(thing) -> str:
    return f"is not an array of numbers but of type {type(thing).__name__}"


def _numbers(thing) -> np.ndarray | None:
    try:
        return np.asarray(thing, float)
    except (TypeError, ValueError):
        return None


def draw(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers of this shape, the same on every rank and machine; `number` is the seed."""
    return random.normal(random.key(number, "exercise"), np.arange(int(np.prod(shape)))).reshape(shape)
