"""Is the backward pass right, and if not: why?

`check` compares what `back` gives with differences of the forward alone, and names the mistake.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from minimega.causes import Finding
from minimega.causes.rest import explain_shape
from minimega.diagnose import explain
from minimega.differences import CannotJudge, Linearized, Slope, Subject, scales, slope

SMALL, SMALL_IN_ALL = 256, 2048  # entries of one array, and of all, up to which every one of them is checked
DIRECTIONS = 2  # random directions for a larger array
TOLERANCE = 1e-8  # of the largest entry; the differences' own uncertainty comes on top


@dataclass
class Argument:
    """What was found about the gradient of one argument.

    `error` is the largest difference, relative to the largest true entry. `cause` is the first of the
    `candidates`, or None; `detail` says it in a sentence. `entries` are the first that differ: (index,
    analytic, numerical). `kinks` are entries at which the function has no derivative; they are not judged.
    `analytic` and `numerical` are the gradients for one random dy, on the entries that were looked at one
    by one (None where only directions were).
    """

    name: str
    shape: tuple[int, ...]
    ok: bool = True
    error: float = 0.0
    candidates: list[str] = field(default_factory=list)
    detail: str = ""
    entries: list[tuple] = field(default_factory=list)
    kinks: list[tuple[int, ...]] = field(default_factory=list)
    analytic: np.ndarray | None = None
    numerical: np.ndarray | None = None
    how: str = ""

    cause = property(lambda self: self.candidates[0] if self.candidates else None)

    def blame(self, findings: list[Finding]) -> None:
        """Take over why this gradient is wrong, the likeliest first."""
        self.ok = False
        new = [f for f in findings if f.cause not in self.candidates]
        self.detail = self.detail or (new[0].detail if new else "")
        self.candidates += [f.cause for f in new]

    def __str__(self) -> str:
        head = f"  {self.name} {self.shape}: "
        if self.ok:
            note = (
                f"; not judged at {len(self.kinks)} kink(s), first at {self.kinks[0]}" if self.kinks else ""
            )
            return f"{head}right, {self.how}, error {self.error:.1e}{note}"
        others = f" (or {', '.join(self.candidates[1:])})" if len(self.candidates) > 1 else ""
        lines = [f"{head}WRONG, error {self.error:.2g}. Cause: {self.cause}{others}.", f"      {self.detail}"]
        lines += [f"      at {i}: back gives {a:.6g}, differences {n:.6g}" for i, a, n in self.entries]
        return "\n".join(lines)


@dataclass
class Report:
    """All arguments of one check, in their order: the inputs, then a layer's parameters."""

    name: str
    arguments: list[Argument]
    evaluations: int

    ok = property(lambda self: all(a.ok for a in self.arguments))

    def __str__(self) -> str:
        verdict = "the backward pass is right" if self.ok else "the backward pass is WRONG"
        lines = [f"{self.name}: {verdict} ({self.evaluations} evaluations of the forward)"]
        return "\n".join(lines + [str(a) for a in self.arguments])


def check(f: Callable, *arrays, seed: int = 0, directions: int | None = None) -> Report:
    """Compare the backward pass of f at these arrays with differences of its forward, and say what is wrong.

    f gives (y, back) on arrays, or a Tensor on Tensors, or is a layer or a model (`model.loss` is checked),
    whose parameters count as arguments too. Every entry of small arrays is checked, random directions for
    large ones; `directions` asks for that many everywhere. Arrays of float32 are checked as float64 first,
    then within float32's rounding. Raises CannotJudge (a BadInput) where no verdict is possible.

    >>> x = np.array([[0.1, 0.7, -0.3]])
    >>> check(lambda x: (x * x, lambda dy: 2 * dy * x), x).ok
    True
    >>> check(lambda x: (x * x * x, lambda dy: -3 * dy * x * x), x).arguments[0].cause
    'sign'
    """
    subject = Subject(f, arrays)
    try:
        with np.errstate(all="ignore"):
            return _Check(subject, seed, directions).run()
    finally:
        subject.restore()


def assert_gradients(f: Callable, *arrays, seed: int = 0, directions: int | None = None) -> None:
    """Raise AssertionError with the whole report unless every gradient is right: see `check`."""
    report = check(f, *arrays, seed=seed, directions=directions)
    assert report.ok, f"\n{report}"


class _Check:
    """One check under way."""

    def __init__(self, subject: Subject, seed: int, directions: int | None):
        self.subject, self.directions, self.seed = subject, directions, seed
        self.rng = np.random.default_rng(seed)
        self.x = [a.astype(np.float64) for a in subject.arrays]
        self.arguments = [Argument(n, a.shape) for n, a in zip(subject.names, self.x, strict=True)]

    def run(self) -> Report:
        s = self.subject
        at = s.linearize(self.x)
        self.y = at.y
        if not np.isfinite(at.y).all():
            raise CannotJudge(f"{s.name}: the output holds a value that is not finite")
        if not np.allclose(s.value(self.x), at.y, rtol=1e-9, atol=0):
            for a in self.arguments:
                a.blame([Finding("random", "the forward gives another output when it is called again")])
            return Report(s.name, self.arguments, s.evaluations)
        # no weight near 0, so that no output goes unseen
        signs = self.rng.choice([-1.0, 1.0], (2, *at.y.shape))
        self.dys = signs * self.rng.uniform(0.5, 1.5, signs.shape)
        self.gradients = [self._back_twice(at), at.back(self.dys[1].copy())]
        slopes = [self._measure(i) for i in range(len(self.x))]
        self._refuse_flat(slopes)
        for i, measured in enumerate(slopes):
            self._judge(i, *measured)
        self._judge_rounding()
        return Report(s.name, self.arguments, s.evaluations)

    def _back_twice(self, at: Linearized) -> list:
        """The gradients for the first dy; who changes an array or answers differently the second time is blamed."""
        dy = self.dys[0].copy()
        first = at.back(dy)
        changed = [not np.array_equal(a, b) for a, b in zip(at.inputs, self.x, strict=True)]
        everybody = []
        if not np.array_equal(dy, self.dys[0]):
            everybody.append("back changes its dy in place")
        if not np.array_equal(at.outputs, at.y):
            everybody.append("back changes the output y in place")
        second = at.back(self.dys[0].copy())
        for a, g, h, input_changed in zip(self.arguments, first, second, changed, strict=True):
            if input_changed:
                a.blame([Finding("mutated", f"{a.name} is changed in place, by the forward or by back")])
            elif everybody:
                a.blame([Finding("mutated", everybody[0])])
            if g is not None and (
                h is None or g.shape != h.shape or not np.allclose(g, h, rtol=1e-12, atol=0)
            ):
                a.blame(
                    [Finding("stateful", "a second call of back with the same dy gives another gradient")]
                )
        return first

    def _measure(self, i: int) -> tuple[list[np.ndarray], list[Slope]]:
        """The lines along which argument i is looked at, and the slopes of <dy, y> along them for both dys."""
        x, count = self.x[i], self.directions
        reach = scales(x)
        if count is None and x.size <= SMALL and sum(a.size for a in self.x) <= SMALL_IN_ALL:
            lines = [np.zeros_like(x) for _ in range(x.size)]
            for j, line in enumerate(lines):
                line.flat[j] = reach.flat[j]
            self.arguments[i].how = "every entry"
        else:
            count = count or DIRECTIONS
            lines = [reach * self.rng.normal(size=x.shape) for _ in range(count)]
            self.arguments[i].how = f"{count} random directions"
        weights = self.dys.reshape(2, -1)
        y0, size = weights @ self.y.ravel(), np.abs(weights) @ np.abs(self.y.ravel())

        def along(line):
            def g(t):
                moved = [*self.x[:i], x + t * line, *self.x[i + 1 :]]
                return weights @ self.subject.value(moved).ravel()

            return slope(g, y0, size)

        return lines, [along(line) for line in lines]

    def _refuse_flat(self, measured: list) -> None:
        """Raise CannotJudge where rounding hides every slope, or no step makes the differences settle."""
        values = np.concatenate([[m.value for m in slopes] for _, slopes in measured if slopes])
        errors = np.concatenate([[m.error for m in slopes] for _, slopes in measured if slopes])
        kinks = np.concatenate([[m.kink for m in slopes] for _, slopes in measured if slopes])
        name, self.largest = self.subject.name, np.max(np.abs(values))
        if kinks.all():
            raise CannotJudge(
                f"{name}: left and right slopes differ at every entry; move the inputs off the kinks"
            )
        if np.any(errors[~kinks] > 1e-4 * max(self.largest, self._steepest(measured))):
            raise CannotJudge(
                f"{name}: the differences do not settle at any step: every step is too large for so rough a function, "
                "or it computes in low precision or jumps; choose other inputs, and float64 inside"
            )
        if np.all(np.abs(values) <= 10 * errors) and self._steepest(measured) <= 10 * np.max(errors):
            raise CannotJudge(
                f"{name}: the output is too flat: no input changes it beyond rounding, so any gradient near 0 would "
                "pass; choose inputs at which it changes"
            )

    def _steepest(self, measured: list) -> float:
        """The largest slope that `back` claims along the lines."""
        claims = [0.0]
        for gradients in self.gradients:
            for g, x, (lines, _) in zip(gradients, self.x, measured, strict=True):
                if g is not None and g.shape == x.shape:
                    claims += [abs(float(np.sum(g * line))) for line in lines]
        return float(np.nanmax(claims))

    def _judge(self, i: int, lines: list[np.ndarray], slopes: list[Slope]) -> None:
        a, x = self.arguments[i], self.x[i]
        if not x.size:
            return
        length = (
            np.array([np.max(np.abs(line)) for line in lines])[:, None] if a.how == "every entry" else 1.0
        )
        numerical = np.array([m.value for m in slopes]) / length  # (lines, 2): both dys
        unsure = np.array([m.error for m in slopes]) / length
        judged = ~np.array([m.kink for m in slopes])
        scale = np.max(np.abs(numerical[judged]), initial=0)
        allowed = TOLERANCE * scale + 10 * unsure + 100 * np.finfo(float).eps * self.largest

        def along(gradients) -> np.ndarray:
            return np.array([[np.sum(g * line) for g in gradients] for line in lines]) / length

        given = [g[i] for g in self.gradients]
        if any(g is not None and g.shape != x.shape for g in given):
            first = numerical[:, :1], allowed[:, :1], judged
            a.blame(explain_shape(given[0], x.shape, lambda g: _within(along([g]), *first)))
            a.error = np.inf
            return
        analytic = along([np.zeros_like(x) if g is None else g for g in given])
        off = np.abs(analytic - numerical)
        a.error = float(np.max(off[judged], initial=0) / (scale or self.largest))
        wrong = judged & ~np.all(off <= allowed, axis=1)
        if a.how == "every entry":
            a.analytic, a.numerical = analytic[:, 0].reshape(x.shape), numerical[:, 0].reshape(x.shape)
            a.kinks = [_index(j, x.shape) for j in np.flatnonzero(~judged)]
            a.entries = [
                (_index(j, x.shape), float(analytic[j, 0]), float(numerical[j, 0]))
                for j in np.flatnonzero(wrong)[:4]
            ]
        if wrong.any():
            a.blame(explain(self.subject, self.x, i, self.seed)[0])
        elif a.ok and a.kinks:
            a.candidates, a.detail = (
                ["kink"],
                "left and right slopes differ at these entries; the others are right",
            )

    def _judge_rounding(self) -> None:
        """Arrays of lower precision: is the gradient right within their rounding, not only in float64?

        The rounding allowed is that of the sums, and what the gradient changes by when the inputs are
        rounded.
        """
        s, eps = self.subject, max(np.finfo(a.dtype).eps for a in self.subject.arrays)
        if eps <= np.finfo(np.float64).eps:
            return
        at = s.linearize(s.arrays)
        low = at.back(self.dys[0].astype(at.outputs.dtype))
        shaken = []
        for _ in range(3):
            moved = [x * (1 + eps * self.rng.choice([-1, 1], x.shape)) for x in self.x]
            shaken.append(s.linearize(moved).back(self.dys[0].copy()))
        for i, a in enumerate(self.arguments):
            g, high = low[i], self.gradients[0][i]
            if not a.ok or high is None or not high.size or g is None or g.shape != high.shape:
                continue
            change = max(np.max(np.abs(other[i] - high)) for other in shaken)
            size = np.max(np.abs(high))
            allowed = (32 + np.sqrt(max(x.size for x in self.x))) * eps * max(
                size, eps * self.largest
            ) + 16 * change
            off = np.where(np.isfinite(g), np.abs(g - high), np.inf)
            for k in a.kinks:
                off[k] = 0
            if not np.max(off) <= allowed:
                where = np.unravel_index(np.argmax(off), off.shape)
                a.error = float(np.max(off) / size) if size else np.inf
                a.entries = [(tuple(int(k) for k in where), float(g[where]), float(high[where]))]
                name = s.arrays[i].dtype
                text = f"right in float64, but off by {a.error:.1e} in {name}, where rounding explains {allowed / size:.1e}"
                a.candidates, a.detail = [], ""
                a.blame([Finding("precision", text)])


def _within(analytic, numerical, allowed, judged) -> bool:
    return bool(np.all((np.abs(analytic - numerical) <= allowed)[judged]))


def _index(j: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(j, shape))
