"""The adjoint identity of a function over ranks, with the kinds of its values and gradients.

For a linear A and its backward A*, <A x, y> = <x, A* y>. A value and its gradient are paired on each rank;
where both are whole their product counts once, otherwise the products of all ranks add up.
"""

import numpy as np

from minimega.parallel.comm import pieces


def draw(kind: str, shape: tuple, group, axis: int, seed: int, dtype="float64"):
    """A random value of this kind, where `shape` is that of the whole."""
    rng = np.random.default_rng([seed, group.rank] if kind == "partial" else seed)
    x = rng.standard_normal(shape).astype(dtype)
    return x[(*[slice(None)] * axis, pieces(shape[axis], group.size)[group.rank])] if kind == "cut" else x


def product(a, b, kinds: tuple[str, str], group) -> float:
    inner = np.vdot(a, b)
    return float(inner if kinds == ("whole", "whole") else group.all_reduce(inner))


def assert_whole(x, group) -> None:
    """Equal on all ranks, to the bit."""
    everyone = group.all_gather(np.ascontiguousarray(x).reshape(1, -1).view(np.uint8))
    assert (everyone == everyone[0]).all(), "not the same on all ranks"


def assert_adjoint(
    f, group, shape, values: tuple[str, str], gradients: tuple[str, str], axis=0, whole_out=None
):
    """`values`: the kinds of x and y = f(x); `gradients`: those of dx and dy. f gives (y, back)."""
    x = draw(values[0], shape, group, axis, 1)
    y, back = f(x)
    dy = draw(gradients[1], whole_out or shape, group, axis, 2)
    assert y.shape == dy.shape, (y.shape, dy.shape)
    dx = back(dy)
    dx = dx() if callable(dx) else dx
    assert dx.shape == x.shape, (dx.shape, x.shape)
    left = product(y, dy, (values[1], gradients[1]), group)
    right = product(x, dx, (values[0], gradients[0]), group)
    for value, kind in ((y, values[1]), (dx, gradients[0])):
        if kind == "whole":
            assert_whole(value, group)
    assert abs(left - right) < 1e-10 * (abs(left) + abs(right) + 1), f"<Ax, y> {left} but <x, A*y> {right}"
