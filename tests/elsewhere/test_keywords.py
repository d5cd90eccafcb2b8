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
    with pytest.raises(TypeError, match="unexpected keyword argument 'fussball'"):
        kind([], fussball=1)


def test_what_is_written_instead_is_there():
    mm.Momentum(mm.Linear(2, 3).parameters(), 0.1, beta1=0.9)
    mm.AdamW(mm.Linear(2, 3).parameters(), lr=0.01, beta1=0.9, beta2=0.99)
    mm.Tensor(np.asarray([1, 2], "float32"))
