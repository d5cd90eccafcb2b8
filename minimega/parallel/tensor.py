"""Tensor parallelism: how the ranks of a group share out one model; two settings of the same regions.

Between a column-cut and a row-cut linear layer each rank goes its own way with its piece of the features.
What lies between those pairs (norms, dropout, the residual path) is done by all ranks on all tokens, or by
each on its own.

B batch, T time, D width, p ranks.
"""

from minimega.layer import Uncut
from minimega.parallel import regions
from minimega.parallel.layout import check_cut
from minimega.ranks.group import SELF, Group


class TensorParallel(Uncut):
    """Outside of the pairs every rank holds all tokens (Shoeybi et al. 2019, section 3).

    So each rank has the whole gradient of a parameter that all ranks hold.
    """

    def __init__(self, group: Group = SELF, context: Group = SELF, experts: Group = SELF):
        self.group, self.context, self.experts = group, context, experts

    def check(self, config):
        check_cut(config, self.group.size, self.experts.size)

    def enter(self, x, place, label: str):
        """Into a pair: whole -> whole, for ranks that go on differently (f)."""
        return regions.copy(x, group=self.group, label=label)

    def leave(self, x, label: str):
        """Out of a pair: partial -> whole (g)."""
        return regions.reduce(x, group=self.group, label=label)

    def join(self, x, length: int):
        """The pieces of the last axis side by side, on every rank."""
        return regions.join(x, group=self.group, axis=-1, length=length)

    def over_tokens(self, x, label: str):
        """The sum over the ranks that have the tokens of a sequence: partial -> whole."""
        return regions.reduce(x, group=self.context, label=label)

    def tokens(self, length: int) -> slice:
        """Which of the window's tokens this rank holds outside of the pairs."""
        return slice(0, length)


class SequenceParallel(TensorParallel):
    """Sequence parallelism: outside of the pairs each rank holds its own tokens.

    Korthikanti et al. 2022, section 4.2. So its gradient of a parameter that all ranks hold is a part: the
    sum over its tokens.
    """

    partial = True

    def enter(self, x, place, label):
        """(B, its tokens, D) -> (B, T, D)."""
        return regions.gather(x, group=self.group, axis=1, length=len(place.window), label=label)

    def leave(self, x, label):
        """(B, T, D) partial -> (B, its tokens, D)."""
        return regions.scatter(x, group=self.group, axis=1, label=label)

    def over_tokens(self, x, label):
        return regions.reduce(super().over_tokens(x, label), group=self.group, label=label)

    def tokens(self, length):
        return self.group.piece(length)
