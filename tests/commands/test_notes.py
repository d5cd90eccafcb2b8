"""A note for each option that has no effect, and none for a sensible run."""

import pytest

from minimega.commands.cli import main, parse
from minimega.commands.notes import notes

SMALL = [
    "--tales",
    "60",
    "--d-model",
    "16",
    "--nhead",
    "2",
    "--num-layers",
    "1",
    "--context",
    "32",
    "--train-batch-size",
    "4",
    "--num-steps",
    "2",
]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--warmup 101", "--warmup 101 is above the 100 steps: the learning rate only reaches 0.00099"),
        ("--save-every 101 --save-dir x", "--save-every 101 is above the 100 steps"),
        ("--eval-every 101", "--eval-every 101 is above the 100 steps"),
        ("--vocab-size 51", "--vocab-size 51 is above the 50 tokens found in the text"),
        ("--keep 5", "--keep has no effect: no --save-dir"),
        ("--num-steps 100 --num-epochs 4", "--num-epochs has no effect: --num-steps overrides it"),
        ("--schedule constant --min-lr 1e-4", "--min-lr has no effect: --schedule constant"),
        ("--optimizer sgd --beta1 0.8", "--beta1 has no effect: --optimizer sgd"),
        ("--optimizer momentum --beta2 0.8", "--beta2 has no effect: --optimizer momentum"),
        ("--optimizer adagrad --beta1 0.8", "--beta1 has no effect: --optimizer adagrad"),
        ("--balance 0.5", "--balance has no effect: no --experts"),
        ("--tales 5 --train-filename pydoc", "--tales has no effect: no tales"),
        ("--pipeline gpipe", "--pipeline has no effect: one stage"),
    ],
)
def test_what_has_no_use_in_training_is_said(words, says):
    found = notes(parse("train", words.split()), 100, 50)
    assert len(found) == 1 and found[0].startswith(f"note: {says}")


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--warmup 100 --save-every 100 --eval-every 100 --save-dir x --vocab-size 50 --keep 5",
        "--optimizer momentum --beta1 0.8",
        "--optimizer adagrad --eps 1e-6",
        "--optimizer adam --beta1 0.8 --beta2 0.8 --eps 1e-6",
        "--train-filename pydoc --eval-filename tales --tales 5 --experts 4 --balance 0.5",
        "--model-type gpt2 --num-epochs 4 --min-lr 1e-5",
    ],
)
def test_nothing_is_said_of_a_run_as_it_should_be(words):
    assert notes(parse("train", words.split()), 100, 50) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--top-k 51", "--top-k 51 is above the 50 tokens of the vocabulary"),
        ("--temperature 0 --top-p 0.5", "--top-p has no effect: --temperature 0"),
        ("--top-k 50 --top-p 0.5", None),
    ],
)
def test_what_has_no_use_in_writing_is_said(words, says):
    found = notes(parse("generate", ["--model-filename", "x", *words.split()]), words=50)
    assert [line[: len(says) + 6] for line in found] == [f"note: {says}"] if says else found == []


def test_the_lines_stand_where_a_user_sees_them(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *SMALL, "--save-dir", str(run)]) == 0  # --warmup is 50
    said = capsys.readouterr()
    assert said.out.count("note: --warmup 50 is above the 2 steps") == 1 and said.err == ""
    words = ["--generate-num-sentences", "1", "--generate-sentence-length", "3", "--temperature", "0"]
    assert main(["generate", "--model-filename", str(run), *words]) == 0
    plain = capsys.readouterr()
    assert main(["generate", "--model-filename", str(run), *words, "--top-k", "9"]) == 0
    said = capsys.readouterr()
    assert said.out == plain.out and plain.err == ""
    assert said.err == "note: --top-k has no effect: --temperature 0 takes the most likely token\n"
