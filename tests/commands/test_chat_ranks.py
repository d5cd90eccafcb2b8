"""Fine-tuning on answers from a run without special tokens: on ranks and resumed as on one rank."""

import json

import numpy as np
import pytest

from minimega.checkpoint import checkpoint, run_folder
from minimega.commands.cli import main
from minimega.data import chat, tokens
from tests.commands.test_train_ranks import CLOSE, log_of
from tests.job import minimega

SHAPE = "--d-model 16 --nhead 2 --num-layers 2 --context 32 --dtype float64 --untied --head-bias"
STEPS = ["--train-batch-size", "4", "--eval-every", "2", "--num-steps"]
NAMES = "Anna", "Leo", "Mei", "Hugo", "Rosa", "Kofi"


@pytest.fixture
def tales(tmp_path):
    folder = tmp_path / "tales"
    assert main(["train", "--tales", "30", *SHAPE.split(), *STEPS, "2", "--save-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def pairs(tmp_path):
    said = [("Who" + " found" * (n % 3), f"{NAMES[n % 6]} did" * (n % 2 + 1)) for n in range(40)]
    rows = [json.dumps({"prompt": prompt, "completion": completion}) for prompt, completion in said]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    return tmp_path / "pairs.jsonl"


def test_answers_over_ranks_and_resumed_are_learned_as_on_one_rank(tmp_path, tales, pairs):
    words = ["train", "--train-filename", pairs, "--init-from", tales, "--loss-on", "answers", *STEPS]
    more = ["--dtype", "float64", "--schedule", "constant", "--save-dir"]
    whole = minimega(*words, 6, *more, tmp_path / "whole")
    first = minimega(*words, 3, *more, tmp_path / "part", "--tp", 2)
    rest = ["--resume", "--num-steps", 6, "--tp", 1, "--dp", 2, "--zero", 3]
    rest = minimega("train", "--save-dir", tmp_path / "part", *rest)
    assert (whole.returncode, first.returncode, rest.returncode) == (0, 0, 0), rest.stderr
    assert "from step 3" in rest.stdout
    for key in ("loss", "grad_norm"):
        a, b = log_of(tmp_path / "part", key), log_of(tmp_path / "whole", key)
        assert len(b) == 6 and max(abs(a[step] / b[step] - 1) for step in b) < CLOSE, key
    a, b = (checkpoint.open_parts(run_folder.newest(tmp_path / name)) for name in ("part", "whole"))
    for name in b:
        assert np.abs(a.whole(name) - b.whole(name)).max() < 1e-8, name


def test_the_vocabulary_grows_at_its_end(tmp_path, tales, pairs):
    fine = tmp_path / "fine"
    words = ["train", "--train-filename", str(pairs), "--init-from", str(tales), "--lr", "1e-30"]
    more = ["--weight-decay", "0", "--dtype", "float64", "--save-dir", str(fine), "--seed", "3"]
    assert main([*words, *more, *STEPS, "1"]) == 0
    before, after = (tokens.load(run / "tokenizer.json") for run in (tales, fine))
    text = " Anna found <user> it"
    assert after.size == before.size + 3 and after.encode(text).tolist() == before.encode(text).tolist()
    assert [after.special(name) for name in chat.SPECIALS] == [before.size + n for n in range(3)]
    old, new = (checkpoint.open_parts(run_folder.newest(run)) for run in (tales, fine))
    for name in old:
        a, b = old.whole(name), new.whole(name)
        assert np.allclose(b[: len(a)], a, rtol=0, atol=1e-12), name
        grows = name in ("embedding.tokens", "head.weight", "head.bias")
        assert len(b) == len(a) + 3 * grows, name
    rows = new.whole("embedding.tokens")[before.size :]
    assert 0.01 < rows.std() < 0.04 and len(np.unique(rows)) == rows.size  # drawn, as a new model's are
