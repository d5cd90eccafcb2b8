"""Mistakes that any gradient can have, applied to every argument of every operation."""

from collections.abc import Callable, Iterator

import numpy as np

from tests.wrong_backwards import Wrong, gradients, spoiled
from tests.wrong_backwards.operations import RIGHT


def _half_empty(g, dy, xs, y):
    g[1:] = 0
    return g


def _shifted(axis, wrap):
    def change(g, dy, xs, y):
        g = np.roll(g, 1, axis)
        if not wrap:
            np.moveaxis(g, axis, 0)[0] = 0
        return g

    change.axis = axis
    return change


def _mask(g, dy, xs, y):
    return g * (np.sum(np.indices(g.shape), axis=0) % 2 == 0)  # every other entry, as on a chessboard


def _double_dy(g, dy, xs, y):
    if isinstance(dy, np.ndarray):
        dy *= 2
    return g


def _touch(i):
    def change(g, dy, xs, y):
        xs[i][...] += 1
        return g

    return change


MISTAKES: dict[str, tuple[str, Callable]] = {
    "zeros": ("zero", lambda g, dy, xs, y: 0 * g),
    "only the first row filled": ("zero", _half_empty),
    "negated": ("sign", lambda g, dy, xs, y: -g),
    "twice": ("scale", lambda g, dy, xs, y: 2 * g),
    "divided by the last axis": ("scale", lambda g, dy, xs, y: g / g.shape[-1] if g.ndim else g / 2),
    "times the root of the first axis": ("scale", lambda g, dy, xs, y: g * g.shape[0] ** 0.5),
    "flat": ("shape", lambda g, dy, xs, y: g.ravel()),
    "an extra axis": ("shape", lambda g, dy, xs, y: g[None]),
    "transposed": ("transposed", lambda g, dy, xs, y: g.swapaxes(0, -1)),
    "transposed and reshaped": ("transposed", lambda g, dy, xs, y: g.swapaxes(0, -1).reshape(g.shape)),
    "shifted around": ("shifted", _shifted(-1, True)),
    "shifted with an empty edge": ("shifted", _shifted(-1, False)),
    "wrong mask": ("mask", _mask),
    "dy changed": ("mutated", _double_dy),
    "x changed": ("mutated", _touch(0)),
}


def _shows(f: Callable, arrays: list, i: int, cause: str, change: Callable) -> bool:
    """Whether the mistake changes anything here: a constant gradient, for example, can be shifted freely."""
    y, back = f(*arrays)
    dy = np.random.default_rng(1).normal(size=np.shape(y))
    right = gradients(back, dy, len(arrays))[i]
    if cause == "mutated":
        return np.ndim(y) > 0
    if cause in ("transposed", "shifted") and (
        (right.ndim < 2 and cause == "transposed") or max(right.shape) < 2
    ):
        return False
    if cause == "shifted" and np.allclose(np.roll(right, 1, change.axis), right):
        return False  # along a constant, only the empty edge is seen
    wrong = change(right.copy(), dy, [a.copy() for a in arrays], y)
    return wrong.shape != right.shape or not np.allclose(wrong, right)


def generated() -> Iterator[Wrong]:
    for operation, make in RIGHT.items():
        for i in range(len(make(np.random.default_rng(0))[1])):
            for mistake, (cause, change) in MISTAKES.items():
                change = _touch(i) if mistake == "x changed" else change

                def spoil(rng, make=make, i=i, cause=cause, change=change):
                    for _ in range(20):
                        f, arrays = make(rng)
                        if _shows(f, arrays, i, cause, change):
                            return spoiled(f, i, change), arrays
                    return None

                if spoil(np.random.default_rng(0)) is not None:
                    yield Wrong(f"{operation}, argument {i}: {mistake}", cause, spoil, i, "generated")
