"""Judging a learner's function: what is wrong with it, in a sentence that never holds the solution.

Each exercise has a `judge(f)` that gives a Verdict, made from the helpers here. Where the function raises,
or is not written yet, `verdict` says so.
"""

import inspect
import linecache
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from minimega import random
from minimega.errors import BadInput
from minimega.gradcheck import check
from minimega.learn import sandbox, shelf


class Verdict(NamedTuple):
    """Whether the function is right, why not in a sentence, and what shows it."""

    ok: bool
    sentence: str
    detail: str = ""

    def __str__(self) -> str:
        return self.sentence + (f"\n    {self.detail}" if self.detail else "")


class NotWritten(BadInput):
    """The stub, or a part of it, is still there."""

    def __init__(self, what: str):
        super().__init__(f"not written yet: {what}")


def verdict(exercise: ModuleType, f: Callable) -> Verdict:
    """The judge's verdict of f; what f raises, and a stub, become a sentence too."""
    try:
        return exercise.judge(f)
    except (Exception, SystemExit) as error:
        file = getattr(getattr(inspect.unwrap(f), "__code__", None), "co_filename", sandbox.CELL)
        return Verdict(False, sandbox.what_happened(error, file))


def verdict_apart(number: str, source: str, limit: float = 60.0) -> Verdict:
    """The verdict of a cell's source, in a process of its own with a time limit."""
    return _apart(source, shelf.wanted(number), shelf.exercise(number).judge, 1, limit)


def on_ranks(f: Callable, ranks: int, on_rank: Callable, limit: float = 30.0) -> Verdict:
    """Run f on ranks: `on_rank(f, group)`, a function of the exercise's file, judges it on each of them.

    The source of f's cell travels. Each collective is watched: ranks that enter different ones end with a
    sentence. So `on_rank` calls f in the same way on all ranks. It may end at the first value that is wrong,
    even if other ranks find theirs right and go on: what a rank found comes before that others miss it.
    """
    return _apart(source_of(f), f.__name__, on_rank, ranks, limit)


def _apart(source: str, name: str, judge: Callable, ranks: int, limit: float) -> Verdict:
    job = {"source": source, "name": name, "module": judge.__module__, "judge": judge.__name__}
    left, trouble = sandbox.apart({**job, "patience": limit / 3}, ranks, limit)
    raised = any(one.error and not one.error.startswith(sandbox.APART) for one in left)
    verdicts = [Verdict(*one.verdict) if one.verdict else None for one in left]
    for rank, one in enumerate(verdicts):
        if one and not one.ok and not raised:  # then others may have waited for this rank in vain
            alike = all(other and other.sentence == one.sentence for other in verdicts)
            return one if alike else one._replace(sentence=f"on rank {rank} of {ranks}: {one.sentence}")
    if trouble:
        head, *more = trouble.splitlines()
        return Verdict(False, head, "\n    ".join(more))
    return verdicts[0]


def source_of(f: Callable) -> str:
    """The source of f: of its whole cell, or of f alone where it stands in a file."""
    file = inspect.unwrap(f).__code__.co_filename
    return inspect.getsource(f) if Path(file).exists() else "".join(linecache.getlines(file))


def written(value, what: str):
    """The value, unless it is what a stub gives: `...`, or nothing."""
    if value is Ellipsis:
        raise NotWritten(f"{what} is still `...`")
    if value is None:
        raise NotWritten(f"{what} is None (or is a `return` missing?)")
    return value


TWO_THINGS = "your function should give two things: y, and the function back"


def parts(value, names: Sequence[str], otherwise: str) -> tuple:
    """The things of these names that a function gives, each of them written; BadInput(otherwise) if not."""
    if not (isinstance(written(value, "what your function gives"), tuple) and len(value) == len(names)):
        raise BadInput(otherwise)
    return tuple(written(part, name) for part, name in zip(value, names, strict=True))


def gradients(given, names: Sequence[str]) -> tuple:
    """What back gave: a gradient of each name, all of them written; BadInput says what it is instead.

    >>> gradients((1.0, 2.0), ["dx"])
    Traceback (most recent call last):
    minimega.errors.BadInput: back gives 2 gradients; it should give 1: dx
    """
    given = written(given, "what back gives")
    given = given if isinstance(given, tuple) else (given,)
    if len(given) != len(names):
        wants = ", ".join(names)
        raise BadInput(f"back gives {len(given)} gradients; it should give {len(names)}: {wants}")
    for g, name in zip(given, names, strict=True):
        if not callable(written(g, name)) and _numbers(g) is None:
            raise BadInput(f"{name} {_no_numbers(g)}")
    return given


class Case(NamedTuple):
    """Arguments, the value wanted there, and what to say of another one: a sentence, or a function of it."""

    arguments: tuple
    value: object
    says: str | Callable[[np.ndarray], str]
    tolerance: float = 1e-6


def values(f: Callable, cases: list[Case], right: str) -> Verdict:
    """Hold f to the value of each case, in their order: the first that differs is the verdict.

    What is no array of numbers, or has another shape, is said as it is, without the case's sentence.

    >>> cases = [Case((2.0,), 4.0, "the square of 2 is not 2 + 2")]
    >>> values(lambda x: 3 * x, cases, "a square").sentence
    'the square of 2 is not 2 + 2'
    """
    for case in cases:
        arguments = (a.copy() if isinstance(a, np.ndarray) else a for a in case.arguments)
        got = written(f(*arguments), "what your function gives")
        if problem := unlike(got, case.value, "the result", case.tolerance):
            numbers = _numbers(got)
            if numbers is None or numbers.shape != np.shape(case.value):
                return Verdict(False, problem)
            says = case.says(numbers) if callable(case.says) else case.says
            return Verdict(False, says, problem)
    return Verdict(True, right)


def unlike(got, value, what: str, tolerance: float = 1e-6) -> str:
    """How `got` differs from the value it should have, in words; "" where it does not.

    >>> unlike(np.ones((2, 3)), np.ones(3), "y")
    'y has the shape (2, 3); it should be (3,)'
    """
    numbers, value = _numbers(got), np.asarray(value, float)
    if numbers is None:
        return f"{what} {_no_numbers(got)}"
    if (got := numbers).shape != value.shape:
        return f"{what} has the shape {got.shape}; it should be {value.shape}"
    off = np.abs(got - value)
    if np.all(off <= tolerance * (1 + np.abs(value))):
        return ""
    at = np.unravel_index(np.argmax(np.where(np.isfinite(off), off, np.inf)), off.shape)
    place = f" at {tuple(map(int, at))}" if at else ""
    return f"{what} is {got[at]:.10g}{place}; it should be {value[at]:.10g}"


def which(got, known: Iterable[tuple[str, object]], otherwise: str = "") -> str:
    """The sentence of the first typical value that `got` is; `otherwise` where it is none of them.

    >>> which(6.0, {"that is the sum": 5.0, "that is the product": 6.0}.items())
    'that is the product'
    """
    return next((says for says, value in known if not unlike(got, value, "")), otherwise)


def sharper(found: Verdict, says: str) -> Verdict:
    """The verdict with this sentence for what is wrong, if there is one; what it says of the rest stays."""
    _, mark, rest = found.sentence.partition(";")
    return found._replace(sentence=says + mark + rest) if says else found


def _no_numbers(thing) -> str:
    return f"is no array of numbers, but of the type {type(thing).__name__}"


def _numbers(thing) -> np.ndarray | None:
    try:
        return np.asarray(thing, float)
    except (TypeError, ValueError):
        return None


# How each cause that the gradient checker names is said of dx, the gradient of x.
SAYS = {
    "random": "your forward gives another value when it is called again",
    "mutated": "an array is changed in place that others still need",
    "stateful": "{dx} changes when back is called a second time",
    "count": "back does not give one gradient for each argument, in a tuple",
    "shape": "{dx} does not have the shape of {x}",
    "zero": "{dx} is zero where it should not be",
    "sign": "{dx} has the wrong sign",
    "scale": "{dx} is off by a constant factor",
    "broadcast": "{dx} is not summed over what was repeated",
    "transposed": "{dx} is transposed",
    "shifted": "{dx} is off by one place",
    "overwritten": "{dx} keeps one of several gradients that should be added up",
    "mean": "{dx} lacks a mean term",
    "rank-one": "{dx} lacks the term that comes from the sum in the softmax",
    "path": "{dx} lacks one of its terms: {x} reaches the result in more than one way",
    "mask": "{dx} is not masked as the forward is",
    "precision": "{dx} loses digits",
    "unknown": "{dx} is wrong",
}


def backward(
    f: Callable,
    reference: Callable,
    *arrays: tuple[int, ...] | np.ndarray,
    right: str = "every gradient agrees with differences of the forward",
    says: dict[tuple[str, str], str] | None = None,
) -> Verdict:
    """Hold f, which gives (y, back), to the reference's y, and its gradients to differences of its forward.

    An argument is given as an array, or as a shape to draw it in. `says` has better sentences than SAYS for
    this exercise, by argument and cause: {("b", "broadcast"): "db is not summed over the rows"}.
    """
    drawn = [draw(i, a) if isinstance(a, tuple) else a for i, a in enumerate(arrays)]
    y, back = parts(f(*(a.copy() for a in drawn)), ("y", "back"), TWO_THINGS)
    if problem := unlike(y, reference(*(a.copy() for a in drawn))[0], "y"):
        return Verdict(False, "the forward is not right yet, so its backward cannot be", problem)
    if not callable(back):
        return Verdict(False, "the second thing that your function gives should be the function back")
    names = list(inspect.signature(f).parameters)[: len(drawn)]
    gradients(back(np.ones_like(y)), [f"d{name}" for name in names])
    report = check(f, *drawn)
    wrong = [a for a in report.arguments if not a.ok]
    if not wrong:
        return Verdict(True, right)
    first, fine = wrong[0], [f"d{a.name}" for a in report.arguments if a.ok]
    sentence = (says or {}).get((first.name, first.cause)) or SAYS[first.cause].format(
        dx=f"d{first.name}", x=first.name
    )
    rest = [f"d{a.name}" for a in wrong[1:]]
    sentence += f"; {_and(rest)} {'is' if len(rest) == 1 else 'are'} wrong too" if rest else ""
    sentence += f"; {_and(fine)} {'is' if len(fine) == 1 else 'are'} right" if fine else ""
    shown = [f"at {i}: back gives {a:.6g}, differences give {n:.6g}" for i, a, n in first.entries[:1]]
    return Verdict(False, sentence, "; ".join([first.detail, *shown]))


def draw(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers, the same on every rank and machine."""
    return random.normal(random.key(number, "exercise"), np.arange(int(np.prod(shape)))).reshape(shape)


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:])
