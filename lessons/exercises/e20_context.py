"""Lesson 20: two blocks of keys, merged into one softmax."""

import numpy as np

from minimega.learn.verdict import Verdict, draw, parts, unlike

TASK = "Write merge(y1, top1, total1, y2, top2, total2): the sums of two blocks of keys, merged into one."

HINT = """\
Both sums are made of exponentials, each relative to its own top. What has to be equal before you add
them?"""

MORE = """\
Each block took its exponentials relative to its own top. Before you can add two sums, both must use the same
top. A sum of exp(s - top1) becomes one of exp(s - top) by one factor for the whole row: which one? If top is
the larger of the two, neither factor is above 1, and nothing can overflow."""

SOLUTION = '''\
def merge(y1, top1, total1, y2, top2, total2):
    """Merge the sums of two blocks of keys: y (t, C); top and total (t, 1), a row per query."""
    top = np.maximum(top1, top2)
    down1, down2 = np.exp(top1 - top), np.exp(top2 - top)
    total = total1 * down1 + total2 * down2
    y = y1 * down1 + y2 * down2
    return y, top, total
'''


def block(s, v):
    """The sums of a block of keys, from scores (t, n) and values (n, C): y (t, C), top and total (t, 1)."""
    top = s.max(axis=-1, keepdims=True)
    w = np.exp(s - top)
    return w @ v, top, w.sum(axis=-1, keepdims=True)


SCORES = np.array([[1.0, 0.2, 0.5], [0.3, -0.4, 0.9]])  # of the first block; the second one's are among these
OTHERS = np.array([[0.1, 1.0], [0.9, 0.4]])  # of tops like those of SCORES
FAR = np.array([[2.0], [-2.0]])

# The scores of both blocks, and what to say if the tops are right and a sum is not.
CASES = [
    (SCORES, OTHERS, "both blocks have the same tops, and still {what} is not that of all their keys"),
    (
        SCORES,
        OTHERS + 2,
        "right if both tops are equal; if the second block has the larger score, {what} adds up "
        "exponentials that were taken over different tops",
    ),
    (
        SCORES + 2,
        OTHERS,
        "right if the second block has the larger score; if the first one has it, {what} is wrong",
    ),
    (
        SCORES + FAR,
        OTHERS - FAR,
        "right if one block has all the larger scores; here each has some of them, and {what} is wrong",
    ),
    (
        SCORES + 1000,
        OTHERS + 1001,
        "right for small scores; for scores near 1000, {what} is not finite: what overflows?",
    ),
    (
        SCORES + 400 * FAR,
        OTHERS + 400 * FAR,
        "right for rows of similar scores; if one row's are far below another's, {what} is wrong",
    ),
]
NOTHING = "a first block without keys (top -inf, total 0) should leave the second alone, and {what} is wrong"


def judge(merge) -> Verdict:
    """Each case is one that a typical mistake gets wrong; an overflow is reported, not warned of."""
    v = draw(20, (5, 4))
    for first, second, says in CASES:
        parts = block(first, v[:3]), block(second, v[3:])
        if found := _problem(merge, *parts, block(np.concatenate([first, second], axis=1), v), says):
            return found
    part = block(OTHERS, v[3:])
    nothing = np.zeros_like(part[0]), np.full_like(part[1], -np.inf), np.zeros_like(part[2])
    if found := _problem(merge, nothing, part, part, NOTHING):
        return found
    s, v = draw(21, (3, 6)), draw(22, (6, 2))  # other sizes of everything
    two = block(s[:, :1], v[:1]), block(s[:, 1:], v[1:])
    if found := _problem(merge, *two, block(s, v), "right at first, but {what} is wrong for other sizes"):
        return found
    return Verdict(True, "two blocks are one, for near and far scores, and for a block without keys")


def _problem(merge, first, second, whole, says: str) -> Verdict | None:
    with np.errstate(all="ignore"):
        result = merge(*(a.copy() for a in (*first, *second)))
    wants = "your function should return three things: y, top and total"
    y, top, total = parts(result, ("y", "top", "total"), wants)
    if np.shape(y) != whole[0].shape and whole[0].shape in (np.shape(top), np.shape(total)):
        return Verdict(False, "the three results are in the wrong order: it should be y, top, total")
    if problem := unlike(top, whole[1], "top"):
        return Verdict(False, "top is not, for each row, the largest score of both blocks", problem)
    for what, got, want, typical in (
        ("total", total, whole[2], _about_total),
        ("y", y, whole[0], _about_y),
    ):
        if problem := unlike(got, want, what):
            shaped = np.shape(got) == want.shape
            known = typical(np.asarray(got), first, second, whole) if shaped else f"{what} has another shape"
            return Verdict(False, known or says.format(what=what), problem)
    return None


def _about_total(got, first, second, whole) -> str:
    if np.allclose(got, np.maximum(first[2], second[2])):
        return "total is the larger of both totals: the keys of the other block are missing from it"
    return ""


def _about_y(got, first, second, whole) -> str:
    with np.errstate(all="ignore"):
        means = first[0] / first[2], second[0] / second[2]
        times = sum(y * total * np.exp(top - whole[1]) for y, top, total in (first, second))
        if np.allclose(got, times) or np.allclose(got, times / whole[2]):
            return "y counts the totals again: y1 and y2 are sums already, not means"
        if np.allclose(got, whole[0] / whole[2]):
            return "y is a mean already, divided by the total: another block could not be merged into it"
        if np.allclose(got, means[0] + means[1]) or np.allclose(got, (means[0] + means[1]) / 2):
            return "y is made of the blocks' means, as if both blocks weighed the same"
    return ""
