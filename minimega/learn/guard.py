"""Notice a learner's function that changes in place what others still need: an argument, dy or y."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from minimega.errors import BadInput


class Changed(BadInput):
    """Something was changed in place."""

    def __init__(self, what: str, whose: str):
        super().__init__(f"{what} is changed in place: {whose}")


CALLER = "whoever called your function still needs it"
OTHERS = "another operation may have got the same dy"


def guarded(f: Callable) -> Callable:
    """f, and the back that it may return: raise Changed if one of them changes an argument, dy or y in place.

    >>> def doubled(x):
    ...     x *= 2
    ...     return x
    >>> guarded(doubled)(np.ones(3))
    Traceback (most recent call last):
    minimega.learn.guard.Changed: x is changed in place: whoever called your function still needs it
    """
    try:
        names = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):  # no function, or one of C
        names = []

    @functools.wraps(f)
    def of_copies(*arguments, **options):
        before = copied(arguments)

        def compare() -> None:
            for i, (a, b) in enumerate(zip(arguments, before, strict=True)):
                if not _same(a, b):
                    raise Changed(names[i] if i < len(names) else "an argument", CALLER)

        result = f(*arguments, **options)
        compare()
        if isinstance(result, tuple | list) and len(result) == 2 and callable(result[1]):
            y, back = result
            return y, _guarded_back(y, back, compare)
        return result

    return of_copies


def _guarded_back(y: Any, back: Callable, compare: Callable) -> Callable:
    def of_copy(dy):
        kept_y, kept_dy = copied(y), copied(dy)
        given = back(dy)
        if not _same(dy, kept_dy):
            raise Changed("dy", OTHERS)
        if not _same(y, kept_y):
            raise Changed("y", "back runs long after others have got it")
        compare()
        return given

    return of_copy


def copied(thing: Any) -> Any:
    """A copy of an array, or of a list or tuple with arrays somewhere in it; anything else as it is."""
    if isinstance(thing, np.ndarray):
        return thing.copy()
    if type(thing) in (list, tuple):
        return type(thing)(map(copied, thing))
    return thing


def _same(a: Any, b: Any) -> bool:
    if isinstance(b, np.ndarray):
        return a.shape == b.shape and np.array_equal(a, b, equal_nan=b.dtype.kind in "fc")
    if type(b) in (list, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return True
