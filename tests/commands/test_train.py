"""Runs as a user starts them: what they write, how they stop, resume and refuse."""

import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minimega.checkpoint import checkpoint, run_folder
from minimega.commands import generate as use
from minimega.commands import progress
from minimega.commands.cli import main, parse
from minimega.commands.start import resumed
from minimega.ranks import lifeline

SMALL = ["--d-model", "16", "--nhead", "2", "--num-layers", "1", "--context", "32", "--train-batch-size", "4"]
TEXT = "The quick brown fox jumps over the lazy dog.\nPack my box with five dozen liquor jugs!\n"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT * 40)
    return str(path)


@pytest.fixture
def start(text):
    """A small run on that text, in a folder; returns the exit status."""

    def go(folder, *more, steps=6):
        words = ["train", "--train-filename", text, "--tokenizer", "char", "--save-dir", str(folder), *SMALL]
        return main([*words, "--num-steps", str(steps), *more])

    return go


def log_of(folder, key="loss"):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line[key] for line in lines if key in line}


def weights_of(folder):
    parts = checkpoint.open_parts(run_folder.find(str(folder)))
    return {name: parts.whole(name) for name in parts}


def same_weights(a, b):
    a, b = weights_of(a), weights_of(b)
    return a.keys() == b.keys() and all((a[n] == b[n]).all() for n in a)


def test_a_run_writes_all_that_it_promises(tmp_path, start, draws, capsys):
    run = tmp_path / "run"
    assert start(run, "--eval-every", "2") == 0
    names = {f.name for f in run.iterdir()}
    assert {"config.toml", "tokenizer.json", "log.jsonl", "loss.png", "latest", "step-6"} <= names
    assert not [n for n in names if "tmp" in n or n.startswith("tokens")]
    for line in (run / "log.jsonl").read_text().splitlines():
        assert {"step", "epoch", "loss", "lr", "grad_norm", "tokens_per_s"} <= json.loads(line).keys() or {
            "step", "eval_loss", "perplexity"} <= json.loads(line).keys()  # fmt: skip
    assert (run / "loss.png").stat().st_size > 1000
    assert list(log_of(run)) == [1, 2, 3, 4, 5, 6]
    assert list(log_of(run, "eval_loss")) == [2, 4, 6]
    assert log_of(run, "perplexity")[6] == pytest.approx(math.exp(log_of(run, "eval_loss")[6]))
    assert any(len(repr(loss)) > 12 for loss in log_of(run).values())  # full floating precision
    said = capsys.readouterr()
    assert "held out" in said.out
    assert said.err == ""


def test_a_run_says_at_both_ends_where_it_saves_or_that_it_saves_nothing(tmp_path, start, text, capsys):
    run = tmp_path / "run"
    assert start(run, "--save-every", "2") == 0
    assert f"saving to {run} every 2 steps and at the last step\n" in capsys.readouterr().out
    assert start(run, "--overwrite") == 0
    assert f"saving to {run} every epoch and at the last step\n" in capsys.readouterr().out
    words = ["train", "--train-filename", text, "--tokenizer", "char", *SMALL, "--num-steps", "2"]
    assert main(words) == 0
    opening, _, rest = capsys.readouterr().out.partition("step 1/2")
    assert "nothing will be saved: --save-dir FOLDER keeps the model, the log and a picture\n" in opening
    assert rest.endswith("nothing was saved: no --save-dir was given\n")


def test_a_disk_without_room_for_a_checkpoint_is_warned_of_at_the_start(tmp_path, start, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)
    assert start(tmp_path / "a") == 0 and "warning" not in capsys.readouterr().out
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_000))
    assert start(tmp_path / "b") == 0
    said = capsys.readouterr().out
    model = re.match(r"[\d,]+", said)[0].replace(",", "")
    assert "\nwarning: the disk has 20 kB left, and a checkpoint takes" in said and int(model) * 12 > 20_000


def test_a_run_that_saved_nothing_is_not_said_to_be_resumable(tmp_path, start, capsys):
    assert start(tmp_path / "run") == 0
    for path in (tmp_path / "run" / "latest", *(tmp_path / "run").glob("step-*")):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    assert start(tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "holds a run that saved no checkpoint; train with --overwrite replaces it" in said
    assert "--resume" not in said
    assert start(tmp_path / "run", "--overwrite") == 0


def test_the_loss_falls(tmp_path, start):
    assert start(tmp_path / "run", "--schedule", "constant", "--warmup", "0", "--lr", "0.01", steps=40) == 0
    losses = list(log_of(tmp_path / "run").values())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("dropout", ["0.0", "0.2"])
def test_a_resumed_run_is_an_uninterrupted_one_bit_for_bit(tmp_path, start, dropout):
    options = ("--schedule", "constant", "--dropout", dropout)
    assert start(tmp_path / "whole", *options, steps=9) == 0
    assert start(tmp_path / "parts", *options, steps=4) == 0
    assert main(["train", "--save-dir", str(tmp_path / "parts"), "--resume", "--num-steps", "9"]) == 0
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "parts")
    assert log_of(tmp_path / "whole", "grad_norm") == log_of(tmp_path / "parts", "grad_norm")
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_run_stopped_by_a_signal_goes_on_to_the_planned_end(tmp_path, text):
    """With a cosine schedule: to the planned length, the losses are those of an uninterrupted run."""
    words = ["train", "--train-filename", text, "--tokenizer", "char", *SMALL, "--num-steps", "400"]
    words += ["--keep", "1", "--save-dir"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*words, str(whole)]) == 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        more = ["--resume"] if parts.exists() else []
        line = [sys.executable, "-m", "minimega", *words, str(parts), *more]
        run = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        begun = len(log_of(parts)) if more else 0
        waited = time.monotonic()
        while not (parts / "log.jsonl").exists() or len(log_of(parts)) < begun + 20:
            assert run.poll() is None and time.monotonic() - waited < 60, run.communicate()
            time.sleep(0.01)
        run.send_signal(number)
        out, err = run.communicate(timeout=60)
        assert run.returncode == 128 + number
        assert "--resume" in out
        assert err == ""
    assert main(["train", "--save-dir", str(parts), "--resume"]) == 0
    steps = [
        json.loads(s)["step"] for s in (parts / "log.jsonl").read_text().splitlines() if "grad_norm" in s
    ]
    assert steps == list(range(1, 401))
    assert log_of(whole) == log_of(parts)
    assert same_weights(whole, parts)


def test_a_crash_between_checkpoints_leaves_no_step_twice(tmp_path, start):
    run = tmp_path / "run"
    assert start(run, "--save-every", "4", "--schedule", "constant", steps=6) == 0
    for name in ("step-6",):
        (run / name).rename(tmp_path / "gone")  # as if it had died after step 6 was logged
    (run / "latest").write_text("step-4")
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 7, "lo')  # cut off in the middle
    assert main(["train", "--save-dir", str(run), "--resume", "--num-steps", "8"]) == 0
    records = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    assert [r["step"] for r in records if "loss" in r] == list(range(1, 9))


def test_a_finished_run_says_so_and_how_to_go_on(tmp_path, start, capsys):
    run = tmp_path / "run"
    assert start(run) == 0
    before, held_out = weights_of(run), log_of(run, "eval_loss")[6]
    resume = ["train", "--save-dir", str(run), "--resume"]
    capsys.readouterr()
    assert main(resume) == 0
    said = capsys.readouterr()
    assert f"{run} is finished" in said.out and "--num-steps 12" in said.out
    assert f"held out: loss {held_out:.4f} nats" in said.out and said.err == ""
    files = {f: f.read_bytes() for f in run.iterdir() if f.is_file()}
    assert main([*resume, "--num-steps", "4"]) == 2
    said = capsys.readouterr()
    assert f"{run} has already made 6 steps, more than the 4 requested" in said.err
    assert said.err.count("\n") == 1 and said.out == ""
    assert {f: f.read_bytes() for f in run.iterdir() if f.is_file()} == files
    assert all((before[n] == a).all() for n, a in weights_of(run).items())


def test_what_may_change_on_resuming(tmp_path, start, capsys):
    run = tmp_path / "run"
    assert start(run) == 0
    resume = ["train", "--save-dir", str(run), "--resume"]
    before = weights_of(run)
    for words in (["--lr", "0.5"], ["--d-model", "32"], ["--seed", "4"], ["--train-batch-size", "8"]):
        assert main([*resume, *words]) == 2
        assert words[0] in capsys.readouterr().err
    assert main([*resume, "--lr", "0.001"]) == 0  # what it is anyway
    assert all((before[n] == a).all() for n, a in weights_of(run).items())
    assert main([*resume, "--num-steps", "8", "--eval-every", "1", "--save-every", "1", "--keep", "3"]) == 0
    assert {f.name for f in run.glob("step-*")} == {"step-6", "step-7", "step-8"}


def test_a_run_goes_on_from_another_folder_and_with_a_text_that_was_moved(
    tmp_path, start, text, monkeypatch, capsys
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    small = ["--tokenizer", "char", *SMALL, "--num-steps", "2"]
    assert main(["train", "--train-filename", "text.txt", "--save-dir", "run", *small]) == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume = ["train", "--save-dir", "../run", "--resume", "--num-steps"]
    assert main([*resume, "4"]) == 0
    assert main(["evaluate", "--model-filename", "../run"]) == 0
    (tmp_path / "text.txt").rename("moved.txt")
    capsys.readouterr()
    assert main([*resume, "6"]) == 2
    said = capsys.readouterr().err
    assert f"the text of this run is no longer there: {tmp_path}/text.txt" in said
    assert "give the new path: --train-filename PATH" in said and said.count("\n") == 2
    assert main(["evaluate", "--model-filename", "../run"]) == 2
    said = capsys.readouterr().err
    assert "no longer there" in said and "--eval-filename" in said and said.count("\n") == 2
    assert main(["evaluate", "--model-filename", "../run", "--eval-filename", "moved.txt"]) == 0
    with open("other.txt", "w") as other:
        other.write("Something else. " * 200)
    assert main([*resume, "6", "--train-filename", "other.txt"]) == 2
    assert "other.txt is not the text that this run was trained on" in capsys.readouterr().err
    assert main([*resume, "6", "--train-filename", "moved.txt"]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--save-dir", "run", "--resume", "--num-steps", "7"]) == 0  # named once for all


@pytest.mark.parametrize(
    "words", ["--accumulate 2", "--eval-batch-size 3", "--recompute full", "--micro-batches 2"]
)
def test_what_changes_the_rounding_alone_may_change_on_resuming(tmp_path, start, words):
    more = ("--dtype", "float64", "--schedule", "constant", "--dropout", "0.1")
    assert start(tmp_path / "whole", *more) == 0
    assert start(tmp_path / "run", *more, steps=3) == 0
    assert (
        main(["train", "--save-dir", str(tmp_path / "run"), "--resume", "--num-steps", "6", *words.split()])
        == 0
    )
    a, b = log_of(tmp_path / "whole"), log_of(tmp_path / "run")
    assert a.keys() == b.keys() and all(abs(a[step] - b[step]) < 1e-10 for step in a)


def test_accumulation_on_resuming_divides_the_batch_of_the_run(tmp_path, start, capsys):
    run = tmp_path / "run"
    assert start(run, "--train-batch-size", "6", steps=2) == 0  # the default is 16
    resume = ["train", "--save-dir", str(run), "--resume", "--num-steps", "3", "--accumulate"]
    assert main([*resume, "4"]) == 2
    assert "--train-batch-size 6" in capsys.readouterr().err
    assert main([*resume, "3"]) == 0


def test_another_text_is_noticed_on_resuming(tmp_path, start, text, capsys):
    assert start(tmp_path / "run") == 0
    with open(text, "a") as file:
        file.write("one more line\n")
    assert main(["train", "--save-dir", str(tmp_path / "run"), "--resume", "--num-steps", "9"]) == 2
    assert "not the text" in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_left_alone(tmp_path, start, capsys):
    run = tmp_path / "run"
    assert start(run) == 0
    before = weights_of(run)
    (run / "notes.txt").write_text("mine")
    assert start(run, "--seed", "1") == 2
    assert "--resume" in capsys.readouterr().err
    # bad input after --overwrite: what was there is not lost
    bad = ["train", "--train-filename", str(tmp_path / "none.txt"), "--save-dir", str(run), "--overwrite"]
    assert main(bad) == 2
    assert all((before[n] == a).all() for n, a in weights_of(run).items())
    assert start(run, "--seed", "1", "--overwrite", steps=3) == 0
    assert list(log_of(run)) == [1, 2, 3]
    assert not (run / "step-6").exists()
    assert (run / "notes.txt").read_text() == "mine"


def test_init_from_takes_the_weights_and_starts_afresh(tmp_path, start, text, capsys):
    assert start(tmp_path / "one") == 0
    words = ["train", "--train-filename", text, "--init-from", str(tmp_path / "one"), "--num-steps", "1"]
    words += ["--train-batch-size", "4", "--save-dir", str(tmp_path / "two")]
    assert main([*words, "--lr", "1e-12", "--warmup", "0"]) == 0
    a, b = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert all(np.allclose(a[n], b[n], atol=1e-9) for n in a)
    assert list(log_of(tmp_path / "two")) == [1]
    assert main([*words, "--overwrite", "--d-model", "32"]) == 2
    assert "d_model" in capsys.readouterr().err


def test_a_run_of_a_size_is_resumed_and_is_the_start_of_others(tmp_path, start, text, capsys):
    run, small = (
        tmp_path / "run",
        ["train", "--train-filename", text, "--tokenizer", "char", "--context", "16"],
    )
    assert main([*small, "--size", "1", "--num-steps", "2", "--save-dir", str(run)]) == 0
    said = capsys.readouterr().out
    assert "1 layer of width 64" in said and "; batch of 8, learning rate up to 0.00141\n" in said
    assert main(["train", "--save-dir", str(run), "--resume", "--size", "1", "--num-steps", "3"]) == 0
    assert len(log_of(run)) == 3
    assert main(["train", "--save-dir", str(run), "--resume", "--size", "2"]) == 2
    assert "--size is 1 in this run and cannot change" in capsys.readouterr().err
    again = [*small, "--init-from", str(run), "--num-steps", "1"]
    assert main([*again, "--size", "1"]) == 0
    assert main([*again, "--size", "2"]) == 2
    assert "its d_model is 64, not 128, as --size 2 says; omit --size" in capsys.readouterr().err
    assert start(tmp_path / "other") == 0 and start(tmp_path / "other", "--resume", "--size", "1") == 2
    assert "--size is not set in this run" in capsys.readouterr().err


def test_accumulation_changes_nothing(tmp_path, start):
    options = ("--dtype", "float64", "--dropout", "0.1")
    assert start(tmp_path / "once", *options) == 0
    assert start(tmp_path / "twice", *options, "--accumulate", "2") == 0
    a, b = log_of(tmp_path / "once"), log_of(tmp_path / "twice")
    assert all(abs(a[step] - b[step]) < 1e-10 for step in a)
    a, b = weights_of(tmp_path / "once"), weights_of(tmp_path / "twice")
    assert all(np.abs(a[n] - b[n]).max() <= 1e-10 * np.abs(b[n]).max() for n in a)


def test_evaluation_repeats_the_last_line_of_the_log(tmp_path, start, text, capsys):
    assert start(tmp_path / "run", "--dropout", "0.5") == 0
    capsys.readouterr()
    assert main(["evaluate", "--model-filename", str(tmp_path / "run"), "--eval-batch-size", "3"]) == 0
    assert f"loss {log_of(tmp_path / 'run', 'eval_loss')[6]:.4f}" in capsys.readouterr().out
    assert main(["evaluate", "--model-filename", str(tmp_path / "run"), "--eval-filename", text]) == 0


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, start, capsys):
    run = tmp_path / "run"
    assert start(run, "--lr", "1e30", "--warmup", "4", "--save-every", "1", "--clip", "0") == 1
    said = capsys.readouterr().err
    assert "step 2" in said
    assert "block0" in said or "embedding" in said
    assert "step 1 is complete" in said
    assert said.count("\n") <= 3
    assert run_folder.newest(run).name == "step-1"
    assert all(np.isfinite(a).all() for a in weights_of(run).values())


def test_what_is_not_finite_at_the_end_is_not_saved_over_what_is(tmp_path, start, capsys):
    """At the last step the loss and the gradient are finite: those of the weights before it."""
    run, lr = tmp_path / "run", ("--schedule", "constant", "--warmup", "0")
    assert start(run, "--lr", "1e38", *lr, steps=1) == 1
    said = capsys.readouterr().err
    assert "step 1: the held-out loss is not finite" in said and "Nothing was saved" in said
    assert said.count("\n") <= 3 and not list(run.glob("step-*"))
    assert start(run, *lr, "--overwrite", "--keep", "1") == 0
    config = run / "config.toml"
    config.write_text(config.read_text().replace("lr = 0.001", "lr = 1e38"))
    resume = ["train", "--save-dir", str(run), "--resume", "--num-steps", "7", "--save-every", "1"]
    assert main([*resume, "--keep", "1"]) == 1
    said = capsys.readouterr().err
    assert "step 7: " in said and "is not finite" in said and "step 6 is complete" in said
    assert run_folder.newest(run).name == "step-6"
    assert all(np.isfinite(a).all() for a in weights_of(run).values())


def test_weights_that_are_not_finite_are_not_saved_between_evaluations(tmp_path, start, capsys):
    how = "--lr 3e38 --weight-decay 100 --schedule constant --warmup 0 --save-every 1"
    more = how.split()
    assert start(tmp_path / "run", *more, "--eval-every", "100") == 1
    said = capsys.readouterr().err
    assert "step 1: embedding.tokens is no longer finite" in said and said.count("\n") <= 3
    assert not list((tmp_path / "run").glob("step-*"))


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, start, capsys, monkeypatch):
    write, calls = checkpoint.write, []

    def full_at_last(path, arrays, header):
        calls.append(path)
        if len(calls) > 3:
            raise OSError(28, "No space left on device", str(path))
        write(path, arrays, header)

    monkeypatch.setattr(checkpoint, "write", full_at_last)
    assert start(tmp_path / "run", "--save-every", "2") == 1
    said = capsys.readouterr().err
    assert "No space left" in said
    assert "step 2 is complete" in said
    assert said.count("\n") <= 3
    assert run_folder.newest(tmp_path / "run").name == "step-2"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--train-filename", "{dir}/none.txt"], "none.txt"),
        (["--train-filename", "{dir}/empty.txt"], "empty"),
        (["--train-filename", "{dir}/binary.bin"], "binary.bin"),
        (["--train-filename", "{dir}/short.txt"], "short"),
        (["--train-batch-size", "4000"], "4000"),
        (["--eval-filename", "{dir}/none.txt"], "none.txt"),
        (["--d-model", "18", "--nhead", "4"], "18"),
        (["--context", "0"], "--context"),
        (["--accumulate", "3"], "--accumulate"),
        (["--lr", "0"], "--lr"),
        (["--dropout", "1"], "--dropout"),
        (["--save-dir", "{dir}/text.txt"], "text.txt"),
        (["--device", "cuda"], "cuda"),
        (["--init-from", "{dir}/nothing"], "nothing"),
        (["--vocab-size", "1"], "1"),
        (["--resume"], "no such run folder"),
    ],
)
def test_bad_input_is_one_clear_sentence(tmp_path, start, capsys, words, sentence):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.bin").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "short.txt").write_text("a")
    before = sorted(tmp_path.rglob("*"))
    assert start(tmp_path / "run", *[w.format(dir=tmp_path) for w in words]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.startswith("minimega: ")
    assert said.err.count("\n") <= 3
    assert "Traceback" not in said.err
    left = [f for f in sorted(tmp_path.rglob("*")) if f not in before and f != tmp_path / "run"]
    assert left == []


def test_a_model_that_cannot_fit_is_refused_with_one_that_does(text, capsys):
    assert main(["train", "--train-filename", text, "--model-type", "megatron-turing-nlg"]) == 2
    said = capsys.readouterr().err
    assert "megatron-turing-nlg" in said
    assert "this machine has" in said
    assert said.count("\n") <= 3


def test_the_writing_goes_one_text_a_line(tmp_path, start, capsys):
    run, out = tmp_path / "run", tmp_path / "out.txt"
    assert start(run) == 0
    capsys.readouterr()
    write = ["generate", "--model-filename", str(run), "--generate-num-sentences", "5"]
    write += ["--generate-sentence-length", "20"]
    assert main([*write, "--generate-filename", str(out), "--prompt", "The q"]) == 0
    lines = out.read_text().splitlines()
    assert len(lines) == 5
    assert all(line.startswith("The q") for line in lines)
    assert len(set(lines)) > 1  # it samples by default
    assert main([*write, "--temperature", "0"]) == 0
    greedy = capsys.readouterr().out.split("\n\n")
    assert len({text.strip() for text in greedy[-5:]}) == 1
    assert main([*write, "--stop", "e", "--generate-filename", str(out)]) == 0
    assert not any("e" in line for line in out.read_text().splitlines())
    capsys.readouterr()
    assert main([*write, "--beams", "2", "--prompt", "The q", "--temperature", "0.5"]) == 0  # the best two
    found = capsys.readouterr()
    assert found.out.count("\n\n") == 1 and found.out.startswith("The q")
    assert "--temperature has no effect: --beams 2 searches, it does not sample" in found.err
    weights = str(run_folder.newest(run) / "model.safetensors")
    assert main(["generate", "--model-filename", weights]) == 0  # a .safetensors in a run's folder
    assert main([*write, "--generate-filename", str(tmp_path / "no" / "such" / "out.txt")]) == 2


def test_a_run_from_another_ones_weights_is_that_shape_and_can_be_resumed(tmp_path, start, text, capsys):
    assert (
        start(tmp_path / "one", "--no-attention", "--d-model", "18", "--nhead", "4", "--tokenizer", "char")
        == 0
    )
    words = ["train", "--train-filename", text, "--init-from", str(tmp_path / "one"), "--num-steps", "1"]
    words += ["--train-batch-size", "4", "--save-dir", str(tmp_path / "two")]
    assert main([*words, "--nhead", "4", "--no-attention", "--vocab-size", "900"]) == 0
    assert main(["train", "--save-dir", str(tmp_path / "two"), "--resume", "--num-steps", "2"]) == 0
    assert list(log_of(tmp_path / "two")) == [1, 2]
    capsys.readouterr()
    for other, name in (
        ("--untied", "untied"),
        ("--no-attention=false", "no_attention"),
        ("--tokenizer=word", "tokenizer"),
        ("--vocab-size=5", "vocab_size"),
        ("--model-type=gpt2", "context"),
        ("--nhead=3", "nhead"),
    ):
        assert main([*words, "--overwrite", other]) == 2, other
        assert f"its {name} is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "lacks"), [("char", ["'\u03a9'"]), ("word", ["'\u03a9\u03a9', '\u03a8'"]), ("bpe", [])]
)
def test_a_prompt_with_unknown_words_says_which(tmp_path, start, capsys, kind, lacks):
    assert start(tmp_path / "run", "--tokenizer", kind, steps=1) == 0
    capsys.readouterr()
    words = ["generate", "--model-filename", str(tmp_path / "run"), "--generate-num-sentences", "1"]
    assert main([*words, "--prompt", "\u03a9\u03a9 \u03a8 quick fox"]) == 0
    said = capsys.readouterr()
    assert said.out and len(said.err.splitlines()) == len(lacks)
    assert all(named in said.err for named in lacks)


def test_the_launcher_knows_the_newest_checkpoint(tmp_path, start, monkeypatch):
    """What it says about a rank that died between two steps."""
    told = {}
    monkeypatch.setattr(lifeline, "tell", lambda step=0, left="", **_: told.update({step: left}))
    assert start(tmp_path / "run", "--save-every", "2", steps=5) == 0
    saved = {step: re.search("of step ([0-9]+) is complete", left) for step, left in told.items()}
    assert {step: int(found[1]) for step, found in saved.items() if found} == {2: 2, 3: 2, 4: 4, 5: 5}


def test_a_signal_at_the_last_step_finds_a_finished_run(tmp_path, start, monkeypatch, capsys):
    def signalled(self, record):
        if record["step"] == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(progress.Progress, "show", signalled)
    assert start(tmp_path / "run", steps=3) == 0
    said = capsys.readouterr().out
    assert "held out: loss" in said and "stopped" not in said


def test_each_epoch_ends_with_an_evaluation_and_a_checkpoint_says_which_it_is(tmp_path, start):
    run = tmp_path / "run"
    assert (
        start(run, "--train-batch-size", "40", "--eval-every", "100", "--save-every", "1", "--keep", "9") == 0
    )
    epochs, evaluated = log_of(run, "epoch"), list(log_of(run, "eval_loss"))
    assert max(epochs.values()) > 1
    assert evaluated == [step for step, epoch in epochs.items() if epochs.get(step + 1) != epoch]
    for step, folder in run_folder.checkpoints(run).items():
        assert run_folder.read_state(folder)["epoch"] == epochs[step]


def test_a_change_of_either_text_is_noticed_on_resuming(tmp_path, start, text, capsys):
    other = tmp_path / "other.txt"
    other.write_text(TEXT * 3)
    assert start(tmp_path / "run", "--eval-filename", str(other)) == 0
    for changed in (tmp_path / "text.txt", other):
        before = changed.read_text()
        changed.write_text(TEXT + before)
        assert main(["train", "--save-dir", str(tmp_path / "run"), "--resume", "--num-steps", "9"]) == 2
        assert "not the text" in capsys.readouterr().err
        changed.write_text(before)
    assert main(["train", "--save-dir", str(tmp_path / "run"), "--resume", "--num-steps", "9"]) == 0


def test_epochs_on_resuming_replace_the_steps_of_the_run(tmp_path, start):
    assert start(tmp_path, steps=2) == 0
    words = ["--save-dir", str(tmp_path), "--resume", "--num-epochs", "3"]
    asked = resumed(tmp_path, parse("train", words))[1]
    assert (asked.num_steps, asked.num_epochs) == (None, 3)
    asked = resumed(tmp_path, parse("train", [*words, "--num-steps", "7"]))[1]
    assert asked.num_steps == 7


def test_what_another_run_may_change_of_a_model_is_its_own(tmp_path, start, text):
    one, two = tmp_path / "one", tmp_path / "two"
    assert start(one, "--experts", "2", "--balance", "0.5", "--dropout", "0.1", steps=1) == 0
    words = [
        "train",
        "--train-filename",
        text,
        "--init-from",
        str(one),
        "--num-steps",
        "1",
        "--save-dir",
        str(two),
    ]
    words += ["--train-batch-size", "4", "--balance", "0.25", "--dropout", "0.2", "--dtype", "float64"]
    assert main(words) == 0
    config = checkpoint.open_model(run_folder.newest(two))[1]
    assert (config.experts, config.balance, config.dropout) == (2, 0.25, 0.2)
    assert {array.dtype.name for array in weights_of(two).values()} == {"float64"}


def test_the_texts_are_the_same_however_many_are_written_at_once(tmp_path, start, monkeypatch, capsys):
    assert start(tmp_path / "run", steps=1) == 0
    words = ["generate", "--model-filename", str(tmp_path / "run"), "--generate-num-sentences", "5"]
    said = []
    for together in (64, 2):
        monkeypatch.setattr(use, "TOGETHER", together)
        capsys.readouterr()
        assert main(words) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and len(set(said[0].split("\n\n"))) == 5
