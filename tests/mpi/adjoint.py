"""The adjoint identity of an operation over ranks, with the kinds of its values and gradients."""

import numpy as np

from minimega.gradcheck import check_adjoint
from minimega.ranks.group import pieces


def draw(kind: str, shape: tuple, group, axis: int, seed: int, dtype="float64"):
    """A random value of this kind; `shape` is the whole shape."""
    rng = np.random.default_rng([seed, group.rank] if kind == "partial" else seed)
    x = rng.standard_normal(shape).astype(dtype)
    return x[(*[slice(None)] * axis, pieces(shape[axis], group.size)[group.rank])] if kind == "cut" else x


def assert_whole(x, group) -> None:
    """Equal on all ranks, to the bit."""
    everyone = group.all_gather(np.ascontiguousarray(x).reshape(1, -1).view(np.uint8))
    assert (everyone == everyone[0]).all(), "not the same on all ranks"


def assert_adjoint(
    f, group, shape, values: tuple[str, str], gradients: tuple[str, str], axis=0, whole_out=None
):
    """`values`: the kinds of x and y = f(x); `gradients`: those of dx and dy. f gives (y, back)."""
    out = whole_out or shape
    shapes = local(values[0], shape, group, axis), local(gradients[1], out, group, axis)

    def back(dy):
        dx = f(np.zeros(shapes[0]))[1](dy)  # of a linear map: the same at every x
        return dx() if callable(dx) else dx

    kinds = tuple(zip(values, gradients, strict=True))
    found = check_adjoint(lambda x: f(x)[0], back, shapes, kinds, group)
    assert found.ok, found
    for value, kind, y in (
        (lambda x: f(x)[0], values[1], draw(values[0], shape, group, axis, 1)),
        (back, gradients[0], draw(gradients[1], out, group, axis, 2)),
    ):
        if kind == "whole":
            assert_whole(value(y), group)


def local(kind: str, shape: tuple, group, axis: int) -> tuple[int, ...]:
    """The shape of this rank's part."""
    return draw(kind, shape, group, axis, 0).shape
