"""What is learned: an array that knows its name, its whole shape, how it begins, and how it is cut."""

import math

import numpy as np

from minimega import random
from minimega.autograd import Tensor


class Parameter(Tensor):
    """A leaf that is learned: its whole shape is known at once, its data only when it is drawn.

    A model that is cut over ranks cuts its `axis` (None: every rank holds the whole array) and, `by_expert`,
    its first axis; `cuts` then lists each cut axis with the group of ranks that hold its pieces.

    It starts as mean + std * z, where z is standard normal, drawn by the parameter's name and the element's
    place in the whole array, so that every layout of a model starts at the same weights. Weight decay acts
    on matrices, not on biases and norms.

    >>> w = Parameter((2, 3), std=0.02)
    >>> w.name = "w"
    >>> w.draw(seed=0).data.shape, w.size, w.decays
    ((2, 3), 6, True)
    """

    learned = True
    span = None  # a Shard owns only this slice (ZeRO)
    __slots__ = ("at_both_ends", "axis", "by_expert", "cuts", "mean", "name", "std", "whole_shape")

    def __init__(
        self,
        shape: tuple[int, ...],
        std: float = 0.0,
        mean: float = 0.0,
        axis: int | None = None,
        by_expert: bool = False,
    ):
        super().__init__(None)
        self.whole_shape, self.std, self.mean, self.name = tuple(shape), std, mean, ""
        self.axis, self.by_expert, self.cuts = axis, by_expert, []
        self.at_both_ends = False  # held by the first and the last stage of a pipeline

    size = property(lambda self: math.prod(self.whole_shape))
    local_size = property(lambda self: math.prod(s.stop - s.start for s in self.piece))  # on this rank
    decays = property(lambda self: len(self.whole_shape) > 1)

    @property
    def piece(self) -> tuple[slice, ...]:
        """Which part of the whole array this rank holds: all of it, or its piece of the axes that are cut."""
        pieces = [slice(0, n) for n in self.whole_shape]
        for axis, group in self.cuts:
            pieces[axis] = group.piece(self.whole_shape[axis])
        return tuple(pieces)

    def cut(self, shares) -> None:
        """Cut it over the ranks of `shares` (see parallel/tensor.py)."""
        over = [] if self.axis is None else [(self.axis, shares.group)]
        over += [(0, shares.experts)] if self.by_expert else []
        self.cuts = [(axis, group) for axis, group in over if group.size > 1]

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
    local_size = property(lambda self: self.span.stop - self.span.start)

    @property
    def data(self):
        return self.parameter.data.reshape(-1)[self.span] if self.kept is None else self.kept
