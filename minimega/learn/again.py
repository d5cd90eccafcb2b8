"""Judge a learner's function once more: called again, on other numbers, other shapes, extreme values.

A judge that calls a function once, or at one shape, passes what keeps a value from the first call, or has a
number where a length belongs.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from minimega.learn.verdict import TWO_THINGS, Verdict, draw, gradients, parts, raised, unlike

OTHERS = "right for the first numbers, but called again with others, {} is wrong: is one of the first kept?"
SHAPES = "right for the arrays tried first, but with arrays of other shapes {} is wrong"


def again(found: Verdict, f: Callable, reference: Callable, others: Mapping[str, Sequence]) -> Verdict:
    """`found`, unless f differs from the reference on other arguments: a second call, other shapes, extremes.

    `others` maps the sentence for a wrong one, in which {} is what is wrong, to the arguments. Both functions
    return (y, back); the gradients are compared for two different dy.
    """
    for says, arguments in others.items() if found.ok else ():
        names = list(inspect.signature(f).parameters)
        shapes = [f"{n} {np.shape(a)}" for n, a in zip(names, arguments, strict=False) if np.ndim(a)]
        try:
            what, problem = _unlike_reference(f, reference, names, arguments)
        except Exception as error:
            what, problem = "something", raised(error, f)
        if what:
            return Verdict(False, says.format(what), f"for {', '.join(shapes)}: {problem}")
    return found


def _unlike_reference(f: Callable, reference: Callable, names: list[str], arguments: Sequence) -> tuple:
    """What differs first (y, dx, ...) and how; two empty strings if nothing does."""
    mine, theirs = ([a.copy() if isinstance(a, np.ndarray) else a for a in arguments] for _ in range(2))
    (y, back), (value, back_value) = parts(f(*mine), ("y", "back"), TWO_THINGS), reference(*theirs)
    if problem := unlike(y, value, "y"):
        return "y", problem
    f(*(-a if np.asarray(a).dtype.kind == "f" else a for a in arguments))  # a back belongs to its own call
    for times in (1, -2):
        dy = times * draw(1, np.shape(value))
        wanted = back_value(dy.copy())
        wanted = [g() if callable(g) else g for g in (wanted if isinstance(wanted, tuple) else (wanted,))]
        wanted = [g for g in wanted if g is not None]
        called = [f"d{name}" for name in names[: len(wanted)]]
        given = gradients(back(dy.copy()), called)
        for name, g, right in zip(called, given, wanted, strict=True):
            if problem := unlike(g() if callable(g) else g, right, name):
                return name, problem
    return "", ""
