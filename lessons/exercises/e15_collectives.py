"""Lesson 15: a region with one forward and two backwards."""

import numpy as np

from minimega.learn.verdict import TWO_THINGS, Verdict, draw, on_ranks, parts, unlike, written

TASK = "Write gather(x, group, alike): all rows on every rank, and dx, with no more messages than necessary."

HINT = """\
Follow one row of x to the other ranks. What do they do with it, and what does that tell you of its
gradient?"""

MORE = """\
Follow one row of x: it is in y on all ranks, at the same place. If they all do the same with it, each rank
has the whole gradient of that row already, and nothing has to be sent: group.piece(len(dy)) says where your
rows are. If each does something different with it, its gradient is in parts, one on every rank."""

SOLUTION = '''\
def gather(x, group, alike):
    """All rows on every rank: (N/p, D) -> (N, D), and the backward. `alike`: all ranks do the same with y."""
    y = group.all_gather(x)

    def back(dy):
        if alike:  # dy is whole
            return dy[group.piece(len(dy))]
        return group.reduce_scatter(dy)  # dy is partial: each rank has its own part

    return y, back
'''

RANKS = 4
ROUNDS = (2, 3, True), (2, 3, False), (3, 5, False), (1, 4, True)  # rows of each rank, D, alike


def judge(f) -> Verdict:
    return on_ranks(f, RANKS, on_rank)


def on_rank(f, group) -> Verdict:
    """Both users of y, twice; the rows and all ranks' dy are drawn by each rank: nothing else travels."""
    needed = 0.0
    for number, (rows, width, alike) in enumerate(ROUNDS):
        found, more = _round(f, group, rows, width, alike, 10 * number)
        if not found.ok:
            later = "right for the first arrays, but not for others: " if number > 1 else ""
            return found._replace(sentence=later + found.sentence)
        needed += more
    group.barrier()  # a rank that found a mistake does not get here, and its verdict counts
    # Forward, and back where dy is partial: the rows that other ranks hold. Anything more is too much.
    if (sent := group.counter.total().wire) > needed:
        more = f"{sent:g} bytes left each rank; {needed:g} are enough"
        return Verdict(False, "every number is right, but some are sent that nobody needs", more)
    return Verdict(True, "cut if dy is whole, added up and cut if it is partial")


def _round(f, group, rows: int, width: int, alike: bool, seed: int) -> tuple[Verdict, float]:
    """The verdict on one call and two of its back, and the bytes that have to leave this rank in them."""
    p, mine = group.size, group.piece(group.size * rows)
    x, *every_dy = (draw(seed + n, (p * rows, width)) for n in range(p + 1))
    own = x[mine].copy()
    y, back = parts(f(own, group, alike), ("y", "back"), TWO_THINGS)
    if problem := unlike(y, x, "y"):
        return Verdict(False, "y is not all ranks' rows, in the order of the ranks", problem), 0
    for sign in (1, -2):
        dy = sign * every_dy[0 if alike else group.rank]
        whole = dy if alike else sign * sum(every_dy)
        dx = written(back(dy.copy()), f"dx, if the ranks {'do' if alike else 'do not do'} the same,")
        if problem := unlike(dx, whole[mine], "dx"):
            if np.ndim(dx) != whole.ndim:
                return Verdict(False, problem), 0
            return Verdict(False, (_alike if alike else _apart)(np.asarray(dx), dy, whole, group), problem), 0
    return Verdict(True, ""), (1 if alike else 3) * x.nbytes * (p - 1) / p


def _alike(dx, dy, whole, group) -> str:
    if dx.shape == dy.shape:
        return "all ranks do the same with y: dx is the gradient of all rows, but x has only this rank's"
    if _same(dx, group.size * whole[group.piece(len(whole))]):
        return "all ranks do the same with y: dy is whole, and dx counts it once for every rank"
    if _same(dx, whole[group.piece(len(whole))] / group.size):
        return "all ranks do the same with y: dx is divided by the number of ranks, but dy is whole on each"
    return "all ranks do the same with y: dx is not the gradient of this rank's rows"


def _apart(dx, dy, whole, group) -> str:
    begin = "each rank does something different with y: "
    mine = group.piece(len(whole))
    if _same(dx, dy[mine]):
        return f"{begin}dx lacks what the other ranks did with your rows"
    if dx.shape == dy.shape:
        summed = "added up, but not cut" if _same(dx, whole) else "the gradient of all rows"
        return f"{begin}dx is {summed}: x has only this rank's rows"
    if _same(dx, whole[: len(dx)]):
        return f"{begin}dx is added up, but these are the rows of rank 0"
    if _same(dx, whole[mine] / group.size):
        return f"{begin}dx is a mean over the ranks, but each of them used your rows in full"
    return f"{begin}dx is not the gradient of this rank's rows"


def _same(a, b) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b))
