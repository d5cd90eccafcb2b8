"""Lesson 18: the loss and the gradient of a batch whose counted tokens are spread unevenly."""

import numpy as np

from minimega.learn.verdict import Verdict, draw, on_ranks, parts, unlike, which
from minimega.ranks.group import SELF

TASK = (
    "Write combine(loss_sum, grad_sum, count, group): the mean loss over all ranks' tokens, and its gradient."
)

HINT = """\
A mean of means is right only if all have the same weight. What do you have to add up instead?"""

MORE = """\
A mean over all tokens has two sums in it: one of losses, one of tokens. Which of your three arguments are
sums over this rank's tokens only, and have to be added up over the ranks? Only then divide. And the
gradient of a sum divided by a fixed number is the gradient of the sum, divided by that number."""

SOLUTION = '''\
def combine(loss_sum, grad_sum, count, group):
    """The loss of the whole batch and its gradient, on every rank; the arguments are this rank's alone."""
    everywhere = group.all_reduce(count)
    loss = group.all_reduce(loss_sum) / everywhere
    grad = group.all_reduce(grad_sum) / everywhere
    return loss, grad
'''

WIDTH = 3
UNEVEN, WITH_NONE = (5.0, 1.0, 3.0, 2.0), (4.0, 2.0, 0.0, 1.0)  # counted tokens, by rank


def judge(f) -> Verdict:
    """First on one rank, where no message matters, then on four."""
    alone = _judged(f, SELF, UNEVEN[:1])
    return alone if not alone.ok else on_ranks(f, 4, on_rank)


def on_rank(f, group) -> Verdict:
    uneven, with_none = _judged(f, group, UNEVEN), _judged(f, group, WITH_NONE)
    if uneven.ok and not with_none.ok:
        return Verdict(False, "right, until a rank has counted no token at all (rank 2)", with_none.detail)
    if not uneven.ok:
        return uneven
    other = _judged(f, group, UNEVEN[::-1], (2, 5))
    if not other.ok:
        return other._replace(sentence=f"right for the first numbers, but not for others: {other.sentence}")
    return uneven


def _judged(f, group, counts, shape=(WIDTH,)) -> Verdict:
    """The loss, then the gradient; each rank draws the numbers of all ranks, so that nothing else is sent."""
    sums = {"the loss": [np.array(2 + draw(r, (1,))[0]) for r in range(group.size)]}
    sums["the gradient"] = [3 * draw(r + 9, shape) for r in range(group.size)]
    for of_all in sums.values():  # no tokens, no sum
        of_all[:] = [s * (n > 0) for s, n in zip(of_all, counts, strict=True)]
    own = [np.array(of_all[group.rank]) for of_all in sums.values()]
    with np.errstate(all="ignore"):  # a division by 0 tokens is reported in a sentence
        result = f(*own, np.array(counts[group.rank]), group)
    two = parts(result, list(sums), "your function should return two things: the loss, and the gradient")
    for what, got in zip(sums, two, strict=True):
        if problem := unlike(got, sum(sums[what]) / sum(counts), what):
            if np.shape(got) != sums[what][0].shape:
                return Verdict(False, problem)
            return Verdict(False, _why(what, np.asarray(got, float), sums[what], counts, group.rank), problem)
    return Verdict(True, "each token weighs the same, whichever rank it is on, and a rank may have none")


def _why(what: str, got, sums, counts, rank: int) -> str:
    p, everywhere = len(counts), sum(counts)
    if p == 1:
        known = {
            f"{what} is a sum over its tokens, not a mean": sums[0],
            f"{what} is divided by its tokens twice": sums[0] / everywhere**2,
        }
        why = which(got, known.items(), f"{what} is not the mean over its tokens")
        return f"on one rank with {everywhere:g} counted tokens: {why}"
    # (a rank without tokens has no mean, and a division by its 0 matches none of these)
    means = [s / max(n, 1) for s, n in zip(sums, counts, strict=True)]
    known = {
        "is a mean of the ranks' means: the one token of rank 1 weighs as much as the five of rank 0": sum(
            means
        )
        / p,
        "is the ranks' means added up: the one token of rank 1 weighs as much as the five of rank 0": sum(
            means
        ),
        "is all ranks' sum, but divided by the tokens of this rank alone": sum(sums) / max(counts[rank], 1),
        "is this rank's own mean: nothing came from the others": means[rank],
        "is this rank's share alone: divided by all ranks' tokens, but not added up": sums[rank] / everywhere,
        "is all ranks' sum, and not divided by their tokens": sum(sums),
        "is divided by the number of ranks, whatever the number of tokens": sum(sums) / p,
        "is divided by all ranks' tokens, and by the number of ranks as well": sum(sums) / everywhere / p,
    }
    return f"{what} {which(got, known.items(), 'is not the sum over all tokens, divided by their number')}"
