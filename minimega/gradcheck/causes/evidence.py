"""The data behind a diagnosis: two Jacobians of one argument, and a detector's finding about them."""

from dataclasses import dataclass, field

import numpy as np

CLOSE = 1e-6  # two Jacobians that agree to this, relative to the largest entry, are the same
FINE = 1e-9  # the resolution of finite differences


@dataclass(frozen=True)
class Finding:
    """A cause and a sentence that says what was seen; a true cause has the same `mark` at other arrays."""

    cause: str
    detail: str
    mark: object = None
    firm: bool = True  # seen by a form that only this cause has

    def agrees(self, other: "Finding") -> bool:
        """Whether both, found at different arrays, can be the same mistake."""
        all_zero = self.cause == "zero" and None in (self.mark, other.mark)
        return self.cause == other.cause and (all_zero or self.mark == other.mark)


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices along an axis that should be filled in (lost), among the empty ones; equal if compatible."""

    axis: int
    lost: frozenset
    empty: frozenset

    def __eq__(self, other) -> bool:
        same_axis = isinstance(other, Slices) and self.axis == other.axis
        return same_axis and self.lost <= other.empty and other.lost <= self.empty


@dataclass
class Evidence:
    """The Jacobians of one argument, whole or on a box of entries.

    A and J have shape (*axes of y, *axes of x). If `unit` is False, random cotangents replace the outputs:
    the first axis counts them, and y is None. `box` holds the indices along each axis of x, `outputs` those
    along each axis of y (None if the outputs form no box). `lengths` names the axis lengths, `others` holds
    the other arguments by name, `tokens` a layer's integer inputs. `close`, relative to `size`, is the
    tolerance of `small`, `same` and `there`.
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
        # a mistake smaller than CLOSE would fit any form: use a tighter tolerance
        self.close = min(CLOSE, max(0.02 * self.apart, FINE))

    y_axes = property(lambda self: range(self.p) if self.unit else range(0))
    x_axes = property(lambda self: range(self.p, self.J.ndim))

    def small(self, array) -> bool:
        """Whether every entry is 0 within the tolerance."""
        return bool(np.all(np.abs(array) <= self.close * self.size))

    def same(self, a, b) -> bool:
        """Whether both have one shape and equal entries within the tolerance."""
        size = max(self.size, float(np.max(np.abs(b), initial=0)))
        return a.shape == b.shape and bool(np.all(np.abs(a - b) <= self.close * size))

    def there(self, array) -> np.ndarray:
        """Which entries are not 0, as booleans."""
        return np.abs(array) > self.close * self.size

    def axis(self, number: int) -> str:
        """The name of this axis of A and J, such as "axis 0 of y"; plain "axis 0" is one of x."""
        if number < self.p and self.outputs is None:
            return "the examined outputs"
        return f"axis {number} of y" if number < self.p else f"axis {number - self.p}"

    def indices(self, axis: int, seen: list[int]) -> str:
        """Positions along an examined axis, in words, as indices of the array itself."""
        if axis < self.p:
            return run([int(self.outputs[axis][i]) for i in seen] if self.outputs else seen)
        return run([int(self.box[axis - self.p][i]) for i in seen])

    def share(self, count: int) -> str:
        """A count of the examined entries of x, in words: "3 of 12 entries"."""
        return f"{count} of {self.x.size} {'' if self.whole else 'examined '}entries"

    def along(self, axes: tuple[int, ...], T: np.ndarray | None = None) -> np.ndarray:
        """T (default: D) reshaped to (outputs, other entries of x, entries along these axes of x)."""
        T = self.D if T is None else T
        outer = [a for a in range(T.ndim) if a not in axes]
        count = int(np.prod([T.shape[a] for a in axes]))
        return T.transpose(*outer, *axes).reshape(int(np.prod(T.shape[: self.p])), -1, count)

    def x_along(self, axes: tuple[int, ...]) -> np.ndarray:
        """x reshaped to (other entries, entries along these axes)."""
        return self.along(axes, np.broadcast_to(self.x, self.J.shape))[0]


def run(indices: list[int]) -> str:
    """Sorted indices in words.

    >>> run([3]), run([3, 4, 5]), run([0, 2])
    ('index 3', 'indices 3 to 5', 'indices 0, 2')
    """
    if len(indices) == 1:
        return f"index {indices[0]}"
    steady = indices == list(range(indices[0], indices[-1] + 1))
    return f"indices {f'{indices[0]} to {indices[-1]}' if steady else ', '.join(map(str, indices))}"


def fits(a: np.ndarray, x: np.ndarray) -> bool:
    """Whether a broadcasts to the shape of x."""
    return a.ndim <= x.ndim and all(m in (1, n) for m, n in zip(a.shape[::-1], x.shape[::-1], strict=False))
