"""Masked and augmented runs as a user starts them: resumed, evaluated, compared, resharded, filling gaps."""

import json

import numpy as np
import pytest

from minimega.checkpoint import checkpoint, run_folder
from minimega.commands.cli import main
from minimega.commands.fill import fill_text
from minimega.data import tokens

SMALL = "--d-model 16 --nhead 2 --num-layers 1 --context 32 --train-batch-size 4 --warmup 0"
AUGMENTED = "--word-dropout 0.2 --span-mask 0.2 --random-offsets".split()  # noqa: SIM905
TEXT = "The quick brown fox jumps over the lazy dog.\nPack my box with five dozen liquor jugs!\n"


@pytest.fixture
def start(tmp_path):
    """A small run, masked unless `more` says otherwise; gives its folder."""
    (tmp_path / "text.txt").write_text(TEXT * 40)

    def go(name, *more, steps=6):
        words = ["train", "--train-filename", str(tmp_path / "text.txt"), "--save-dir", str(tmp_path / name)]
        words += ["--tokenizer", "word", "--objective", "masked", *SMALL.split(), "--num-steps", str(steps)]
        assert main([*words, *more]) == 0
        return tmp_path / name

    return go


def log_of(folder, key="loss"):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line[key] for line in lines if key in line}


def refused(words, capsys) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("minimega: ") and said.err.count("\n") <= 3
    return said.err


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(start, objective):
    options = ("--objective", objective, *AUGMENTED, "--schedule", "constant")
    whole, parts = start("whole", *options, steps=20), start("parts", *options, steps=9)  # an epoch has 7
    assert main(["train", "--save-dir", str(parts), "--resume", "--num-steps", "20"]) == 0
    assert log_of(whole) == log_of(parts) and max(log_of(whole, "epoch").values()) == 3
    assert log_of(whole, "eval_loss")[20] == log_of(parts, "eval_loss")[20]


@pytest.mark.parametrize("option", [["--word-dropout", "0.2"], ["--span-mask", "0.2"], ["--random-offsets"]])
@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_each_augmentation_changes_the_batches_and_not_the_evaluation(start, option, objective, capsys):
    """`evaluate` knows nothing of the augmentation."""
    plain, run = (start(name, "--objective", objective, *more) for name, more in (("a", []), ("b", option)))
    assert log_of(plain)[2] != log_of(run)[2]
    capsys.readouterr()
    assert main(["evaluate", "--model-filename", str(run)]) == 0
    said, loss = capsys.readouterr().out, log_of(run, "eval_loss")[6]
    unit = "masked token" if objective == "masked" else "token"
    assert said.startswith(f"loss {loss:.4f} nats per {unit}, perplexity ")


def test_offsets_of_short_documents_are_noted_to_have_no_effect(tmp_path, capsys):
    words = ["train", "--tales", "30", "--num-steps", "1", "--random-offsets", *SMALL.split()]
    for context, noted in (("100", True), ("32", False)):
        assert main([*words, "--context", context]) == 0
        assert ("--random-offsets has no effect: no document is longer" in capsys.readouterr().out) == noted


def test_a_masked_run_is_compared_and_resharded(tmp_path, start, capsys):
    run = start("run", *AUGMENTED)
    assert main(["compare", str(run), str(run)]) == 0
    assert "verdict: equal" in capsys.readouterr().out
    assert main(["reshard", str(run), "--save-dir", str(tmp_path / "new"), "--tp", "2"]) == 0
    said = []
    for folder in (run, tmp_path / "new"):
        capsys.readouterr()
        assert main(["evaluate", "--model-filename", str(folder)]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_the_lines_of_reading_from_the_left_are_left_out(tmp_path, capsys):
    words = [
        "train",
        "--tales",
        "30",
        *SMALL.split(),
        "--num-steps",
        "2",
        "--save-dir",
        str(tmp_path / "run"),
    ]
    assert main([*words, "--objective", "masked"]) == 0
    said = capsys.readouterr().out
    assert "floor" not in said and "bigram" not in said and "generate" not in said
    assert f"fill {tmp_path / 'run'} 'some text with a [MASK]'" in said and "nats per masked token" in said
    assert main([*words, "--overwrite"]) == 0
    said = capsys.readouterr().out
    assert "floor" in said and "generate" in said and "fill" not in said


@pytest.mark.parametrize("kind", tokens.KINDS)
def test_what_fill_prints_is_what_the_model_says(start, kind, capsys):
    run = start("run", "--tokenizer", kind, "--vocab-size", "400")
    text, parts = "Pack my [MASK] with five d[MASK]zen", ["Pack my", " with five d", "zen"]
    if kind == "char":
        parts[0] += " "
    model, t = checkpoint.load_model(run_folder.newest(run)), tokens.load(run / "tokenizer.json")
    ids = [0, *t.encode(parts[0]), 2, *t.encode(parts[1]), 2, *t.encode(parts[2])]
    logits = model(np.array([ids])).data[0, np.array(ids) == 2].astype(float)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    best = 3 + p[:, 3:].argmax(axis=-1)  # no special token
    capsys.readouterr()
    assert main(["fill", str(run), text, "--json", "--topn", "3"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [len(candidates) for candidates in said["gaps"]] == [3, 3]
    for n in range(2):
        first, second, _ = said["gaps"][n]
        assert first["token"] == t.decode([best[n]])
        assert first["probability"] == pytest.approx(p[n, best[n]], rel=1e-4)
        assert first["probability"] >= second["probability"]
    filled = iter(best)
    assert said["text"] == t.decode([next(filled) if i == 2 else i for i in ids])
    assert main(["fill", str(run), text]) == 0
    lines = capsys.readouterr().out.split("gap ")
    assert lines[0] == said["text"] + "\n" and [line[:3] for line in lines[1:]] == ["1: ", "2: "]
    assert [line.count("%") for line in lines[1:]] == [10, 10]
    gaps = fill_text(model, t, text, top=10**9)[1]
    assert len(gaps[0]) == model.config.vocab_size - 3


def test_each_model_refuses_the_work_of_the_other(start, capsys):
    masked, causal = start("masked"), start("causal", "--objective", "causal")
    references = masked / "tokenizer.json"
    for words in (
        ["generate"],
        ["score", "--references", references],
        ["score", "--secret", "The [dog|box]"],
    ):
        said = refused([*words, "--model-filename", masked], capsys)
        assert "masked model" in said and f"fill {masked} 'some text with a [MASK]'" in said
    said = refused(["fill", causal, "The [MASK]"], capsys)
    assert "sees only what precedes" in said and f"generate --model-filename {causal}" in said


def test_a_text_that_cannot_be_filled_is_refused(start, capsys):
    run = start("run")
    for text, sentence in (
        ("The quick", r"has no gap: write [MASK] where"),
        ("The [mask] <mask>", r"has no gap: write [MASK] where"),
        ("", "fill needs TEXT"),
        ("the " * 40 + "[MASK]", "longer than the context of 32"),
        ("[MASK]" * 40, "longer than the context of 32"),
    ):
        assert sentence in refused(["fill", run, text], capsys)


def test_unknown_words_around_a_gap_are_named(start, capsys):
    run = start("run")
    capsys.readouterr()
    assert main(["fill", str(run), "The zebra [MASK] over the <mask>"]) == 0
    said = capsys.readouterr()
    assert "the vocabulary has no 'zebra', '<', 'mask', '>': the text has <unk> instead" in said.err
    assert said.out.splitlines()[0].startswith("The <unk>")


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_init_from_stays_with_the_objective_unless_another_is_asked_for(tmp_path, start, kind, capsys):
    """A causal model has no mask token: its vocabulary grows by it."""
    text = ["--train-filename", str(tmp_path / "text.txt"), "--train-batch-size", "4", "--num-steps", "2"]
    units = {"causal": "token", "masked": "masked token"}
    sizes = []
    for first, then in (("masked", ""), ("masked", "causal"), ("causal", "masked")):
        more = ["--objective", first, "--tokenizer", kind, "--vocab-size", "300"]
        source, to = start(f"{first} {then}", *more), tmp_path / f"{first} to {then}"
        asked = ["--objective", then] if then else []
        capsys.readouterr()
        assert main(["train", "--init-from", str(source), "--save-dir", str(to), *text, *asked]) == 0
        assert f"nats per {units[then or first]}," in capsys.readouterr().out
        sizes.append([tokens.load(run / "tokenizer.json").size for run in (source, to)])
    assert [b - a for a, b in sizes] == [0, 0, 1]
    assert main(["fill", str(to), "The [MASK]"]) == 0


def test_a_masked_model_learns_whole_dialogues_alone(tmp_path, start, capsys):
    turns = [{"prompt": f"What is {n} and 1?", "completion": f"It is {n + 1}."} for n in range(60)]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(turn) + "\n" for turn in turns))
    run = start("run", "--train-filename", str(tmp_path / "text.jsonl"), *AUGMENTED)
    assert tokens.load(run / "tokenizer.json").specials == ("<mask>", "<user>", "<assistant>", "<end>")
    assert main(["evaluate", "--model-filename", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "bits_per_byte" not in found and found["loss"] == log_of(run, "eval_loss")[6]
    assert 0 < found["tokens"] < 0.5 * found["bytes"]
    said = refused(["evaluate", "--model-filename", run, "--loss-on", "answers"], capsys)
    assert "--loss-on answers trains and judges what follows a question" in said
