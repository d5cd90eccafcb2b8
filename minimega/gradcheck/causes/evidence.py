"""What a diagnosis is read from: two Jacobians of one argument, and what a detector says about them."""

from dataclasses import dataclass, field

import numpy as np

CLOSE = 1e-6  # two Jacobians that agree to this, relative to the largest entry, are the same
FINE = 1e-9  # as closely as differences can be read


@dataclass(frozen=True)
class Finding:
    """A cause by its word, and a sentence with what was seen; `mark` must not change with the arrays."""

    cause: str
    detail: str
    mark: object = None
    firm: bool = True  # read from a form that only this cause has

    def agrees(self, other: "Finding") -> bool:
        """Whether both can have one cause, seen at two sets of arrays."""
        all_zero = self.cause == "zero" and None in (self.mark, other.mark)
        return self.cause == other.cause and (all_zero or self.mark == other.mark)


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices that should be filled in (lost) among the empty ones; equal if neither excludes the other."""

    axis: int
    lost: frozenset
    empty: frozenset

    def __eq__(self, other) -> bool:
        same_axis = isinstance(other, Slices) and self.axis == other.axis
        return same_axis and self.lost <= other.empty and other.lost <= self.empty


@dataclass
class Evidence:
    """The Jacobians of one argument, whole or on a box of entries.

    A and J have the shape (*axes of y, *axes of x); where `unit` is False their first axis counts random
    cotangents instead of outputs, and y is None. `box` holds the indices of the entries of x, `outputs` those
    of y, one row an axis; None where the outputs form no box. `lengths` names axis lengths, `others` the
    other arguments, `tokens` the integer inputs of a layer.
    """

    A: np.ndarray
    J: np.ndarray
    x: np.ndarray
    y: np.ndarray | None
    box: list[np.ndarray]
    whole: bool
    lengths: list[tuple[str, int]]
    others: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: dict[str, np.ndarray] = field(default_factory=dict)
    dy_left_out: bool = False
    scalar: bool = False
    outputs: list[np.ndarray] | None = None

    def __post_init__(self):
        self.unit, self.p = self.y is not None, self.J.ndim - self.x.ndim
        self.D, self.size = self.J - self.A, float(np.max(np.abs(self.J), initial=0))
        self.size = self.size or float(np.max(np.abs(self.A), initial=0))
        self.apart = float(np.max(np.abs(self.D), initial=0)) / (self.size or 1.0)
        # a mistake smaller than CLOSE would fit every form: look more closely
        self.close = min(CLOSE, max(0.02 * self.apart, FINE))

    y_axes = property(lambda self: range(self.p) if self.unit else range(0))
    x_axes = property(lambda self: range(self.p, self.J.ndim))

    def small(self, array) -> bool:
        return bool(np.all(np.abs(array) <= self.close * self.size))

    def same(self, a, b) -> bool:
        size = max(self.size, float(np.max(np.abs(b), initial=0)))
        return a.shape == b.shape and bool(np.all(np.abs(a - b) <= self.close * size))

    def there(self, array) -> np.ndarray:
        return np.abs(array) > self.close * self.size

    def axis(self, number: int) -> str:
        if number < self.p and self.outputs is None:
            return "the outputs looked at"
        return f"axis {number} of y" if number < self.p else f"axis {number - self.p}"

    def indices(self, axis: int, seen: list[int]) -> str:
        """These places along an axis of what was looked at, as indices of the array itself."""
        if axis < self.p:
            return run([int(self.outputs[axis][i]) for i in seen] if self.outputs else seen)
        return run([int(self.box[axis - self.p][i]) for i in seen])

    def share(self, count: int) -> str:
        """So many of the entries of x that were looked at, in words."""
        return f"{count} of {self.x.size} entries" + ("" if self.whole else " that were looked at")

    def along(self, axes: tuple[int, ...], T: np.ndarray | None = None) -> np.ndarray:
        """D or another Jacobian as (outputs, other entries of x, entries along these axes of x)."""
        T = self.D if T is None else T
        outer = [a for a in range(T.ndim) if a not in axes]
        count = int(np.prod([T.shape[a] for a in axes]))
        return T.transpose(*outer, *axes).reshape(int(np.prod(T.shape[: self.p])), -1, count)

    def x_along(self, axes: tuple[int, ...]) -> np.ndarray:
        """x as (other entries, entries along these axes)."""
        return self.along(axes, np.broadcast_to(self.x, self.J.shape))[0]


def run(indices: list[int]) -> str:
    if len(indices) == 1:
        return f"index {indices[0]}"
    steady = indices == list(range(indices[0], indices[-1] + 1))
    return f"indices {f'{indices[0]} to {indices[-1]}' if steady else ', '.join(map(str, indices))}"


def fits(a: np.ndarray, x: np.ndarray) -> bool:
    return a.ndim <= x.ndim and all(m in (1, n) for m, n in zip(a.shape[::-1], x.shape[::-1], strict=False))
