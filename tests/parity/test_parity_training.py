"""Optimizers, clipping and whole runs against torch's."""

import numpy as np
import pytest
import torch

from minimega import optim
from minimega.model import Config
from minimega.parameter import Parameter
from tests.golden import cases
from tests.parity import torch_cases
from tests.test_golden import within


def test_optimizers_over_100_steps():
    within(cases.distances(cases.run_optimizers(), torch_cases.run_optimizers()), 1e-10)


@pytest.mark.parametrize("most", [0.5, 1e3])
def test_clipping(most):
    # torch divides by the norm + 1e-6, minimega by the norm: they differ by that much, where they clip
    gradients = [3 * cases.stream("clip", n).standard_normal((n, 3)) for n in (2, 5)]
    ours, theirs = [Parameter(g.shape) for g in gradients], []
    for p, g in zip(ours, gradients, strict=True):
        p.grad = g.copy()
        theirs.append(torch.zeros(g.shape, dtype=torch.float64, requires_grad=True))
        theirs[-1].grad = torch.tensor(g)
    norm = optim.gradient_norm(ours)
    optim.clip(ours, most, norm)
    assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, most).item(), rel=1e-12)
    for p, q in zip(ours, theirs, strict=True):
        assert cases.distance(p.grad, q.grad.numpy()) < 1e-6


@pytest.mark.parametrize(
    "config", [cases.TRAINED, Config(vocab_size=203, context=64)], ids=["small", "default width"]
)
def test_200_steps_of_adamw_in_float32(config, record_property):
    ours = cases.run_training("float32", config=config)
    theirs = torch_cases.run_training("float32", config=config)
    off = np.abs(ours["losses"] - theirs["losses"]).max()
    record_property("furthest loss", off)
    assert off < 1e-3
    assert (
        theirs["losses"][-1] < 0.7 * theirs["losses"][0]
    )  # equal because both learned, not because neither did
