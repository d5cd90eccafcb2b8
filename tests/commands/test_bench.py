"""The benchmark: what it prints, how it counts operations, and how it alternates."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from minimega.commands import bench, cli
from minimega.commands import bench_steps as steps
from minimega.commands.options import model_config
from minimega.model import Config, gpt

SHAPE = (
    "--kernels none --d-model 16 --nhead 2 --num-layers 1 --context 8 --vocab-size 30 --train-batch-size 4"
)
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
    model, step, machine, _, heads, ours, _, legend, torch = capsys.readouterr().out.splitlines()
    assert model.startswith("3,920 parameters: 1 layers of width 16, vocabulary 30")
    assert "4 x 8 tokens, float32, adamw, 1 BLAS thread" in step and "the shortest of 2" in step
    assert "Gflop/s" in machine and "GB/s" in machine
    assert heads.split()[:3] == ["tokens/s", "shortest", "median"]
    assert ours.startswith("minimega float32") and "%" in ours and ours.endswith("-") and "B" in ours
    assert legend.startswith("ours, shortest") and torch == "torch: not compared; why"


def test_the_arithmetic(without_torch):
    """Two runs of known seconds, on a machine of known rates."""
    o = cli.parse("bench", WORDS[1:])
    config = model_config(o, o.vocab_size)
    seconds = {
        "product": [2.0 * steps.EDGE**3 / 1e9, 99.0],  # 1 Gflop/s
        "stream": [12 * steps.STREAM / 1e9],  # 1 GB/s
        "a": [1.0, 2.0, 4.0],
        "b": [3.0, 2.0, 8.0],
    }
    found = bench.measured(o, seconds, {"a": 10, "b": 20}, config)
    assert found["machine"] == {"product_flops": pytest.approx(1e9), "bandwidth_bytes": pytest.approx(1e9)}
    a, b = found["runs"]["a"], found["runs"]["b"]
    assert (a["shortest_s"], a["median_s"], a["tokens_per_s"]) == (1.0, 2.0, 32.0)
    assert a["share_of_peak"] == pytest.approx(32 * bench.operations(config) / 1e9)
    assert a["beside"] == {"shortest": 1.0, "in_pairs": 1.0}
    assert b["beside"] == {"shortest": 2.0, "in_pairs": 2.0}  # the median of 3, 1 and 2
    assert (a["memory_bytes"], b["memory_bytes"]) == (10, 20)


def test_json(without_torch, capsys):
    assert cli.main([*WORDS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["runs"]) == ["minimega float32"] and found["tokens"] == 32
    assert found["machine"]["product_flops"] > 1e8 and found["machine"]["bandwidth_bytes"] > 1e8


def test_who_is_timed():
    def names(words: str, alone: bool = False) -> list[str]:
        return list(bench.rivals(cli.parse("bench", words.split()), alone))

    assert names("") == ["minimega float32", "torch float32", "torch autocast bfloat16"]
    assert names("--dtype bfloat16") == ["minimega bfloat16", *names("")]
    assert names("--dtype float64") == ["minimega float64", "torch float64"]
    assert names("--dtype float16", alone=True) == ["minimega float16", "minimega float32"]
    assert names("--compiled")[-1] == "torch compiled float32"


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_trains(optimizer):
    o = cli.parse("bench", f"{SHAPE} --optimizer {optimizer} --dtype float64 --dropout 0.1".split())
    step = steps.minimega_step(model_config(o, o.vocab_size), o, o.dtype)
    values = [step() for _ in range(3)]
    assert len(set(values)) == 3 and np.isfinite(values).all()


def test_steps_are_taken_in_turn_and_the_first_ones_are_not_counted():
    calls = []
    seconds = bench.in_turn({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert calls == ["a", "b"] * (3 + bench.WARM_UP)
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}


def grow(config, o, dtype):
    """A step that holds 300 MB, more than any process here uses otherwise."""
    return lambda: np.ones(300_000_000, np.int8).sum()


def test_memory_is_that_of_a_fresh_process():
    o = cli.parse("bench", SHAPE.split())
    config = model_config(o, o.vocab_size)
    plain, grown = (bench.peak_memory(maker, config, o, o.dtype) for maker in (steps.minimega_step, grow))
    assert grown == pytest.approx(plain + 300e6, rel=0.05)


def test_it_says_how_to_get_torch(monkeypatch, tmp_path):
    o = cli.parse("bench", [])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "make parity" in steps.torch_is_missing(o)
    monkeypatch.setattr(steps, "torch_file", lambda: tmp_path / "absent.py")
    assert "tests/parity" in steps.torch_is_missing(o)


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed: make parity runs this")
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adagrad", "adam", "adamw"])
def test_beside_torch(capsys, optimizer):
    assert cli.main([*WORDS, "--optimizer", optimizer]) == 0
    *_, torch, half, _, _ = capsys.readouterr().out.splitlines()
    assert torch.startswith("torch float32 ") and half.startswith("torch autocast bfloat16 ")
    assert "torch" in sys.modules
