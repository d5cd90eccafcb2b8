"""Lesson 11: one step of AdamW."""

import re

import numpy as np

from minimega.learn.verdict import Case, Verdict, draw, unlike, values, which, written
from minimega.optim import AdamW

TASK = "Write adamw(w, g, mean, square, n, ...): step n, which returns the new w, mean and square."

HINT = """\
The formulas are in `The mathematics`, from **Adam** on. Write them in the order in which they stand
there."""

MORE = """\
The two means first: keep a share beta of the old one, and give the rest to the new one. Then the step. It
needs both means corrected, each by its own beta and n; but return the means as they are, or the next step
would correct them again. The decay belongs to neither mean: it is a separate step."""

SOLUTION = '''\
def adamw(w, g, mean, square, n, lr, beta1, beta2, eps, decay):
    """Step n (from 1) for weights w with the gradient g; all arrays have the shape of w."""
    mean = beta1 * mean + (1 - beta1) * g
    square = beta2 * square + (1 - beta2) * g * g
    step = mean / (1 - beta1**n) / (np.sqrt(square / (1 - beta2**n)) + eps)
    w = w - lr * step - lr * decay * w
    return w, mean, square
'''

W, G = np.array([2.0, -1.0]), np.array([0.5, 3.0])
MEAN, SQUARE, NOTHING = np.array([0.2, -0.4]), np.array([0.09, 4.0]), np.zeros(2)
LR, BETA1, BETA2 = 0.1, 0.9, 0.98

IN_PLACE = True  # f may update w, mean and square in place


def judge(f) -> Verdict:
    """Each case is one in which a typical mistake shows, and those of the cases after it do not."""

    def parts(*arguments):
        arguments = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        got = written(f(*arguments), "what your function returns")
        stacked = isinstance(got, np.ndarray) and got.ndim
        if (stacked or isinstance(got, tuple | list)) and len(got) == 3:
            w, mean, square = got
            return tuple(written(v, n) for n, v in (("mean", mean), ("square", square), ("w", w)))
        return got

    cases = [
        _case(MEAN, SQUARE, 10**6, 0.0, 0.0, _late),
        _case(NOTHING, NOTHING, 1, 0.0, 0.0, _first),
        _case(MEAN, SQUARE / 100, 3, 0.3, 0.0, _with_eps),
        _case(MEAN, SQUARE, 3, 0.0, 0.5, _with_decay),
        _others(draw(1, (2,)), 5, (0.03, 0.5, 0.7, 0.2, 0.3), "lr, betas, eps and decay"),
        _others(draw(2, (3, 4)), 2, (0.3, 0.8, 0.6, 0.1, 0.2), "shapes"),
        _others(draw(3, (5,)), 1, (0.3, 0.0, 0.0, 0.1, 0.0), "betas, which may be 0"),
    ]
    right = "late, at the first step, with a large eps and with decay: w, mean and square are AdamW's"
    with np.errstate(all="ignore"):
        found = values(parts, cases, right)
    place = r"^the result is (\S+) at \(([012]), (\d)\)"
    names = ("mean", "square", "w")
    return found._replace(
        detail=re.sub(place, lambda m: f"{names[int(m[2])]} is {m[1]} at {m[3]}", found.detail)
    )


def _case(mean, square, n, eps, decay, says) -> Case:
    arguments = (W, G, mean, square, n, LR, BETA1, BETA2, eps, decay)
    return Case(arguments, _means(G, mean, square) + (_adamw(*arguments),), says)


def _others(w, n, rates, what: str) -> Case:
    """Everything at once, for other numbers."""
    g, mean, square = -w / 3, w * w - 1, abs(w) + 0.1
    lr, beta1, beta2, eps, decay = rates
    means = beta1 * mean + (1 - beta1) * g, beta2 * square + (1 - beta2) * g * g
    arguments = (w, g, mean, square, n, *rates)
    says = f"right at first, but not for other {what}: does a number stand where a letter belongs?"
    return Case(arguments, (*means, _adamw(*arguments)), says)


def _adamw(w, g, mean, square, n, lr, beta1, beta2, eps, decay) -> np.ndarray:
    """The library's new weights."""
    optimizer = AdamW(beta1=beta1, beta2=beta2, eps=eps, weight_decay=decay)
    w, mean, square = w.copy(), mean.copy(), square.copy()
    optimizer.steps = n
    optimizer.update(w, g, lr, decay, mean, square)
    return w


def _means(g, mean, square) -> tuple[np.ndarray, np.ndarray]:
    return BETA1 * mean + (1 - BETA1) * g, BETA2 * square + (1 - BETA2) * g * g


def _late(got) -> str:
    """After a million steps nothing is corrected; no eps, no decay."""
    mean, square = _means(G, MEAN, SQUARE)
    if not unlike(got[2], mean, ""):
        return "the order should be w, mean, square; yours begins with mean"
    if unlike(got[0], mean, ""):
        wrong = {
            "mean is a running sum: the new gradient has its full weight": BETA1 * MEAN + G,
            "mean keeps little of the old and takes much of the new": (1 - BETA1) * MEAN + BETA1 * G,
            "mean uses beta2, which belongs to square": BETA2 * MEAN + (1 - BETA2) * G,
        }
        return which(got[0], wrong.items(), "mean is not the running mean of the gradients")
    if unlike(got[1], square, ""):
        wrong = {
            "square is a mean of gradients, not of their squares": BETA2 * SQUARE + (1 - BETA2) * G,
            "square is a running sum: the new square has its full weight": BETA2 * SQUARE + G * G,
            "square takes the mean squared; it is the mean of the squares": BETA2 * SQUARE
            + (1 - BETA2) * mean * mean,
            "square keeps little of the old and takes much of the new": (1 - BETA2) * SQUARE + BETA2 * G * G,
            "square uses beta1, which belongs to mean": BETA1 * SQUARE + (1 - BETA1) * G * G,
        }
        return which(got[1], wrong.items(), "square is not the running mean of the squared gradients")
    if not np.all(np.isfinite(got[2])):
        return "w is not finite after a million steps: beta^n is 0 by then, and 1 - beta^n is 1"
    step = mean / np.sqrt(square)
    overdone = step * np.sqrt(1 - BETA2) / (1 - BETA1)
    wrong = {
        "the correction should fade with n; after a million steps yours is as large as at the first": W
        - LR * overdone,
        "the step goes uphill": W + LR * step,
        "lr is not applied": W - step,
        "divided by the mean square itself: gradients twice as large should give the same step": W
        - LR * mean / square,
        "the step takes the gradient of this batch alone, instead of the mean": W - LR * G / np.sqrt(square),
        "the step is made from the old means: they are updated first": W - LR * MEAN / np.sqrt(SQUARE),
        "w is the step alone: what is it subtracted from?": -LR * step,
    }
    return which(got[2], wrong.items(), "the means are right, but the step made from them is not")


def _first(got) -> str:
    """At the first step the right w moves by lr, whatever the gradient's size."""
    mean, square = _means(G, NOTHING, NOTHING)
    if unlike(got[:2], (mean, square), ""):
        return "the means that you return are corrected ones: the next step would correct them again"
    if not np.all(np.isfinite(got[2])):
        return "at the first step you divide by 0: its n is 1"
    wrong = {
        "no bias correction: both means begin at 0, and are too small at first": mean / np.sqrt(square),
        "both corrections go the wrong way: the means are too small at first, and yours are smaller": mean
        * (1 - BETA1)
        / np.sqrt(square * (1 - BETA2)),
        "the bias of mean is corrected, that of square is not": G / np.sqrt(square),
        "the bias of square is corrected, that of mean is not": mean / np.abs(G),
        "square is corrected after its root is taken, by the whole factor": G
        / (np.sqrt(square) / (1 - BETA2)),
        "both are corrected by the same beta": G / np.sqrt(square / (1 - BETA1)),
        "the correction is one step ahead: the first step has n = 1": mean
        / (1 - BETA1**2)
        / np.sqrt(square / (1 - BETA2**2)),
    }
    return which(got[2], ((says, W - LR * step) for says, step in wrong.items()), "wrong at the first step")


def _with_eps(got) -> str:
    mean, square = _means(G, MEAN, SQUARE / 100)
    m, s, eps = mean / (1 - BETA1**3), square / (1 - BETA2**3), 0.3
    wrong = {
        "eps stands inside the root: where squares are tiny, its root is what counts": m / np.sqrt(s + eps),
        "eps is missing: a weight without gradients would be a division by 0": m / np.sqrt(s),
        "eps is added before square is corrected": m / ((np.sqrt(square) + eps) / np.sqrt(1 - BETA2**3)),
        "eps is added to the whole fraction, not to its denominator": m / np.sqrt(s) + eps,
        "eps replaces small roots instead of being added": m / np.maximum(np.sqrt(s), eps),
    }
    return which(got[2], ((says, W - LR * step) for says, step in wrong.items()), "right except for eps")


def _with_decay(got) -> str:
    n, decay = 3, 0.5
    mean, square = _means(G, MEAN, SQUARE)
    m, root = mean / (1 - BETA1**n), np.sqrt(square / (1 - BETA2**n))
    right = LR * m / root
    if not unlike(got[0], _means(G + decay * W, MEAN, SQUARE)[0], ""):
        return "the decay goes through the means, as in Adam; AdamW subtracts it from the weights directly"
    wrong = {
        "the decay is missing": W - right,
        "the decay is not multiplied by lr": W - right - decay * W,
        "the decay makes the weights larger": W - right + LR * decay * W,
        "the decay is computed from the weights after the step; both start at the old ones": (W - right)
        * (1 - LR * decay),
        "the decay is divided by the root, as the mean is; it belongs to the weight": W
        - LR * (m + decay * W) / root,
        "the decay is not proportional to w": W - right - LR * decay,
    }
    return which(got[2], wrong.items(), "right except for the decay")
