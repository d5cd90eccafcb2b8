"""The checker names a mistake in a torch or JAX derivative exactly as it names it in an operation of ours."""

import sys

import numpy as np
import pytest
import torch

from minimega.commands.cli import main
from minimega.errors import BadInput
from minimega.gradcheck import assert_gradients, check, from_jax, from_torch

A = np.random.default_rng(5).normal(size=(4, 4))


def kept(x):
    return x.sum(axis=-1, keepdims=True)


def softmax(m, x):
    return m.exp(x) / kept(m.exp(x))


def norm(m, x):
    return (x - kept(x) / 4) / (kept((x - kept(x) / 4) ** 2) / 4 + 1e-5) ** 0.5


# By name: the forward of x (3, 4), its right gradient and a wrong one, for any library m.
PLANTED = {
    "tanh: the sign": (
        lambda m, x: m.tanh(x),
        lambda m, dy, x: dy * (1 - m.tanh(x) ** 2),
        lambda m, dy, x: -dy * (1 - m.tanh(x) ** 2),
    ),
    "cube: the factor": (lambda m, x: x**3, lambda m, dy, x: 3 * dy * x**2, lambda m, dy, x: 2 * dy * x**2),
    "exp: its slope": (lambda m, x: m.exp(x), lambda m, dy, x: dy * m.exp(x), lambda m, dy, x: dy + 0 * x),
    "softmax: the sum": (
        softmax,
        lambda m, dy, x: softmax(m, x) * (dy - kept(dy * softmax(m, x))),
        lambda m, dy, x: softmax(m, x) * dy,
    ),
    "relu: the mask": (
        lambda m, x: x * (x > 0),
        lambda m, dy, x: dy * (x > 0),
        lambda m, dy, x: dy + 0 * x,
    ),
    "sine: nothing": (lambda m, x: m.sin(x), lambda m, dy, x: dy * m.cos(x), lambda m, dy, x: 0 * dy),
    "mean: the length": (
        lambda m, x: kept(x) / 4,
        lambda m, dy, x: dy / 4 + 0 * x,
        lambda m, dy, x: dy + 0 * x,
    ),
    "product: not transposed": (
        lambda m, x: x @ m.asarray(A),
        lambda m, dy, x: dy @ m.asarray(A).T,
        lambda m, dy, x: dy @ m.asarray(A),
    ),
    "norm: the second mean": (
        norm,
        lambda m, dy, x: (dy - kept(dy) / 4 - norm(m, x) * kept(dy * norm(m, x)) / 4) * slope(x),
        lambda m, dy, x: (dy - kept(dy) / 4) * slope(x),
    ),
    "norm: the first mean": (
        norm,
        lambda m, dy, x: (dy - kept(dy) / 4 - norm(m, x) * kept(dy * norm(m, x)) / 4) * slope(x),
        lambda m, dy, x: (dy - norm(m, x) * kept(dy * norm(m, x)) / 4) * slope(x),
    ),
}


def slope(x):
    return (kept((x - kept(x) / 4) ** 2) / 4 + 1e-5) ** -0.5


def ours(forward, backward):
    def f(x):
        return forward(np, x), lambda dy: backward(np, dy, x)

    return f


def of_torch(forward, backward):
    class F(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return forward(torch, x)

        @staticmethod
        def backward(ctx, dy):
            return backward(torch, dy, *ctx.saved_tensors)

    return F


def of_jax(forward, backward):
    jax = pytest.importorskip("jax")

    @jax.custom_vjp
    def f(x):
        return forward(jax.numpy, x)

    f.defvjp(lambda x: (forward(jax.numpy, x), x), lambda x, dy: (backward(jax.numpy, dy, x),))
    return f


@pytest.fixture
def x(rng):
    return rng.normal(size=(3, 4))


@pytest.mark.parametrize("made", [of_torch, of_jax])
@pytest.mark.parametrize("name", PLANTED)
def test_the_mistake_has_the_name_that_it_has_in_our_own_operation(name, made, x):
    forward, right, wrong = PLANTED[name]
    assert_gradients(made(forward, right), x)
    theirs, own = (check(f(forward, wrong), x).arguments[0] for f in (made, ours))
    assert not own.ok and own.cause
    assert (theirs.ok, theirs.cause, theirs.detail) == (own.ok, own.cause, own.detail)


@pytest.mark.parametrize("made", [of_torch, of_jax])
def test_float32_and_several_arguments(made, rng):
    forward, _, wrong = PLANTED["cube: the factor"]
    report = check(made(forward, wrong), rng.normal(size=(3, 4)).astype("float32"))
    assert report.arguments[0].cause == "scale"


def test_arguments_keep_their_names_and_what_has_no_gradient_is_bound(rng):
    class Picked(torch.autograd.Function):
        @staticmethod
        def forward(ctx, table, ids, scale):
            ctx.save_for_backward(table, ids, scale)
            return table[ids] * scale

        @staticmethod
        def backward(ctx, dy):
            table, ids, scale = ctx.saved_tensors
            dtable = torch.zeros_like(table)
            dtable[ids] = dy * scale  # should add up
            return dtable, None, (dy * table[ids]).sum(0)

    ids, arrays = torch.tensor([1, 2, 1]), (rng.normal(size=(5, 3)), rng.normal(size=3))
    table, scale = check(lambda table, scale: Picked.apply(table, ids, scale), *arrays).arguments
    assert (table.name, scale.name) == ("table", "scale")
    assert not table.ok and scale.ok


def test_a_plain_function_that_uses_their_library_is_recognised(x):
    forward, right, wrong = PLANTED["tanh: the sign"]
    wrong_one, right_one = of_torch(forward, wrong), of_torch(forward, right)
    assert check(lambda x: torch.exp(wrong_one.apply(x)), x).arguments[0].cause == "sign"
    assert check(right_one.apply, x).ok
    assert check(from_torch(lambda x: right_one.apply(x) * 2), x).ok

    def array_in_array_out(x):  # uses torch inside, and keeps our form
        return torch.tensor(x).tanh().numpy(), lambda dy: dy * (1 - np.tanh(x) ** 2)

    assert check(array_in_array_out, x).ok


def test_jax_functions(x):
    jax = pytest.importorskip("jax")
    wrong = of_jax(*(PLANTED["tanh: the sign"][i] for i in (0, 2)))
    assert check(jax.jit(lambda x: 2 * wrong(x)), x).arguments[0].cause == "sign"
    assert check(lambda x: jax.numpy.exp(wrong(x)), x).arguments[0].cause == "sign"
    assert check(from_jax(lambda x: jax.numpy.tanh(x)), x).ok


def test_a_gradient_of_the_wrong_shape_and_several_outputs(x):
    class Summed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum(1)

        @staticmethod
        def backward(ctx, dy):
            return dy

    report = check(Summed, x)
    assert report.arguments[0].cause == "shape"
    with pytest.raises(BadInput, match="returned tuple: check one tensor at a time"):
        check(from_torch(lambda x: (x, x)), x)


FILE = """
import torch

class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, dy):
        return 2 * dy * ctx.saved_tensors[0] ** 2

def cubes(x):
    return Cube.apply(x).sum(1)
"""


@pytest.mark.parametrize("name", ["Cube", "cubes"])
def test_the_command_recognises_them(tmp_path, capsys, name):
    (tmp_path / "mine.py").write_text(FILE)
    assert main(["gradcheck", f"{tmp_path}/mine.py:{name}", "--shapes", "3x4"]) == 1
    assert "Cause: scale.\n      the gradient is the true one times 2/3" in capsys.readouterr().out


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(BadInput, match=r"needs jax, which is not installed: .* -m pip install jax"):
        from_jax(lambda x: x)
