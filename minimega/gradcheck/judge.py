"""One gradient check: what is measured, and when a gradient counts as right."""

import numpy as np

from minimega.backend import to_numpy
from minimega.contract import WrongOperation, WrongShape
from minimega.gradcheck.causes import Finding
from minimega.gradcheck.causes.rest import explain_shape
from minimega.gradcheck.diagnose import explain
from minimega.gradcheck.differences import CannotJudge, Linearized, Slope, Subject, scales, slope
from minimega.gradcheck.report import Argument, Report
from minimega.gradcheck.rounding import SUM, beyond_rounding

SMALL, SMALL_IN_ALL = 256, 2048  # most entries, of one array and of all, for checking every entry
DIRECTIONS = 2  # random directions for a larger array
# causes that lie in a computation shared by several arguments' gradients
SHARED = ("transposed", "shifted", "mean", "rank-one", "mask")
AGREE = 1e-5  # a complex step is trusted if it agrees with real differences to this
SOME = 64  # entries of a large array to check if every direction crosses a kink
TOLERANCE = 1e-8  # of the largest entry; the finite differences' own uncertainty is added


class Judge:
    """One gradient check of a subject; `directions` as in `check`."""

    def __init__(self, subject: Subject, seed: int, directions: int | None):
        self.subject, self.directions, self.seed = subject, directions, seed
        self.rng = np.random.default_rng(seed)
        self.guessed: list[Argument] = []  # wrong, without a firm cause
        self.x = [a.astype(np.float64) for a in subject.arrays]
        self.arguments = [Argument(n, a.shape) for n, a in zip(subject.names, self.x, strict=True)]

    def run(self) -> Report:
        """Check every argument. Raises CannotJudge if no verdict is possible."""
        s = self.subject
        at = s.linearize(self.x)
        self.y = at.y
        if not np.isfinite(at.y).all():
            raise CannotJudge(f"{s.name}: the output holds a value that is not finite")
        if _differ(s.value(self.x), at.y):
            for a in self.arguments:
                a.blame([Finding("random", "the forward gives a different output when it is called again")])
            return Report(s.name, self.arguments, s.evaluations, s.no_operation is None)
        # no weight near 0: every output must count
        signs = self.rng.choice([-1.0, 1.0], (2, *at.y.shape))
        self.dys = signs * self.rng.uniform(0.5, 1.5, signs.shape)
        try:
            self.gradients = [self._back_twice(at), s.linearize(self.x).back(self.dys[1].copy())]
        except (WrongShape, WrongOperation) as error:
            cause = "shape" if isinstance(error, WrongShape) else "count"
            for a in self.arguments:
                a.blame([Finding(cause, " ".join(str(error).split()))])
                a.error = np.inf
            return Report(s.name, self.arguments, s.evaluations, s.no_operation is None)
        slopes = [self._measure(i) for i in range(len(self.x))]
        self._refuse_flat(slopes)
        for i, measured in enumerate(slopes):
            self._judge(i, *measured)
        self._share_causes()
        self._judge_rounding()
        return Report(s.name, self.arguments, s.evaluations, s.no_operation is None)

    def _back_twice(self, at: Linearized) -> list:
        """The gradients for the first dy. Blames arrays changed in place and a second call that differs."""
        dy = self.dys[0].copy()
        first = at.back(dy)
        changed = [not np.array_equal(a, b) for a, b in zip(at.inputs, self.x, strict=True)]
        everybody = []
        if not np.array_equal(dy, self.dys[0]):
            everybody.append("back changes dy in place")
        if not np.array_equal(to_numpy(at.outputs), at.y):
            everybody.append("back changes the output y in place")
        second = at.back(self.dys[0].copy())
        for a, g, h, input_changed in zip(self.arguments, first, second, changed, strict=True):
            if input_changed:
                a.blame([Finding("mutated", f"{a.name} is changed in place, by the forward or by back")])
            elif everybody:
                a.blame([Finding("mutated", everybody[0])])
            if g is not None and (h is None or _differ(g, h)):
                a.blame(
                    [Finding("stateful", "a second call of back with the same dy gives a different gradient")]
                )
        return first

    def _measure(self, i: int) -> tuple[list[np.ndarray], list[Slope]]:
        """The lines along which argument i is checked, and the slopes of <dy, y> there for both dys."""
        x, count, a = self.x[i], self.directions, self.arguments[i]
        reach = scales(x)
        if count is None and x.size <= SMALL and sum(a.size for a in self.x) <= SMALL_IN_ALL:
            a.how, entries = "every entry", range(x.size)
        else:
            a.how = f"{count or DIRECTIONS} random directions"
            lines = [reach * self.rng.normal(size=x.shape) for _ in range(count or DIRECTIONS)]
            slopes = [self._slope(i, line) for line in lines]
            if not all(m.kink for m in slopes):
                return lines, slopes
            entries = self.rng.choice(x.size, min(x.size, SOME), replace=False)  # not all are kinks
            a.how = f"{len(entries)} random entries, since every direction crosses a kink"
        lines = [np.zeros_like(x) for _ in entries]
        for j, line in zip(entries, lines, strict=True):
            line.flat[j] = reach.flat[j]
        return lines, [self._slope(i, line) for line in lines]

    def _slope(self, i: int, line: np.ndarray) -> Slope:
        """The slopes of <dy, y> as argument i moves along a line, for both dys."""
        weights = self.dys.reshape(2, -1)
        y0, size = weights @ self.y.ravel(), np.abs(weights) @ np.abs(self.y.ravel())

        def g(t):
            moved = [*self.x[:i], self.x[i] + t * line, *self.x[i + 1 :]]
            return weights @ self.subject.value(moved).ravel()

        return slope(g, y0, size)

    def _refuse_flat(self, measured: list) -> None:
        """Raise CannotJudge if rounding hides every slope, or the differences settle at no step."""
        found = [m for _, slopes in measured for m in slopes]
        name, rounding = self.subject.name, max(m.rounding for m in found)
        errors = max([float(np.max(m.error)) for m in found if not m.kink], default=0)
        self.largest = max(float(np.max(np.abs(m.value))) for m in found)
        if all(m.kink for m in found):
            raise CannotJudge(
                f"{name}: left and right slopes differ at every entry; move the inputs off the kinks"
            )
        if (
            all(np.all(np.abs(m.value) <= 10 * m.error) for m in found)
            and self._steepest(measured) <= 10 * errors
        ):
            raise CannotJudge(
                f"{name}: the output is too flat: no input changes it beyond rounding, so any gradient "
                "near 0 would pass; choose inputs that change it"
            )
        if errors > max(1e-6 * self.largest, 100 * rounding):
            raise CannotJudge(
                f"{name}: the finite differences do not settle at any step: the function is too rough, "
                "jumps, or computes in low precision; choose other inputs, or compute in float64"
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
        # what a line along one entry was scaled by
        length = np.array([[np.max(np.abs(v)) if np.count_nonzero(v) == 1 else 1.0] for v in lines])
        numerical = np.array([m.value for m in slopes]) / length  # (lines, 2): both dys
        unsure = np.array([m.error for m in slopes]) / length
        judged = ~np.array([m.kink for m in slopes])
        scale = np.max(np.abs(numerical[judged]), initial=0)
        allowed = TOLERANCE * scale + 10 * unsure + 100 * np.finfo(float).eps * self.largest

        def along(gradients) -> np.ndarray:
            return np.array([[np.sum(g * line) for g in gradients] for line in lines]) / length

        given = [g[i] for g in self.gradients]
        types = {g.dtype for g in given if g is not None and g.dtype.kind == "f"}
        eps = max((np.finfo(t).eps for t in types), default=0.0)
        if eps > np.finfo(float).eps:  # back rounds its gradients to this precision
            allowed += SUM * eps * scale
            a.how += f", to the rounding of {max(types, key=lambda t: np.finfo(t).eps)}, which back gives"
        if any(g is not None and g.shape != x.shape for g in given):
            first = numerical[:, :1], allowed[:, :1], judged
            a.blame(explain_shape(given[0], x.shape, lambda g: _within(along([g]), *first)))
            a.error = np.inf
            return
        analytic = along([np.zeros_like(x) if g is None else g for g in given])
        off = np.abs(analytic - numerical)
        a.error = float(np.nan_to_num(np.max(off[judged], initial=0) / (scale or self.largest), nan=np.inf))
        wrong = judged & ~np.all(off <= allowed, axis=1)
        if a.how == "every entry":
            a.analytic, a.numerical = analytic[:, 0].reshape(x.shape), numerical[:, 0].reshape(x.shape)
            a.kinks = [_index(j, x.shape) for j in np.flatnonzero(~judged)]
            a.entries = [
                (_index(j, x.shape), float(analytic[j, 0]), float(numerical[j, 0]))
                for j in np.flatnonzero(wrong)[:4]
            ]
        a.sharp = self._second_opinion(
            i, lines, analytic[:, 0] * np.ravel(length), numerical[:, 0] * np.ravel(length)
        )
        if wrong.any() and "stateful" in a.candidates:
            a.ok = False  # calls of back disagree: there is no Jacobian to measure
        elif wrong.any():
            self._explain(i)
        elif a.ok and a.kinks:
            a.candidates, a.detail = ["kink"], "left and right slopes differ there; the rest is right"

    def _second_opinion(
        self, i: int, lines: list, analytic: np.ndarray, numerical: np.ndarray
    ) -> float | None:
        """The error by complex steps, exact to rounding; None if they fail or disagree with real ones."""
        slopes = []
        for line in lines:
            dy = self.subject.complex_slope(self.x, i, line)
            if dy is None:
                return None
            slopes.append(float(np.sum(self.dys[0] * dy)))
        size = np.max(np.abs(slopes))
        trusted = size > 0 and np.max(np.abs(slopes - numerical)) <= AGREE * size
        return float(np.max(np.abs(slopes - analytic)) / size) if trusted else None

    def _explain(self, i: int) -> None:
        a = self.arguments[i]
        findings, seen = explain(self.subject, self.x, i, self.seed)
        a.blame(findings)
        if not findings[0].firm:
            self.guessed.append(a)
        if a.analytic is None:  # only directions were checked: show the box that the diagnosis examined
            mix = self.rng.uniform(0.5, 1.5, seen.A.shape[: seen.p])
            a.analytic, a.numerical = (np.tensordot(mix, T, seen.p) for T in (seen.A, seen.J))
            off = np.abs(a.analytic - a.numerical) > 1e-6 * np.max(np.abs(a.numerical), initial=0)
            for at in [tuple(at) for at in np.argwhere(off)[:4]]:
                place = tuple(int(b[k]) for b, k in zip(seen.box, at, strict=True))
                line = np.zeros_like(self.x[i])
                line[place] = scales(self.x[i])[place]
                truth = float(self._slope(i, line).value[0] / line[place])
                g = self.gradients[0][i]
                a.entries.append((place, 0.0 if g is None else float(g[place]), truth))

    def _share_causes(self) -> None:
        """One mistake often spoils several gradients: an argument without a firm cause takes another's."""
        known = [a for a in self.arguments if not a.ok and a not in self.guessed and a.cause in SHARED]
        for a in self.guessed:
            if known:
                a.candidates = list(dict.fromkeys([*known[0].candidates[:1], *a.candidates]))
                a.detail = f"most likely the same mistake as in {known[0].name}; here: {a.detail}"

    def _judge_rounding(self) -> None:
        """For arrays of lower precision: is the gradient also right within their rounding?"""
        right = [a.ok for a in self.arguments]
        for fault in beyond_rounding(
            self.subject, self.x, self.dys[0], self.gradients[0], self.largest, self.rng
        ):
            a = self.arguments[fault.argument]
            if right[fault.argument] and fault.place not in a.kinks:
                a.error, a.entries = fault.error, [(fault.place, fault.low, fault.high)]
                a.candidates, a.detail = [], ""
                a.blame([Finding("precision", fault.detail)])


def _differ(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two results that should be equal differ by more than the order of a threaded sum explains."""
    near = 1e-11 * np.max(np.abs(b), initial=0)
    return a.shape != b.shape or not np.allclose(a, b, rtol=0, atol=near, equal_nan=True)


def _within(analytic, numerical, allowed, judged) -> bool:
    return bool(np.all((np.abs(analytic - numerical) <= allowed)[judged]))


def _index(j: int | np.integer, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(j, shape))
