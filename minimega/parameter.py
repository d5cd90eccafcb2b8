"""A learned array that knows its name, its whole shape, its initial values, and how it is cut."""

import math
from typing import TYPE_CHECKING, Self

import numpy as np

from minimega import random
from minimega.autograd import Tensor
from minimega.errors import BadInput

ALIKE = 'two parameters are named {}: put their layers into a Sequential, or name one: layer.named("b")'


class NotDrawn(BadInput, AttributeError):
    """A parameter has no values yet: an AttributeError, so that copy, pickle and hasattr do without them."""


class Parameter(Tensor):
    """A leaf that is learned. Its whole shape is known from the start; `draw` allocates its data.

    Tensor parallelism cuts it along `axis` (None: every rank holds the whole array). With `by_expert`, expert
    parallelism cuts its first axis. `cuts` lists each cut axis with the group of ranks that hold the pieces.

    Its initial values are mean + std * z. The standard normal z is a function of the seed, the parameter's
    name and the element's position in the whole array, so every layout of a model starts from the same
    weights. Weight decay acts on matrices, not on biases, norms and tables with frozen rows (`decays`).

    >>> w = Parameter((2, 3), std=0.02)
    >>> w.name = "w"
    >>> w.draw(seed=0).data.shape, w.size, w.decays
    ((2, 3), 6, True)
    """

    learned = True
    span: slice | None = None  # a Shard owns only this slice (ZeRO)
    __slots__ = (
        "at_both_ends", "axis", "by_expert", "centre", "cuts", "frozen", "name", "std", "whole_shape",
    )  # fmt: skip

    def __init__(
        self,
        shape: tuple[int, ...],
        std: float = 0.0,
        mean: float = 0.0,
        axis: int | None = None,
        by_expert: bool = False,
    ):
        if not all(isinstance(n, int | np.integer) and n > 0 for n in shape):
            raise BadInput(f"a parameter cannot have the shape {tuple(shape)}: give whole numbers above 0")
        self.grad = self.maker = self.complete = None  # no data until it is drawn
        self.whole_shape, self.std, self.centre, self.name = tuple(shape), std, mean, ""
        self.axis, self.by_expert, self.cuts = axis, by_expert, []
        self.at_both_ends = False  # of a pipeline: the first and the last stage hold a copy each
        self.frozen: np.ndarray | None = None  # which rows stay as they are: booleans, one per whole row

    @property
    def size(self) -> int:
        """The number of entries of the whole array."""
        return math.prod(self.whole_shape)

    local_size = property(lambda self: math.prod(s.stop - s.start for s in self.piece))  # on this rank
    decays = property(lambda self: len(self.whole_shape) > 1 and self.frozen is None)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str):
            if name == "data":
                raise NotDrawn(
                    f"{self.name or 'this parameter'} has no values yet: call draw(seed=0) on its model"
                )
            return super().__getattr__(name)

    @property
    def drawn(self) -> bool:
        """Whether it has values."""
        return hasattr(self, "data")

    def __repr__(self) -> str:
        if not self.drawn:
            return f"Parameter(shape={self.whole_shape}, named {self.name!r}, not drawn)"
        return f"{super().__repr__()[:-1]}, named {self.name!r})"

    @property
    def piece(self) -> tuple[slice, ...]:
        """The part of the whole array that this rank holds: one slice per axis."""
        pieces = [slice(0, n) for n in self.whole_shape]
        for axis, group in self.cuts:
            pieces[axis] = group.piece(self.whole_shape[axis])
        return tuple(pieces)

    def cut(self, shares) -> None:
        """Cut the parameter over the ranks of `shares` (see parallel/tensor.py), before it is drawn."""
        over = [] if self.axis is None else [(self.axis, shares.group)]
        over += [(0, shares.experts)] if self.by_expert else []
        self.cuts = [(axis, group) for axis, group in over if group.size > 1]

    def whole(self, array):
        """Gather the whole of an array that is cut like this parameter: data, gradient, optimizer state."""
        for axis, group in self.cuts:
            array = group.all_gather(array, axis, self.whole_shape[axis], label="whole")
        return array

    def draw(self, seed: int, dtype: str = "float32", xp=np) -> Self:
        """Set `data` to this rank's piece of the initial values, and `grad` to None; returns itself."""
        data = xp.full([s.stop - s.start for s in self.piece], self.centre)
        if self.std:
            places, stride = 0, 1  # flat indices, in the whole array, of this piece's elements
            for axis, s in reversed(list(enumerate(self.piece))):
                along = xp.arange(s.start, s.stop).reshape(-1, *[1] * (data.ndim - axis - 1))
                places, stride = places + along * stride, stride * self.whole_shape[axis]
            data += self.std * random.normal(random.key(seed, "parameter", self.name), places)
        self.data, self.grad = data.astype(dtype), None
        return self


class ByName(dict[str, Parameter]):
    """Parameters by name. `a | b` joins those of two layers, and refuses two that have the same name.

    >>> w, v = Parameter((2,)), Parameter((3,))
    >>> list(ByName(w=w) | ByName(v=v) | {"w": w})
    ['w', 'v']
    """

    def __or__(self, other) -> "ByName":  # type: ignore[override]
        for name in self.keys() & other.keys():
            if self[name] is not other[name]:
                raise BadInput(ALIKE.format(name))
        return ByName({**self, **other})

    # else `a |= b` would drop the parameters of a
    __ior__ = __or__  # pyright: ignore[reportAssignmentType]
