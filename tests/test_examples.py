"""The examples run as their docstrings say, each with a time limit, and print the right lines.

Those that take long do so in `make examples`; `make test` runs them for a few steps.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minimega.ranks import launch
from tests.test_ladder import code_lines

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LIMIT = 60  # seconds


def example(line: list[str], env: dict | None = None, limit: int = LIMIT) -> str:
    ended = subprocess.run(line, env=env, capture_output=True, text=True, timeout=limit)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "train_tensor_parallel",
            ["the whole model      115,648   5.341046", "rank 3                31,072   5.341046"],
        ),
        (
            "train_data_parallel",
            ["rank 3          6 to 7      5.371942", "the replicas are equal bit for bit"],
        ),
        pytest.param(
            "experts",
            [
                "77,024 parameters, 44,256 of them used per token",
                "rank 3: 44,256 parameters, experts 2, 3 of each block",
                "step 60           block 0:   42   64  102   48",
                "loss after 60 steps: 3.178771",
            ],
            marks=pytest.mark.figures,
        ),
        pytest.param(
            "timeline",
            ["1f1b              27.3%", "4 of 4  3 of 3  2 of 2  1 of 1", "interleaved       15.8%"],
            marks=pytest.mark.figures,
        ),
        pytest.param(
            "long_context",
            ["1024      46 MB            3.0 MB", "4096      refused          12 MB", "loss: 4.1782, "],
            marks=pytest.mark.figures,
        ),
        pytest.param(
            "train_3d",
            [
                "the whole model: 165,632 parameters, loss 5.372355730054",
                "rank 7      1      1         1      32,032          14,208       227,328",
                "largest difference: loss ",
            ],
            marks=pytest.mark.figures,
        ),
        (
            "memory_report",
            [
                "--tp 4 --sequence-parallel --recompute selective            139.3     426.5",
                "--dp 4 --zero 3 ",
            ],
        ),
        (
            "reshard",
            ["step 1   5.361262", "--tp 2 --dp 2", "step 6   5.363561", "one rank", "losses and weights: "],
        ),
    ],
)
def test_among_ranks(name, lines):
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
    path = EXAMPLES / f"{name}.py"
    head = path.read_text(encoding="utf-8").split('"""')[1]
    ranks = 8 if name == "train_3d" else 4
    assert f"\n    mpirun -n {ranks} python examples/{name}.py\n" in head
    assert f"\n    mpirun -n {ranks} python examples/{name}.py --device cuda\n" in head
    said = example(*launch.command([str(path)], ranks, threads=1))
    for line in lines:
        assert line in said


LONG = "experts", "timeline", "long_context"  # on one rank, which then does the work of four


@pytest.mark.parametrize(
    "name",
    [
        *("train_tensor_parallel", "train_data_parallel", "train_3d", "memory_report", "reshard"),
        *(pytest.param(name, marks=pytest.mark.figures) for name in LONG),
    ],
)
def test_on_one_rank(name):
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
    assert example([sys.executable, str(EXAMPLES / f"{name}.py")])


def test_the_530_billion_model_is_planned():
    said = example([sys.executable, str(EXAMPLES / "plan_530b.py")])
    predicted = re.findall(r"(\d+\.\d+) s +(\d+\.\d+) s", said)
    errors = [float(ours) / float(measured) - 1 for ours, measured in predicted]  # -17%, 9%, 7%
    assert len(errors) == 3 and all(abs(error) < 0.2 for error in errors)
    assert "55.8 GiB: fits" in said and "88.3 GiB: does not fit" in said
    simulated, formula = re.search(r"280 ranks, (\S+) s\nby the formulas: (\S+) s", said).groups()
    assert simulated == formula


SHORT = {  # what a few steps replace in the source, and how the lines begin that the figures are read from
    "experts": (
        [("balance=0.1), 60", "balance=0.1), 4"), ("< 8 < last.min()", "< 64")],
        ["rows per expert, step 4", "loss after 4 steps: "],
    ),
    "timeline": ([("STEPS = 3", "STEPS = 1")], ["1f1b", "interleaved"]),
    "long_context": ([("4096), 3", "4096), 2")], ["4096", "2 steps at"]),
    "train_3d": (
        [("MICRO_BATCHES = 3", "MICRO_BATCHES = 1")],
        ["the whole model", "largest difference: loss "],
    ),
    "tales_zh": ([("else 400", "else 4"), ("tales=6000", "tales=200")], ["best bigram", "first sentence"]),
    "label_words": (
        [("default=300", "default=6"), ("default=100", "default=6")],
        ["always the most common kind", "the vectors of the embedding", "the hidden states after block 2"],
    ),
    "classify_texts": (
        [("default=500", "default=6"), ("default=600", "default=20")],
        ["always the more common answer", "mean of the vectors", "mean of the hidden states after block 2"],
    ),
    "word_vectors": (
        [("(3000, 160)", "(3000, 4)"), ("for n in (1, 2, 3)", "for n in (1,)")],
        ["of the five words nearest to people", "from the vectors"],
    ),
    "fill_gaps": (
        [("else 400", "else 4"), ("tales=8000", "tales=200")],
        ["  the best reader of both sides", "  the causal model", "  the masked model"],
    ),
    "finetune_dialogue": (
        [("(2000, 64, 500, 650)", "(60, 16, 4, 4)")],
        ["trained on tales alone", "fine-tuned, --loss-on answers", "fine-tuned, --loss-on all"],
    ),
    "records": ([("(1300, 2600, 64, 60)", "(4, 60, 16, 2)")], ["2 held-out records", "2 summaries"]),
    "few_shot": ([("(800, 400)", "(4, 10)")], ["1 layer of 16", "2 layers of 64", "a perfect reader"]),
    "translate": (
        [("pairs[:4000], pairs[4000:], steps=1000", "pairs[:40], pairs[4190:], steps=4")],
        ["40 pairs to learn from, 10 held out", "encoder-decoder", "decoder-only", "  held out: "],
    ),
}


@pytest.mark.parametrize("name", SHORT)
def test_a_few_steps_of(name, tmp_path):
    for package in {"records": ["rouge_score"], "translate": ["sacrebleu"]}.get(name, []):
        pytest.importorskip(package, reason="needs the extra eval")
    source, (shorter, begins) = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8"), SHORT[name]
    for long, short in shorter:
        assert source.count(long) == 1, long
        source = source.replace(long, short)
    for path in EXAMPLES.glob("*.py"):  # some import another
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    said = example([sys.executable, str(tmp_path / f"{name}.py")])
    for begin in begins:
        assert re.search(rf"^{begin}", said, re.M), said


@pytest.mark.figures
def test_a_small_model_writes_chinese():
    said = example([sys.executable, str(EXAMPLES / "tales_zh.py")], limit=240)
    assert int(re.search(r"(\d+)% of the way down", said)[1]) >= 85  # 92
    first, right, sentences = map(
        int, re.search(r"right in (\d+) of .*: (\d+) of (\d+);", said, re.S).groups()
    )
    assert first >= 30 and right / sentences > 0.5  # 37 of 40, 152 of 220


def shares(said: str, begin: str) -> list[float]:
    """The percentages in the line that begins with these words."""
    return [float(x) for x in re.findall(r"([\d.]+)%", re.search(rf"^{begin}.*$", said, re.M)[0])]


@pytest.mark.figures
def test_hidden_states_label_words_that_the_model_does_not_know():
    said = example([sys.executable, str(EXAMPLES / "label_words.py")], limit=240)
    known, unknown = shares(said, "always the most common kind")
    assert known == unknown < 70  # 63.8, 63.8
    known, unknown = shares(said, "the vectors of the embedding")
    assert known > 95 and unknown < 70  # 100, 63.8
    known, unknown = shares(said, "the hidden states after block 2")
    assert known > 95 and unknown > 80  # 99.8, 89.9


@pytest.mark.figures
def test_hidden_states_classify_texts_by_the_order_of_their_words():
    said = example([sys.executable, str(EXAMPLES / "classify_texts.py")], limit=240)
    assert shares(said, "always the more common answer")[0] < 55  # 48.5
    assert shares(said, "mean of the vectors of the embedding")[0] < 60  # 50.0
    assert shares(said, "mean of the hidden states after block 2")[0] > 90  # 100


@pytest.mark.figures
def test_word_vectors_put_people_near_people_and_help_a_model():
    said = example([sys.executable, str(EXAMPLES / "word_vectors.py")], limit=240)
    found = {
        kind: shares(said, f"of the five words nearest to {kind}")[0]
        for kind in ("people", "places", "looks")
    }
    assert min(found.values()) >= 90, found  # 100, 100, 100
    loss = {name: float(x) for name, x in re.findall(r"^(.*?) +held-out loss ([\d.]+)$", said, re.M)}
    assert loss["from the vectors"] < loss["from nothing"] - 0.03  # 1.335, 1.420


@pytest.mark.figures
def test_a_masked_model_fills_gaps():
    said = example([sys.executable, str(EXAMPLES / "fill_gaps.py")], limit=240)
    assert shares(said, "  the best reader from the left") == [75.8]
    assert shares(said, "  the best reader of both sides") == [93.4]
    assert shares(said, "  the most common word") == [7.8]
    assert shares(said, "  the causal model")[0] > 68  # 73.2
    assert shares(said, "  the masked model")[0] > 65  # 72.0


@pytest.mark.figures
def test_a_model_of_tales_learns_to_answer_questions():
    said = example([sys.executable, str(EXAMPLES / "finetune_dialogue.py")], limit=600)
    assert shares(said, "trained on tales alone")[0] == 0
    answers, everything = (shares(said, f"fine-tuned, --loss-on {which}")[0] for which in ("answers", "all"))
    assert answers > everything + 5 and answers > 28  # 42.5
    assert everything > 10  # 22.1


@pytest.mark.figures
def test_reports_state_the_facts_of_their_record_in_its_style():
    pytest.importorskip("rouge_score", reason="needs the extra eval")
    said = example([sys.executable, str(EXAMPLES / "records.py")], limit=600)
    styles, facts = shares(said, "60 held-out records")
    assert styles > 90 and facts > 90  # 100, 100
    own, lead = (float(x) for x in re.findall(r"rougeL ([\d.]+)", said))
    assert own > 0.9 and lead < 0.6  # 1.000, 0.508


@pytest.mark.figures
def test_larger_models_learn_a_task_from_examples_in_the_prompt():
    said = example([sys.executable, str(EXAMPLES / "few_shot.py")], limit=600)
    small, middle, large, perfect = (
        shares(said, name)
        for name in ("1 layer of 16", "2 layers of 32", "2 layers of 64", "a perfect reader")
    )
    assert max(small) < 10  # 2.2, 2.5, 2.5, 3.8, 3.0
    assert middle[0] < 10 and middle[1] > 35 and middle[4] > 60  # 1.5, 50.5, 56.5, 69.8, 80.2
    assert large[0] < 10 and large[1] > 40 and large[4] > 80  # 1.2, 55.5, 61.0, 78.2, 93.5
    assert perfect == [4.2, 62.5, 71.9, 84.2, 95.0]


@pytest.mark.figures
def test_two_languages(tmp_path):
    picture = tmp_path / "attention.png"
    said = example([sys.executable, str(EXAMPLES / "translate.py"), "--picture", str(picture)], limit=400)
    assert "4000 pairs to learn from, 200 held out" in said
    assert picture.stat().st_size > 1000
    exact = [int(n) for n in re.findall(r"exact (\d+)%", said)]
    assert len(exact) == 2 and exact[0] >= 90 and exact[1] >= 75  # 100, 94
    pytest.importorskip("sacrebleu", reason="BLEU needs sacrebleu: pip install sacrebleu")
    bleu = [float(n) for n in re.findall(r"BLEU ([\d.]+)", said)]
    assert len(bleu) == 2 and bleu[0] >= 95 and bleu[1] >= 90  # 99.8, 98.0


def test_the_languages_have_exactly_one_translation_and_can_be_written_to_a_file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    assert "4200 pairs in" in example([sys.executable, str(EXAMPLES / "translate.py"), "--pairs", str(path)])
    pairs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({pair["prompt"] for pair in pairs}) == len(pairs) == 4200
    told = {pair["prompt"]: pair["completion"] for pair in pairs}
    english = "two quiet birds took the white kings behind the hill"  # word by word: hill behind bird-two
    nessic = "amun kata kelu sulu sedar rogani nimor lo ta na mapar oro"  # quiet king-s white the (object)
    assert told[english] == nessic  # (past) take-many away


def test_two_moons(tmp_path):
    picture, source = tmp_path / "moons.png", EXAMPLES / "moons.py"
    said = example([sys.executable, str(source), str(picture)])
    steps = re.findall(r"step (\d+): loss ([\d.]+), accuracy ([\d.]+)%", said)
    assert [step for step, *_ in steps] == ["50", "100", "150", "200"]
    assert float(steps[-1][1]) < 0.03 and float(steps[-1][2]) >= 98  # 0.0035, 100.0
    assert picture.stat().st_size > 10_000 and code_lines(source) <= 25


def test_the_floor(tmp_path):
    picture = tmp_path / "floor.png"
    said = example(
        [sys.executable, str(EXAMPLES / "floor.py"), str(picture), "--num-steps", "3", "--tales", "60"]
    )
    assert said.endswith(f"the picture: {picture}\n")
    assert picture.stat().st_size > 1000
