"""`minimega train --vectors`: as a user types it; resumed, resharded, used; over ranks as on one."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from minimega.commands.cli import main
from minimega.vectors.files import read

SMALL = ["--tales", "60", "--d-model", "16", "--nhead", "2", "--num-layers", "2", "--context", "32",
         "--train-batch-size", "8", "--lr", "0.01", "--warmup", "1"]  # fmt: skip
WORDS = ("the", "found", "a", "key", "once", "bell", "anna", "gave", "Peter")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Vectors of some of the tales' words; 6 numbers each, so that the model needs a projection."""
    path, rng = tmp_path_factory.mktemp("vectors") / "v.vec", np.random.default_rng(0)
    rows = (f"{word} {' '.join(f'{x:.4f}' for x in rng.normal(size=6))}\n" for word in WORDS)
    path.write_text(f"{len(WORDS)} 6\n{''.join(rows)}")
    return str(path)


def weights(run):
    """The arrays of a run's newest checkpoint, which one rank wrote."""
    return load_file(Path(run) / (Path(run) / "latest").read_text() / "model.safetensors")


def losses(run):
    return [
        json.loads(line)["loss"]
        for line in (Path(run) / "log.jsonl").read_text().splitlines()
        if "lr" in line
    ]


@pytest.fixture(scope="module")
def frozen(file, tmp_path_factory):
    run = str(tmp_path_factory.mktemp("run") / "R")
    args = [*SMALL, "--vectors", file, "--freeze-vectors", "--num-steps", "4", "--save-every", "2"]
    assert main(["train", *args, "--save-dir", run]) == 0
    return run


def test_frozen_vectors_stay_and_the_others_learn(frozen, file, tmp_path):
    tokens = json.loads((Path(frozen) / "tokenizer.json").read_text())["tokens"]
    table, given = weights(frozen)["embedding.tokens"], read(file)
    ids = {token.strip(): i for i, token in enumerate(tokens, 2) if token.startswith(" ")}
    scaled = 0.02 / np.sqrt((given.rows[[given.place[w] for w in ("found", "key")]] ** 2).mean())
    row = table[ids["found"]] / given["found"]
    assert np.allclose(row, row[0]) and 0.5 < row[0] / scaled < 2  # one factor
    assert np.allclose(table[ids["key"]] / given["key"], row[0])
    assert weights(frozen)["embedding.projection"].shape == (6, 16)
    short = str(tmp_path / "two")
    args = [*SMALL, "--vectors", file, "--freeze-vectors", "--num-steps", "2", "--schedule", "constant"]
    assert main(["train", *args, "--save-dir", short]) == 0
    moved = (weights(short)["embedding.tokens"] != table).any(axis=1)
    assert not moved[ids["found"]] and moved[ids["noticed"]]


def test_a_resumed_run_keeps_them_frozen_without_the_file(frozen, file, tmp_path, capsys):
    """Also from a checkpoint that was cut for other ranks."""
    copy, hidden = str(tmp_path / "copy"), Path(file).rename(tmp_path / "elsewhere")
    try:
        assert main(["reshard", frozen, "--save-dir", copy, "--tp", "2", "--zero", "1", "--dp", "2"]) == 0
        one = ["--tp", "1", "--dp", "1", "--zero", "0"]
        assert main(["train", "--save-dir", copy, "--resume", "--num-steps", "7", *one]) == 0
    finally:
        hidden.rename(file)
    before, after = weights(frozen)["embedding.tokens"], weights(copy)["embedding.tokens"]
    still = (before == after).all(axis=1)
    bits = json.loads((Path(copy) / "step-7/state.json").read_text())["frozen"]["embedding.tokens"]
    assert still.sum() == bin(int(bits, 16)).count("1") > 5
    capsys.readouterr()
    assert main(["generate", "--model-filename", copy, "--generate-num-sentences", "1"]) == 0
    assert main(["evaluate", "--model-filename", copy]) == 0
    assert main(["neighbours", copy, "found"]) == 0


def test_init_from_may_freeze_what_it_brings(frozen, tmp_path):
    run = str(tmp_path / "new")
    assert main(["train", "--tales", "60", "--num-steps", "2", "--init-from", frozen, "--freeze-vectors",
                 "--save-dir", run]) == 0  # fmt: skip
    before, after = weights(frozen), weights(run)
    assert (before["embedding.tokens"] == after["embedding.tokens"]).all()
    assert (before["embedding.projection"] != after["embedding.projection"]).any()


@pytest.mark.parametrize("ranks", [["--pp", "2"], ["--dp", "2", "--zero", "3", "--tp", "2"]], ids=" ".join)
def test_over_ranks_as_on_one(ranks, frozen, file, tmp_path):
    run = str(tmp_path / "R")
    args = [*SMALL, "--vectors", file, "--freeze-vectors", "--num-steps", "4", *ranks]
    args += ["--launch", "threads", "--oversubscribe"]
    assert main(["train", *args, "--save-dir", run]) == 0
    assert np.allclose(losses(run), losses(frozen), rtol=1e-5)
    whole = ["--tp", "1", "--dp", "1", "--pp", "1", "--zero", "0"]
    assert main(["reshard", run, "--save-dir", str(tmp_path / "whole"), *whole]) == 0
    got, want = weights(tmp_path / "whole"), weights(frozen)
    assert got.keys() == want.keys()
    assert all(np.allclose(got[name], want[name], atol=1e-4) for name in want)


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--vectors", "nowhere"], "nowhere is not there"),
        (["--vectors", "."], ". is a folder"),
        (["--freeze-vectors"], "--freeze-vectors needs vectors: --vectors FILE, or --init-from RUN"),
        (["--vectors", "{file}", "--d-embedding", "7"], "has vectors of 6 numbers, not --d-embedding 7"),
        (["--vectors", "{file}", "--init-from", "{run}"], "--init-from brings its own word vectors"),
        (["--resume", "--save-dir", "{run}", "--vectors", "nowhere"], "--vectors is"),
        (["--vectors", "{bad}"], "line 3 has 'x' where a number should be"),
    ],
)
def test_bad_input(args, why, frozen, file, tmp_path, capsys):
    (tmp_path / "bad").write_text("2 2\nfound 1 2\nkey 3 x\n")
    places = {"file": file, "run": frozen, "bad": tmp_path / "bad"}
    run = [] if "--save-dir" in args or "--init-from" in args else SMALL
    assert main(["train", *run, "--num-steps", "1", *(a.format(**places) for a in args)]) == 2
    said = capsys.readouterr().err
    assert why in said and len(said.splitlines()) <= 3
