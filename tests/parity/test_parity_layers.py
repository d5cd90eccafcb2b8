"""Plain layers against torch.nn's of the same weights: values, gradients of inputs and of parameters."""

import numpy as np
import pytest
import torch
from torch import nn

import minimega as mm
from minimega.nets.sequential import Sequential
from tests.golden import cases

D, H = 8, 4


def normal(*shape):
    return np.random.default_rng(3).normal(size=shape)


def mlp(dtype):
    return nn.Sequential(
        nn.Linear(D, 20, dtype=dtype), nn.GELU(approximate="tanh"), nn.Linear(20, D, dtype=dtype)
    )


def net(dtype):
    return nn.Sequential(
        nn.Linear(2, 16, dtype=dtype),
        nn.ReLU(),
        nn.LayerNorm(16, dtype=dtype),
        nn.Tanh(),
        nn.Linear(16, 3, dtype=dtype),
    )


class Attention(nn.Module):
    """nn.MultiheadAttention as a layer of one input, causal."""

    def __init__(self, dtype):
        super().__init__()
        self.inner = nn.MultiheadAttention(D, H, batch_first=True, dtype=dtype)

    def forward(self, x):
        time = x.shape[1]
        hidden = torch.ones(time, time, dtype=torch.bool).triu(1)
        return self.inner(x, x, x, attn_mask=hidden, need_weights=False)[0]


LAYERS = {  # ours, torch's, an input
    "Linear": (lambda: mm.Linear(D, 5), lambda t: nn.Linear(D, 5, dtype=t), normal(4, 3, D)),
    "Linear without a bias": (
        lambda: mm.Linear(D, 5, bias=False),
        lambda t: nn.Linear(D, 5, bias=False, dtype=t),
        normal(4, D),
    ),
    "LayerNorm": (lambda: mm.LayerNorm(D), lambda t: nn.LayerNorm(D, dtype=t), normal(4, 3, D)),
    "Embedding": (
        lambda: mm.Embedding(9, D),
        lambda t: nn.Embedding(9, D, dtype=t),
        np.array([[0, 8, 8], [3, 1, 3]]),
    ),
    "MLP": (lambda: mm.MLP(D, 20), mlp, normal(4, 3, D)),
    "Attention": (lambda: mm.Attention(D, H), Attention, normal(2, 5, D)),
    "Sequential": (
        lambda: Sequential(mm.Linear(2, 16), mm.relu, mm.LayerNorm(16), mm.Tanh(), mm.Linear(16, 3)),
        net,
        normal(7, 2),
    ),
}


def theirs_as_ours(module: nn.Module, what) -> list[np.ndarray]:
    """Parameters of torch, or their gradients, in our layout: matrices (in, out), heads side by side."""
    found = []
    for name, p in module.named_parameters():
        array = what(p).detach().numpy()
        if "in_proj" in name:  # (3, H, C, ...) -> (H, 3, C, ...)
            rest = array.shape[1:]
            array = array.reshape(3, H, D // H, *rest).swapaxes(0, 1).reshape(-1, *rest)
        linear = array.ndim == 2 and not isinstance(module, nn.Embedding)
        found.append(array.T if linear else array)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_plain_layer_is_torchs(name, dtype):
    make, make_theirs, x = LAYERS[name]
    torch.manual_seed(0)
    theirs, ours = make_theirs(getattr(torch, dtype)), make()
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.randn(p.shape, dtype=p.dtype))
    for p, array in zip(ours.parameters().values(), theirs_as_ours(theirs, lambda p: p), strict=True):
        assert p.whole_shape == array.shape
        p.data = array.copy()
    floats = x.dtype.kind == "f"
    x = x.astype(dtype) if floats else x
    mine, given = mm.Tensor(x) if floats else x, torch.tensor(x, requires_grad=floats)
    y, z = ours(mine), theirs(given)
    dy = normal(*z.shape).astype(dtype)
    y.backward(dy)
    z.backward(torch.tensor(dy))
    most = cases.TOLERANCE[dtype]
    assert y.dtype == dtype and cases.distance(y.data, z.detach().numpy()) < most
    if floats:
        assert cases.distance(mine.grad, given.grad.numpy()) < most
    gradients = theirs_as_ours(theirs, lambda p: p.grad)
    largest = max(np.abs(g).max() for g in gradients)
    for (named, p), g in zip(ours.parameters().items(), gradients, strict=True):
        assert np.abs(p.grad - g).max() < most * max(np.abs(g).max(), largest * 1e-2), named


@pytest.mark.parametrize(
    "kind, make",
    [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_a_loop_written_by_hand_is_torchs(kind, make):
    x, y = normal(32, 2), (normal(32, 2)[:, 0] > 0).astype(int)
    theirs = net(torch.float64)
    ours = Sequential(mm.Linear(2, 16), mm.relu, mm.LayerNorm(16), mm.tanh, mm.Linear(16, 3))
    for p, array in zip(ours.parameters().values(), theirs_as_ours(theirs, lambda p: p), strict=True):
        p.data = array.copy()
    settings = {"beta1": 0.9, "beta2": 0.999} if kind != "sgd" else {}
    optimizer, other = (
        mm.OPTIMIZERS[kind](ours.parameters(), lr=0.02, **settings),
        make(theirs.parameters(), lr=0.02),
    )
    for group in other.param_groups:
        group["weight_decay"] = 0.0
    for _ in range(20):
        loss, again = (
            mm.cross_entropy(ours(x), y),
            nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y)),
        )
        optimizer.zero_grad()
        other.zero_grad()
        loss.backward()
        again.backward()
        optimizer.step()
        other.step()
        assert abs(loss.item() - again.item()) < 1e-10
    assert loss.item() < 0.65
