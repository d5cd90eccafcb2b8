"""What a layer asks of its ranks, and the answers on one rank.

B batch, T time, D width.
"""

from minimega.ranks.group import SELF


class Uncut:
    """The communication that a layer needs, on one rank: each method returns x itself.

    `parallel/tensor.py` has the versions for several ranks; `Layer.cut` gives them to a model.
    """

    group = context = experts = SELF  # who holds a layer's features, a sequence's tokens, the experts
    partial = False  # True: each rank has a part of the gradient of a parameter that all ranks hold

    def check(self, config) -> None:
        """Raise BadInput if a model of this configuration cannot be cut over these ranks."""

    def enter(self, x, place, label: str):
        """x at the entry of a layer whose features are cut."""
        return x

    def leave(self, x, label: str):
        """The sum of x over the ranks, at the exit of such a layer."""
        return x

    def join(self, x, length: int):
        """x gathered over the ranks along its last axis, which has `length` entries in all."""
        return x

    def over_tokens(self, x, label: str):
        """The sum of x over the ranks that hold the tokens of a sequence."""
        return x

    def tokens(self, length: int) -> slice:
        """The tokens of a window of this length that this rank holds between two such layers."""
        return slice(0, length)
