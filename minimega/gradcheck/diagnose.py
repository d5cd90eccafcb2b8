"""Why is a backward pass wrong? Measure both Jacobians, ask every detector, and tell similar causes apart.

The analytic Jacobian comes from calling `back` with one output at a time, the true one from finite
differences, one input entry at a time. Of a large array only a box of neighbouring entries is examined.
"""

import itertools

import numpy as np

from minimega.gradcheck.causes import CAUSES, CLOSE, Evidence, Finding
from minimega.gradcheck.causes.rest import unknown
from minimega.gradcheck.differences import Slope, Subject, scales, slope

WHOLE = 256  # arrays up to this size are examined whole
BOX = 64  # entries examined of a larger array
REACH = 100_000  # with more outputs than this, do not search for those that an entry reaches
MIXTURES = 6  # random cotangents, used if single outputs show nothing


def explain(subject: Subject, x: list[np.ndarray], i: int, seed: int) -> tuple[list[Finding], Evidence]:
    """The causes that fit the wrong gradient of argument i, most likely first, and the evidence for them.

    A cause must also fit at random arrays of the same shapes: some fit only because these values are special
    (all ones, a symmetric matrix).
    """
    given = gather(subject, x, i, seed)
    found, tried, hidden = candidates(given), 0, False
    for attempt in range(3):
        rng = np.random.default_rng((seed, attempt))
        try:
            other = gather(subject, [_another(a, rng, attempt) for a in x], i, seed)
        except Exception:  # f may raise anything at other values; skip them
            continue
        if not np.isfinite(other.J).all():
            continue  # outside the domain
        if other.same(other.A, other.J):
            hidden = True
            continue
        found, tried = _agree(found, candidates(other)) or [unknown(given)], tried + 1
        if tried == 2 or len(found) == 1:
            break
    if not any(f.firm for f in found):
        found = with_transposed(subject, x, i, seed, given) + found
    if hidden and found[0].cause == "zero" and not found[0].mark:
        found = [
            Finding("mask", "only zeros here, but right at other values of x: here no gradient passes"),
            *found,
        ]
    return found, given


def with_transposed(subject: Subject, x: list[np.ndarray], i: int, seed: int, e: Evidence) -> list[Finding]:
    """The finding, if the gradient would be right with another argument transposed (dy @ w for dy @ w.T)."""
    for j, a in enumerate(x):
        if j != i and a.ndim > 1 and a.shape[-1] == a.shape[-2] > 1 and e.unit and e.whole:
            turned = gather(subject, [b.swapaxes(-1, -2) if j == k else b for k, b in enumerate(x)], i, seed)
            if turned.J.shape == e.A.shape and e.same(e.A, turned.J):
                return [Finding("transposed", f"it would be right if {subject.names[j]} were transposed")]
    return []


def _agree(found: list[Finding], elsewhere: list[Finding]) -> list[Finding]:
    """The findings that fit both here and elsewhere; if none does, those from elsewhere, then those here."""
    both = [f for f in found if any(f.agrees(g) for g in elsewhere)]
    if both:
        return both
    if {f.cause for f in elsewhere} == {"unknown"}:
        return elsewhere
    changed = {f.cause for f in found} & {g.cause for g in elsewhere}  # the same cause with another number
    return list({f.cause: f for f in [*elsewhere, *found] if f.cause not in changed | {"unknown"}}.values())


def _another(a: np.ndarray, rng: np.random.Generator, attempt: int) -> np.ndarray:
    """Random values in the range of these; on the last attempt close to them: the domain may be narrow."""
    if not a.size:
        return a
    low, high = float(a.min()), float(a.max())
    if attempt == 2:
        return a * rng.uniform(0.9, 1.1, a.shape)
    if low == high:
        low, high = (0.5 * low, 1.5 * low) if low else (-1.0, 1.0)
    return rng.uniform(low, high, a.shape)


def candidates(e: Evidence) -> list[Finding]:
    """Every cause that fits the evidence, in the order of the table; looser signs count only if none does."""
    if not np.isfinite(e.A).all():
        return [unknown(e)]
    found = _ask(e, "sees")
    first = found[0].cause if found else None
    if first in ("zero", "sign", "scale") and e.same(e.A, _factor(e) * e.J):
        # one constant factor explains everything; 1/2 may also be one of two equal terms
        half = first == "scale" and abs(_factor(e) - 0.5) < 1e-6
        twin = [Finding("path", "or one of two equal terms is missing")] if half else []
        return found[:1] + twin
    return found or _ask(e, "suspects") or [unknown(e)]


def _factor(e: Evidence) -> float:
    return float(np.sum(e.A * e.J) / np.sum(e.J * e.J)) if np.any(e.J) else 0.0


def _ask(e: Evidence, how: str) -> list[Finding]:
    found = []
    for word, cause in CAUSES.items():
        before = {f.cause for f in found}
        if (word == "mask" and before - {"zero", "path"}) or (word == "path" and "mean" in before):
            continue  # these would fit too, but the cause already found says more
        answer = getattr(cause, how) and getattr(cause, how)(e)
        if answer:
            text, mark = answer if isinstance(answer, tuple) else (answer, None)
            found.append(Finding(word, text, mark, firm=word != "path" or how == "sees"))
    return found


def gather(subject: Subject, x: list[np.ndarray], i: int, seed: int) -> Evidence:
    """Both Jacobians of argument i at these arrays, on boxes of y and x that contain wrong entries."""
    look = _Look(subject, x, i, np.random.default_rng(seed))
    y = look.at.y
    places = np.arange(y.size).reshape(y.shape)
    for u in (look.rng.random(), 0.0, 1 - 1e-9) if look.linear else ():
        box = _box(x[i].shape, u)
        e = look.evidence(places[np.ix_(*_box(y.shape, u))], box)
        if _equal(e.A, e.J):
            continue
        if not look.misses(e) or {f.cause for f in _ask(e, "sees")} - {"zero", "mask"}:
            return e
    box = _box(x[i].shape, 0.0) if x[i].size <= WHOLE else look.wrong_part()
    return look.evidence(look.reached(box) if look.linear else None, box)


class _Look:
    """One forward pass and its backward; measures both Jacobians of argument i on chosen dys and entries."""

    def __init__(self, subject: Subject, x: list[np.ndarray], i: int, rng: np.random.Generator):
        self.subject, self.x, self.i, self.rng = subject, x, i, rng
        self.at = subject.linearize(x)
        count = self.at.y.size
        self.mixtures = rng.uniform(0.5, 1.5, (MIXTURES, count)) * rng.choice([-1.0, 1.0], (MIXTURES, count))
        one, other = self.mixtures[:2]
        self.linear = _equal(self.back(one + other), self.back(one) + self.back(other))

    def back(self, dy: np.ndarray) -> np.ndarray:
        """The gradient of argument i for this dy, in float64; zeros if back gives None."""
        g = self.at.back(dy.reshape(self.at.y.shape).copy())[self.i]
        return (
            np.zeros(self.x[self.i].shape)
            if g is None
            else g.reshape(self.x[self.i].shape).astype(np.float64)
        )

    def outputs(self, places: np.ndarray) -> np.ndarray:
        """One dy per output in `places`: 1 there, 0 elsewhere."""
        dys = np.zeros((places.size, self.at.y.size))
        dys[np.arange(places.size), places.ravel()] = 1
        return dys

    def reached(self, box: list[np.ndarray]) -> np.ndarray:
        """The outputs that the entries of a box reach, in order; none if there are too many to try."""
        if self.at.y.size > REACH:
            return np.array([], int)
        x, touched = self.x[self.i], np.zeros(self.at.y.size)
        for entry in itertools.product(*box):
            moved = x.copy()
            moved[entry] += 1e-3 * scales(x)[entry]
            moved = self.subject.value([*self.x[: self.i], moved, *self.x[self.i + 1 :]])
            touched += np.abs(moved - self.at.y).ravel()
        most = np.argsort(touched)[::-1][: 8 * BOX]
        return np.sort(most[touched[most] > 0])

    def evidence(self, places: np.ndarray | None, box: list[np.ndarray]) -> Evidence:
        """Both Jacobians for the outputs at `places` (None: random mixtures of all) and the box's entries."""
        x, y, names = self.x, self.at.y, self.subject.names
        if places is not None and not places.size:
            places = None
        A, J = self.jacobians(self.mixtures if places is None else self.outputs(places), box)
        seen = x[self.i][np.ix_(*box)]
        shape = (A.shape[:1] if places is None else places.shape) + seen.shape
        whole = seen.size == x[self.i].size and (places is None or places.shape == y.shape)
        others = {n: a for j, (n, a) in enumerate(zip(names, x, strict=True)) if j != self.i and whole}
        return Evidence(
            A.reshape(shape),
            J.reshape(shape),
            x=seen,
            y=None if places is None else y.ravel()[places],
            box=box,
            outputs=None
            if places is None or places.ndim != y.ndim
            else [np.unique(n) for n in np.unravel_index(places, y.shape)],
            whole=whole,
            lengths=_lengths(names, x, self.i, y),
            others=others,
            tokens=self.subject.tokens,
            dy_left_out=self.dy_left_out(),
            scalar=not y.ndim,
        )

    def misses(self, e: Evidence) -> bool:
        """Whether other outputs give these entries a gradient and the chosen ones do not."""
        some = np.abs(self.back(self.mixtures[0])[np.ix_(*e.box)])
        given = [np.any(T.reshape(-1, *some.shape), axis=0) for T in (e.A, e.J)]
        return bool(np.any((some > 1e-9 * np.max(some, initial=0)) & ~given[0] & given[1]))

    def slope(self, dys: np.ndarray, line: np.ndarray) -> Slope:
        """The slopes of <dy, y> for each of `dys` (rows) as argument i moves along the line."""
        before, x, after = self.x[: self.i], self.x[self.i], self.x[self.i + 1 :]

        def g(t):
            return dys @ self.subject.value([*before, x + t * line, *after]).ravel()

        y = self.at.y.ravel()
        return slope(g, dys @ y, np.abs(dys) @ np.abs(y))

    def jacobians(self, dys: np.ndarray, box: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """What back gives, and the true slopes, both (dys, *box); entries with a kink are 0 in both."""
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
        """A box of entries with a wrong gradient, by bisection: keep the half that is further off."""
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
        """Whether back ignores dy: it gives the same gradient for another one."""
        return not self.linear and _equal(self.back(self.mixtures[0]), self.back(self.mixtures[1]))


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.all(np.abs(a - b) <= CLOSE * np.max(np.abs(b), initial=0)))


def _box(shape: tuple[int, ...], u: float) -> list[np.ndarray]:
    """The indices to examine along each axis: all of a small array, else a box of neighbours.

    u in [0, 1) places the box. Arrays share one u, so axes of equal length are examined at the same place.
    """
    if np.prod(shape) <= WHOLE:
        return [np.arange(n) for n in shape]
    side = next(k for k in itertools.count(max(shape), -1) if k == 1 or np.prod(np.minimum(shape, k)) <= BOX)
    return [int(u * (n - min(n, side) + 1)) + np.arange(min(n, side)) for n in shape]


def _lengths(names: list[str], x: list[np.ndarray], i: int, y: np.ndarray) -> list[tuple[str, int]]:
    """The lengths and counts that may name a factor, the argument's own first."""
    arrays = [
        (names[i], x[i]),
        ("y", y),
        *((n, a) for j, (n, a) in enumerate(zip(names, x, strict=True)) if j != i),
    ]
    single = [(f"the length of axis {k} of {n}", m) for n, a in arrays for k, m in enumerate(a.shape)]
    rows = [(f"the number of rows of {n}", a.size // a.shape[-1]) for n, a in arrays if a.ndim > 1 and a.size]
    return single + rows + [(f"the number of entries of {n}", a.size) for n, a in arrays]
