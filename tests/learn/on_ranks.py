"""What test_sandbox.py runs on ranks: a judge that replaces an exercise's."""

import numpy as np

from minimega.learn.verdict import Verdict, unlike, written


def judge_sum(f, group) -> Verdict:
    """f(x, group) is the sum of all ranks' x."""
    x = np.arange(3.0) + group.rank
    y = written(f(x, group), "the sum")
    if problem := unlike(y, group.size * np.arange(3.0) + sum(range(group.size)), "the sum"):
        return Verdict(False, "this is not the sum over the ranks", problem)
    return Verdict(True, "the sum over the ranks")


def judge_sum_twice(f, group) -> Verdict:
    """The same of two arrays; a rank that finds its first sum wrong does not come to the second."""
    first = judge_sum(f, group)
    return judge_sum(f, group) if first.ok else first
