"""Why is a backward pass wrong? Gathers the two Jacobians, asks every detector, and tells twins apart.

The analytic Jacobian is read by giving `back` one output at a time, the true one by differences, entry by
entry. Large arrays are looked at on a box of neighbouring entries.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from minimega.causes import CAUSES, CLOSE, Evidence, Finding, fits, run
from minimega.differences import Slope, Subject, scales, slope

WHOLE, BOX = 256, 64  # a diagnosis looks at arrays up to the first size whole, at so many entries of larger ones
MIXTURES = 6  # random cotangents where single outputs show nothing


def explain(subject: Subject, x: list[np.ndarray], i: int, seed: int) -> tuple[list[Finding], Evidence]:
    """The causes that fit the wrong gradient of argument i, the likeliest first, and what they were read from.

    A cause has to fit at other arrays of the same shapes too, random ones without symmetry: what fits only
    because these values are special is struck out.
    """
    given = gather(subject, x, i, seed)
    found = candidates(given)
    for attempt in range(3):
        rng = np.random.default_rng((seed, attempt))
        try:
            other = gather(subject, [_another(a, rng, attempt) for a in x], i, seed)
        except Exception:  # f may refuse other values in any way; then these arrays have to do
            continue
        if not np.isfinite(other.J).all() or other.same(other.A, other.J):
            continue  # outside the domain, or the mistake does not show there
        elsewhere = candidates(other)
        both = [f for f in found if (f.cause, f.mark) in {(g.cause, g.mark) for g in elsewhere}]
        if both:
            return both, given
        changed = {f.cause for f in found} & {g.cause for g in elsewhere}  # same word, but not the same number
        rest = [f for f in [*elsewhere, *found] if f.cause not in changed]
        known = {f.cause: f for f in reversed(rest) if f.cause != "unknown"}
        return [known[c] for c in reversed(known)] or [unknown(given)], given
    return found, given


def _another(a: np.ndarray, rng: np.random.Generator, attempt: int) -> np.ndarray:
    """Random values in the range of these; closer to them at the last attempt, should the domain be narrow."""
    if not a.size:
        return a
    low, high = float(a.min()), float(a.max())
    if attempt == 2:
        return a * rng.uniform(0.9, 1.1, a.shape)
    if low == high:
        low, high = (0.5 * low, 1.5 * low) if low else (-1.0, 1.0)
    return rng.uniform(low, high, a.shape)


def candidates(e: Evidence) -> list[Finding]:
    """Every cause that the evidence fits, in the order of the table; the looser signs only if none does."""
    if not np.isfinite(e.A).all():
        return [unknown(e)]
    found = _ask(e, "sees")
    first = found[0].cause if found else None
    if first in ("zero", "sign", "scale") and e.same(e.A, _factor(e) * e.J):
        # one constant factor explains all; 1/2 may also be one of two equal terms
        half = first == "scale" and abs(_factor(e) - 0.5) < 1e-6
        twin = [Finding("path", "or one of two equal terms is left out")] if half else []
        return found[:1] + twin
    return found or _ask(e, "suspects") or [unknown(e)]


def _factor(e: Evidence) -> float:
    return float(np.sum(e.A * e.J) / np.sum(e.J * e.J)) if np.any(e.J) else 0.0


def _ask(e: Evidence, how: str) -> list[Finding]:
    found = []
    for word, cause in CAUSES.items():
        if word == "mask" and {f.cause for f in found} - {"zero"}:
            continue  # any rule that leaves entries out is a mask; the rule that was found says more
        answer = getattr(cause, how) and getattr(cause, how)(e)
        if answer:
            found.append(Finding(word, *(answer if isinstance(answer, tuple) else (answer,))))
    return found


def gather(subject: Subject, x: list[np.ndarray], i: int, seed: int) -> Evidence:
    """Both Jacobians of argument i at these arrays, on boxes of y and x."""
    look = _Look(subject, x, i, np.random.default_rng(seed))
    y, u = look.at.y, look.rng.random()
    box_y, box_x = _box(y.shape, u), _box(x[i].shape, u)
    unit = look.linear
    A, J = look.jacobians(look.outputs(box_y) if unit else look.mixtures, box_x)
    if unit and _equal(A, J):  # nothing is wrong on these boxes
        unit, box_x = False, look.wrong_part()
        A, J = look.jacobians(look.mixtures, box_x)
    shape = (y[np.ix_(*box_y)].shape if unit else (len(look.mixtures),)) + x[i][np.ix_(*box_x)].shape
    whole = A[0].size == x[i].size and (not unit or len(A) == y.size)
    return Evidence(
        A.reshape(shape),
        J.reshape(shape),
        x=x[i][np.ix_(*box_x)],
        y=y[np.ix_(*box_y)] if unit else None,
        box=box_x,
        whole=whole,
        lengths=_lengths(subject.names, x, i, y),
        others={n: a for j, (n, a) in enumerate(zip(subject.names, x, strict=True)) if j != i and whole},
        tokens=subject.tokens,
        dy_left_out=look.dy_left_out(),
        scalar=not y.ndim,
    )


class _Look:
    """A forward pass with its backward, and both Jacobians of one argument for whichever dys and entries."""

    def __init__(self, subject: Subject, x: list[np.ndarray], i: int, rng: np.random.Generator):
        self.subject, self.x, self.i, self.rng = subject, x, i, rng
        self.at = subject.linearize(x)
        count = self.at.y.size
        self.mixtures = rng.uniform(0.5, 1.5, (MIXTURES, count)) * rng.choice([-1.0, 1.0], (MIXTURES, count))
        once, twice = self.back(self.mixtures[0]), self.back(2 * self.mixtures[0])
        self.linear = _equal(twice, 2 * once)

    def back(self, dy: np.ndarray) -> np.ndarray:
        g = self.at.back(dy.reshape(self.at.y.shape).copy())[self.i]
        return np.zeros(self.x[self.i].shape) if g is None else g.reshape(self.x[self.i].shape).astype(np.float64)

    def outputs(self, box: list[np.ndarray]) -> np.ndarray:
        """One dy for each output in the box: 1 there, 0 elsewhere."""
        places = np.arange(self.at.y.size).reshape(self.at.y.shape)[np.ix_(*box)].ravel()
        dys = np.zeros((len(places), self.at.y.size))
        dys[np.arange(len(places)), places] = 1
        return dys

    def slope(self, dys: np.ndarray, line: np.ndarray) -> Slope:
        before, x, after = self.x[: self.i], self.x[self.i], self.x[self.i + 1 :]

        def g(t):
            return dys @ self.subject.value([*before, x + t * line, *after]).ravel()

        y = self.at.y.ravel()
        return slope(g, dys @ y, np.abs(dys) @ np.abs(y))

    def jacobians(self, dys: np.ndarray, box: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """What back gives, and the truth: (dys, *box). Entries with a kink are 0 in both."""
        A = np.stack([self.back(dy)[np.ix_(*box)] for dy in dys])
        J, reach = np.zeros_like(A), scales(self.x[self.i])
        for place, entry in zip(np.ndindex(A.shape[1:]), itertools.product(*box), strict=True):
            line = np.zeros_like(reach)
            line[entry] = reach[entry]
            s = self.slope(dys, line)
            J[(slice(None), *place)] = 0 if s.kink else s.value / reach[entry]
            if s.kink:
                A[(slice(None), *place)] = 0
        return A, J

    def wrong_part(self) -> list[np.ndarray]:
        """A box of entries whose gradient is wrong, found by halving: each half is tried along one direction."""
        x, dys = self.x[self.i], self.mixtures[:1]
        box, g = [np.arange(n) for n in x.shape], self.back(dys[0])
        while np.prod([len(k) for k in box]) > BOX:
            longest = max(range(len(box)), key=lambda a: len(box[a]))
            halves = [[*box[:longest], half, *box[longest + 1 :]] for half in np.array_split(box[longest], 2)]
            off = []
            for half in halves:
                line = np.zeros_like(x)
                line[np.ix_(*half)] = (scales(x) * self.rng.normal(size=x.shape))[np.ix_(*half)]
                off.append(abs(float(self.slope(dys, line).value[0] - np.sum(g * line))))
            box = halves[int(np.argmax(off))]
        return box

    def dy_left_out(self) -> bool:
        """Whether back pays no heed to its dy: it gives the same for another one."""
        return not self.linear and _equal(self.back(self.mixtures[0]), self.back(self.mixtures[1]))


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.all(np.abs(a - b) <= CLOSE * np.max(np.abs(b), initial=0)))


def _box(shape: tuple[int, ...], u: float) -> list[np.ndarray]:
    """The entries to look at along each axis: all of a small array, else a box of neighbours.

    One u in [0, 1) for all arrays, so that axes of equal length are looked at in the same place.
    """
    if np.prod(shape) <= WHOLE:
        return [np.arange(n) for n in shape]
    side = next(k for k in itertools.count(max(shape), -1) if k == 1 or np.prod(np.minimum(shape, k)) <= BOX)
    return [int(u * (n - min(n, side) + 1)) + np.arange(min(n, side)) for n in shape]


def _lengths(names: list[str], x: list[np.ndarray], i: int, y: np.ndarray) -> list[tuple[str, int]]:
    """What a factor may be named by: axis lengths and counts, of the argument itself first."""
    arrays = [(names[i], x[i]), ("y", y), *((n, a) for j, (n, a) in enumerate(zip(names, x, strict=True)) if j != i)]
    single = [(f"the length of axis {k} of {n}", m) for n, a in arrays for k, m in enumerate(a.shape)]
    rows = [(f"the number of rows of {n}", a.size // a.shape[-1]) for n, a in arrays if a.ndim > 1 and a.size]
    return single + rows + [(f"the number of entries of {n}", a.size) for n, a in arrays]


def unknown(e: Evidence) -> Finding:
    """No word fits: say which entries are wrong, and how the wrong ones relate to the right ones."""
    return Finding("unknown", " ".join(_patterns(e)))


def _patterns(e: Evidence) -> Iterator[str]:
    bad = ~np.isfinite(e.A)
    if bad.any():
        yield f"{bad.reshape(-1, e.x.size).any(axis=0).sum()} of {e.x.size} entries are not finite."
        return
    if e.dy_left_out:
        yield "back gives the same for every dy: the factor dy is left out."
    wrong = e.there(e.D)
    for a in e.x_axes:
        rows = np.flatnonzero(np.moveaxis(wrong, a, 0).reshape(wrong.shape[a], -1).any(axis=1))
        if len(rows) < wrong.shape[a]:
            yield f"Only {run(rows.tolist())} of {e.axis(a)} differ." if len(rows) else ""
    with np.errstate(all="ignore"):
        ratio = np.where(e.there(e.J), e.A / e.J, np.nan).reshape(-1, e.x.size)
        low, high = np.nanmin(ratio, axis=0, initial=np.inf), np.nanmax(ratio, axis=0, initial=-np.inf)
        if np.array_equal(e.there(e.J), e.there(e.A)) and np.allclose(low, high, rtol=1e-5):
            factors = np.where(np.isfinite(low), low, np.nan).reshape(e.x.shape)
            yield f"Every entry has a factor of its own, from {np.nanmin(factors):.3g} to {np.nanmax(factors):.3g}"
            yield _named_factors(e, factors) + "."
    a, j = e.A.ravel(), e.J.ravel()
    norm = np.linalg.norm(a) * np.linalg.norm(j)
    yield f"Its correlation with the right one is {a @ j / norm:.2f}." if norm else ""


def _named_factors(e: Evidence, factors: np.ndarray) -> str:
    known = {"x": e.x, **e.others} | ({"y": e.y} if e.unit and e.y.shape == e.x.shape else {})
    for (name, values), (form, power) in itertools.product(
        known.items(), (("{}", 1), ("1 / {}", -1), ("{}^2", 2), ("1 / {}^2", -2))
    ):
        if fits(values, e.x) and np.allclose(factors, values**float(power), rtol=1e-4, equal_nan=True):
            return f": {form.format(name)}"
    flat = [k for k in range(e.x.ndim) if e.x.shape[k] > 1 and np.allclose(factors, factors.take([0], k), rtol=1e-5)]
    return f", the same along axis {flat[0]}" if flat else ""


def explain_shape(g: np.ndarray | None, shape: tuple[int, ...], fits: Callable) -> list[Finding]:
    """Why a gradient has another shape than its argument: a sum left out, an axis order, or only the shape.

    `fits(g)` says whether an array of the right shape is the right gradient.
    """
    found = Finding("shape", f"the gradient has the shape {g.shape}, the argument {shape}")
    if g.size == int(np.prod(shape)) and fits(g.reshape(shape)):
        return [Finding("shape", f"{found.detail}; its numbers are right")]
    for order in itertools.permutations(range(g.ndim)):
        if g.transpose(order).shape == shape and fits(g.transpose(order)):
            return [Finding("transposed", f"{found.detail}; it is right with its axes in the order {order}"), found]
    for count in range(1, g.ndim + 1):
        for axes in itertools.combinations(range(g.ndim), count):
            total = g.sum(axis=axes)
            if total.size == int(np.prod(shape)) and fits(total.reshape(shape)):
                text = f"{found.detail}; it is right when summed over {axes}, along which the forward repeated x"
                return [Finding("broadcast", text), found]
    return [found]
