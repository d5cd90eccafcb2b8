"""Lesson 16: an MLP whose inner features are cut over ranks."""

from minimega.learn.verdict import TWO_THINGS, Verdict, draw, gradients, on_ranks, parts, unlike, which
from minimega.linear import linear
from minimega.ops import relu

TASK = "Write what happens where the ranks' paths part and meet: y, and in back(dy) dz, db2 and dx."

HINT = """\
Which of the arrays are whole, and which are this rank's part? A part has to be added up before it can be
used as a whole."""

MORE = """\
Give each value its word: x is whole, h and a are cut, z is partial, y is whole. Then the gradients, from the
right: dy is whole, and every rank has it. z of each rank went into y once, unchanged. And x went into p
different products, one on each rank, so what comes back from them is partial."""

SOLUTION = '''\
def mlp(x, w1, b1, w2, b2, group):
    """y = relu(x w1 + b1) w2 + b2, (N, D) -> (N, D), and the backward.

    Whole: x, b2 and y. This rank's piece of the F inner features: w1 (D, F/p), b1 (F/p), w2 (F/p, D).
    """
    h, back1 = linear(x, w1, b1)  # (N, F/p)
    a, back_relu = relu(h)
    z, back2 = linear(a, w2)  # (N, D), partial
    y = group.all_reduce(z) + b2  # the bias once, after the sum

    def back(dy):
        dz = dy
        db2 = dy.sum(axis=0)
        da, dw2, _ = back2(dz)
        part, dw1, db1 = back1(back_relu(da))  # what this rank did with x
        dx = group.all_reduce(part)
        return dx, dw1(), db1(), dw2(), db2

    return y, back
'''

GIVEN = {"linear": linear, "relu": relu}

RANKS = 4
SIZES = (5, 3, 8), (2, 7, 4)  # N, D and F


def judge(f) -> Verdict:
    return on_ranks(f, RANKS, on_rank)


def on_rank(f, group) -> Verdict:
    first, other = (_judged(f, group, *sizes) for sizes in SIZES)
    if first.ok and not other.ok:
        return other._replace(sentence=f"right for the first arrays, but not for others: {other.sentence}")
    return first


def _judged(f, group, N: int, D: int, F: int) -> Verdict:
    """Each rank also computes the whole MLP and its own part of it, and compares f with them."""
    shapes = (N, D), (D, F), (F,), (F, D), (D,), (N, D)
    x, w1, b1, w2, b2, dy = (draw(n, shape) for n, shape in enumerate(shapes))
    mine, p = group.piece(len(b1)), group.size
    pieces = w1[:, mine], b1[mine], w2[mine]
    whole, (dx, dw1, db1, dw2, db2) = _plain(x, w1, b1, w2, b2, dy)
    own, (part, *_) = _plain(x, *pieces, 0 * b2, dy)

    result = f(x.copy(), *(w.copy() for w in pieces), b2.copy(), group)
    y, back = parts(result, ("y", "back"), TWO_THINGS)
    if problem := unlike(y, whole, "y"):
        known = {
            f"b2 is in y {p} times: each rank adds it before the sum over the ranks": whole + (p - 1) * b2,
            "b2 is missing from y": whole - b2,
            "y is this rank's part of the sum alone": own + b2,
            "y is this rank's part of the sum alone, without b2": own,
        }
        return Verdict(
            False, which(y, known.items(), "y is not the sum of what the ranks computed, and b2"), problem
        )
    back(-dy)  # the first call of back must not change the second
    names, counted = ("dx", "dw1", "db1", "dw2", "db2"), f"counts dy {p} times: dy is whole, on every rank"
    given = [g() if callable(g) else g for g in gradients(back(dy.copy()), names)]
    found = dict(zip(names, given, strict=True))
    checks = (
        (
            "dw2",
            dw2[mine],
            {
                f"dz {counted}": p * dw2[mine],
                "dz is dy divided by the number of ranks": dw2[mine] / p,
                "dz has the wrong sign: z went into y unchanged": -dw2[mine],
                "dz is 0, but z is in y": 0 * dw2[mine],
                "dz is twice dy, but z went into y once": 2 * dw2[mine],
            },
        ),
        (
            "db2",
            db2,
            {
                f"db2 {counted}": p * db2,
                "db2 is not summed over the rows: b2 was added to each of them": dy,
                "db2 is a mean over the rows": db2 / len(dy),
                "db2 is divided by the number of ranks: dy is whole, and b2 is in y once": db2 / p,
            },
        ),
        ("dw1", dw1[:, mine], {}),
        ("db1", db1[mine], {}),
        (
            "dx",
            dx,
            {
                "dx is only this rank's part: the other ranks used x too": part,
                "dx is a mean over the ranks, but each of them used x in full": dx / p,
            },
        ),
    )
    for name, value, known in checks:
        if problem := unlike(found[name], value, name):
            plain = f"{name} is not {'the' if name in ('dx', 'db2') else 'this piece of the'} serial gradient"
            if name == "dw2":  # the first that is made with dz
                plain = "dz is not the gradient of z: dw2, which back2 makes from it, is wrong"
            return Verdict(False, which(found[name], known.items(), plain), problem)
    return Verdict(True, "y, and each rank's gradients, are those of the whole MLP")


def _plain(x, w1, b1, w2, b2, dy) -> tuple:
    """y, and the five gradients."""
    h, back1 = linear(x, w1, b1)
    a, back_relu = relu(h)
    y, back2 = linear(a, w2, b2)
    da, dw2, db2 = back2(dy)
    dx, dw1, db1 = back1(back_relu(da))
    return y, (dx, dw1(), db1(), dw2(), db2())
