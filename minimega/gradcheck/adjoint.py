"""Check the adjoint identity <A x, y> = <x, At y> of a linear map, on one rank or on several.

An array on a group of ranks is one of three kinds: *whole* (equal on all ranks), *cut* (each rank holds a
piece) or *partial* (the value is the sum over the ranks).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minimega.errors import BadInput
from minimega.ranks.group import SELF, Group

GRADIENT = {  # the default kind of the gradient, by the kind of the value
    "whole": "whole",
    "cut": "cut",
    "partial": "whole",
}


@dataclass(frozen=True, repr=False)
class Adjoint:
    """Both sides of the identity, and in `detail` how they differ; `error` is relative to the larger side."""

    ok: bool
    left: float
    right: float
    detail: str

    error = property(lambda self: abs(self.left - self.right) / max(abs(self.left), abs(self.right), 1e-300))

    def __str__(self) -> str:
        return f"<A x, y> = {self.left:.12g}, <x, At y> = {self.right:.12g}: {self.detail}"

    __repr__ = __str__


def check_adjoint(
    A: Callable,
    At: Callable,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    kinds: tuple = ("whole", "whole"),
    group: Group = SELF,
    seed: int = 0,
) -> Adjoint:
    """Check that At is the adjoint of the linear map A: <A x, y> = <x, At y> for random x and y.

    `shapes` are the shapes of x and of A x on this rank. `kinds` gives the kind of each: one word, or a pair
    of words for the value and its gradient. By default the gradient of a cut value is cut, any other is
    whole. Megatron-LM's f maps whole to whole and its backward takes partial: kinds ("whole", ("whole",
    "partial")); g maps partial to whole: ("partial", "whole"). Every rank of the group calls this, and all
    get the same answer. Raises BadInput if a kind is unknown, two kinds have no inner product, or a result
    has another shape.

    >>> cut_rows = lambda x: x[:2]
    >>> put_back = lambda y: np.concatenate([y, np.zeros(1)])
    >>> check_adjoint(cut_rows, put_back, ((3,), (2,))).ok
    True
    >>> check_adjoint(cut_rows, lambda y: 2 * put_back(y), ((3,), (2,))).detail
    'the right side is 2 times the left side'
    """
    (x_kind, dx_kind), (y_kind, dy_kind) = (_pair(kind) for kind in kinds)
    x, other = _draw(shapes[0], x_kind, group, seed), _draw(shapes[0], x_kind, group, seed + 1)
    dy = _draw(shapes[1], dy_kind, group, seed + 2)
    y, dx = np.asarray(A(x.copy())), np.asarray(At(dy.copy()))
    for name, array, shape in (("A x", y, shapes[1]), ("At y", dx, shapes[0])):
        if array.shape != tuple(shape):
            raise BadInput(f"check_adjoint: {name} has shape {array.shape}; expected {tuple(shape)}")
    faults = []
    mixed = np.asarray(A(2 * x - 3 * other)) - (2 * y - 3 * np.asarray(A(other.copy())))
    if (
        group.all_reduce(np.array(float(np.any(np.abs(mixed) > 1e-9 * np.max(np.abs(y), initial=1e-300)))))
        > 0
    ):
        faults.append("A is not linear")
    for name, array, kind in (("A x", y, y_kind), ("At y", dx, dx_kind)):
        if kind == "whole":
            off = np.abs(group.all_reduce(array) / group.size - array)
            if (
                group.all_reduce(np.array(float(np.any(off > 1e-9 * np.max(np.abs(array), initial=1e-300)))))
                > 0
            ):
                faults.append(f"{name} is declared whole, but differs between ranks")
    left, right = _product(y, y_kind, dy, dy_kind, group), _product(x, x_kind, dx, dx_kind, group)
    if abs(left - right) > 1e-9 * max(abs(left), abs(right)):
        faults.append(_factor(left, right, group.size))
    return Adjoint(not faults, left, right, "; ".join(faults) or "the identity holds")


def _pair(kind: Any) -> tuple[str, str]:
    value, gradient = (kind, GRADIENT.get(kind, "")) if isinstance(kind, str) else kind
    if {value, gradient} - set(GRADIENT):
        raise BadInput(f"check_adjoint: {kind!r} is not a kind; use whole, cut or partial, or a pair of them")
    if (value, gradient) == ("partial", "partial") or (value == "cut") != (gradient == "cut"):
        raise BadInput(f"check_adjoint: a {value} value has no inner product with a {gradient} gradient")
    return value, gradient


def _draw(shape: tuple[int, ...], kind: str, group: Group, seed: int) -> np.ndarray:
    return np.random.default_rng((seed, 0 if kind == "whole" else 1 + group.rank)).normal(size=shape)


def _product(a: np.ndarray, a_kind: str, b: np.ndarray, b_kind: str, group: Group) -> float:
    """The inner product over the group: whole with whole counts once, any other pair sums over the ranks."""
    here = np.array(np.sum(a * b))
    return float(here if a_kind == b_kind == "whole" else group.all_reduce(here))


def _factor(left: float, right: float, ranks: int) -> str:
    ratio = right / left if left else np.inf
    for n, what in (
        (ranks, "the number of ranks"),
        (1 / ranks, "one over the number of ranks"),
        (-1, "the sign"),
    ):
        if ranks > 1 and abs(ratio / n - 1) < 1e-6:
            return f"the right side is {n:.6g} times the left side: {what}"
    return f"the right side is {ratio:.6g} times the left side"
