"""The texts and the tokenizer of a run: another run's are noticed, and unknown tokens are reported."""

import json
import shutil

import pytest

from minimega.checkpoint import checkpoint, run_folder
from minimega.checkpoint.front import tokenizer_digest
from minimega.commands.cli import main
from minimega.data import corpus, tokens

SMALL = "--d-model 16 --nhead 2 --num-layers 1 --context 16 --train-batch-size 2 --num-steps 2".split()  # noqa: SIM905
WORDS = "the cat sat on the mat and the dog lay by the door while it rained . "


@pytest.fixture
def train(tmp_path):
    """A small run on this many words; returns its folder."""

    def go(name, content=WORDS * 40, *more):
        text = tmp_path / f"{name}.txt"
        text.write_text(content)
        words = ["train", "--train-filename", str(text), "--save-dir", str(tmp_path / name), *SMALL]
        assert main([*words, "--tokenizer", "word", *more]) == 0
        return tmp_path / name

    return go


def readers(run, out):
    weights = str(run_folder.newest(run) / "model.safetensors")
    return {
        "resume": ["train", "--save-dir", str(run), "--resume", "--num-steps", "4"],
        "evaluate": ["evaluate", "--model-filename", str(run)],
        "generate": ["generate", "--model-filename", str(run)],
        "generate from a file": ["generate", "--model-filename", weights],
        "init-from": ["train", "--init-from", str(run), *SMALL[-4:], "--tales", "9", "--save-dir", str(out)],
        "reshard": ["reshard", str(run), "--save-dir", str(out)],
        "compare": ["compare", str(run), str(run)],
    }


@pytest.mark.parametrize("other", [("dog " + WORDS) * 40, WORDS * 40 + "and more words than before " * 9])
def test_the_tokenizer_of_another_run_is_noticed_by_every_reader(tmp_path, train, other, capsys):
    """One with as many words in another order, and one with more words."""
    run, another = train("run"), train("another", other)
    shutil.copy(another / "tokenizer.json", run)
    capsys.readouterr()
    for name, words in readers(run, tmp_path / "out").items():
        before = {f: f.read_bytes() for f in run.rglob("*") if f.is_file()}
        assert main(words) == 2, name
        said = capsys.readouterr()
        assert f"{run}/tokenizer.json belongs to another run" in said.err and said.err.count("\n") == 2, name
        assert {f: f.read_bytes() for f in run.rglob("*") if f.is_file()} == before


def test_a_checkpoint_that_knows_no_digests_is_read(tmp_path, train, capsys):
    run = train("run")
    assert main(["reshard", str(run), "--save-dir", str(tmp_path / "new")]) == 0
    header = checkpoint.open_parts(run_folder.newest(tmp_path / "new")).header
    assert header["tokenizer"] == tokenizer_digest(tokens.load(run / "tokenizer.json"))
    step = run_folder.newest(run)
    state = json.loads((step / "state.json").read_text())
    state = {key: value for key, value in state.items() if key not in ("held_out", "tokenizer")}
    (step / "state.json").write_text(json.dumps(state))
    model = (step / "model.safetensors").read_bytes()
    size = int.from_bytes(model[:8], "little")
    told = json.loads(model[8 : 8 + size])
    assert told["__metadata__"].pop("tokenizer")
    head = json.dumps(told).encode().ljust(size)
    (step / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + model[8 + size :])
    for name, words in readers(run, tmp_path / "out").items():
        assert main(words) == 0, name
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


@pytest.mark.parametrize("kind", tokens.KINDS)
def test_a_tokenizer_has_one_digest_also_after_it_was_saved(tmp_path, kind):
    a, b = (tokens.train(kind, [text * 20]) for text in (WORDS, WORDS.upper()))
    a.save(tmp_path / "a.json")
    digest = tokenizer_digest(a)
    assert tokenizer_digest(tokens.load(tmp_path / "a.json")) == digest != tokenizer_digest(b)


def test_a_text_that_changed_is_not_evaluated_in_the_place_of_what_was_held_out(tmp_path, train, capsys):
    run = train("run")
    with (tmp_path / "run.txt").open("a") as file:
        file.write(WORDS * 10)
    capsys.readouterr()
    assert main(["evaluate", "--model-filename", str(run)]) == 2
    said = capsys.readouterr().err
    assert "the text of this run has changed" in said and "--eval-filename" in said and said.count("\n") == 2
    named = ["evaluate", "--model-filename", str(run), "--eval-filename", str(tmp_path / "run.txt")]
    assert main(named) == 0


def test_unknown_tokens_stand_beside_each_loss_and_many_are_warned_of(tmp_path, train, capsys):
    run = train("all")
    assert "are unknown" not in capsys.readouterr().out
    strange = tmp_path / "strange.txt"
    strange.write_text("quite other vocabulary here . " * 40)
    assert main(["evaluate", "--model-filename", str(run), "--eval-filename", str(strange)]) == 0
    said = capsys.readouterr().out
    assert "(79.2% of its tokens are unknown)" in said and "warning: 79% of the tokens of this text" in said
    words = ["train", "--init-from", str(run), "--train-filename", str(strange), *SMALL[-4:], "--save-dir"]
    assert main([*words, str(tmp_path / "on")]) == 0
    said = capsys.readouterr().out
    assert "% of the tokens of the training text" in said
    assert "of the tokens of the held-out text are not in the vocabulary" in said
    for line in said.splitlines():
        assert "% of its tokens are unknown)" in line or not line.startswith(("step 2: held", "held out"))
    logged = [json.loads(line) for line in (tmp_path / "on" / "log.jsonl").read_text().splitlines()]
    assert [r["unknown"] > 0.5 for r in logged if "eval_loss" in r] == [True]


def test_few_unknown_tokens_are_told_of_without_a_warning(train, capsys):
    train("few", WORDS * 400 + "once ", "--vocab-size", "20")
    said = capsys.readouterr().out
    assert "training text (" not in said and "of its tokens are unknown)" in said
    assert "warning" not in said


def test_a_model_with_weights_that_are_not_finite_has_no_loss(train, capsys):
    run = train("run")
    path = run_folder.newest(run) / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-4000] + b"\xff" * 4000)  # all bits set: NaN
    capsys.readouterr()
    assert main(["evaluate", "--model-filename", str(run)]) == 1
    said = capsys.readouterr()
    assert "the loss is not finite" in said.err and said.err.count("\n") == 1 and said.out == ""


TALES = ["--tales", "60", *SMALL, "--threads", "1"]


@pytest.mark.parametrize(
    ("mine", "other", "script"), [("tales", "tales-zh", "Han"), ("tales-zh", "tales", "Latin")]
)
def test_a_text_in_a_script_that_the_vocabulary_lacks_is_refused_everywhere(
    tmp_path, mine, other, script, capsys
):
    run = tmp_path / "run"
    assert main(["train", "--train-filename", mine, *TALES, "--save-dir", str(run)]) == 0
    prompt = next(corpus.open_corpus(other, tales=1).documents())
    capsys.readouterr()
    for words in (
        ["evaluate", "--model-filename", str(run), "--eval-filename", other],
        ["evaluate", "--model-filename", str(run), "--eval-filename", other, "--json"],
        ["generate", "--model-filename", str(run), "--prompt", prompt],
        ["train", "--train-filename", mine, *TALES, "--eval-filename", other],
        ["train", "--train-filename", other, *TALES, "--init-from", str(run)],
    ):
        assert main(words) == 2, words
        said = capsys.readouterr()
        assert f"is written in the {script} script" in said.err and said.err.count("\n") == 2
        assert "perplexity" not in said.out and "loss" not in said.out


@pytest.mark.parametrize(
    ("mine", "other", "script"), [("tales", "tales-zh", "Han"), ("tales-zh", "tales", "Latin")]
)
def test_byte_pairs_read_any_script_with_a_warning(tmp_path, mine, other, script, capsys):
    run = tmp_path / "run"
    words = ["train", "--train-filename", mine, "--tokenizer", "bpe", "--vocab-size", "500", *TALES]
    warned = f"is written in the {script} script"
    assert main([*words, "--save-dir", str(run)]) == 0
    assert "warning" not in capsys.readouterr().out
    assert main([*words, "--eval-filename", other]) == 0
    assert f"warning: the held-out text {warned}" in capsys.readouterr().out
    texts = tmp_path / "few.txt"
    texts.write_text("\n".join(corpus.open_corpus(other, tales=20).documents()))
    evaluate = ["evaluate", "--model-filename", str(run), "--eval-filename", str(texts)]
    assert main(evaluate) == 0
    assert f"warning: this text {warned}" in capsys.readouterr().out
    assert main([*evaluate, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["perplexity"] > 1 and f"warning: this text {warned}" in said.err
    prompt = next(corpus.open_corpus(other, tales=1).documents())
    few = ["--generate-num-sentences", "1", "--generate-sentence-length", "2"]
    assert main(["generate", "--model-filename", str(run), "--prompt", prompt[:10], *few]) == 0
    assert f"warning: the prompt {warned}" in capsys.readouterr().err
    assert main(["evaluate", "--model-filename", str(run)]) == 0
    assert "warning" not in capsys.readouterr().out


def test_chinese_works_as_english_does(tmp_path, capsys, draws):
    """The default tokenizer, --tales, --prompt and --stop, and the picture."""
    run = tmp_path / "run"
    assert main(["train", "--train-filename", "tales-zh", *TALES, "--save-dir", str(run)]) == 0
    said = capsys.readouterr()
    assert "floor: 0.2" in said.out and "--tales has no effect" not in said.out and said.err == ""
    tokenizer = tokens.load(run / "tokenizer.json")
    assert tokenizer.kind == "word" and {*map(len, tokenizer.tokens)} == {1}
    assert (run / "loss.png").stat().st_size > 1000
    few = ["--generate-num-sentences", "2", "--generate-sentence-length", "40", "--temperature", "2"]
    assert main(["generate", "--model-filename", str(run), "--prompt", "从前，", "--stop", "，", *few]) == 0
    said = capsys.readouterr()
    texts = said.out.strip().split("\n\n")
    assert len(texts) == 2 and said.err == ""
    assert all(text.startswith("从前，") and "，" not in text[3:] for text in texts)
    assert main(["generate", "--model-filename", str(run), "--prompt", "从前有龘", *few]) == 0
    assert "the vocabulary has no '龘'" in capsys.readouterr().err
