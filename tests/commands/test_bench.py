"""The benchmark: what it prints, how it counts operations, and how it alternates."""

import importlib.util
import sys

import numpy as np
import pytest

from minimega.commands import bench, cli
from minimega.commands.options import model_config
from minimega.model import Config, gpt

SHAPE = "--d-model 16 --nhead 2 --num-layers 1 --context 8 --vocab-size 30 --train-batch-size 4"
WORDS = f"bench {SHAPE} --num-steps 2".split()
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setattr(bench, "torch_is_missing", lambda o: "not compared; why")


def test_operations_by_hand():
    shape = {"vocab_size": 30, "d_model": 16, "nhead": 2, "num_layers": 3, "context": 8}
    config = Config(**shape)
    # the MLP 8 D^2, attention 4 D^2, their biases 4 D + D + 3 D + D, two norms 4 D; the last norm 2 D
    count = 3 * (12 * 16**2 + 13 * 16) + 2 * 16 + (30 + 8) * 16
    assert gpt(config).count() == count
    assert bench.operations(config) == 6 * count + 12 * 3 * 8 * 16
    without = 3 * (4 * 16**2 + 6 * 16)  # the attention of three blocks, with its norms
    assert bench.operations(Config(**shape, attention=False)) == 6 * (count - without)


def test_what_it_prints(without_torch, capsys):
    assert cli.main(WORDS) == 0
    model, step, peak, ours, torch = capsys.readouterr().out.splitlines()
    assert model.startswith("3,920 parameters: 1 layers of width 16, vocabulary 30")
    assert "4 x 8 tokens, float32, adamw" in step and "medians of 2" in step
    assert peak.startswith("peak: ") and "Gflop/s" in peak
    assert (
        ours.startswith("minimega: ")
        and "tokens/s" in ours
        and "% of the peak" in ours
        and "B of memory" in ours
    )
    assert torch == "torch: not compared; why"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_trains(optimizer):
    o = cli.parse("bench", f"{SHAPE} --optimizer {optimizer} --dtype float64 --dropout 0.1".split())
    step = bench.minimega_step(model_config(o, o.vocab_size), o)
    values = [step() for _ in range(3)]
    assert len(set(values)) == 3 and np.isfinite(values).all()


def test_steps_are_taken_in_turn_and_the_first_ones_are_not_counted():
    calls = []
    seconds = bench.in_turn({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert calls == ["a", "b"] * (3 + bench.WARM_UP)
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}


def grow(config, o):
    """A step that holds 300 MB, more than any process here uses otherwise."""
    return lambda: np.ones(300_000_000, np.int8).sum()


def test_memory_is_that_of_a_fresh_process():
    o = cli.parse("bench", SHAPE.split())
    config = model_config(o, o.vocab_size)
    plain, grown = (bench.peak_memory(maker, config, o) for maker in (bench.minimega_step, grow))
    assert grown == pytest.approx(plain + 300e6, rel=0.05)


def test_it_says_how_to_get_torch(monkeypatch, tmp_path):
    o = cli.parse("bench", [])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "make parity" in bench.torch_is_missing(o)
    monkeypatch.setattr(bench, "_torch_file", lambda: tmp_path / "absent.py")
    assert "tests/parity" in bench.torch_is_missing(o)


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed: make parity runs this")
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adagrad", "adam", "adamw"])
def test_beside_torch(capsys, optimizer):
    assert cli.main([*WORDS, "--optimizer", optimizer]) == 0
    *_, torch, ratio = capsys.readouterr().out.splitlines()
    assert torch.startswith("torch: ") and "tokens/s" in torch
    assert ratio.startswith("minimega / torch: ")
    assert "torch" in sys.modules
