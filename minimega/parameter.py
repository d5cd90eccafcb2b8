"""What is learned: an array that knows its name, its whole shape, how it begins, and how it is cut."""

import math

import numpy as np

from minimega import random
from minimega.autograd import Tensor
from minimega.parallel.comm import SELF, Group


class Parameter(Tensor):
    """A leaf that is learned: its whole shape is known at once, its data only when it is drawn.

    `axis` is the one that is cut over the ranks of `shares` (None: every rank holds the whole array), and
    the first axis is cut over the ranks of `experts`: each has some of the matrices that stand there. It
    starts as mean + std * z, z standard normal by its name and the element's place in the whole array, so
    that every layout of a model starts at the same weights. Matrices take part in weight decay; biases and
    norms do not.

    >>> w = Parameter((2, 3), std=0.02)
    >>> w.name = "w"
    >>> w.draw(seed=0).data.shape, w.size, w.decays
    ((2, 3), 6, True)
    """

    learned = True
    span = None  # all numbers of its piece are owned here; a shard of it owns some (ZeRO)
    __slots__ = ("axis", "experts", "mean", "name", "shared", "shares", "std", "whole_shape")

    def __init__(
        self,
        shape: tuple[int, ...],
        std: float = 0.0,
        mean: float = 0.0,
        axis: int | None = None,
        shares=None,
        experts: Group = SELF,
    ):
        super().__init__(None)
        self.whole_shape, self.std, self.mean, self.name = tuple(shape), std, mean, ""
        self.axis, self.shares, self.experts = axis, shares, experts
        self.shared = False  # by the first and the last stage of a pipeline

    size = property(lambda self: math.prod(self.whole_shape))
    held = property(lambda self: math.prod(s.stop - s.start for s in self.piece))  # numbers on this rank
    decays = property(lambda self: len(self.whole_shape) > 1)

    @property
    def piece(self) -> tuple[slice, ...]:
        """Which part of the whole array this rank holds: all of it, or its piece of the axes that are cut."""
        pieces = [slice(0, n) for n in self.whole_shape]
        for axis, group in self.cuts:
            pieces[axis] = group.piece(self.whole_shape[axis])
        return tuple(pieces)

    @property
    def cuts(self) -> list[tuple[int, Group]]:
        """The axes that are cut, and the ranks that share them out."""
        cuts = [] if self.axis is None else [(self.axis, self.shares.group)]
        return cuts + ([(0, self.experts)] if self.experts.size > 1 else [])

    def whole(self, array):
        """An array that is cut as this parameter is (its data, its gradient, an optimizer's), made whole."""
        for axis, group in self.cuts:
            array = group.all_gather(array, axis, self.whole_shape[axis], label="whole")
        return array

    def draw(self, seed: int, dtype: str = "float32", xp=np) -> "Parameter":
        data = xp.full([s.stop - s.start for s in self.piece], self.mean)
        if self.std:
            places, stride = 0, 1  # of this piece's elements in the whole array, its rows one after another
            for axis, s in reversed(list(enumerate(self.piece))):
                along = xp.arange(s.start, s.stop).reshape(-1, *[1] * (data.ndim - axis - 1))
                places, stride = places + along * stride, stride * self.whole_shape[axis]
            data += self.std * random.normal(random.key(seed, "parameter", self.name), places)
        self.data, self.grad = data.astype(dtype), None
        return self


class Shard:
    """What one rank owns of a parameter that several hold: a part of the flat piece (see parallel/zero.py).

    To the optimizer it is a parameter: it has a name, `data` and a gradient. `piece` says what of the whole
    array the parameter's piece is, `span` which of its numbers, one row after another, are owned here (it may
    be none). `data` is a view of the piece, or what is `kept` of it where the piece is not here.

    >>> w = Parameter((2, 3)).draw(0)
    >>> shard = Shard(w, slice(2, 5))
    >>> shard.data[:] = 1
    >>> w.data.tolist()
    [[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    """

    def __init__(self, parameter: Parameter, span: slice):
        self.parameter, self.span, self.kept, self.grad = parameter, span, None, None

    name = property(lambda self: self.parameter.name)
    axis = property(lambda self: self.parameter.axis)
    decays = property(lambda self: self.parameter.decays)
    piece = property(lambda self: self.parameter.piece)
    whole_shape = property(lambda self: self.parameter.whole_shape)
    held = property(lambda self: self.span.stop - self.span.start)

    @property
    def data(self):
        return self.parameter.data.reshape(-1)[self.span] if self.kept is None else self.kept
