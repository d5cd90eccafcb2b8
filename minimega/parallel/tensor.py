"""Tensor and sequence parallelism: two settings of the same regions.

A pair is a column-cut linear layer, what follows it, and a row-cut one. Inside a pair each rank works on its
piece of the features. Outside (norms, dropout, the residual path) each rank works on all tokens (tensor
parallelism), or on its own tokens (sequence parallelism).

B batch, T time, D width.
"""

from minimega.parallel import regions
from minimega.parallel.layout import check_cut
from minimega.ranks.group import SELF, Group
from minimega.ranks.uncut import Uncut


class TensorParallel(Uncut):
    """Tensor parallelism: outside the pairs every rank holds all tokens (Shoeybi et al. 2019, section 3).

    So the gradient of a parameter that all ranks hold is whole on each of them. `group` holds the pieces of
    a layer, `context` the tokens of a sequence, `experts` the experts.
    """

    def __init__(self, group: Group = SELF, context: Group = SELF, experts: Group = SELF):
        self.group, self.context, self.experts = group, context, experts

    def check(self, config):
        """Raise BadInput if a model of this configuration cannot be cut over these groups."""
        check_cut(config, self.group.size, self.experts.size)

    def enter(self, x, place, label: str):
        """Into a pair: whole -> whole (f)."""
        return regions.copy(x, group=self.group, label=label)

    def leave(self, x, label: str):
        """Out of a pair: partial -> whole (g)."""
        return regions.reduce(x, group=self.group, label=label)

    def join(self, x, length: int):
        """All ranks' pieces of the last axis, `length` in all, concatenated on every rank: cut -> whole."""
        return regions.join(x, group=self.group, axis=-1, length=length)

    def over_tokens(self, x, label: str):
        """The sum over the ranks that hold the tokens of a sequence: partial -> whole."""
        return regions.reduce(x, group=self.context, label=label)

    def tokens(self, length: int) -> slice:
        """Which of a window's tokens this rank holds outside the pairs: all."""
        return slice(0, length)


class SequenceParallel(TensorParallel):
    """Sequence parallelism: outside the pairs each rank holds its own tokens.

    Korthikanti et al. 2022, section 4.2. So the gradient of a parameter that all ranks hold is partial: each
    rank has the sum over its tokens.
    """

    partial = True

    def enter(self, x, place, label):
        """Into a pair: (B, this rank's tokens, D) -> (B, T, D)."""
        return regions.gather(x, group=self.group, axis=1, length=len(place.positions), label=label)

    def leave(self, x, label):
        """Out of a pair: partial (B, T, D) -> (B, this rank's tokens, D)."""
        return regions.scatter(x, group=self.group, axis=1, label=label)

    def over_tokens(self, x, label):
        """The sum over the context group and this one: both hold tokens of the sequence."""
        return regions.reduce(super().over_tokens(x, label), group=self.group, label=label)

    def tokens(self, length):
        """This rank's piece of the window."""
        return self.group.piece(length)
