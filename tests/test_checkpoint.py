"""Checkpoints are whole or absent, and what is not ours is refused in a sentence."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from minimega import checkpoint
from minimega.errors import BadInput
from minimega.model import Config, gpt
from minimega.optim import AdamW

CONFIG = Config(vocab_size=11, context=8, d_model=8, nhead=2, num_layers=1)


def trained(seed: int = 0):
    """A model and an optimizer that has something to remember."""
    model, optimizer = gpt(CONFIG).draw(seed), AdamW()
    for _ in range(2):
        model.loss(np.arange(6).reshape(1, 6), np.arange(1, 7).reshape(1, 6)).backward()
        optimizer.step(model.parameters().values(), 1e-2)
    return model, optimizer


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    model, optimizer = trained()
    checkpoint.save(tmp_path, 2, model, optimizer, {"epoch": 1})
    again, fresh = gpt(CONFIG).draw(9), AdamW()
    state = checkpoint.resume(checkpoint.newest(tmp_path), again, fresh)
    assert state == {"version": 1, "step": 2, "epoch": 1}
    assert fresh.steps == optimizer.steps
    for name, p in model.parameters().items():
        assert (again.parameters()[name].data == p.data).all()
        for slot, array in optimizer.state[name].items():
            assert (fresh.state[name][slot] == array).all()
    loaded = checkpoint.load_model(checkpoint.weights_file(str(tmp_path)))
    assert loaded.config == CONFIG
    assert (
        loaded.parameters()["head.weight" if not CONFIG.tied else "embedding.tokens"].data.dtype
    ) == "float32"


def test_only_the_newest_are_kept(tmp_path):
    model, optimizer = trained()
    for step in (8, 9, 10, 100):
        checkpoint.save(tmp_path, step, model, optimizer, {}, keep=2)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["latest", "step-10", "step-100"]
    assert checkpoint.newest(tmp_path).name == "step-100"


@pytest.mark.parametrize("moment", ["_write", "rename"])
def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch, moment):
    model, optimizer = trained()
    checkpoint.save(tmp_path, 1, model, optimizer, {})

    def full(*_):
        raise OSError(28, "No space left on device")

    if moment == "_write":
        monkeypatch.setattr(checkpoint, "_write", full)
    else:
        monkeypatch.setattr("pathlib.Path.rename", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, 2, model, optimizer, {})
    monkeypatch.undo()
    assert sorted(f.name for f in tmp_path.iterdir() if f.suffix != ".tmp") == ["latest", "step-1"]
    checkpoint.load_model(checkpoint.weights_file(str(tmp_path)))


def damaged(weights):
    weights.write_bytes(weights.read_bytes()[:-100])


def header_damaged(weights):
    weights.write_bytes(b"\xff" * 64)


def foreign(weights):
    save_file({"a": np.zeros(3)}, weights)


def later_version(weights):
    save_file({"a": np.zeros(3)}, weights, {"format": "minimega", "version": "99", "config": "{}"})


def other_shapes(weights):
    config = json.dumps(CONFIG.as_dict())
    arrays = {n: np.zeros(3, "float32") for n in gpt(CONFIG).parameters()}
    save_file(arrays, weights, {"format": "minimega", "version": "1", "config": config})


def bad_config(weights):
    save_file(
        {"a": np.zeros(3)}, weights, {"format": "minimega", "version": "1", "config": '{"vocab_size": -3}'}
    )


def missing_array(weights):
    header = {"format": "minimega", "version": "1", "config": json.dumps(CONFIG.as_dict())}
    save_file({"a": np.zeros(3)}, weights, header)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (damaged, "cut short"),
        (header_damaged, "cut short"),
        (foreign, "not written by minimega"),
        (later_version, "version 99"),
        (other_shapes, "another model"),
        (bad_config, "configuration in its header is damaged"),
        (missing_array, "another model"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path, harm, sentence):
    checkpoint.save(tmp_path, 1, *trained(), {})
    weights = checkpoint.weights_file(str(tmp_path))
    harm(weights)
    with pytest.raises(BadInput, match=sentence) as told:
        checkpoint.load_model(weights)
    assert str(told.value).count("\n") < 3


def test_a_missing_run_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such run folder"):
        checkpoint.weights_file(str(tmp_path / "none"))
    with pytest.raises(BadInput, match="no finished checkpoint"):
        checkpoint.weights_file(str(tmp_path))
    with pytest.raises(BadInput, match="no such file"):
        checkpoint.weights_file(str(tmp_path / "x.safetensors"))
    (tmp_path / "latest").write_text("step-7")
    with pytest.raises(BadInput, match="step-7, which is not there"):
        checkpoint.weights_file(str(tmp_path))
