"""Encoder-decoders from the command line: training, on ranks and resumed, generation, bad input."""

import json
import re

import numpy as np
import pytest

from minimega.checkpoint import checkpoint, run_folder
from minimega.commands.cli import main
from minimega.seq2seq.model import EncoderDecoder
from tests.commands.test_train_ranks import CLOSE, log_of
from tests.job import minimega

NUMBERS = ["one", "two", "three", "four", "five", "six"]
ZAHLEN = dict(zip(NUMBERS, ["eins", "zwei", "drei", "vier", "fünf", "sechs"], strict=True))
SMALL = ["--d-model", "16", "--nhead", "2", "--num-layers", "2", "--context", "12", "--threads", "1"]
STEPS = ["--train-batch-size", "4", "--tokenizer", "word", "--eval-every", "2", "--num-steps"]


def mirrored(count: int = 120) -> list[dict]:
    """Two numbers in English; in German, the other way round."""
    rng = np.random.default_rng(1)
    return [
        {"prompt": f"{a} {b}", "completion": f"{ZAHLEN[b]} {ZAHLEN[a]}"}
        for a, b in rng.choice(NUMBERS, (count, 2)).tolist()
    ]


def written(path, rows) -> str:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return str(path)


@pytest.fixture
def pairs(tmp_path):
    return written(tmp_path / "pairs.jsonl", mirrored())


@pytest.fixture
def train(pairs):
    def start(run, *more, steps=4):
        words = ["train", "--objective", "translate", "--train-filename", pairs, *SMALL, *STEPS, str(steps)]
        return main([*words, "--save-dir", str(run), *more])

    return start


def test_offsets_that_cut_no_pair_are_said(train, tmp_path, capsys):
    assert train(tmp_path / "run", "--random-offsets", steps=1) == 0
    assert "--random-offsets has no effect" in capsys.readouterr().out


def test_it_translates(tmp_path, train, pairs, capsys):
    more = ["--d-model", "32", "--nhead", "8", "--train-batch-size", "16", "--lr", "3e-3"]
    more += ["--eval-every", "200"]
    assert train(tmp_path / "run", *more, steps=200) == 0
    said = capsys.readouterr().out
    assert "--prompt" in said and float(re.findall(r"held out: loss ([\d.]+)", said)[0]) < 0.1
    use = ["generate", "--model-filename", str(tmp_path / "run"), "--prompt"]
    for more in (["--beams", "3"], ["--temperature", "0"]):
        assert main([*use, "two five", *more, "--generate-num-sentences", "1"]) == 0
        said = capsys.readouterr()
        assert said.out == "fünf zwei\n" and "the vocabulary has no" not in said.err
    assert main([*use, "two green"]) == 0
    assert "the vocabulary has no 'green'" in capsys.readouterr().err
    assert main(["evaluate", "--model-filename", str(tmp_path / "run")]) == 0
    assert re.match(
        r"loss 0\.0\d+ nats per token, perplexity 1\.\d+, 0\.\d+ bits per byte", capsys.readouterr().out
    )
    judge = ["score", "--model-filename", str(tmp_path / "run"), "--references", pairs, "--json"]
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    assert main([*judge, "--resamples", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["rougeL"] > 0.95


def test_a_checkpoint_says_what_it_is(tmp_path, train):
    assert train(tmp_path / "run", "--source-length", "4", "--encoder-layers", "1") == 0
    parts, config = checkpoint.open_model(run_folder.newest(tmp_path / "run"))
    assert type(config) is EncoderDecoder and parts.header["kind"] == "encoder-decoder"
    assert (config.source_length, config.target_length, config.encoder_layers) == (4, 8, 1)


def test_on_ranks_and_resumed_it_is_the_run_on_one_rank(tmp_path, pairs):
    words = ["train", "--objective", "translate", "--train-filename", pairs, *SMALL[:-4], "--context", 12]
    words += ["--num-layers", 3, *STEPS]
    more = ["--dtype", "float64", "--schedule", "constant", "--dropout", "0.1", "--save-dir"]
    whole = minimega(*words, 6, *more, tmp_path / "whole", "--threads", 1)
    first = minimega(*words, 3, *more, tmp_path / "part", "--pp", 2, "--accumulate", 2)
    rest = ["--resume", "--num-steps", 6, "--pp", 1, "--tp", 2, "--recompute", "selective"]
    rest = minimega("train", "--save-dir", tmp_path / "part", *rest)
    assert (whole.returncode, first.returncode, rest.returncode) == (0, 0, 0), first.stderr + rest.stderr
    for key in ("loss", "grad_norm"):
        a, b = log_of(tmp_path / "part", key), log_of(tmp_path / "whole", key)
        assert len(b) == 6 and max(abs(a[step] / b[step] - 1) for step in b) < CLOSE, key
    a, b = (checkpoint.open_parts(run_folder.newest(tmp_path / name)) for name in ("part", "whole"))
    assert all(np.abs(a.whole(name) - b.whole(name)).max() < 1e-8 for name in b)
    ask = ["generate", "--model-filename", tmp_path / "part", "--prompt", "two five", "--beams", 2]
    assert minimega(*ask, "--tp", 2).stdout == minimega(*ask, "--pp", 2).stdout
    compared = minimega("compare", tmp_path / "part", tmp_path / "whole")
    assert compared.returncode == 0 and "verdict: " in compared.stdout, compared.stderr + compared.stdout


def test_another_run_from_its_weights(tmp_path, train, pairs, capsys):
    assert train(tmp_path / "one") == 0
    go_on = ["train", "--train-filename", pairs, "--num-steps", "1", "--init-from", str(tmp_path / "one")]
    assert main([*go_on, "--save-dir", str(tmp_path / "two")]) == 0
    assert type(checkpoint.open_model(run_folder.newest(tmp_path / "two"))[1]) is EncoderDecoder
    capsys.readouterr()
    assert main([*go_on, "--objective", "causal"]) == 2
    assert "its objective is translate, not causal" in capsys.readouterr().err
    plain = ["train", "--train-filename", pairs, *SMALL, *STEPS, "1", "--save-dir", str(tmp_path / "gpt")]
    assert main(plain) == 0
    from_gpt = ["--init-from", str(tmp_path / "gpt"), "--objective", "translate"]
    assert main(["train", "--train-filename", pairs, *from_gpt]) == 2
    assert "its objective is causal, not translate" in capsys.readouterr().err


@pytest.mark.parametrize(
    "rows, more, said",
    [
        (
            mirrored()[:1] * 9 + [{"prompt": "one" + " one" * 8, "completion": "x"}],
            [],
            "line 10: its source has 9 tokens",
        ),
        (mirrored()[:1] * 9 + [{"prompt": "a", "completion": "x" + " x" * 8}], [], "line 10: its target has"),
        ([*mirrored()[:9], {"prompt": "a"}], [], "it has no completion"),
        ([*mirrored()[:9], "{"], [], "line 10 is not JSON"),
        (
            [{"messages": [{"role": r, "content": "a"} for r in ("user", "assistant") * 2]}] * 4,
            [],
            " has 2 answers: a translation is one prompt and one completion",
        ),
        (mirrored(), ["--source-length", "12"], "source_length is 12 and context 12"),
        (mirrored(), ["--num-layers", "1"], "choose --encoder-layers below --num-layers"),
        (mirrored(), ["--no-attention"], "only attention connects source and target"),
        (mirrored(), ["--experts", "2"], "experts are not built into an encoder-decoder"),
        (mirrored(), ["--cp", "2"], "--cp and --objective translate do not combine"),
        (
            mirrored(),
            ["--tp", "2", "--sequence-parallel"],
            "--sequence-parallel and --objective translate do not",
        ),
        (mirrored(), ["--eval-filename", "tales"], "give files that end in .jsonl"),
        (mirrored(), ["--train-filename", "tales"], "--objective translate needs a text of dialogues"),
    ],
)
def test_bad_input(tmp_path, rows, more, said, capsys):
    pairs = written(tmp_path / "wrong.jsonl", rows)
    words = ["train", "--objective", "translate", "--train-filename", pairs, *SMALL, *STEPS, "1", *more]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") <= 3


def test_generation_that_cannot_be(tmp_path, train, capsys):
    assert train(tmp_path / "run") == 0
    use = ["generate", "--model-filename", str(tmp_path / "run")]
    for more, said in (
        ([], "give it a --prompt"),
        (["--prompt", "one" + " one" * 5], "the source text has 6 tokens, and the model has room for 5"),
    ):
        capsys.readouterr()
        assert main([*use, *more]) == 2, more
        err = capsys.readouterr().err
        assert said in err and err.count("\n") <= 3


def test_a_layout_that_cannot_be_is_refused_by_what_uses_a_model(tmp_path, train):
    assert train(tmp_path / "run") == 0
    said = minimega("generate", "--model-filename", tmp_path / "run", "--prompt", "one", "--cp", 2)
    assert said.returncode == 2 and "--cp and --objective translate do not combine" in said.stderr


def test_a_kind_that_nobody_knows(tmp_path, train, capsys):
    assert train(tmp_path / "run") == 0
    path = run_folder.newest(tmp_path / "run") / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"encoder-decoder"', b'"encoder-encoder"'))
    assert main(["generate", "--model-filename", str(tmp_path / "run"), "--prompt", "one"]) == 2
    assert "holds a model of the kind 'encoder-encoder'" in capsys.readouterr().err
