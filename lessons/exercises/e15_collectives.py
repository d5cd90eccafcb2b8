"""Lesson 15: a region with one forward and two backwards."""

import numpy as np

from minimega.learn.verdict import TWO_THINGS, Verdict, draw, on_ranks, parts, unlike, written

TASK = "Write gather(x, group, alike): all rows on every rank, and dx, with no more messages than necessary."

HINT = """\
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

RANKS, ROWS, WIDTH = 4, 2, 3  # of each rank


def judge(f) -> Verdict:
    return on_ranks(f, RANKS, on_rank)


def on_rank(f, group) -> Verdict:
    """Both users of y; the rows and all ranks' dy are drawn by each rank, so that nothing else travels."""
    p, mine = group.size, group.piece(group.size * ROWS)
    x, *every_dy = (draw(n, (p * ROWS, WIDTH)) for n in range(p + 1))
    for alike in (True, False):
        y, back = parts(f(x[mine].copy(), group, alike), ("y", "back"), TWO_THINGS)
        if problem := unlike(y, x, "y"):
            return Verdict(False, "y is not all ranks' rows, in the order of the ranks", problem)
        dy = every_dy[0 if alike else group.rank]
        whole = dy if alike else sum(every_dy)
        dx = written(back(dy.copy()), f"dx, if the ranks {'do' if alike else 'do not do'} the same,")
        if problem := unlike(dx, whole[mine], "dx"):
            if np.ndim(dx) != whole.ndim:
                return Verdict(False, problem)
            return Verdict(False, (_alike if alike else _apart)(np.asarray(dx), dy, whole, group), problem)
    group.barrier()  # a rank that found a mistake does not get here, and its verdict counts
    # Twice forward and once back: the rows that other ranks hold. Anything sent to be thrown away is more.
    needed, sent = 3 * whole.nbytes * (p - 1) / p, group.counter.total().wire
    if sent > needed:
        more = f"{sent:g} bytes left each rank; {needed:g} are enough"
        return Verdict(False, "every number is right, but some are sent that nobody needs", more)
    return Verdict(True, "cut if dy is whole, added up and cut if it is partial")


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
