"""Lesson 05: the backward of an embedding."""

import numpy as np

from minimega.embedding import embedding
from minimega.learn.again import OTHERS, SHAPES, again
from minimega.learn.slopes import backward
from minimega.learn.verdict import Verdict, draw, sharper, which

TASK = "Write back(dy), the backward of y = table[ids]: dtable, with the shape of the table."

HINT = """\
Which row of the table did each position of y come from? That is where its gradient goes back to."""

MORE = """\
Start with zeros of the table's shape. Each position (b, t) of dy belongs to one row, ids[b, t], and must be
added to it. Try your code on a token that occurs twice, and look at its row: NumPy may not do what it seems
to say. A loop is a good answer; so is the product with one-hot rows, as in the formula above."""

SOLUTION = '''\
def my_embedding(table, ids):
    """y = the row of each token: (V, D), (B, T) -> (B, T, D), and its backward."""
    y = table[ids]

    def back(dy):
        dtable = np.zeros_like(table)
        np.add.at(dtable, ids, dy)  # adds once per position, even if a row repeats
        return dtable

    return y, back
'''

# Row 2 occurs three times, twice in a sequence and twice at a time; row 5 twice, row 0 once, others never.
IDS = np.array([[2, 2, 0], [5, 2, 5]])


KEPT = "a token that occurs several times keeps only one of its gradients"
MARKS = 2.0 ** np.arange(6).reshape(2, 3)  # a sum of some of them says which


def judge(f) -> Verdict:
    found = backward(
        lambda table: f(table, IDS.copy()),
        lambda table: embedding(table, IDS),
        (7, 5),
        right="dtable agrees with finite differences, for tokens that occur never, once, twice or more",
        says={
            ("table", "overwritten"): KEPT,
            ("table", "shape"): "dtable does not have the shape of the table: dy has a row for each position",
            (
                "table",
                "mask",
            ): "some row gets the gradient of another token's position, or lacks its own",
            ("table", "shifted"): "dtable is off by one place: a row gets what belongs to one beside it",
            ("table", "zero"): "dtable is zero, even in rows of tokens that occur in the text",
        },
    )
    others = {
        OTHERS: (draw(1, (7, 5)), (IDS + 4) % 7),
        SHAPES: (draw(2, (3, 8)), np.array([[2, 0], [2, 2], [0, 0], [2, 0], [0, 2]])),
    }
    found = again(found, f, lambda table, ids: embedding(table, ids), others)
    if found.ok or found.sentence == KEPT or not found.sentence.startswith(("dtable", "some row")):
        return found
    return sharper(found, _closer(f))


def _closer(f) -> str:
    """What a gradient with a mark at each position shows of some mistakes: which positions a row collects."""
    got = np.asarray(f(np.zeros((7, 5)), IDS.copy())[1](np.repeat(MARKS[..., None], 5, axis=-1)))
    if got.shape != (7, 5):
        return ""
    if not np.isfinite(got).all():
        return "some rows are not finite: what does the row of a token that never occurs get?"
    here = np.stack([v == IDS for v in range(7)])  # (V, B, T)
    parts, times = (here * MARKS).sum(axis=-1), here.sum(axis=(1, 2))  # (V, B), (V,)
    known = {
        "a row gets the mean of its gradients: each position used the row in full": parts.sum(1)
        / times.clip(1),
        "the second sequence of the batch does not count": parts[:, 0],
        "the first sequence of the batch does not count": parts[:, 1],
        "every row gets the gradients of all positions, of its token and of others": np.full(7, MARKS.sum()),
        "each gradient is divided by the number of positions: it should be the sum": parts.sum(1) / IDS.size,
        "a token that occurs n times gets the sum of its gradients n times": parts.sum(1) * times,
        "dy is summed over the width too: each number of a row has its own gradient": parts.sum(1) * 5,
        "each row gets its number of positions: dy is left out": times,
    }
    if says := which(got[:, 0], known.items()):
        return says
    collected, own = got[:, 0].astype(int), parts.sum(1).astype(int)
    lost = np.argwhere(MARKS.astype(int) & (own & ~collected)[IDS]).tolist()
    if len(lost) in range(1, IDS.size) and np.array_equal(collected & own, got[:, 0]):  # the rest is right
        return f"the gradient at position {tuple(lost[0])} of dy is lost: its token's row does not get it"
    return ""
