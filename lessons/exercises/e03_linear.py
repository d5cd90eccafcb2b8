"""Lesson 03: the backward of a linear layer."""

from minimega.learn.again import OTHERS, SHAPES, again
from minimega.learn.slopes import backward
from minimega.learn.verdict import Verdict, draw, sharper, which
from minimega.linear import linear

TASK = "Write back(dy), the backward of y = x w + b: dx, dw and db, each with the shape of its input."

HINT = """\
Write the shape of each array beside its name, and look for the only product of two of them that has the
shape of x."""

MORE = """\
Write the shapes beside the letters: dy is (N, O), w is (I, O), x is (N, I). Only one product of dy and w has
the shape (N, I) of dx, and one of them has to be transposed for it. The same holds for dw, from x and dy. And
b was used by all N rows: each of them contributes to its gradient."""

SOLUTION = '''\
def my_linear(x, w, b):
    """y = x w + b: (N, I), (I, O), (O,) -> (N, O), and its backward."""
    y = x @ w + b

    def back(dy):
        dx = dy @ w.T
        dw = x.T @ dy
        db = dy.sum(axis=0)
        return dx, dw, db

    return y, back
'''

MEAN = "is a mean over the rows; each row used {0} in full, so their parts are summed"


X, W, B, DY = draw(0, (5, 3)), draw(1, (3, 3)), draw(2, (3,)), draw(3, (5, 3))


def judge(f) -> Verdict:
    """First I equals O, to see a transposed matrix as one, not as a wrong shape; then no sizes are equal."""
    found = backward(
        f,
        linear,
        X,
        W,
        B,
        right="dx, dw and db agree with finite differences of the forward",
        says={
            ("b", "broadcast"): "db is not summed over the rows: every row used the same b",
            ("b", "shape"): "db does not have the shape of b",
            ("b", "scale"): f"db {MEAN.format('b')}",
            ("w", "scale"): f"dw {MEAN.format('w')}",
        },
    )
    if found.sentence.startswith("dx"):
        y, back = f(X.copy(), W.copy(), B.copy())
        known = {
            "dx sums over the wrong letter of w (the shapes fit by coincidence: w is square)": DY @ W,
            "dx is dy unchanged: what the forward did to x is left out": DY,
        }
        found = sharper(found, which(back(DY.copy())[0], known.items()))
    others = {
        OTHERS: (draw(4, (5, 3)), draw(5, (3, 3)), draw(6, (3,))),
        SHAPES: (draw(7, (2, 5)), draw(8, (5, 7)), draw(9, (7,))),
    }
    return again(found, f, linear, others)
