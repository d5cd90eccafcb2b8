"""The whole model against the torch GPT of the same weights: logits, loss and every gradient."""

from itertools import product

import numpy as np
import pytest
import torch

from minimega.model import Config, gpt
from tests.golden import cases
from tests.parity import torch_cases
from tests.parity.torch_gpt import TorchGPT
from tests.parity.torch_weights import as_ours, copy_weights
from tests.test_golden import within

DTYPES = pytest.mark.parametrize("dtype", cases.TOLERANCE)
OPTIONS = {
    "norm_position": ("pre", "post"),
    "positions": ("learned", "sinusoidal"),
    "activation": ("gelu", "relu"),
    "tied": (True, False),
    "head_bias": (False, True),
    "attention": (True, False),
}
SHAPES = {
    "one token": (Config(vocab_size=5, context=4, d_model=8, nhead=2), 2, 1),
    "one text, one head": (Config(vocab_size=9, context=6, d_model=10, nhead=1, num_layers=1), 1, 6),
    "heads of width 1": (Config(vocab_size=9, context=16, d_model=6, nhead=6, num_layers=3), 2, 11),
    "narrow MLP": (Config(vocab_size=31, context=16, d_model=18, nhead=3, d_hidden=5), 4, 16),
    "default": (Config(vocab_size=203), 4, 128),
}


def compared(model, tokens, targets) -> dict[str, float]:
    return cases.distances(
        cases.run_model(model, tokens, targets), torch_cases.run_model(model, tokens, targets)
    )


@DTYPES
@pytest.mark.parametrize("choice", [*product(*OPTIONS.values())], ids=lambda c: "-".join(map(str, c)))
def test_every_combination_of_options(choice, dtype):
    config = Config(vocab_size=17, context=12, d_model=12, nhead=3, **dict(zip(OPTIONS, choice, strict=True)))
    within(compared(cases.filled(config, dtype), *cases.batch(config, 3, 9)), cases.TOLERANCE[dtype])


@DTYPES
@pytest.mark.parametrize("drawn", [False, True], ids=["weights of the test", "weights as drawn"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape, drawn, dtype):
    config, b, t = SHAPES[shape]
    model = gpt(config).draw(seed=3, dtype=dtype) if drawn else cases.filled(config, dtype)
    within(compared(model, *cases.batch(config, b, t)), cases.TOLERANCE[dtype])


@DTYPES
def test_the_key_bias_has_no_gradient(dtype):
    # softmax cancels it: both gradients are rounding, compared with the layer's largest gradient
    config, b, t = SHAPES["default"]
    model = cases.filled(config, dtype)
    cases.run_model(model, *cases.batch(config, b, t))
    for i in range(config.num_layers):
        layer = {n: p.grad for n, p in model.parameters().items() if n.startswith(f"block{i}.attention.")}
        key = layer[f"block{i}.attention.branch.qkv.bias"].reshape(config.nhead, 3, -1)[:, 1]
        assert np.abs(key).max() < cases.TOLERANCE[dtype] * max(np.abs(g).max() for g in layer.values())


def test_weights_go_to_torch_and_come_back():
    model = cases.filled(SHAPES["narrow MLP"][0])
    theirs = copy_weights(model, TorchGPT(model.config).double())
    back = as_ours(dict(theirs.named_parameters()), model.parameters(), model.config.nhead)
    for name, p in model.parameters().items():
        np.testing.assert_array_equal(back[name], p.data)


def test_both_draw_weights_of_the_same_spread():
    config = SHAPES["default"][0]
    ours, theirs = gpt(config).draw(seed=0).parameters(), TorchGPT(config)
    theirs = as_ours(dict(theirs.named_parameters()), ours, config.nhead)
    for name, p in ours.items():
        assert p.data.mean() == pytest.approx(theirs[name].mean(), abs=1e-3), name
        assert p.data.std() == pytest.approx(theirs[name].std(), rel=0.05), name
    assert sum(a.size for a in theirs.values()) == gpt(config).count()


def test_float64_is_float64_on_both_sides():
    theirs = torch_cases.twin(cases.filled(SHAPES["default"][0], "float64"))
    assert {p.dtype for p in theirs.parameters()} == {torch.float64}
