"""Lesson 21: the norm of gradients spread over a grid of ranks."""

import numpy as np

from minimega.learn.verdict import Case, Verdict, draw, on_ranks, unlike, values, which, written
from minimega.ranks.group import SELF

TASK = "Write norm(own, group): the root of the sum of all squared gradient entries, the same on every rank."

HINT = """\
Try two ranks that hold the same array of one number, 3. What should both of them return?"""

MORE = """\
Begin with the sum of squares, which can be computed array by array and rank by rank; the root comes last. The
sum over all ranks counts an array once for each rank that holds it. What share of its squares should each of
them contribute, so that the shares add up to one?"""

SOLUTION = '''\
def norm(own, group):
    """`own`: this rank's pairs of a gradient array and the number of ranks that hold it; group: all ranks."""
    total = sum((g * g).sum() / holders for g, holders in own)
    return np.sqrt(group.all_reduce(total))
'''

RANKS = 4  # --tp 2 --dp 2


def judge(norm) -> Verdict:
    """First on one rank, then among four."""
    three, four = np.array([[3.0, 0.0], [0.0, 0.0]]), np.array([-4.0])
    alone = values(
        norm,
        [
            Case(([(np.array([3.0, -4.0]), 1)], SELF), 5.0, _about_a_vector),
            Case(([(three, 1), (four, 1)], SELF), 5.0, _about_two),
        ],
        "right on one rank",
    )
    return on_ranks(norm, RANKS, on_rank) if alone.ok else alone


def _about_a_vector(got) -> str:
    known = {
        "the root is missing": 25,
        "positive and negative entries cancel": 1,
        "this adds up no squares": 7,
    }
    return f"one array, 3 and -4, on one rank: {which(got, known.items(), 'its norm is 5')}"


def _about_two(got) -> str:
    known = {
        "the norms are added, and the root of 9 + 16 is not 3 + 4": 7,
        "the first array is missing": 4,
        "the second array is missing": 3,
    }
    return f"two arrays of norms 3 and 4, on one rank: {which(got, known.items(), 'together they have 5')}"


def on_rank(norm, group) -> Verdict:
    """A cut matrix, held by two; a vector that all hold; and shards of one number each, for three of four."""
    matrix, vector, shards = np.arange(1.0, 25).reshape(4, 6), np.array([20.0, -10, 5]), np.full(3, 31.0)
    tensor = slice(3 * (group.rank % 2), 3 * (group.rank % 2) + 3)
    own = [(matrix[:, tensor].copy(), 2), (vector.copy(), 4), (shards[group.piece(3)].copy(), 1)]
    got = written(norm(own, group), "what your function returns")
    wanted = _root(matrix, vector, shards)
    if not (problem := unlike(got, wanted, "the norm")):
        return _again(norm, group)
    here, left, right = [g for g, _ in own], matrix[:, :3], matrix[:, 3:]
    each = left, left, right, right  # what the ranks hold of the matrix
    typical = {
        "the right number, added up once for each rank": group.size * wanted,
        "each rank takes a root, and the roots are added up": _apart(group, matrix, vector, shards),
        "the root is missing": wanted**2,
        "what rank 0 does not hold, but two other ranks do, is missing": _root(left, vector, shards),
        "what several ranks hold counts on none of them": _root(shards),
        "the number of holders divides the entries, so it is squared with them": _root(
            matrix / 2**0.5, vector / 2, shards
        ),
        "what several ranks hold is multiplied by the number of its holders, instead of divided": _root(
            *(2**0.5 * g for g in each), *[2 * vector] * 4, shards
        ),
        "everything is divided by the number of ranks, but not everything is held by all": _root(
            *each, *[vector] * 4, shards
        )
        / 2,
        "this rank's share alone: no sum over the ranks": sum((g * g).sum() / n for g, n in own) ** 0.5,
        "this rank's own arrays alone, in full, and no other rank's": _root(*here),
        "what several ranks hold counts once for each of them": _root(*each, *[vector] * 4, shards),
    }
    says = which(got, typical.items(), "this is not the norm of all gradients")
    return Verdict(False, f"among ranks: {says}", problem)


def _again(norm, group) -> Verdict:
    """Called again: on more arrays, in as many messages; then on lists of unequal lengths, as stages have."""
    several, calls = [(draw(n, (2, n + 1)), group.size) for n in range(5)], []
    for own in (several[:2], several):
        before = group.counter.total().calls
        got = written(norm(own, group), "what your function returns")
        calls.append(group.counter.total().calls - before)
        if problem := unlike(got, _root(*(g for g, _ in own)), "the norm"):
            return Verdict(False, "among ranks: right at first, but not when it is called again", problem)
    if calls[0] < calls[1]:
        says = "the norm is right, but each array has its own message: ranks with lists of unequal lengths, "
        detail = f"2 arrays: {calls[0]} messages; 5 arrays: {calls[1]}"
        return Verdict(False, f"among ranks: {says}as stages have, would not meet", detail)
    private = [[draw(10 * r + n, (3, 2)) for n in range(r + 1)] for r in range(group.size)]
    got = norm([(g.copy(), 1) for g in private[group.rank]], group)
    if problem := unlike(got, _root(*(g for of_rank in private for g in of_rank)), "the norm"):
        return Verdict(
            False, "among ranks: right, until their lists differ in length (rank 3 has four arrays)", problem
        )
    return Verdict(True, "each entry counts once, whether one rank holds it, two or four")


def _root(*arrays) -> float:
    return float(np.sqrt(sum((g * g).sum() for g in arrays)))


def _apart(group, matrix, vector, shards) -> float:
    """The sum over the ranks of the roots of their shares."""
    total = 0.0
    for r in range(group.size):
        half, one = matrix[:, 3 * (r % 2) : 3 * (r % 2) + 3], shards[r : r + 1]
        total += float(np.sqrt((half * half).sum() / 2 + (vector * vector).sum() / 4 + (one * one).sum()))
    return total
