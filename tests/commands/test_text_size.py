"""Bits per byte: of a run's held-out text, counted by hand, whatever the tokenizer."""

import json
import math
import re

import pytest

from minimega.commands.cli import main, parse
from minimega.commands.texts import read_texts

SMALL = [
    "--d-model",
    "8",
    "--nhead",
    "1",
    "--num-layers",
    "1",
    "--context",
    "16",
    "--train-batch-size",
    "4",
    "--num-steps",
    "2",
]
HELD_OUT = "a naïve 猫 sat.\n"
TOKENS = {  # the held-out text's, and its end
    "char": 15 + 1,
    "word": len(["a", " naïve", " ", "猫", " sat", ".", "\n"]) + 1,
    "bpe": None,  # as many as the tokenizer makes of it
}


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", TOKENS)
def test_a_run_says_the_bits_per_byte_of_its_held_out_text(tmp_path, capsys, kind):
    learned, held_out, run = tmp_path / "text.txt", tmp_path / "held_out.txt", tmp_path / "run"
    learned.write_text(HELD_OUT * 30, encoding="utf-8")
    held_out.write_text(HELD_OUT, encoding="utf-8")
    texts = "--train-filename", str(learned), "--eval-filename", str(held_out), "--tokenizer", kind
    assert main(["train", *texts, *SMALL, "--save-dir", str(run)]) == 0
    said = capsys.readouterr().out
    last = records(run)[-1]
    count = TOKENS[kind] or len(texts_of(*texts, work=tmp_path).tokenizer.encode(HELD_OUT)) + 1
    size = 15 + 1 + 2  # ï has two bytes, 猫 three
    assert len(HELD_OUT) == 15 and len(HELD_OUT.encode()) == size
    assert last["bits_per_byte"] == pytest.approx(last["eval_loss"] * count / size / math.log(2), rel=1e-12)
    bits = f"{last['bits_per_byte']:.4f} bits per byte"
    assert f"step 2: held out {last['eval_loss']:.4f} nats per token, {bits}\n" in said
    final = re.search(r"held out: (loss .*)", said)[1]
    assert final.endswith(f", {bits}")
    assert main(["evaluate", "--model-filename", str(run)]) == 0
    assert capsys.readouterr().out == f"{final}\n"


def texts_of(*words, work):
    o = parse("train", list(words))
    return read_texts(o, o.context, work)


def test_the_floor_costs_as_many_bits_with_every_tokenizer(tmp_path):
    """It is a text's; per token it depends on how many there are."""
    bits = {}
    for kind in ("word", "char", "bpe", "whitespace"):
        texts = texts_of("--tales", "200", "--tokenizer", kind, work=tmp_path)
        bits[kind] = texts.figures(texts.floor)["bits_per_byte"]
        assert 0.01 < texts.floor / texts.bigram < 1
    assert all(b == pytest.approx(bits["word"], rel=1e-12) for b in bits.values())


def test_a_masked_model_has_no_bits_per_byte(tmp_path, capsys):
    words = ["train", "--objective", "masked", "--tales", "30", "--eval-every", "1", "--save-dir"]
    assert main([*words, str(tmp_path / "run"), *SMALL]) == 0
    assert "bits per byte" not in capsys.readouterr().out
    assert not any("bits_per_byte" in record for record in records(tmp_path / "run"))
