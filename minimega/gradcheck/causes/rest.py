"""The findings if the shapes differ, so that no Jacobians can be compared, and if no cause fits."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from minimega.gradcheck.causes.evidence import CLOSE, Evidence, Finding, fits


def digits(e: Evidence) -> str | None:
    """Looser: every entry is nearly right, and the errors have no form."""
    if e.apart > CLOSE:
        return None
    return (
        f"right except for the last digits, off by at most {e.apart:.1e} of the largest entry "
        f"(float32 rounds by {np.finfo('f4').eps:.1e}): something in back has fewer digits than float64"
    )


def unknown(e: Evidence) -> Finding:
    """No cause fits: say which entries are wrong, and how they relate to the true ones."""
    return Finding("unknown", " ".join(p for p in _patterns(e) if p), firm=False)


def _patterns(e: Evidence) -> Iterator[str]:
    bad = ~np.isfinite(e.A)
    if bad.any():
        yield f"The gradient is not finite at {e.share(int(bad.reshape(-1, e.x.size).any(axis=0).sum()))}."
        return
    if e.dy_left_out:
        yield "back gives the same gradient for every dy: the factor dy is missing."
    wrong = e.there(e.D)
    for a in e.x_axes:
        rows = np.flatnonzero(np.moveaxis(wrong, a, 0).reshape(wrong.shape[a], -1).any(axis=1))
        if len(rows) < wrong.shape[a]:
            yield f"It differs only at {e.indices(a, rows.tolist())} of {e.axis(a)}." if len(rows) else ""
    with np.errstate(all="ignore"):
        ratio = np.where(e.there(e.J), e.A / e.J, np.nan).reshape(-1, e.x.size)
        low, high = np.nanmin(ratio, axis=0, initial=np.inf), np.nanmax(ratio, axis=0, initial=-np.inf)
        if np.array_equal(e.there(e.J), e.there(e.A)) and np.allclose(low, high, rtol=1e-5):
            factors = np.where(np.isfinite(low), low, np.nan).reshape(e.x.shape)
            low, high = np.nanmin(factors), np.nanmax(factors)
            yield f"Each entry has its own factor, from {low:.3g} to {high:.3g}{_named_factors(e, factors)}."
    a, j = e.A.ravel(), e.J.ravel()
    norm = np.linalg.norm(a) * np.linalg.norm(j)
    yield f"Its correlation with the true gradient is {a @ j / norm:.2f}." if norm else ""


def _named_factors(e: Evidence, factors: np.ndarray) -> str:
    known: dict[str, np.ndarray] = {"x": e.x, **e.others} | (
        {"y": e.y} if e.y is not None and e.y.shape == e.x.shape else {}
    )
    for (name, values), (form, power) in itertools.product(
        known.items(), (("{}", 1), ("1 / {}", -1), ("{}^2", 2), ("1 / {}^2", -2))
    ):
        if fits(values, e.x) and np.allclose(factors, values ** float(power), rtol=1e-4, equal_nan=True):
            return f": {form.format(name)}"
    flat = [
        k
        for k in range(e.x.ndim)
        if e.x.shape[k] > 1 and np.allclose(factors, factors.take([0], k), rtol=1e-5)
    ]
    return f", the same along axis {flat[0]}" if flat else ""


def explain_shape(g: np.ndarray, shape: tuple[int, ...], fits: Callable) -> list[Finding]:
    """Why a gradient's shape differs from its argument's: a missing sum, an axis order, or the shape alone.

    `fits(g)` says whether an array of the right shape is the right gradient.
    """
    text, size, found = f"the gradient has shape {g.shape}, the argument {shape}", int(np.prod(shape)), []
    for order in itertools.permutations(range(g.ndim)):
        if not found and g.transpose(order).shape == shape and fits(g.transpose(order)):
            found.append(Finding("transposed", f"{text}; it is right with its axes in the order {order}"))
    if g.size == size and fits(g.reshape(shape)):
        found.append(Finding("shape", f"{text}; its numbers are right"))
    for count in range(1, g.ndim + 1):
        for axes in itertools.combinations(range(g.ndim), count):
            total = g.sum(axis=axes)
            if total.size == size < g.size and fits(total.reshape(shape)):
                where = f"axes {axes}" if count > 1 else f"axis {axes[0]}"
                found.append(Finding("broadcast", f"{text}; summed over {where} it is right"))
    words: dict[str, Finding] = {}
    for f in [*found, Finding("shape", text)]:
        words.setdefault(f.cause, f)
    return list(words.values())
