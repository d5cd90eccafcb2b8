"""Lesson 06: the backward of cross-entropy."""

import itertools

import numpy as np

from minimega.head import cross_entropy
from minimega.learn.again import OTHERS, SHAPES, again
from minimega.learn.slopes import backward
from minimega.learn.verdict import Verdict, draw, sharper
from minimega.ops import softmax

TASK = "Write back(dy), the backward of the mean cross-entropy: dlogits, where some tokens do not count."

HINT = """\
`The mathematics` has dlogits of one row. What is different for a row that does not count?"""

MORE = """\
Start with zeros of the shape of the logits: rows that do not count keep them. Each counted row gets its p,
minus 1 at one entry: `rows` and `targets[rows]` together index these entries, as they do in the loss. Then
look at what the loss divides by, and at dy. p itself must stay as it is: back may be called again."""

SOLUTION = '''\
def my_cross_entropy(logits, targets):
    """The mean loss of the counted tokens (targets of 0 and above), and its backward: (N, V), (N,) -> ()."""
    p = softmax(logits)[0]  # (N, V)
    rows = np.flatnonzero(targets >= 0)  # the counted tokens; (n,)
    n = len(rows)
    loss = -np.log(p[rows, targets[rows]]).sum() / n

    def back(dy):
        dlogits = np.zeros_like(p)
        dlogits[rows] = p[rows]
        dlogits[rows, targets[rows]] -= 1
        return dlogits * dy / n

    return loss, back
'''

GIVEN = {"softmax": softmax}

LOGITS = draw(6, (5, 7))
TARGETS = np.array([2, -1, 0, 3, -1])  # 3 of 5 count


def judge(f) -> Verdict:
    """The checker judges; if a typical mistake explains all of the gradient, its sentence is said."""
    found = backward(
        lambda logits: f(logits, TARGETS.copy()),
        lambda logits: cross_entropy(logits, TARGETS),
        LOGITS,
        right="dlogits agrees with finite differences of the loss; each of its rows adds up to 0",
        says={
            ("logits", "mask"): "dlogits is 0 where it should not be, or the other way round",
            ("logits", "shifted"): "a part of dlogits is off by one place",
            ("logits", "stateful"): "dlogits differs when back is called again: what has changed?",
        },
    )
    others = {
        OTHERS: (-LOGITS, np.array([-1, 1, -1, 2, 0])),
        SHAPES: (draw(1, (3, 8)), np.array([6, 0, 3])),
        "a target of -3 does not count either, as none below 0 does, and {} is wrong": (
            draw(2, (6, 5)),
            np.array([-3, 4, -1, 0, -2, -5]),
        ),
        "right for small logits; with some of 1000 {} is wrong": (
            np.array([[1000.0, 1000.5], [999.5, 1000.0], [-1000.0, -999.0]]),
            np.array([0, 1, 0]),
        ),
    }
    found = again(found, f, lambda logits, targets: cross_entropy(logits, np.maximum(targets, -1)), others)
    if found.ok or not found.sentence.startswith("dlogits"):
        return found
    return sharper(found, _mistake(f))


def _mistake(f) -> str:
    """The sentence of the typical mistake that gives just this gradient; "" if none does."""
    one, half = (np.asarray(f(LOGITS.copy(), TARGETS.copy())[1](dy)) for dy in (1.0, 0.5))
    if one.shape != LOGITS.shape:
        return ""
    p, right = softmax(LOGITS)[0], cross_entropy(LOGITS, TARGETS)[1](1.0)
    counted = (TARGETS >= 0)[:, None]
    hot = counted * (TARGETS[:, None] == np.arange(7)) * 1.0
    last = TARGETS[:, None] % 7 == np.arange(7)  # a target of -1 is the last token for NumPy
    columns = hot.max(axis=0)
    uncounted = "the rows of the tokens that do not count are not zero"
    sign = "dlogits has the wrong sign: a step against it makes the target less likely"
    down = "every logit is pushed down, the target's too: what raises it is missing"
    spread = "each row loses a 1 at the targets of all rows, not only at its own"
    mistakes = [
        (3 * right, ""),
        (p - hot, uncounted),
        (p - last, uncounted),
        (counted * p - last, f"{uncounted}: -1 is the last token for NumPy"),
        (-3 * right, sign),
        (hot - p, f"{sign}; and {uncounted}"),
        (counted * p, down),
        (p, f"{down}; and {uncounted}"),
        (-hot, "the targets are raised, and nothing pushes the other logits down"),
        (counted * (p + hot), "the 1 of each target is added; it should be subtracted"),
        (counted * p - 3 * hot, "p is divided by n, but the target's 1 is not: both belong to the mean"),
        (counted * p * (1 - hot) - hot, "the targets' entries are -1: their p is lost"),
        (-hot / p, "that is the gradient with respect to p; softmax stands between p and the logits"),
        (counted * (p - columns), spread),
        (counted * p - columns, f"{spread}; and {uncounted}"),
        (p - columns, f"{spread}; and {uncounted}"),
    ]
    means = {
        3: "",
        5: "{} is divided by all tokens; the loss is a mean over the counted ones",
        1: "{} is that of a sum over the tokens; the loss is a mean over them",
        35: "{} is divided by all logits; the loss is a mean over the counted tokens",
        1 / 3: "{} is multiplied by n; the loss was divided by it",
    }
    for (wrong, says), (n, mean) in itertools.product(mistakes, means.items()):
        if np.allclose(one, wrong / n, rtol=1e-9, atol=1e-12):
            also = "dy is missing from dlogits" if np.array_equal(one, half) else ""
            it = "dlogits" if not says else "it"
            return "; and ".join(filter(None, (says, mean.format(it), also)))
    return ""
