"""The causes of a wrong backward pass: what each word means, and how it is recognised.

A detector looks at two Jacobians, the one that `back` gives (A) and the true one (J), of shape (axes of y, axes
of x): what is missing or moved has a form of its own there, whatever the function computes. It says what it
saw, or None. The table at the end holds the words in the order in which they are tried.

x is the argument whose gradient is wrong, D = J - A what it lacks.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

CLOSE = 1e-6  # two Jacobians that agree to this, relative to the largest entry, are the same


@dataclass(frozen=True)
class Finding:
    """A cause by its word, and a sentence with what was seen; `mark` is what must not change with the arrays."""

    cause: str
    detail: str
    mark: object = None


@dataclass
class Evidence:
    """The Jacobians of one argument, whole or on a box of entries.

    A and J have the shape (*axes of y, *axes of x); where `unit` is False their first axis counts random
    cotangents instead of outputs, and y is None. `lengths` names axis lengths, `others` the other arguments,
    `tokens` the integer inputs of a layer.
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

    def __post_init__(self):
        self.unit, self.p = self.y is not None, self.J.ndim - self.x.ndim
        self.D, self.size = self.J - self.A, float(np.max(np.abs(self.J), initial=0))

    y_axes = property(lambda self: range(self.p) if self.unit else range(0))
    x_axes = property(lambda self: range(self.p, self.J.ndim))

    def small(self, array) -> bool:
        return bool(np.all(np.abs(array) <= CLOSE * self.size))

    def same(self, a, b) -> bool:
        return a.shape == b.shape and self.small(a - b)

    def there(self, array) -> np.ndarray:
        return np.abs(array) > CLOSE * self.size

    def axis(self, number: int) -> str:
        return f"axis {number} of y" if number < self.p else f"axis {number - self.p}"

    def along(self, axes: tuple[int, ...], array=None) -> np.ndarray:
        """(outputs, other entries of x, entries along these axes of x), of A, J or D; of x itself without p."""
        array = self.D if array is None else array
        shift = self.p if array.ndim == self.J.ndim else 0
        inner = [a - self.p + shift for a in axes]
        outer = [a for a in range(shift, array.ndim) if a not in inner]
        moved = array.transpose(*range(shift), *outer, *inner)
        count = int(np.prod([array.shape[a] for a in inner]))
        return moved.reshape(*([int(np.prod(array.shape[:shift]))] if shift else []), -1, count)


def zero(e: Evidence) -> str | None:
    if e.small(e.A):
        return "back gives zeros only: the gradient is never filled in"
    for a in e.x_axes:
        parts = np.moveaxis(e.A, a, 0), np.moveaxis(e.J, a, 0)
        empty = [i for i, (g, t) in enumerate(zip(*parts, strict=True)) if e.small(g) and not e.small(t)]
        if empty and empty == list(range(empty[0], empty[-1] + 1)) and e.small(np.delete(parts[1] - parts[0], empty, 0)):
            return f"zeros at {run(empty)} of {e.axis(a)}, never filled in; the rest is right"
    return None


def run(indices: list[int]) -> str:
    return f"index {indices[0]}" if len(indices) == 1 else f"indices {indices[0]} to {indices[-1]}"


def sign(e: Evidence) -> str | None:
    if e.same(e.A, -e.J):
        return "the gradient is the right one times -1"
    if e.same(np.abs(e.A), np.abs(e.J)):
        flipped = e.there(e.D)
        touched = np.flatnonzero(flipped.reshape(-1, e.x.size).any(axis=0))
        below = np.array_equal(np.unravel_index(touched, e.x.shape), np.nonzero(e.x < 0))
        where = "where x is negative" if below else f"at {len(touched)} of {e.x.size} entries"
        return f"the sign is wrong {where}; the sizes are right"
    return None


def scale(e: Evidence) -> tuple[str, object] | None:
    if e.dy_left_out and e.scalar:
        return "the gradient does not grow with dy: it is right at dy = 1, so the factor dy is left out", "dy"
    factor = float(np.sum(e.A * e.J) / np.sum(e.J * e.J))
    if e.small(e.A) or not e.same(e.A, factor * e.J):
        return None
    return f"the gradient is the right one times {name_factor(factor, e.lengths)}", round(factor, 6)


def name_factor(factor: float, lengths: list[tuple[str, int]]) -> str:
    """A number as a person would write it: 2, 1/3, or by the axis whose length it comes from.

    >>> name_factor(0.125, [("the length of axis 1 of x", 8)])
    '1/8, where 8 is the length of axis 1 of x'
    >>> name_factor(2 ** 0.5, [("the length of axis 1 of x", 8)]), name_factor(-0.5, [])
    ('1.41421 = sqrt(2)', '-1/2')
    """
    minus, size = "-" if factor < 0 else "", abs(factor)
    places: dict[str, list[str]] = {}
    for (name, n), (form, power) in itertools.product(
        lengths, (("{}", 1), ("1/{}", -1), ("sqrt({})", 0.5), ("1/sqrt({})", -0.5), ("{}^2", 2), ("1/{}^2", -2))
    ):
        if n > 1 and abs(size / n**power - 1) < 1e-5:
            places.setdefault(f"{minus}{form.format(n)}, where {n} is ", []).append(name)
    if places:
        text, names = next(iter(places.items()))
        return text + " or ".join(dict.fromkeys(names))
    near = Fraction(size).limit_denominator(64)
    if near and abs(size / near - 1) < 1e-5:
        return f"{minus}{near}"
    square = Fraction(size * size).limit_denominator(64)
    if square and abs(size * size / square - 1) < 1e-5:
        return f"{factor:.6g} = {minus}sqrt({square})"
    return f"{factor:.6g}"


def broadcast(e: Evidence) -> str | None:
    for k, (p, q) in itertools.product(e.x_axes, itertools.permutations(e.y_axes, 2)):
        n = e.J.shape[k]
        if n > 1 and e.J.shape[p] == e.J.shape[q] == n:
            A, J = (np.moveaxis(t, (q, p, k), (0, 1, 2)).reshape(n, n, n, -1) for t in (e.A, e.J))
            right, wrong = np.einsum("qpqr->qpr", J), np.einsum("qppr->qpr", A)
            nothing_else = all(
                np.isclose(np.abs(t).sum(), np.abs(d).sum()) for t, d in ((J, right), (A, wrong))
            )
            if nothing_else and e.same(right, wrong) and not e.same(A, J):
                return f"summed over {e.axis(q)}; the forward repeated x along {e.axis(p)}, so the sum goes over that"
    for p in e.y_axes:
        A, J = np.moveaxis(e.A, p, 0), np.moveaxis(e.J, p, 0)
        used = [i for i, a in enumerate(A) if not e.small(a)]
        alike = all(np.array_equal(e.there(j), e.there(J[0])) for j in J)
        if len(J) > 1 and len(used) == 1 and alike and e.same(A[used[0]], J[used[0]]):
            return f"only index {used[0]} of {e.axis(p)} counts; the forward repeated x along it, so sum over it"
    for count in range(1, e.x.ndim + 1):
        for axes in itertools.combinations(e.x_axes, count):
            total = np.broadcast_to(e.J.sum(axis=axes, keepdims=True), e.J.shape)
            n = int(np.prod([e.J.shape[a] for a in axes]))
            if n > 1 and (e.same(e.A, total) or e.same(e.A, total / n)) and not e.same(total, n * e.J):
                return f"summed over {' and '.join(e.axis(a) for a in axes)} too, which the forward did not repeat"
    for a, b in itertools.permutations(e.x_axes, 2):
        flat = [e.small(t - t.mean(axis=c, keepdims=True)) for c in (a, b) for t in (e.J, e.A)]
        if e.J.shape[a] == e.J.shape[b] and flat == [True, False, False, True] and e.same(e.A, e.J.swapaxes(a, b)):
            return f"dy is repeated along {e.axis(b)} instead of {e.axis(a)}"
    return None


def rearranged(e: Evidence, T: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """A Jacobian with its entries in another axis order: of x, of dy, or one of x exchanged with one of dy."""
    for axes, what in ((e.x_axes, "the gradient"), (e.y_axes, "dy")):
        shape = tuple(T.shape[a] for a in axes)
        for order in itertools.permutations(axes):
            moved = T.transpose([order[axes.index(a)] if a in axes else a for a in range(T.ndim)])
            if list(order) != list(axes) and (e.whole or moved.shape == T.shape):
                how = tuple(axes.index(a) for a in order)
                text = f"{what} has its axes in the order {how}" + ("" if moved.shape == T.shape else f", read as {shape}")
                yield text, moved.reshape(T.shape)
    for a, b in itertools.product(e.y_axes, e.x_axes):
        if T.shape[a] == T.shape[b] > 1:
            yield f"{e.axis(a)} and {e.axis(b)} of x are exchanged: a matrix is not transposed", T.swapaxes(a, b)


def transposed(e: Evidence) -> str | None:
    for text, moved in rearranged(e, e.J):
        if e.same(e.A, moved):
            return text
    return None


def shifted(e: Evidence) -> str | None:
    for a, step in itertools.product([*e.x_axes, *e.y_axes], (1, -1)):
        inside = [slice(None)] * e.J.ndim
        inside[a] = slice(1, None) if step > 0 else slice(None, -1)
        cut, moved = tuple(inside), np.roll(e.J, step, axis=a)
        if e.J.shape[a] > 2 and e.same(e.A[cut], moved[cut]) and not e.same(e.A[cut], e.J[cut]):
            wraps = " and wraps around" if e.same(e.A, moved) else ""
            return f"off by {step if a in e.x_axes else -step:+d} along {e.axis(a)}{wraps}"
    return None


def overwritten(e: Evidence) -> str | None:
    J, A = e.J.reshape(-1, e.x.size), e.A.reshape(-1, e.x.size)
    used, kept = e.there(J), e.there(A)
    again = used.sum(axis=0) > 1
    if e.unit and again.any() and e.small((A - J)[kept]) and np.array_equal(kept.sum(axis=0), used.any(axis=0)):
        last = np.array_equal(kept.argmax(axis=0)[again], len(J) - 1 - used[::-1].argmax(axis=0)[again])
        which = "the last" if last else "one"
        return f"{again.sum()} entries are used more than once, and only {which} of their gradients was kept: add them up"
    rows = [i for i, d in enumerate(np.moveaxis(e.D, e.p, 0)) if not e.small(d)] if e.x.ndim else []
    for name, ids in e.tokens.items():
        values, counts = np.unique(ids, return_counts=True)
        if len(rows) and set(rows) == set(values[counts > 1].tolist()) and counts.min() == 1:
            return f"wrong at exactly the rows that {name} asks for more than once: add their gradients up"
    return None


def mask(e: Evidence) -> str | None:
    used, passed = e.there(e.J), e.there(e.A)
    both = used & passed
    if np.array_equal(used, passed) or not both.any():
        return None
    factor = float(np.sum(e.A[both] * e.J[both]) / np.sum(e.J[both] ** 2))
    if not e.same(e.A[both], factor * e.J[both]) or (abs(factor - 1) > CLOSE and both.sum() < 4):
        return None
    return _mask_text(e, used, passed) + (f" (and off by {factor:.6g} elsewhere)" if abs(factor - 1) > CLOSE else "")


def _mask_text(e: Evidence, used, passed) -> str:
    more, less = int((passed & ~used).sum()), int((used & ~passed).sum())
    if more and less:
        return f"another mask: {more} pairs of entries pass a gradient but no value, {less} a value but no gradient"
    if more:
        return f"a gradient passes at {more} pairs of entries where the forward passes nothing: the mask is missing"
    return f"no gradient passes at {less} pairs of entries where the forward passes a value"


def unmasked(e: Evidence) -> str | None:
    """The looser sign: a gradient where none can be, and differences elsewhere too."""
    used, passed = e.there(e.J), e.there(e.A)
    return _mask_text(e, used, passed) if e.unit and (passed & ~used).any() and used.any() else None


def mean(e: Evidence) -> str | None:
    """What is missing is constant along an axis, or follows x there; the true J sees neither of them."""
    for axes in _groups(e):
        D, J, x = e.along(axes), e.along(axes, e.J), e.along(axes, e.x)
        ones, centred = np.ones_like(x), x - x.mean(axis=-1, keepdims=True)
        for basis, what in (
            ((ones,), "the mean of the gradient"),
            ((centred,), "the part along the normalised x: xhat * mean(dxhat * xhat)"),
            ((x,), "the part along x: x * mean(dy * x) over its square"),
            ((ones, centred), "both mean terms"),
        ):
            if x.shape[-1] > len(basis) and e.small(_rest(D, basis)) and (not e.whole or all(_blind(J, v) for v in basis)):
                return f"{what}, taken over {_axes(e, axes)}, is missing or wrong"
    return None


def _groups(e: Evidence) -> list[tuple[int, ...]]:
    """The axes of x that a sum may go over: one of them, the last two, all."""
    axes = tuple(e.x_axes)
    return list(dict.fromkeys([*((a,) for a in reversed(axes)), *([axes[-2:], axes] if len(axes) > 1 else [])]))


def _axes(e: Evidence, axes) -> str:
    return " and ".join(e.axis(a) for a in axes)


def _rest(T: np.ndarray, basis) -> np.ndarray:
    """What is left of T (m, R, n) when its parts along the basis vectors (R, n) are taken away."""
    q = np.linalg.qr(np.stack(basis, axis=-1))[0]  # (R, n, c)
    return T - np.einsum("mrc,rnc->mrn", np.einsum("mrn,rnc->mrc", T, q), q)


def _blind(J: np.ndarray, v: np.ndarray) -> bool:
    """Whether y does not change as x moves along v, to first order (but for a small eps in a normalisation)."""
    return bool(np.all(np.abs(np.einsum("mrn,rn->mr", J, v)) <= 0.05 * np.max(np.abs(J) * np.abs(v)) + 1e-300))


def rank_one(e: Evidence) -> str | None:
    for axes in _groups(e):
        x = e.along(axes, e.x)
        if x.shape[-1] < 2:
            continue
        p = np.exp(x - x.max(axis=-1, keepdims=True))
        if e.small(_rest(e.along(axes), (p,))) and not e.small(_rest(e.along(axes, e.J), (p,))):
            return f"the sum term of softmax over {_axes(e, axes)} is missing or wrong: p times a sum"
    for a in e.y_axes:
        D, J = (np.moveaxis(t.reshape(*e.y.shape, -1), a, -1) for t in (e.D, e.J))  # (other outputs, entries, n)
        y = np.moveaxis(e.y, a, -1)
        D, J, y = D.reshape(-1, e.x.size, D.shape[-1]), J.reshape(-1, e.x.size, D.shape[-1]), y.reshape(-1, D.shape[-1])
        D, J = D.transpose(1, 0, 2), J.transpose(1, 0, 2)
        if y.shape[-1] > 1 and e.small(_rest(D, (y,))) and not e.small(_rest(J, (y,))):
            return f"a term with the sum of dy * y over {e.axis(a)} is missing or wrong, as in softmax"
    return None


def low_rank(e: Evidence) -> str | None:
    """The looser sign: the difference is one column times one row."""
    m = e.D.reshape(-1, e.x.size)
    if min(m.shape) < 3:
        return None
    d, j = (np.linalg.svd(t, compute_uv=False) for t in (m, e.J.reshape(m.shape)))
    spread = np.minimum(e.there(m).any(axis=0).sum(), e.there(m).any(axis=1).sum())
    if d[1] <= CLOSE * d[0] and j[2] > CLOSE * j[0] and spread > 2:
        return "what is missing is one column times one row: a sum over all that every entry shares"
    return None


def path(e: Evidence) -> tuple[str, object] | str | None:
    if e.small(e.A):
        return None
    D, lacks = e.D.reshape(-1, e.x.size), e.there(e.D.reshape(-1, e.x.size))
    if e.unit and e.small(e.D[lacks.reshape(e.D.shape)] - D[lacks][:1]):
        whole = (lacks.sum(axis=1) == 1).all() if e.p else False
        if whole:
            return f"dy itself, times {name_factor(float(D[lacks][0]), [])}, is missing: a path around, such as a residual"
        ones = e.along((e.p + e.x.ndim - 1,), lacks.reshape(e.D.shape)) if e.x.ndim else lacks
        if (ones.sum(axis=-1) <= 1).all() and e.x.size > 2 and e.there(e.A).mean() > 0.9:
            return "a term that reaches one entry of each row is missing"
    if e.unit and e.y.shape == e.x.shape and e.x.size > 1:
        diagonal = np.eye(e.x.size, dtype=bool)
        if not lacks[~diagonal].any() and not e.there(e.A.reshape(D.shape))[~diagonal].any():
            return _product_rule(e, np.diag(e.A.reshape(D.shape)), np.diag(D))
    for text, moved in rearranged(e, e.A):
        if e.same(e.D, moved) or e.same(e.D, -moved):
            return f"one of two equal uses of x is missing: the other one is the same where {text}"
    return None


def _product_rule(e: Evidence, has: np.ndarray, lacks: np.ndarray) -> str | None:
    known = {"y / x": e.y / np.where(e.x == 0, 1, e.x)}
    known |= {name: np.broadcast_to(a, e.x.shape) for name, a in e.others.items() if fits(a, e.x)}
    for name, values in known.items():
        v = values.ravel()
        if e.small(lacks - v) or e.small(lacks + v):
            return f"the term dy * {name} is missing, one of a sum or of a product rule"
        if e.small(has - v):
            return f"only the term dy * {name} is there; the other one of the product rule is missing"
    return None


def fits(a: np.ndarray, x: np.ndarray) -> bool:
    return a.ndim <= x.ndim and all(m in (1, n) for m, n in zip(a.shape[::-1], x.shape[::-1], strict=False))


def apart(e: Evidence) -> str | None:
    """The looser sign: what is there is in the true gradient with factor 1, and what is missing is unrelated."""
    a, d = e.A.ravel(), e.D.ravel()
    size = np.linalg.norm(a) * np.linalg.norm(d)
    if len(a) < 60 or size == 0 or min(np.linalg.norm(a), np.linalg.norm(d)) < 0.1 * np.linalg.norm(e.J):
        return None
    if abs(a @ d) / size < 0.05:
        return "what is there is right in size, and what is missing is unrelated to it: a whole term or path"
    return None


@dataclass(frozen=True)
class Cause:
    """What a word means, how it is recognised, and a looser sign of it that is asked only where nothing fits."""

    means: str
    sees: Callable | None = None
    suspects: Callable | None = None


CAUSES: dict[str, Cause] = {
    "random": Cause("the forward gives another output from call to call"),
    "mutated": Cause("an input, the output y or dy is changed in place"),
    "stateful": Cause("a second call of `back` gives another answer"),
    "shape": Cause("the gradient has another shape than its argument, and no sum or axis order explains it"),
    "zero": Cause("never filled in: zeros everywhere, or in whole slices", zero),
    "sign": Cause("the right size with the wrong sign", sign),
    "scale": Cause("a constant factor, named by the axis whose length it is", scale),
    "broadcast": Cause("a broadcast axis is not summed, or another one is", broadcast),
    "transposed": Cause("the entries stand in another axis order", transposed),
    "shifted": Cause("off by one along an axis", shifted),
    "overwritten": Cause("repeated indices overwrite instead of add", overwritten),
    "mean": Cause("a mean term of a normalisation is missing or wrong", mean),
    "rank-one": Cause("the sum term of softmax or cross-entropy is missing or wrong", rank_one, low_rank),
    "mask": Cause(
        "gradient where the forward passes none, none where it does, or another mask", mask, unmasked
    ),
    "path": Cause("one term of a sum or of a product rule is left out, such as the residual", path, apart),
    "precision": Cause("right in float64, wrong beyond float32's rounding"),
    "kink": Cause("left and right slopes disagree: a note on entries; `ok` is judged on the others"),
    "unknown": Cause("none of these; the detail says which pattern was seen"),
}
