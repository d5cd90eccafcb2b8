"""Wrong backward passes, each with the cause that the checker should name.

python -m tests.wrong_backwards checks them all, prints how many are caught and named, and writes the tables
into docs/gradcheck.md. Four groups:

generated   an operation of minimega with one of a list of mistakes in one argument's gradient
by hand     subtler mistakes, in operations, layers and compositions of minimega
held out    operations that minimega does not have, written after the detectors, with mistakes of every kind;
            detectors that failed in the first run were then fixed
unseen      more of the same, written last; no detector was changed because of them

B batch, T time, D width, H heads, C head width, V vocabulary.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Wrong:
    """A wrong backward: `make(rng)` returns f and its arrays; `argument` has the wrong gradient."""

    name: str
    cause: str
    make: Callable
    argument: int = 0
    group: str = "by hand"


GROUPS: dict[str, dict[str, Wrong]] = {"by hand": {}, "held out": {}, "unseen": {}}  # by name


def suite() -> dict[str, list[Wrong]]:
    """All wrong backwards by their group."""
    for module in ("by_hand", "layers", "held_out", "unseen"):
        importlib.import_module(f"tests.wrong_backwards.{module}")  # they register themselves
    generated = importlib.import_module("tests.wrong_backwards.generated").generated()
    return {"generated": list(generated), **{group: list(known.values()) for group, known in GROUPS.items()}}


def gradients(back: Callable, dy, count: int) -> list:
    """The gradients that a right back gives, copied into a list."""
    result = back(dy)
    result = result if isinstance(result, tuple) else (result,)
    return [np.array(g() if callable(g) else g) for g in result[:count]]


def spoiled(f: Callable, i: int, change: Callable) -> Callable:
    """f with the gradient of argument i replaced by change(gradient, dy, arrays, y)."""

    def wrong(*arrays):
        y, back = f(*arrays)

        def wrong_back(dy):
            given = gradients(back, dy, len(arrays))
            given[i] = change(given[i], dy, arrays, y)
            return tuple(given)

        return y, wrong_back

    return wrong


def wrong(cause: str, argument: int = 0, group: str = "by hand") -> Callable:
    """Register a function of rng that returns (f, arrays); its docstring says what the mistake is."""

    def register(make):
        add(Wrong(f"{make.__name__.replace('_', ' ')}: {make.__doc__}", cause, make, argument, group))
        return make

    return register


def add(wrong: Wrong) -> None:
    GROUPS[wrong.group][wrong.name] = wrong


def n(rng, *shape):
    return rng.normal(size=shape)


def size(rng, low=3, high=5):
    return int(rng.integers(low, high + 1))


def replaced(f: Callable, i: int, gradient: Callable) -> Callable:
    """f with the gradient of argument i replaced by gradient(dy, y, *arrays)."""
    return spoiled(f, i, lambda g, dy, xs, y: gradient(dy, y, *xs))


def simple(
    cause: str,
    name: str,
    f: Callable,
    gradient: Callable,
    shapes: Callable,
    i: int = 0,
    group: str = "by hand",
):
    """Register a wrong gradient that is one expression."""

    def make(rng):
        return replaced(f, i, gradient), shapes(rng)

    add(Wrong(name, cause, make, i, group))


def matrix(rng):
    return [n(rng, size(rng), size(rng))]


def square(rng):
    k = size(rng)
    return [n(rng, k, k)]


def kept(x, axis=-1):
    return x.sum(axis=axis, keepdims=True)
