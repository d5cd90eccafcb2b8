"""Detectors: a term of the gradient is missing or wrong.

x is the argument whose gradient is wrong, A the Jacobian that `back` gives, J the true one, and D = J - A the
term. A detector returns a sentence that says what it saw, or None.
"""

import numpy as np

from minimega.gradcheck.causes.entries import name_factor, rearranged
from minimega.gradcheck.causes.evidence import Evidence, fits


def mean(e: Evidence) -> str | None:
    """D is constant along an axis, or proportional to x there, and J maps both directions to 0."""
    for axes in _groups(e):
        D, J, x = e.along(axes), e.along(axes, e.J), e.x_along(axes)
        ones, centred = np.ones_like(x), x - x.mean(axis=-1, keepdims=True)
        for basis, what in (
            ((ones,), "the mean of the gradient"),
            ((centred,), "the part along the normalised x: xhat * mean(dxhat * xhat)"),
            ((x,), "the part along x: x * mean(dy * x) / mean(x * x)"),
            ((ones, centred), "the pair of mean terms"),
        ):
            if (
                x.shape[-1] > len(basis)
                and e.small(_rest(D, basis))
                and (not e.whole or all(_blind(J, v) for v in basis))
            ):
                return f"{what}, taken over {_axes(e, axes)}, is missing or wrong"
    return None


def _groups(e: Evidence) -> list[tuple[int, ...]]:
    """The axes of x that a sum may run over: each one, the last two, all."""
    axes = tuple(e.x_axes)
    return list(
        dict.fromkeys([*((a,) for a in reversed(axes)), *([axes[-2:], axes] if len(axes) > 1 else [])])
    )


def _axes(e: Evidence, axes) -> str:
    return " and ".join(e.axis(a) for a in axes)


def _rest(T: np.ndarray, basis) -> np.ndarray:
    """T (m, R, n) minus its projections onto the basis vectors (R, n)."""
    q = np.linalg.qr(np.stack(basis, axis=-1))[0]  # (R, n, c)
    return T - np.einsum("mrc,rnc->mrn", np.einsum("mrn,rnc->mrc", T, q), q)


def _blind(J: np.ndarray, v: np.ndarray) -> bool:
    """Whether y does not change, to first order, as x moves along v (up to a normalisation's small eps)."""
    return bool(
        np.all(np.abs(np.einsum("mrn,rn->mr", J, v)) <= 0.05 * np.max(np.abs(J) * np.abs(v)) + 1e-300)
    )


def rank_one(e: Evidence) -> str | None:
    """D is, in each row, softmax(x) times a number, or has a factor y over an axis of y."""
    for axes in _groups(e):
        p = np.exp(e.x_along(axes))
        if p.shape[-1] < 2 or not np.isfinite(p).all():
            continue
        if e.small(_rest(e.along(axes), (p,))) and not e.small(_rest(e.along(axes, e.J), (p,))):
            of_y = e.y is not None and e.y.shape == e.x.shape and (e.y > 0).all()
            term = "softmax(x)" if e.scalar else "y * sum(dy * y)" if of_y else "softmax(x) * sum(dy)"
            return f"the term {term} over {_axes(e, axes)} is missing or wrong"
    if e.y is None:
        return None
    for a in e.y_axes:
        if any(e.small(e.D - e.D.mean(axis=b, keepdims=True)) for b in e.x_axes if e.J.shape[b] > 2):
            continue  # a plain sum of x
        n = e.y.shape[a]
        y = np.moveaxis(e.y, a, -1).reshape(-1, n)
        # (entries of x, other outputs, n)
        D, J = (
            np.moveaxis(t.reshape(*e.y.shape, -1), (-1, a), (0, -1)).reshape(-1, len(y), n)
            for t in (e.D, e.J)
        )
        if n > 1 and e.small(_rest(D, (y,))) and not e.small(_rest(J, (y,))):
            return f"a term with sum(dy * y) over {e.axis(a)} is missing or wrong, as in softmax"
    return None


def low_rank(e: Evidence) -> str | None:
    """Looser: D is one column times one row."""
    m = e.D.reshape(-1, e.x.size)
    if min(m.shape) < 3:
        return None
    d, j = (np.linalg.svd(t, compute_uv=False) for t in (m, e.J.reshape(m.shape)))
    spread = np.minimum(e.there(m).any(axis=0).sum(), e.there(m).any(axis=1).sum())
    if d[1] <= e.close * d[0] and j[2] > e.close * j[0] and spread > 2:
        return "the missing part is one column times one row: a sum over everything that every entry shares"
    return None


def path(e: Evidence) -> str | None:
    """One term of J is missing: a residual, a product rule's term, a sum of x, one of two equal uses of x."""
    if e.small(e.A) or (e.there(e.A) & ~e.there(e.J)).any():
        return None  # leaving out a term adds no gradient where the true one is 0
    D, lacks = e.D.reshape(-1, e.x.size), e.there(e.D.reshape(-1, e.x.size))
    if e.unit and e.small(e.D[lacks.reshape(e.D.shape)] - D[lacks][:1]):
        whole = (lacks.sum(axis=1) == 1).all() if e.p else False
        if whole:
            factor = name_factor(float(D[lacks][0]), [])
            term = "dy" if factor == "1" else f"dy times {factor}"
            return f"the term {term} is missing: a path past the function, such as a residual"
        ones = e.along((e.p + e.x.ndim - 1,), lacks.reshape(e.D.shape)) if e.x.ndim else lacks
        if (ones.sum(axis=-1) <= 1).all() and e.x.size > 2 and e.there(e.A).mean() > 0.5:
            return "a term that reaches one entry of each row is missing"
    if e.y is not None and e.y.shape == e.x.shape and e.x.size > 1:
        diagonal = np.eye(e.x.size, dtype=bool)
        factors = [np.broadcast_to(a, e.x.shape) for a in e.others.values() if fits(a, e.x)]
        if any(e.same(np.diag(e.J.reshape(D.shape)), f.ravel()) for f in factors):
            return None  # a factor is missing, not a term
        if e.same(e.A.reshape(D.shape), diagonal * 1.0):
            return "dy passes unchanged; every other term is missing"
        if not lacks[~diagonal].any() and not e.there(e.A.reshape(D.shape))[~diagonal].any():
            return _product_rule(e, np.diag(e.A.reshape(D.shape)), np.diag(D))
    for a in e.x_axes:
        flat = e.small(e.D - e.D.mean(axis=a, keepdims=True)) and e.J.shape[a] > 2
        if flat and not e.small(e.J - e.J.mean(axis=a, keepdims=True)):
            return f"the term through the sum of x over {e.axis(a)} is missing"
    for text, moved in rearranged(e, e.A):
        if e.same(e.D, moved) or e.same(e.D, -moved):
            return f"one of two equal uses of x is missing; it equals the other if {text}"
    return None


def _product_rule(e: Evidence, has: np.ndarray, lacks: np.ndarray) -> str | None:
    known = {"y / x": e.y / np.where(e.x == 0, 1, e.x)}
    known |= {name: np.broadcast_to(a, e.x.shape) for name, a in e.others.items() if fits(a, e.x)}
    for name, values in known.items():
        v = values.ravel()
        if e.small(lacks - v) or e.small(lacks + v):
            return f"the term dy * {name} of a sum or product rule is missing"
        if e.small(has - v):
            return f"only the term dy * {name} is there; the product rule's other term is missing"
    return None


def apart(e: Evidence) -> str | None:
    """Looser: A occurs in J with factor 1, and D is uncorrelated with it."""
    a, d = e.A.ravel(), e.D.ravel()
    size = np.linalg.norm(a) * np.linalg.norm(d)
    if len(a) < 60 or size == 0 or min(np.linalg.norm(a), np.linalg.norm(d)) < 0.1 * np.linalg.norm(e.J):
        return None
    if abs(a @ d) / size < 0.05:
        return "what back gives is right as far as it goes; a whole term, unrelated to it, is missing"
    return None
