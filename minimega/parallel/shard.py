"""The part of a parameter that one of several replicas owns."""

import numpy as np

from minimega.parameter import Parameter


class Shard:
    """The part of a parameter that one replica owns under ZeRO: a slice of the flat array (parallel/zero.py).

    To the optimizer it is a parameter, with a name, `data` and `grad`. `piece` is the parameter's piece of
    the whole array; `span`, which can be empty, is the owned slice of that piece, flattened. `data` is a view
    of the piece, or `kept` if the piece itself is not on this rank (stage 3).

    >>> w = Parameter((2, 3)).draw(0)
    >>> shard = Shard(w, slice(2, 5))
    >>> shard.data[:] = 1
    >>> w.data.tolist()
    [[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    """

    def __init__(self, parameter: Parameter, span: slice):
        self.parameter, self.span = parameter, span
        self.kept: np.ndarray | None = None
        self.grad: np.ndarray | None = None

    name = property(lambda self: self.parameter.name)
    axis = property(lambda self: self.parameter.axis)
    decays = property(lambda self: self.parameter.decays)
    frozen = property(lambda self: self.parameter.frozen)
    piece = property(lambda self: self.parameter.piece)
    whole_shape = property(lambda self: self.parameter.whole_shape)
    local_size = property(lambda self: self.span.stop - self.span.start)

    @property
    def data(self):
        """The owned numbers, flat: writing to them changes the parameter."""
        return self.parameter.data.reshape(-1)[self.span] if self.kept is None else self.kept
