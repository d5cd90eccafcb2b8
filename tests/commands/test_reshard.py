"""Resharded and resumed runs lose nothing, not even state that only resume reads."""

import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from minimega import precision
from minimega.checkpoint import run_folder
from minimega.commands import option_table as table
from minimega.commands import options, run
from minimega.commands.cli import main
from minimega.commands.options import read

SMALL = ["--tales", "60", "--d-model", "16", "--nhead", "2", "--num-layers", "2", "--context", "32"]
TRAIN = [
    "train",
    *SMALL,
    "--threads",
    "1",
    "--train-batch-size",
    "4",
    "--dtype",
    "float16",
    "--schedule",
    "constant",
]


@pytest.fixture(scope="module", autouse=True)
def scale_that_moves():
    """Runs of this file begin with a loss scale too large, which doubles after every second step that fits.

    So of the first steps one is skipped, and the optimizer has counted fewer than the run.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "loss_scale", lambda dtype: precision.LossScale(value=2.0**20, every=2))
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """Four steps of a run in 16 bits: it has masters, and has doubled its scale once."""
    folder = tmp_path_factory.mktemp("done") / "run"
    assert main([*TRAIN, "--num-steps", "4", "--save-dir", str(folder)]) == 0
    return folder


def state(folder: Path) -> dict:
    return run_folder.read_state(run_folder.newest(folder))


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """The numbers of the newest checkpoint, written by one rank, and what the headers say."""
    found = {}
    for kind in ("model", "optimizer"):
        with safe_open(run_folder.newest(folder) / f"{kind}.safetensors", framework="numpy") as file:
            found |= {f"{kind}/{name}": file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            found |= {f"{kind}: {key}": np.array(text) for key, text in file.metadata().items()}
    return found


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    assert [
        name for name in a if a[name].dtype != b[name].dtype or not np.array_equal(a[name], b[name])
    ] == []


def log_of(folder: Path) -> list[dict]:
    """Everything in the log except times."""
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "tokens_per_s"} for line in lines]


def cut_anew(source: Path, target: Path, *words: str) -> Path:
    assert main(["reshard", str(source), "--save-dir", str(target), *words]) == 0
    return target


def go_on(folder: Path, *words: str) -> None:
    assert main(["train", "--resume", "--save-dir", str(folder), "--num-steps", "8", *words]) == 0


CUTS = [
    ("--tp", "2", "--sequence-parallel"),
    ("--dp", "2", "--zero", "3"),
    ("--pp", "2", "--dp", "2"),
    ("--cp", "2", "--tp", "2"),
]


@pytest.mark.parametrize("cut", CUTS, ids=" ".join)
def test_there_and_back_is_the_run_itself(cut, done, tmp_path):
    there = cut_anew(done, tmp_path / "there", *cut)
    back = cut_anew(there, tmp_path / "back")
    assert state(there)["loss_scale"] != vars(run.loss_scale("float16"))
    lost = [name for name, value in state(done).items() if state(there)[name] != value]
    assert lost == ["layout", "parts"] and " ".join(cut[:2]) in state(there)["layout"]
    assert state(back) == state(done)
    assert_equal(arrays(back), arrays(done))
    assert any("master" in name for name in arrays(done))
    for name, folder in product(("log.jsonl", "tokenizer.json"), (there, back)):
        assert (folder / name).read_bytes() == (done / name).read_bytes()
    began = read(str(done / "config.toml"))
    del began["threads"]  # with another number of ranks they are chosen again
    assert read(str(back / "config.toml")) == began
    layout = {option.key for option in table.of_command("reshard").values()}
    kept, new = (options.complete("train", read(str(f / "config.toml"))) for f in (done, there))
    changed = {name for name, value in vars(kept).items() if getattr(new, name) != value} - {
        "given",
        "threads",
    }
    assert changed == {word.removeprefix("--").replace("-", "_") for word in cut if word.startswith("--")}
    assert changed <= layout


def test_as_many_ranks_keep_their_threads(done, tmp_path):
    assert read(str(done / "config.toml"))["threads"] == 1
    there = cut_anew(done, tmp_path / "there")
    assert (there / "config.toml").read_bytes() == (done / "config.toml").read_bytes()
    there = cut_anew(done, tmp_path / "more", "--threads", "2")
    assert read(str(there / "config.toml"))["threads"] == 2


def test_what_a_checkpoint_says_of_things_to_come_is_kept(done, tmp_path):
    """Whatever a later version adds to state.json is kept for resumed runs."""
    later = Path(shutil.copytree(done, tmp_path / "later"))
    path = run_folder.newest(later) / "state.json"
    path.write_text(json.dumps(state(later) | {"to_come": [1, 2]}))
    assert state(cut_anew(later, tmp_path / "there", "--tp", "2"))["to_come"] == [1, 2]


@pytest.mark.parametrize("optimizer", ["adamw", "momentum", "adagrad"])
@pytest.mark.parametrize("cut", [False, True], ids=["resumed", "resharded"])
def test_a_run_that_goes_on_is_the_uninterrupted_one(cut, optimizer, tmp_path, monkeypatch):
    """Its loss scale too: its value and its next change, whatever new runs start with."""
    words = [*TRAIN, "--optimizer", optimizer, "--dropout", "0.1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*words, "--num-steps", "8", "--save-dir", str(whole)]) == 0
    assert main([*words, "--num-steps", "4", "--save-dir", str(parts)]) == 0
    if cut:
        parts = cut_anew(cut_anew(parts, tmp_path / "there", "--tp", "2", "--pp", "2"), tmp_path / "back")
    monkeypatch.setattr(run, "loss_scale", precision.loss_scale)
    go_on(parts)
    held_out = [line for line in log_of(parts) if "eval_loss" in line]
    trained = [line for line in log_of(parts) if "loss" in line]
    assert trained == [line for line in log_of(whole) if "loss" in line]
    assert held_out[-1] == log_of(whole)[-1]
    first, second = trained[:4], trained[4:]
    assert any(line["skipped"] for line in first) and len({line["loss_scale"] for line in second}) > 1
    assert_equal(arrays(parts), arrays(whole))
    assert state(parts) == state(whole)
