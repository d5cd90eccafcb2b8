"""Lesson 17: the loss of a vocabulary cut over ranks."""

import numpy as np

from minimega.head import cross_entropy
from minimega.learn.verdict import Case, Verdict, draw, on_ranks, values

TASK = "Write the mean cross-entropy where each rank has some tokens' logits: highest, total and right."

HINT = """\
Write the loss of one row by its formula. Which of its three numbers can a rank compute from its own
columns?"""

MORE = """\
Two of the three are what a rank finds in its own columns, followed by one collective; group.all_reduce takes
"max" as its second argument. For the third, ask for each row whether its target is among this rank's tokens.
Exactly one rank can say yes: if all others contribute 0, the sum over the ranks is what that one has."""

SOLUTION = '''\
def loss(logits, targets, first, group):
    """The mean of -log softmax(logits)[target], equal on all ranks.

    logits (N, V/p): of this rank's tokens, which are first, first + 1, ...; targets (N,): any tokens.
    """
    highest = group.all_reduce(logits.max(axis=1, keepdims=True), "max")
    total = group.all_reduce(np.exp(logits - highest).sum(axis=1))
    place = targets - first
    here = (0 <= place) & (place < logits.shape[1])
    found = logits[np.arange(len(targets)), place * here]  # of column 0 if the target is elsewhere
    right = group.all_reduce(found * here)
    return (np.log(total) + highest[:, 0] - right).mean()
'''

RANKS, VOCABULARY = 4, 10  # cut into 3, 3, 2 and 2 tokens
TARGETS = np.array([1, 4, 7, 9, 3, 5])  # some on every rank; 3 is the first of rank 1


def judge(f) -> Verdict:
    return on_ranks(f, RANKS, on_rank)


def on_rank(f, group) -> Verdict:
    """Ten batches, each of which exposes one more mistake."""
    mine, rows = group.piece(VOCABULARY), len(TARGETS)
    even = np.array([0.0, 1, 2, 0, 1, 2, 1, 2, 1, 2])  # the largest of each rank is 2
    rising = np.arange(10.0)

    def case(row, says) -> Case:
        logits = np.tile(row, (rows, 1)) if np.ndim(row) == 1 else row
        wanted = float(cross_entropy(logits, TARGETS)[0])
        return Case((logits[:, mine], TARGETS, mine.start, group), wanted, says)

    return values(
        f,
        [
            case(np.zeros(VOCABULARY), _about_the_sum(mine.stop - mine.start)),
            case(np.full(VOCABULARY, 2.0), _about_the_target),
            case(even, "the logit that is subtracted is not that of the target"),
            case(rising, "right where all ranks have the same largest logit, wrong where they differ"),
            case(rising - 20, "right where the targets' logits are above 0, wrong where they are below"),
            case(rising + 1000, "right for small logits; with logits near 1000 it is not finite"),
            case(draw(1, (rows, VOCABULARY)), "right where all rows are alike, wrong where they differ"),
            case(1000.0 * (np.arange(rows)[:, None] - 3) + rising, FAR),
            case(2000 * rising, "right for logits near each other, wrong where thousands lie between them"),
            _other(group),
        ],
        "the loss of the whole vocabulary, and no rank has seen more than its piece",
    )


FAR = "with rows near -3000, 0 and 2000 it is wrong: what is subtracted from a row is its own largest logit"


def _other(group) -> Case:
    """Another number of rows, and of tokens: 2, 2, 2 and 1 of them."""
    logits, targets, mine = draw(2, (3, 7)), np.array([6, 0, 3]), group.piece(7)
    wanted = float(cross_entropy(logits, targets)[0])
    return Case(
        (logits[:, mine], targets, mine.start, group), wanted, "right for the first batch, but not for others"
    )


def _about_the_sum(width: int):
    def says(got) -> str:
        if abs(got - np.log(width)) < 1e-6:
            return "all logits are equal, and the loss is the logarithm of this rank's tokens, not of all"
        return "all logits are 0, so the loss is the logarithm of the number of tokens; yours is not"

    return says


def _about_the_target(got) -> str:
    """All logits are 2: what was subtracted instead of 2?"""
    taken = np.log(VOCABULARY) + 2 - got
    if abs(taken) < 1e-6:
        return "too large by the largest logit, 2: it is still in total, or no longer in right"
    if abs(taken - 2 * RANKS) < 1e-6:
        return (
            f"the target's logit counts {RANKS} times: every rank subtracts one, but only one has the target"
        )
    if abs(taken - 2 * RANKS / len(TARGETS)) < 1e-6:
        return "token 1 counts on every rank and token 4 on none: a rank's columns do not begin at token 0"
    if abs(taken - 2 * (len(TARGETS) - 1) / len(TARGETS)) < 1e-6:
        return "a target's logit is missing if it is the first token of a rank, as 3 is of rank 1"
    if abs(taken - 2 * (len(TARGETS) + 1) / len(TARGETS)) < 1e-6:
        return "a target's logit counts twice if it follows a rank's last token, as 3 does on rank 0"
    if -1e-6 < taken < 2 - 1e-6:
        return "the target's logit is missing if another rank has it"
    return "all logits are 2, but another number is subtracted for the target"
