"""minimega compare tells rounding from bugs, and names where a bug begins."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from minimega import ops, optim
from minimega.checkpoint import run_folder
from minimega.commands import compare
from minimega.commands.cli import main
from minimega.commands.rounding import begins, explained, off
from minimega.linear import ColumnLinear
from minimega.model import Config

SMALL = "--tales 30 --d-model 16 --nhead 4 --num-layers 2 --context 16 --train-batch-size 8 --dropout 0.1"
RELU = ["--activation", "relu"]
OPTIONS = [*SMALL.split(), "--num-steps", "3", "--save-every", "1", "--keep", "3", "--warmup", "2"]


def train(folder: Path, *words: str) -> Path:
    assert main(["train", *OPTIONS, "--save-dir", str(folder), *words]) == 0
    return folder


@pytest.fixture(scope="module")
def right(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "right")


@pytest.fixture
def compared(capsys):
    """Compare two runs; gives the exit status and the last line."""

    def go(a, b) -> tuple[int, str]:
        capsys.readouterr()
        status = main(["compare", str(a), str(b)])
        said = capsys.readouterr()
        return status, (said.err or said.out).splitlines()[-1]

    return go


def test_a_run_is_equal_to_itself(right, compared, tmp_path):
    assert compared(right, right) == (0, "verdict: equal")
    assert compared(train(tmp_path / "again"), right) == (0, "verdict: equal")


@pytest.mark.parametrize("words", [["--accumulate", "2"], ["--dtype", "float64"]])
def test_another_order_of_sums_is_rounding(right, compared, tmp_path, words):
    status, last = compared(train(tmp_path / "other", *words), right)
    assert status == 0 and last.startswith("verdict: rounding: no distance is above ")


def test_a_cut_run_is_rounding(right, compared, capsys):
    serial = f"train {SMALL} --warmup 2"
    cut = f"{serial} --tp 2 --cp 2 --sequence-parallel --launch threads"
    assert main(["compare", cut, serial]) == 0
    said = capsys.readouterr().out
    assert "verdict: rounding" in said and "(--tp 2 --dp 1 --cp 2 --sequence-parallel, float32)" in said
    assert "batch of step 4 in both" in said and "training, after step 3" in said and "  !" not in said


def test_a_weight_that_was_changed_is_named(right, compared, tmp_path):
    wrong = tmp_path / "wrong"
    shutil.copytree(right, wrong)
    file = run_folder.newest(wrong) / "model.safetensors"
    weights, header = load_file(file), safe_open(file, "numpy").metadata()
    weights["block1.mlp.branch.up.weight"][3, 5] += 1e-3
    save_file(weights, file, metadata=header)
    status, last = compared(wrong, right)
    assert status == 1 and last.startswith("verdict: a bug")
    assert "training diverges at block1.mlp.branch.up.weight (weight)" in last


@pytest.mark.parametrize(
    "name", ["block0.attention.branch.qkv.weight", "block1.mlp.norm.weight", "norm.bias"]
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "sgd --activation relu", "adagrad --activation relu"])
def test_a_gradient_that_was_wrong_in_training_is_named(compared, tmp_path, monkeypatch, name, optimizer):
    """It is twice too large in every step, which AdamW's weights hardly show; AdamW's state does."""
    # once one gradient is off, clipping puts all layers off
    words = ["--lr", "0.1", "--optimizer", *optimizer.split()]
    words += ["--clip", "0"] if optimizer != "adamw" else []
    named(name, 1, words, compared, tmp_path, monkeypatch)


@pytest.mark.parametrize("optimizer", ["adamw", "adagrad", "momentum"])
def test_a_gradient_that_goes_wrong_later_is_named(compared, tmp_path, monkeypatch, optimizer):
    """From step 2 on weights differ, and so do gradients: a wrong one differs more."""
    words = ["--optimizer", optimizer, *RELU, "--clip", "0"]
    named("block0.attention.branch.qkv.weight", 2, words, compared, tmp_path, monkeypatch)


def named(name, first, words, compared, tmp_path, monkeypatch) -> None:
    """Double one gradient from this step on, and compare."""
    right = train(tmp_path / "right", *words)
    norm, steps = optim.gradient_norm, []

    def planted(parameters, *group):
        parameters, _ = list(parameters), steps.append(1)
        for p in parameters:
            if p.name == name and len(steps) >= first:
                p.grad = 2 * p.grad
        return norm(parameters, *group)

    with monkeypatch.context() as patch:
        patch.setattr("minimega.train.gradient_norm", planted)
        wrong = train(tmp_path / "wrong", *words)
    status, last = compared(wrong, right)
    assert status == 1
    assert f"training diverges at {name} " in last


def gelu_wrong_forward(x):
    y, back = ops.gelu(x)
    return y * 1.001, back


def gelu_wrong_backward(x):
    y, back = ops.gelu(x)
    return y, lambda dy: 1.001 * back(dy)


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (gelu_wrong_forward, "It begins in the forward pass of block0.mlp."),
        (gelu_wrong_backward, "in the backward pass, at block1.mlp.branch.up, and continues to embedding."),
    ],
)
def test_code_that_computes_something_else_is_named(right, compared, monkeypatch, mistake, says):
    """The mistake is in the code that A runs; both runs are otherwise the same."""
    measure, wrong = compare.measure, ops.op(mistake)

    def planted(run, weights, batch, out):
        with monkeypatch.context() as patch:
            if out.stem == "a":
                patch.setitem(__import__("minimega.mlp").mlp.ACTIVATIONS, "gelu", wrong)
            return measure(run, weights, batch, out)

    monkeypatch.setattr(compare, "measure", planted)
    status, last = compared(right, right)
    assert status == 1 and says in last


@pytest.fixture(scope="module")
def bent(tmp_path_factory) -> Path:
    """A run with ReLUs, in which one feature is within rounding of 0 at every token."""
    run = train(tmp_path_factory.mktemp("runs") / "bent", *RELU)
    file = run_folder.newest(run) / "model.safetensors"
    weights, header = load_file(file), safe_open(file, "numpy").metadata()
    weights["block1.mlp.branch.up.weight"][:, 3] = 0
    weights["block1.mlp.branch.up.bias"][3] = 1e-9
    save_file(weights, file, metadata=header)
    return run


def relu_wrong_backward(x):
    y, back = ops.relu(x)
    return y, lambda dy: np.float32(1.001) * back(dy)


def relu_wrong_mask(x):
    return ops.relu(x)[0], lambda dy: dy * (x > -0.01 * abs(x).max())


@pytest.fixture
def in_a(monkeypatch):
    """Replace ReLU with another activation where A is measured."""
    measure = compare.measure

    def plant(f):
        def planted(run, weights, batch, out):
            with monkeypatch.context() as patch:
                if out.stem == "a":
                    patch.setitem(__import__("minimega.mlp").mlp.ACTIVATIONS, "relu", ops.op(f))
                return measure(run, weights, batch, out)

        monkeypatch.setattr(compare, "measure", planted)

    return plant


def test_relus_that_rounding_switches_are_rounding(bent, compared, monkeypatch):
    measure, forward = compare.measure, ColumnLinear.forward

    def rounded(self, x, place):
        y = forward(self, x, place)
        noise = np.random.default_rng(y.data.size).choice([-2e-6, 0.0, 2e-6], y.shape).astype(y.dtype)
        return y + noise * abs(y.data).max()

    def other_sums(run, weights, batch, out):
        with monkeypatch.context() as patch:
            if out.stem == "a":
                patch.setattr(ColumnLinear, "forward", rounded)
            return measure(run, weights, batch, out)

    monkeypatch.setattr(compare, "measure", other_sums)
    assert compared(bent, bent)[0] == 0
    monkeypatch.setattr("minimega.commands.kinks.steered", lambda model, arrays: None)
    status, last = compared(bent, bent)  # otherwise the gradients of switched inputs look like a bug
    assert status == 1 and "The forward pass agrees; it begins in the backward pass" in last


@pytest.mark.parametrize("mistake", [relu_wrong_backward, relu_wrong_mask])
def test_a_wrong_relu_is_a_bug_all_the_same(bent, compared, in_a, mistake):
    in_a(mistake)
    status, last = compared(bent, bent)
    assert status == 1 and "in the backward pass, at block1.mlp.branch.up" in last


@pytest.mark.parametrize(
    "words",
    [
        ["--dtype", "bfloat16", *RELU],
        ["--optimizer", "adamw", *RELU],
        ["--optimizer", "adagrad", *RELU],
        ["--optimizer", "momentum", *RELU, "--experts", "2"],
    ],
)
def test_training_that_relus_part_is_rounding(compared, tmp_path, monkeypatch, capsys, words):
    """In training too: near 0 each run took its own sides."""
    words = [*words, "--train-batch-size", "32"]
    right = train(tmp_path / "right", *words)
    activations = __import__("minimega.mlp").mlp.ACTIVATIONS
    near = {"bfloat16": 8e-3}.get(words[1], 1.4e-5)

    def other(x):
        side = np.where(abs(x) <= near * float(abs(x).max()), -x, x)
        return ops.relu(x)[0], lambda dy: ops.relu(side)[1](dy)

    with monkeypatch.context() as patch:
        patch.setitem(activations, "relu", ops.op(other))
        wrong = train(tmp_path / "other", *words)
    status, last = compared(wrong, right)
    assert status == 0 and last.startswith("verdict: rounding"), last


def test_a_command_that_no_shell_could_read_is_refused(right, compared):
    for words in ("train 'x", 'train --train-filename "a b', "minimega train 'x", "train \\"):
        status, said = compared(words, right)
        assert (status == 2 and words.strip() in said and "No " in said) or "quotation" in said
    assert "no such run folder" in compared("a folder's name", right)[1]


def test_a_verdict_follows_from_the_figures_above_it(right, compared, tmp_path, capsys):
    """Each line has a distance, what rounding explains of it and their ratio; the verdict is the largest."""
    other = train(tmp_path / "other", "--accumulate", "2")
    capsys.readouterr()
    assert main(["compare", str(other), str(right)]) == 0
    said = capsys.readouterr().out
    rows = re.findall(r"^  .{62} *(\S+) +(\S+) +(\S+)$", said, re.M)
    assert len(rows) == 9  # 2 numbers, outputs, gradients, weights, mean, square, loss and norm of the logs
    for distance, allowed, ratio in rows:
        share = float(distance) / float(allowed)
        assert (ratio == "<1%" and share < 0.01) or abs(share - float(ratio.rstrip("%")) / 100) < 0.06, rows
    largest = max(float(d) / float(e) for d, e, _ in rows)
    assert abs(float(said.split("no distance is above ")[1].split("%")[0]) / 100 - largest) < 0.06


def test_runs_that_cannot_be_equal_are_refused(right, compared, tmp_path):
    for words, says in [
        (["--nhead", "2"], "--nhead is 2 in one and 4 in the other"),
        (["--seed", "1"], "--seed"),
        (["--num-steps", "4"], "their learning rates differ at step 3"),
    ]:
        status, said = compared(train(tmp_path / words[0], *words), right)
        assert status == 2 and said.startswith("minimega: ") and says in said
    text = tmp_path / "text.txt"
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, words in ((one, "a tale of two cats\n"), (two, "two cats of a tale\n")):
        text.write_text(words * 200)
        train(folder, "--train-filename", str(text), "--tokenizer", "char")
    assert "their vocabularies differ" not in compared(one, one)[1]
    assert "different texts" in compared(two, one)[1]
    assert "no such run folder" in compared(tmp_path / "none", right)[1]
    status, said = compared("train --nhead 3", right)
    assert status == 2 and "train --nhead 3: d_model 128 cannot be split" in said


def test_what_rounding_explains():
    limit, _ = explained("float64", Config(vocab_size=50, context=16, d_model=8, nhead=2), batch=4)
    assert limit == pytest.approx(2.2e-16 * 8 * 6, rel=0.01)
    a, noise = np.ones(3), np.array([0.0, 0.0, 1e-17])
    assert off(a, a, limit).distance == 0
    assert off(a + [0, 0, 1e-3], a, limit).wrong
    assert off(a * np.nan, a, limit).wrong
    assert off(noise, 0 * noise, limit).wrong
    assert not off(
        noise, 0 * noise, limit, least=1.0
    ).wrong  # zero in theory, compared with its layer's largest gradient
    assert begins({"output": {}, "number": {"loss": off(1.0, 2.0, limit)}, "gradient": {}}).endswith(
        "in the head."
    )
