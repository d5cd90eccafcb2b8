"""Arguments by the names of other frameworks are taken, or the message says what to write."""

import inspect
import re

import numpy as np
import pytest

import minimega as mm
from minimega.elsewhere.keywords import INSTEAD

X = np.random.default_rng(0).normal(size=(2, 3))
WITH_AXIS = [
    n
    for n, f in vars(mm.Tensor).items()
    if callable(f) and n[0] != "_" and "axis" in inspect.signature(f).parameters
]


@pytest.mark.parametrize("name", WITH_AXIS)
def test_dim_is_axis(name):
    method = getattr(mm.Tensor(X), name)
    assert np.array_equal(method(dim=0), method(axis=0))
    with pytest.raises(TypeError, match="dim"):
        method(dims=0)


def test_keepdim_is_keepdims_and_both_have_gradients():
    x = mm.Tensor(X)
    x.mean(dim=-1, keepdim=True).sum().backward()
    assert x.mean(dim=-1, keepdim=True).shape == (2, 1) and np.allclose(x.grad, 1 / 3)
    assert {"sum", "mean", "max", "softmax", "log_softmax"} <= {*WITH_AXIS}


@pytest.mark.parametrize("kind", [mm.Tensor, mm.AdamW, mm.SGD, mm.Momentum])
@pytest.mark.parametrize("name", INSTEAD)
def test_a_wrong_argument_is_explained(kind, name):
    with pytest.raises(
        TypeError, match=re.escape(f"{kind.__name__} has no argument {name}: {INSTEAD[name]}")
    ):
        kind([1.0], **{name: 1})
    with pytest.raises(TypeError, match=f"^{kind.__name__} has no argument fussball$"):
        kind([], fussball=1)


def test_what_is_written_instead_is_there():
    mm.Momentum(mm.Linear(2, 3).parameters(), 0.1, beta1=0.9)
    mm.AdamW(mm.Linear(2, 3).parameters(), lr=0.01, beta1=0.9, beta2=0.99)
    mm.Tensor(np.asarray([1, 2], "float32"))


def test_sums_of_numpy_are_those_of_the_tensor():
    x = mm.Tensor(X)
    (np.sum(x) + np.mean(x, axis=0).sum() + np.max(x)).backward()
    assert x.grad.shape == X.shape and np.isclose(x.grad.sum(), 6 + 3 + 1)


def test_functions_take_dim_as_well_and_only_where_there_is_an_axis():
    x = mm.Tensor(X)
    assert np.array_equal(mm.softmax(x, dim=0), mm.softmax(x, axis=0))
    assert mm.concatenate(x, x, dim=1).shape == (2, 6)
    turned = mm.op(lambda x, dim=0: (x + dim, lambda dy: dy))
    assert np.array_equal(turned(x, dim=2), X + 2)
    with pytest.raises(TypeError, match="dim"):
        mm.relu(x, dim=0)


@pytest.mark.parametrize("many", [list, tuple])
def test_tensors_in_a_list_are_refused_in_a_sentence(many):
    with pytest.raises(TypeError, match=r"one by one, not in a list: concatenate\(\*"):
        mm.concatenate(many([mm.Tensor(X), mm.Tensor(X)]))


SHAPES = {
    "n_layer": ": write num_layers",
    "num_layer": r"; did you mean num_layers\?",
    "fussball": "",
}


@pytest.mark.parametrize("given", SHAPES)
@pytest.mark.parametrize("kind", [mm.Config, mm.EncoderDecoder])
def test_a_shape_by_the_names_of_nanogpt(given, kind):
    with pytest.raises(TypeError, match=f"^{kind.__name__} has no argument {given}{SHAPES[given]}$"):
        kind(vocab_size=9, **{given: 2})
