"""Detectors: the right numbers times a factor, in the wrong places, or only some of them.

x is the argument whose gradient is wrong, A the Jacobian that `back` gives, J the true one, D = J - A. A
detector returns a sentence that says what it saw (some with a mark, see `Finding`), or None.
"""

import itertools
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from minimega.gradcheck.causes.evidence import FINE, Evidence, Slices

EXACT = 1e-6  # a factor this close to a number is that number


def zero(e: Evidence) -> tuple[str, object] | str | None:
    """Zero everywhere, or in whole slices along one axis of x."""
    if e.small(e.A):
        return "back gives only zeros: the gradient is never filled in"
    for a in e.x_axes:
        A, J = (np.moveaxis(t, a, 0).reshape(t.shape[a], -1) for t in (e.A, e.J))
        empty = [i for i in range(len(A)) if e.small(A[i])]
        lost = [i for i in empty if not e.small(J[i])]
        if not lost or not e.small(np.delete(A - J, empty, 0)):
            continue
        a_run = set(range(lost[0], lost[-1] + 1)) <= set(empty)
        if e.x.ndim > 1 or (
            a_run and (0 in empty or len(A) - 1 in empty)
        ):  # zeros at single entries may come from a mask
            mark = Slices(a, frozenset(lost), frozenset(empty))
            return f"zeros at {e.indices(a, lost)} of {e.axis(a)}, never filled in; the rest is right", mark
    return None


def sign(e: Evidence) -> str | None:
    """The right sizes, with the wrong sign everywhere or at some entries."""
    if e.same(e.A, -e.J):
        return "the gradient is the true one times -1"
    if e.same(np.abs(e.A), np.abs(e.J)):
        flipped = e.there(e.D)
        touched = np.flatnonzero(flipped.reshape(-1, e.x.size).any(axis=0))
        if not len(touched):
            return None  # no sign differs
        below = np.array_equal(np.unravel_index(touched, e.x.shape), np.nonzero(e.x < 0))
        where = "where x is negative" if below else f"at {e.share(len(touched))}"
        return f"the sign is wrong {where}; the sizes are right"
    return None


def scale(e: Evidence) -> tuple[str, object] | None:
    """The true gradient times one constant, or without its factor dy."""
    if e.dy_left_out and e.scalar:
        return "the gradient does not depend on dy: it is right at dy = 1, so the factor dy is missing", "dy"
    if e.small(e.A) or e.small(e.J):
        return None
    factor = float(np.sum(e.A * e.J) / np.sum(e.J * e.J))
    if not e.same(e.A, factor * e.J):
        return None
    return f"the gradient is the true one times {name_factor(factor, e.lengths)}", round(factor, 6)


def name_factor(factor: float, lengths: list[tuple[str, int]]) -> str:
    """A number as a person would write it: 2, 1/3, or in terms of an axis length.

    >>> name_factor(0.125, [("the length of axis 1 of x", 8)])
    '1/8, where 8 is the length of axis 1 of x'
    >>> name_factor(2 ** 0.5, [("the length of axis 1 of x", 8)]), name_factor(-0.5, [])
    ('1.41421 = sqrt(2)', '-1/2')
    >>> name_factor(2.0, [("the length of axis 1 of x", 4)])
    '2, or sqrt(4), where 4 is the length of axis 1 of x'
    >>> name_factor(0.5, [("the length of axis 0 of x", 2)]), name_factor(1 + 1e-6, [])
    ('1/2 (2 is also the length of axis 0 of x)', '(1 + 1.0e-06)')
    """
    minus, size = "-" if factor < 0 else "", abs(factor)
    if abs(size - 1) < FINE:
        return f"{minus}1"
    if abs(size - 1) < 1e-3:
        return f"{minus}(1 {'+' if size > 1 else '-'} {abs(size - 1):.1e})"
    near = Fraction(size).limit_denominator(64)
    plain = near and abs(size / near - 1) < EXACT
    forms = (("{}", 1), ("1/{}", -1), ("sqrt({})", 0.5), ("1/sqrt({})", -0.5), ("{}^2", 2), ("1/{}^2", -2))
    for form, power in forms:
        names = list(dict.fromkeys(m for m, n in lengths if n > 1 and abs(size / n**power - 1) < EXACT))
        if names:
            n = round(size ** (1 / power))
            known = " or ".join(names[:2]) + (", or another" if len(names) > 2 else "")
            # a 2 comes from a square or a mean of two more often than from an axis length
            if n == 2:
                return f"{minus}{form.format(n)} (2 is also {known})"
            named = f"{form.format(n)}, where {n} is {known}"
            # a plain 2 is more often just that than the root of a 4
            return f"{minus}{near}, or {minus}{named}" if plain and power not in (1, -1) else minus + named
    if plain:
        return f"{minus}{near}"
    square = Fraction(size * size).limit_denominator(64)
    if square and abs(size * size / square - 1) < EXACT:
        return f"{factor:.6g} = {minus}sqrt({square})"
    return f"{factor:.6g}"


def broadcast(e: Evidence) -> str | None:
    """A sum over the wrong axis, over too many or too few, or dy repeated along the wrong one."""
    for k, (p, q) in itertools.product(e.x_axes, itertools.permutations(e.y_axes, 2)):
        n = e.J.shape[k]
        if n > 1 and e.J.shape[p] == e.J.shape[q] == n:
            A, J = (np.moveaxis(t, (q, p, k), (0, 1, 2)).reshape(n, n, n, -1) for t in (e.A, e.J))
            right, wrong = np.einsum("qpqr->qpr", J), np.einsum("qppr->qpr", A)
            nothing_else = all(
                np.isclose(np.abs(t).sum(), np.abs(d).sum()) for t, d in ((J, right), (A, wrong))
            )
            if nothing_else and e.same(right, wrong) and not e.same(A, J):
                return f"summed over {e.axis(q)}, but the forward repeats x along {e.axis(p)}: sum over that"
    for p in e.y_axes:
        A, J = np.moveaxis(e.A, p, 0), np.moveaxis(e.J, p, 0)
        used = [i for i, a in enumerate(A) if not e.small(a)]
        alike = all(np.array_equal(e.there(j), e.there(J[0])) for j in J)
        if len(J) > 1 and len(used) == 1 and alike and e.same(A[used[0]], J[used[0]]):
            return f"only {e.indices(p, used)} of {e.axis(p)} counts, but the forward repeats x along it"
    for count in range(1, e.x.ndim + 1):
        for axes in itertools.combinations(e.x_axes, count):
            total = np.broadcast_to(e.J.sum(axis=axes, keepdims=True), e.J.shape)
            n = int(np.prod([e.J.shape[a] for a in axes]))
            if not all(any(_tied(e, p, a) for p in e.y_axes) for a in axes):
                continue
            if n > 1 and (e.same(e.A, total) or e.same(e.A, total / n)) and not e.same(total, n * e.J):
                names = " and ".join(e.axis(a) for a in axes)
                return f"also summed over {names}, along which the forward does not repeat x"
    for a, b in itertools.permutations(e.x_axes, 2):
        flat = [e.small(t - t.mean(axis=c, keepdims=True)) for c in (a, b) for t in (e.J, e.A)]
        if (
            e.J.shape[a] == e.J.shape[b]
            and flat == [True, False, False, True]
            and e.same(e.A, e.J.swapaxes(a, b))
        ):
            return f"dy is repeated along {e.axis(b)} instead of {e.axis(a)}"
    return None


def _tied(e: Evidence, p: int, k: int) -> bool:
    """Whether entries of x reach only outputs of the same index, with axis p of y being axis k of x."""
    J = np.moveaxis(e.there(e.J), (p, k), (0, 1))
    return J.shape[0] == J.shape[1] > 1 and not J[~np.eye(len(J), dtype=bool)].any()


def rearranged(e: Evidence, T: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """T with the axes of x or dy in another order, or one of x swapped with one of dy; each with a text."""
    for axes, what in ((e.x_axes, "the gradient"), (e.y_axes, "dy")):
        shape = tuple(T.shape[a] for a in axes)
        for order in itertools.permutations(axes):
            moved = T.transpose([order[axes.index(a)] if a in axes else a for a in range(T.ndim)])
            if list(order) != list(axes) and (e.whole or moved.shape == T.shape):
                how = tuple(axes.index(a) for a in order)
                text = f"{what} has its axes in the order {how}" + (
                    "" if moved.shape == T.shape else f", reshaped to {shape}"
                )
                yield text, moved.reshape(T.shape)
    for a, b in itertools.product(e.y_axes, e.x_axes):
        if T.shape[a] == T.shape[b] > 1:
            yield (
                f"{e.axis(a)} and {e.axis(b)} of x are swapped: a matrix is not transposed",
                T.swapaxes(a, b),
            )
    for a in (*e.x_axes, *e.y_axes) if e.whole else ():
        for parts in _factors(T.shape[a]):
            split = T.reshape(*T.shape[:a], *parts, *T.shape[a + 1 :])
            for order in list(itertools.permutations(range(3)))[1:]:
                axes = [*range(a), *(a + o for o in order), *range(a + 3, split.ndim)]
                text = f"{e.axis(a)} holds {' x '.join(map(str, parts))} entries, packed in the order {order}"
                yield text, split.transpose(axes).reshape(T.shape)


def _factors(n: int) -> Iterator[tuple[int, int, int]]:
    """The ways to split an axis of length n into three: (a, b, n / (a b)), the last one possibly 1."""
    for a in range(2, n):
        for b in range(2, n // a + 1):
            if n % (a * b) == 0:
                yield a, b, n // (a * b)


def transposed(e: Evidence) -> str | None:
    """The true entries in another axis order."""
    for text, moved in rearranged(e, e.J):
        if e.same(e.A, moved):
            return text
    return None


def inner_transposed(e: Evidence) -> str | None:
    """Looser: for each dy there is an M with J = M.T @ u and A = M @ u, where u is another argument."""
    if e.x.ndim < 2 or not e.whole:
        return None
    t, c = e.x.shape[-2:]
    for name, u in e.others.items():
        if u.shape != e.x.shape or 2 * c <= t or t < 2:
            continue
        # Solve for all entries of M, for each matrix u in the stack. Rows of the system are the entries of
        # M.T @ u, then of M @ u.
        one, us = np.eye(t), u.reshape(-1, t, c)
        system = np.concatenate(
            [np.einsum("rac,bs->rscab", us, one), np.einsum("rbc,ta->rtcab", us, one)], axis=1
        ).reshape(len(us), 2 * t * c, t * t)
        both = np.concatenate([T.reshape(-1, len(us), t * c) for T in (e.J, e.A)], axis=2)  # (dys, R, 2TC)
        fit = np.einsum("rij,mrj->mri", system @ np.linalg.pinv(system), both)
        if e.small(fit - both):
            return f"an inner matrix is not transposed before it multiplies {name}"
    return None


def shifted(e: Evidence) -> str | None:
    """The true entries, or one term in few entries, one place off along an axis."""
    for a, step in itertools.product([*e.x_axes, *e.y_axes], (1, -1)):
        n, moved = e.J.shape[a], np.roll(e.J, step, axis=a)
        edge, inside = [slice(None)] * e.J.ndim, [slice(None)] * e.J.ndim
        edge[a], inside[a] = (slice(0, 1), slice(1, None)) if step > 0 else (slice(-1, None), slice(None, -1))
        A, J, R = (t[tuple(inside)] for t in (e.A, e.J, moved))
        if n > 1 and e.same(A, R) and not e.same(A, J):
            wraps, empty = e.same(e.A, moved), e.small(e.A[tuple(edge)])
            if n > 2 or wraps or empty:
                how = ", wrapping around" if wraps else ", leaving the edge empty" if empty else ""
                return f"off by {step if a in e.x_axes else -step:+d} along {e.axis(a)}{how}"
    missing, extra = np.maximum(e.D, 0), np.maximum(-e.D, 0)
    dense = np.array_equal(e.there(e.J), e.there(e.A))  # otherwise a wrong mask explains it
    for a, step in itertools.product(e.x_axes, (1, -1)):
        for here, there in ((missing, extra), (extra, missing)):
            if e.same(np.roll(here, step, axis=a), there) and 0 < e.there(here).mean() < 0.5 and dense:
                return f"part of the gradient, in a few entries, is off by one along {e.axis(a)}"
    return None


def overwritten(e: Evidence) -> str | None:
    """Entries of x that are used several times keep one gradient instead of the sum."""
    J, A = e.J.reshape(-1, e.x.size), e.A.reshape(-1, e.x.size)
    used, kept = e.there(J), e.there(A)
    again = used.sum(axis=0) > 1
    if (
        e.unit
        and again.any()
        and e.small((A - J)[kept])
        and np.array_equal(kept.sum(axis=0), used.any(axis=0))
    ):
        last = np.array_equal(kept.argmax(axis=0)[again], len(J) - 1 - used[::-1].argmax(axis=0)[again])
        which = "the last" if last else "one"
        what = f"{e.share(int(again.sum()))} {'is' if again.sum() == 1 else 'are'} used more than once"
        return f"{what}, but only {which} gradient is kept: add them up"
    off = [i for i, d in enumerate(np.moveaxis(e.D, e.p, 0)) if not e.small(d)] if e.x.ndim else []
    rows = [int(e.box[0][i]) for i in off]
    for name, ids in e.tokens.items():
        values, counts = np.unique(ids, return_counts=True)
        if len(rows) and set(rows) == set(values[counts > 1].tolist()) and counts.min() == 1:
            return f"wrong at exactly the rows that {name} uses more than once: add their gradients up"
    return None


def mask(e: Evidence) -> str | None:
    """Right wherever both Jacobians are nonzero, but nonzero in other places."""
    used, passed = e.there(e.J), e.there(e.A)
    both = used & passed
    if not used.any():
        return "a gradient passes, but the forward does not depend on these entries at all"
    if np.array_equal(used, passed) or not both.any():
        return None
    factor = float(np.sum(e.A[both] * e.J[both]) / np.sum(e.J[both] ** 2))
    if not e.same(e.A[both], factor * e.J[both]) or (abs(factor - 1) > e.close and both.sum() < 4):
        return None
    return _mask_text(e, used, passed) + (
        f" (and times {name_factor(factor, [])} elsewhere)" if abs(factor - 1) > e.close else ""
    )


def _mask_text(e: Evidence, used, passed) -> str:
    more, less = int((passed & ~used).sum()), int((used & ~passed).sum())
    part = "" if e.whole else ", in the part that was examined"
    if more and less:
        return f"wrong mask: {_pairs(more)} pass only a gradient, {_pairs(less)} only a value{part}"
    if more:
        return f"no mask: a gradient passes at {_pairs(more)} where the forward passes nothing{part}"
    return f"wrong mask: no gradient passes at {_pairs(less)} where the forward passes a value{part}"


def _pairs(count: int) -> str:
    return f"{count} pair{'s' * (count > 1)} of entries"


def unmasked(e: Evidence) -> str | None:
    """Looser: a gradient where the true one is 0, and other entries differ too."""
    used, passed = e.there(e.J), e.there(e.A)
    return _mask_text(e, used, passed) if e.unit and (passed & ~used).any() and used.any() else None
