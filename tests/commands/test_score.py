"""`minimega score` as a user types it: files, JSON lines, user metrics, bad input; bits per byte."""

import json
import math

import numpy as np
import pytest
import sacrebleu

import minimega as mm
from minimega.checkpoint import checkpoint
from minimega.commands.cli import main
from minimega.commands.sources import halved
from minimega.data import tokens
from minimega.data.corpus import Tales
from minimega.judging.words import words as words_of
from minimega.writing.answers import answers
from tests.judging.test_scores import CHINESE, ONE, THREE, TWO


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, rows in {"one.txt": ONE, "two.txt": TWO, "three.txt": THREE, "short.txt": ONE[:2]}.items():
        (tmp_path / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return tmp_path


def score(capsys, *words: str) -> dict:
    assert main(["score", "--resamples", "100", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_scores_of_files_are_the_libraries(here, capsys):
    found = score(capsys, "--hypotheses", "one.txt", "--references", "two.txt,three.txt")
    assert found["bleu"] == sacrebleu.corpus_bleu(ONE, [TWO, THREE]).score
    assert found["chrf"] == sacrebleu.corpus_chrf(ONE, [TWO, THREE]).score
    assert found["texts"] == 3 and found["tokenizers"] == {"bleu": "13a", "rouge": "library"}
    low, high = found["intervals"]["bleu"]
    assert low < found["bleu"] < high
    again = score(
        capsys,
        "--hypotheses",
        "one.txt",
        "--references",
        "two.txt,three.txt",
        "--seed",
        "1",
        "--resamples",
        "7",
    )
    assert again["bleu"] == found["bleu"] and again["intervals"] != found["intervals"]


def test_a_table_and_a_comparison(here, capsys):
    words = ["score", "--hypotheses", "one.txt", "--references", "one.txt", "--compare", "two.txt"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "3 texts; tokenizer of BLEU: 13a, of ROUGE: rouge-score's own\nbleu           100.00"
    )
    assert out.count("100.0%") == 5  # the five scores against references
    found = score(capsys, *words[1:])["compare"]
    assert found["bleu"]["value"] == sacrebleu.corpus_bleu(TWO, [ONE]).score
    assert found["rouge1"]["won"] == 1.0


def test_json_lines(here, capsys):
    rows = [
        {"hypothesis": h, "references": [a, b], "extra": 1} for h, a, b in zip(ONE, TWO, THREE, strict=True)
    ]
    (here / "all.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    want = sacrebleu.corpus_bleu(ONE, [TWO, THREE]).score
    assert score(capsys, "--hypotheses", "all.jsonl")["bleu"] == want
    pairs = [{"prompt": "?", "completion": two} for two in TWO]
    chat = [
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": two}]} for two in TWO
    ]
    for lines in (pairs, chat):
        (here / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        found = score(capsys, "--hypotheses", "one.txt", "--references", "pairs.jsonl")
        assert found["bleu"] == sacrebleu.corpus_bleu(ONE, [TWO]).score
        found = score(capsys, "--hypotheses", "pairs.jsonl", "--references", "one.txt")
        assert found["bleu"] == sacrebleu.corpus_bleu(TWO, [ONE]).score
    assert "bleu" not in score(capsys, "--hypotheses", "one.txt")


def test_chinese_files_say_how_they_were_cut(here, capsys):
    for name, rows in zip(("h.txt", "r.txt"), CHINESE, strict=True):
        (here / name).write_text("\n".join(rows), encoding="utf-8")
    assert main(["score", "--hypotheses", "h.txt", "--references", "r.txt"]) == 0
    assert "tokenizer of BLEU: zh, of ROUGE: words of any script" in capsys.readouterr().out
    words = ["--hypotheses", "h.txt", "--references", "r.txt", "--bleu-tokenize", "char"]
    want = sacrebleu.corpus_bleu(CHINESE[0], [CHINESE[1]], tokenize="char").score
    assert score(capsys, *words)["bleu"] == want


OWN = """
def length(hypotheses, references):
    return [len(text.split()) for text in hypotheses]
def share(hypotheses, references):
    return sum(text in row for text, row in zip(hypotheses, references)) / len(hypotheses)
def broken(hypotheses, references):
    raise KeyError("no\\nsuch thing")
def leaves(hypotheses, references):
    raise SystemExit(0)
def few(hypotheses, references):
    return [1.0]
def words(hypotheses, references):
    return "good"
def nothing(hypotheses, references):
    return None
def nan(hypotheses, references):
    return float("nan")
def ragged(hypotheses, references):
    return [[1], [1, 2], []]
def bleu(hypotheses, references):
    return 1.0
def alone(hypotheses):
    return 1.0
"""


def test_a_measure_of_ones_own(here, capsys):
    (here / "own.py").write_text(OWN)
    words = ["--hypotheses", "one.txt", "--references", "two.txt", "--compare", "three.txt", "--metric"]
    found = score(capsys, *words, "own.py:length")
    want = [np.mean([len(t.split()) for t in texts]) for texts in (ONE, THREE)]
    assert found["length"] == want[0] and "length" in found["intervals"]
    assert found["compare"]["length"]["value"] == want[1]
    found = score(capsys, "--hypotheses", "one.txt", "--references", "one.txt", "--metric", "own.py:share")
    assert found["share"] == 1.0 and "share" not in found["intervals"]


def bad(capsys, *words: str) -> str:
    assert main([*words]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("minimega: ")
    assert captured.err.count("\n") <= 2 and "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("broken", "own.py:broken fails on these texts: KeyError: 'no\\nsuch thing'"),
        ("leaves", "calls sys.exit()"),
        ("few", "few returned 1 numbers for 3 texts"),
        ("words", "words returned 'good'; it must return a number, or one per text"),
        ("nothing", "nothing returned"),
        ("nan", "not finite"),
        ("ragged", "ragged returned [[1], [1, 2], []]"),
        ("bleu", "cannot be called bleu"),
        ("alone", "takes 1 positional argument but 2 were given"),
        ("absent", "own.py has no function 'absent'"),
    ],
)
def test_a_wrong_measure_is_one_sentence(here, capsys, name, says):
    (here / "own.py").write_text(OWN)
    words = ["score", "--hypotheses", "one.txt", "--references", "two.txt", "--metric", f"own.py:{name}"]
    assert says in bad(capsys, *words)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n\n \n", "is empty"),
        (b"one\ntwo\xff\nthree\n", "not UTF-8: byte 7"),
        (b"one\0", "is not text: byte 3 is zero"),
        (b"one\ntwo\n", "one.txt has 3 texts and bad.txt has 2: line n of one"),
        (b"one\ntwo\nthree\nfour\n", "one.txt has 3 texts and bad.txt has 4"),
        (b"one\n\nthree\n", "line 2 has no reference"),
    ],
)
def test_bad_references_are_one_sentence(here, capsys, content, says):
    (here / "bad.txt").write_bytes(content)
    said = bad(capsys, "score", "--hypotheses", "one.txt", "--references", "bad.txt")
    assert says in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "must be an object with some of hypothesis, prompt"),
        ('"text"', "must be an object"),
        ("{}", "must be an object"),
        ('{"hypothesis": 3}', "hypothesis must be a text, not 3"),
        ('{"references": "a"}', "references must be a list of texts"),
        ('{"references": [1]}', "references must be a list of texts"),
        ('{"messages": []}', "messages is an empty list"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "ends with a user's turn"),
        ('{"messages": [3]}', "each turn must be"),
        ('{"prompt": "a"}', "has no hypothesis"),
        (f'{{"hypothesis": {"9" * 5000}}}', "is not JSON"),
    ],
)
def test_bad_json_lines_are_one_sentence(here, capsys, line, says):
    good = '{"hypothesis": "a", "reference": "b"}\n'
    (here / "bad.jsonl").write_text(good + line + "\n")
    said = bad(capsys, "score", "--hypotheses", "bad.jsonl")
    assert says in said and "bad.jsonl, line 2" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--references one.txt", "needs --hypotheses"),
        ("--hypotheses one.txt --secret [1]", "--secret asks a run: give --model-filename too"),
        ("--hypotheses none.txt", "none.txt cannot be read: No such file"),
        ("--hypotheses .", "cannot be read: Is a directory"),
        ("--hypotheses one.txt --references short.txt", "one.txt has 3 texts and short.txt has 2"),
        ("--hypotheses one.txt --references two.txt,short.txt", "short.txt has 2 lines and two.txt has 3"),
        (
            "--hypotheses one.txt --references two.txt --compare short.txt",
            "short.txt has 2 texts and two.txt has 3",
        ),
        ("--hypotheses one.txt --compare short.txt", "3 texts cannot be paired with 2"),
        ("--hypotheses one.txt --metric own", "does not name a function"),
        ("--hypotheses one.txt --bleu-tokenize spm", "must be one of auto, 13a, zh"),
        ("--hypotheses one.txt --resamples -1", "must be a whole number of 0 or more"),
        ("one.txt", "--hypotheses one.txt"),
    ],
)
def test_bad_requests_are_one_sentence(here, capsys, words, says):
    assert says in bad(capsys, "score", *words.split())


def test_without_the_library_it_says_what_to_install(here, capsys, monkeypatch):
    import sys

    for name, package in {
        "sacrebleu.metrics": "sacrebleu",
        "rouge_score.rouge_scorer": "rouge-score",
    }.items():
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, name, None)
            said = bad(capsys, "score", "--hypotheses", "one.txt", "--references", "two.txt")
        assert f"this needs {package}, which is not installed" in said and f"install {package}" in said


@pytest.mark.parametrize(
    ("kind", "text"), [("char", "a naïve cat\n\na café\n" * 9), ("bpe", "小猫坐 on a mat\n" * 9)]
)
def test_bits_per_byte_is_the_nats_of_all_tokens_over_the_bytes(here, capsys, kind, text):
    """Computed from the model's logits, token by token; the end of the text is a token and no byte."""
    (here / "text.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    words = (
        "--context 32 --d-model 16 --nhead 2 --num-layers 1 --num-steps 3 --save-dir run --train-batch-size 2"
    )
    assert main(["train", "--train-filename", "text.txt", "--tokenizer", kind, *words.split()]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--model-filename", "run", "--eval-filename", "text.txt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    tokenizer = tokens.load(here / "run" / "tokenizer.json")
    ids = np.array([0, *tokenizer.encode(text), 0])
    assert found["tokens"] == len(ids) - 1 and found["bytes"] == len(text.encode()) and found["unknown"] == 0
    model = checkpoint.load_model(here / "run" / "step-3")
    nats = 0.0
    for inputs, targets in zip(*mm.Windows(ids, 32).take(range(len(mm.Windows(ids, 32)))), strict=True):
        logits = model(inputs[None]).data[0].astype(np.float64)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        nats -= sum(logs[t, target] for t, target in enumerate(targets) if target >= 0)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(text.encode()), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(nats / (len(ids) - 1)), rel=1e-5)


def test_bits_per_byte_with_unknown_tokens_is_called_a_bound(here, capsys):
    (here / "text.txt").write_text("the cat sat on the mat\n" * 30)
    (here / "other.txt").write_text("the fox sat on the mat\n" * 30)
    words = (
        "--context 16 --d-model 8 --nhead 1 --num-layers 1 --num-steps 2 --save-dir run --train-batch-size 4"
    )
    words = f"train --train-filename text.txt --tokenizer word {words}"
    assert main(words.split()) == 0
    for name, noted in {"text.txt": False, "other.txt": True}.items():
        capsys.readouterr()
        assert main(["evaluate", "--model-filename", "run", "--eval-filename", name]) == 0
        assert ("bits per byte is a lower bound" in capsys.readouterr().out) == noted


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A small model of a few tales, and what it would say."""
    folder = tmp_path_factory.mktemp("run") / "tales"
    words = "--tales 60 --context 32 --d-model 16 --nhead 2 --num-layers 1 --num-steps 12 --lr 0.01"
    assert main(["train", *words.split(), "--save-dir", str(folder)]) == 0
    return folder


def test_a_runs_own_answers(here, capsys, run_folder):
    """Prompts from the first half of the references, from a file, and from JSON lines."""
    tales = list(Tales(5, seed=3).documents())
    (here / "tales.txt").write_text("\n".join(tales))
    words = ["--model-filename", str(run_folder), "--generate-sentence-length", "12"]
    found = score(capsys, *words, "--references", "tales.txt", "--generate-filename", "answers.txt")
    begun, rest = zip(*map(halved, tales), strict=True)
    assert [words_of(f"{a} {b}") for a, b in zip(begun, rest, strict=True)] == list(map(words_of, tales))
    said = (here / "answers.txt").read_text().splitlines()
    assert found["bleu"] == sacrebleu.corpus_bleu(said, [rest]).score and found["texts"] == 5
    model = checkpoint.load_model(run_folder / "step-12")
    tokenizer = tokens.load(run_folder / "tokenizer.json")
    assert [" ".join(a.split()) for a in answers(model, tokenizer, begun, 12)] == said
    (here / "rest.txt").write_text("\n".join(rest))
    (here / "begun.txt").write_text("\n".join(begun))
    pairs = [{"prompt": a, "completion": b} for a, b in zip(begun, rest, strict=True)]
    (here / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    for more in (["--references", "rest.txt", "--prompts", "begun.txt"], ["--references", "pairs.jsonl"]):
        assert score(capsys, *words, *more) == found
    free = score(capsys, *words, "--prompts", "begun.txt")
    assert "bleu" not in free and free["distinct1"] == found["distinct1"]
    sampled = score(
        capsys, *words, "--references", "tales.txt", "--temperature", "1", "--compare", str(run_folder)
    )
    assert sampled["distinct1"] != found["distinct1"]
    assert all(row["difference"] == 0 for row in sampled["compare"].values())


def test_what_was_copied_and_what_is_secret(here, capsys, run_folder):
    tales = list(Tales(60, seed=0).documents())
    (here / "texts.txt").write_text(f"{tales[17]}\nZzyzx!\n")
    for source in (str(run_folder), str(here / "all.txt")):
        (here / "all.txt").write_text("\n".join(tales))
        found = score(capsys, "--hypotheses", "texts.txt", "--copied-from", source)
        assert found["copied"] == tales[17] and found["copied_share"] == 0.5
        assert found["copied_run"] == len(words_of(tales[17])) / 2
    words = ["score", "--model-filename", str(run_folder), "--secret", "Long ago, [in|under|near|behind] the"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("the secret's exposure is ") and "of at most 2.00 bits: its loss is number " in out
    assert score(capsys, *words[1:])["secret"]["candidates"] == 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--references two.txt --secret [1]", "the vocabulary has no"),
        ("--references two.txt --secret x", "put its secret part in brackets"),
        ("--references two.txt,three.txt", "no prompts to these references"),
        ("", "score has no prompts for the run to answer"),
        ("--references two.txt --prompts short.txt", "short.txt has 2 prompts and two.txt 3 references"),
        ("--references word.txt", "word.txt, line 1 is one word"),
        ("--references only.jsonl", "no prompts to these references"),
        ("--references some.jsonl", "some.jsonl, line 2 has no prompt"),
        ("--references two.txt --copied-from nothing", "there is no file or folder nothing"),
        (
            "--references two.txt --generate-filename no/where.txt",
            "--generate-filename no/where.txt: No",
        ),
    ],
)
def test_bad_requests_of_a_run_are_one_sentence(here, capsys, run_folder, words, says):
    (here / "word.txt").write_text("one\n")
    (here / "only.jsonl").write_text('{"reference": "a"}\n')
    (here / "some.jsonl").write_text('{"reference": "a", "prompt": "b"}\n{"reference": "a"}\n')
    short = ["--generate-sentence-length", "2"]
    assert main(["score", "--model-filename", str(run_folder), *short, *words.split()]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "prompts have words" not in line]
    assert says in said[0] and len(said) == 1
