"""Lesson 07: the backward of LayerNorm."""

import numpy as np

from minimega.learn.again import OTHERS, SHAPES, again
from minimega.learn.slopes import backward
from minimega.learn.verdict import Verdict, draw, sharper, which
from minimega.norm import layer_norm

TASK = "Write back(dy), the backward of y = xhat w + b with xhat = (x - mean) r: dx, dw and db."

HINT = """\
`The mathematics` ends with the sum for dx: write it out for the three terms in the brackets. And which
axis does each of your sums run over?"""

MORE = """\
dxhat is the gradient that reaches xhat: follow y = xhat w + b alone. For dx, start with r times dxhat. Each
of the two other terms has a sum over i: a sum over the features of dxhat, or of dxhat times xhat, divided
by D. That is a mean along the last axis, kept as a column (keepdims=True) so that it fits each row."""

SOLUTION = '''\
def my_layer_norm(x, w, b, eps=1e-5):
    """Each row to mean 0 and variance 1, then times w, plus b: (N, D), (D,), (D,) -> (N, D); its backward."""
    centred = x - x.mean(axis=-1, keepdims=True)
    r = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)  # (N, 1)
    xhat = centred * r
    y = xhat * w + b

    def back(dy):
        dxhat = dy * w
        means = dxhat.mean(axis=-1, keepdims=True) + xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)
        dx = r * (dxhat - means)
        dw = (dy * xhat).sum(axis=0)
        db = dy.sum(axis=0)
        return dx, dw, db

    return y, back
'''

# how the checker describes what is missing along the features, and what that means here
MISSING = "missing from dx, or wrong: x moves"
TERMS = {
    "the mean of the gradient": f"the term that comes through the mean is {MISSING} the mean too",
    "the part along": f"the term that comes through the variance is {MISSING} r too",
    "the pair": f"both terms, through the mean and through the variance, are {MISSING} the mean and r too",
}

DRAW = np.random.default_rng(7).normal
X, W, B, DY = DRAW(1, 2, size=(5, 6)), DRAW(size=6), DRAW(size=6), DRAW(size=(5, 6))


def judge(f) -> Verdict:
    """N is not D, so that a wrong axis shows; the checker tells which term is missing."""
    found = backward(
        f,
        layer_norm,
        X,
        W,
        B,
        right="dx, dw and db agree with finite differences of the forward; dx has both of its terms",
        says={
            ("x", "mean"): "dx lacks a mean term",
            ("w", "broadcast"): "dw is not summed over the rows: every row used the same w",
            ("b", "broadcast"): "db is not summed over the rows: every row used the same b",
            ("w", "scale"): "dw is a mean over the rows; each row used w in full, so their parts add up",
            ("b", "scale"): "db is a mean over the rows; each row used b in full, so their parts add up",
        },
    )
    others = {
        OTHERS: (X * X, B, W),
        SHAPES: (draw(1, (3, 7)), draw(2, (7,)), draw(3, (7,))),
        "right where the variance is large; where it is as small as eps, {} is wrong": (X / 500, W, B),
        "right for the usual eps; with eps = 0.5, {} is wrong": (X, W, B, 0.5),
    }
    found = again(found, f, layer_norm, others)
    term = next((says for begin, says in TERMS.items() if found.detail.startswith(begin)), "")
    name = found.sentence.split()[0]
    return found if found.ok or name not in ("dx", "dw") else sharper(found, _mistake(f, name) or term)


def _mistake(f, name: str) -> str:
    """The sentence of the typical mistake that gives just this dx or dw; "" if none does."""
    dx, dw, _ = f(X.copy(), W.copy(), B.copy())[1](DY.copy())
    centred = X - X.mean(axis=-1, keepdims=True)
    r = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-5)
    xhat = centred * r

    def right(d, of, axis: int | None = -1, times=1.0, sign=1.0, along=xhat):
        """d minus the two terms of `of`, with mistakes."""
        mean, variance = (times * a.mean(axis=axis, keepdims=True) for a in (of, of * along))
        return d - mean - sign * along * variance

    dxhat = DY * W
    good = right(dxhat, dxhat)
    mistakes = {
        "dx": [
            (good, "r is left out of dx: a row of small x moves xhat more than a row of large x"),
            (good / r, "dx is divided by r; it should grow with r"),
            (r * right(DY, DY), "w is left out of dx: what reaches xhat is not dy itself"),
            (r * right(dxhat, DY), "w is left out of the two terms: they too are made of what reaches xhat"),
            (r * right(DY, dxhat), "w is left out of the first term of dx"),
            (r * right(dxhat, dxhat, axis=0), "the means of dx run over the rows: each row has its own"),
            (
                r * right(dxhat, dxhat, axis=None),
                "the means of dx run over all rows together: each row has its own",
            ),
            (
                r * dxhat - dxhat + good,
                "r multiplies only the first term of dx: the two others are multiplied by it too",
            ),
            (r * r * good, "r is in dx twice"),
            (r * right(dxhat, dxhat, times=6 / 5), "the two terms of dx are divided by D - 1, the mean by D"),
            (
                r * right(dxhat, dxhat, times=-1),
                "the terms that come through the mean and the variance have the wrong sign",
            ),
            (
                r * (good + 2 * dxhat.mean(axis=-1, keepdims=True)),
                "the term that comes through the mean has the wrong sign",
            ),
            (
                r * (dxhat - (dxhat + dxhat * xhat).mean(axis=-1, keepdims=True)),
                "the term through the variance is the same for the whole row: an xhat is missing in front",
            ),
            (r * right(dxhat, dxhat, times=6), "the two terms of dx are sums; they should be means"),
            (r * right(dxhat, dxhat, sign=-1), "the term that comes through the variance has the wrong sign"),
            (r * right(dxhat, dxhat, along=X), "the term through the variance is made with x, not with xhat"),
            (
                r * right(dxhat, dxhat, along=centred),
                "the term through the variance is made with x minus its mean, not with xhat",
            ),
        ],
        "dw": [
            ((dxhat * xhat).sum(axis=0), "dw is made with dxhat: in the line of y, dy reaches w directly"),
            ((DY * X).sum(axis=0), "dw is made with x, but it is xhat that w multiplies"),
            (
                (DY * centred).sum(axis=0),
                "dw is made with x minus its mean, but it is xhat that w multiplies",
            ),
        ],
    }
    return which(dx if name == "dx" else dw, ((says, wrong) for wrong, says in mistakes[name]))
