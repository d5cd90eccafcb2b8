"""`minimega plan` as a user types it: what it prints, and its sentences about bad input."""

import json
import time
import tracemalloc
from itertools import pairwise

import pytest

from minimega.commands.cli import main
from minimega.costs.plan import GPUS

NLG = ["plan", "--model-type", "megatron-turing-nlg"]
OWN = """name = "mine"
memory_gb = 24
bandwidth_gb_per_s = 1000
inside_gb_per_s = 30
between_gb_per_s = 10
peak_tflops = 150
"""


def planned(capsys, *words: str) -> dict:
    assert main(["plan", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words: str) -> str:
    assert main(["plan", *words]) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert not said.out and len(lines) == 1 and lines[0].startswith("minimega: ")
    return lines[0]


def test_the_object_has_what_it_promises(capsys):
    plan = planned(capsys, "--model-type", "gpt3-175b", "--gpus", "1024", "--tokens", "3e11", "--price", "2")
    numbers = (
        "parameters tp pp dp micro_batch_size virtual_stages iteration_seconds tflops_per_gpu mfu bubble"
    )
    assert plan.keys() >= {*numbers.split(), "days", "fits", "memory_bytes_per_gpu", "alternatives"}
    memory = plan["memory_bytes_per_gpu"]
    assert abs(memory["total"] - sum(n for kind, n in memory.items() if kind != "total")) <= len(memory)
    assert plan["fits"] == (memory["total"] <= 80 * 2**30)
    assert plan["tp"] * plan["pp"] * plan["dp"] == 1024 and 0 < plan["bubble"] < plan["mfu"] < 1
    assert sum(plan["seconds"].values()) == pytest.approx(plan["iteration_seconds"])
    assert plan["cost"] == pytest.approx(plan["days"] * 24 * 1024 * 2)
    best = plan["alternatives"]
    assert all(a["iteration_seconds"] <= b["iteration_seconds"] for a, b in pairwise(best))
    assert best[0]["reason"] == "the fastest that fits" and all("%" in other["reason"] for other in best[1:])


def test_what_is_given_is_kept_and_what_is_not_is_chosen(capsys):
    words = [*NLG[1:], "--gpus", "2240", "--train-batch-size", "1920", "--tp", "8"]
    plan = planned(capsys, *words, "--pp", "35", "--recompute", "full", "--micro-batches", "240")
    assert (plan["dp"], plan["micro_batch_size"], plan["virtual_stages"], plan["zero"]) == (8, 1, 1, 0)
    assert plan["recompute"] == "full" and not plan["sequence_parallel"]
    assert {a["recompute"] for a in plan["alternatives"]} == {"full"}
    chosen = planned(capsys, *words[:6], "--sequence-parallel", "false")
    assert not chosen["sequence_parallel"] and len({(a["tp"], a["pp"]) for a in chosen["alternatives"]}) > 5


def test_a_model_that_fits_nowhere_is_an_answer(capsys):
    plan = planned(capsys, "--model-type", "gpt3-175b", "--gpus", "8")
    assert not plan["fits"] and plan["alternatives"] == []
    assert main(["plan", "--model-type", "gpt3-175b", "--gpus", "8"]) == 0
    assert "no cut fits" in capsys.readouterr().out


def test_the_search_over_2800_gpus_is_fast(capsys):
    start = time.process_time()
    planned(capsys, *NLG[1:], "--gpus", "2800")
    assert time.process_time() - start < 5  # of processor time


def test_a_gpu_of_ones_own(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    small = ["--num-layers", "12", "--d-model", "768", "--nhead", "12", "--gpus", "2"]
    assert planned(capsys, *small, "--gpu", str(path))["gpu"] == "mine"
    path.write_text(OWN.replace("150", "{ float32 = 10, bfloat16 = 100 }") + "products = 0.5\nper_node = 2\n")
    assert planned(capsys, *small, "--gpu", str(path))["dtype"] == "bfloat16"
    faster = OWN.replace("between_gb_per_s = 10", "between_gb_per_s = 20")
    path.write_text(faster)
    assert planned(capsys, *small, "--gpu", str(path))["fits"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (OWN.replace("memory_gb = 24\n", ""), "lacks memory_gb"),
        (OWN + "memroy = 3\n", "sets memroy"),
        (OWN.replace("= 24", "= -24"), "memory_gb"),
        (OWN.replace("= 24", '= "much"'), "memory_gb"),
        (OWN.replace("= 24", "= nan"), "memory_gb"),
        (OWN.replace("= 24", "= true"), "memory_gb"),
        (OWN.replace("150", "{ float61 = 3 }"), "float61"),
        (OWN.replace("150", "{}"), "peak_tflops"),
        (OWN + "products = 2\n", "at most 1"),
        (OWN + "per_node = 2.5\n", "whole number"),
        (OWN + "per_node = 1e300\n", "per_node"),
        ("memory_gb = ", "not a TOML file"),
        ("", "lacks memory_gb"),
        ("\x00", "not a TOML file"),
    ],
)
def test_a_wrong_description_of_a_gpu_is_one_sentence(text, says, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert says in refused(capsys, "--gpus", "2", "--gpu", str(path))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "needs --gpus"),
        (["--gpus", "0"], "--gpus is 0"),
        (["--gpus", "-8"], "--gpus is -8"),
        (["--gpus", "8", "--gpu", "a100-80g"], "did you mean a100-80gb?"),
        (["--gpus", "8", "--gpu", "A100"], "a100-40gb"),
        (["--gpus", "8", "--gpu", "tpu"], "it has v100-16gb"),
        (["--gpus", "8", "--gpu", "no/such.toml"], "cannot be read"),
        (["--gpus", "8", "--tp", "3"], "groups of 3"),
        (["--gpus", "8", "--tp", "4", "--pp", "4"], "is 16, which does not divide 8"),
        (["--gpus", "64", "--tp", "64"], "4 heads cannot be cut over 64"),
        (["--gpus", "64", "--pp", "64"], "2 layers cannot be cut into 64 stages"),
        (["--gpus", "6", "--dp", "6", "--train-batch-size", "16"], "cannot be split over 6 replicas"),
        (["--gpus", "7", "--train-batch-size", "16"], "no cut divides"),
        (["--gpus", "1", "--micro-batch-size", "3", "--train-batch-size", "16"], "no cut divides"),
        (["--gpus", "1", "--micro-batch-size", "3", "--micro-batches", "3"], "give one of them"),
        (["--gpus", "8", "--pp", "2", "--zero", "3"], "--pp and --zero 3 do not combine"),
        (["--gpus", "8", "--ep", "4"], "0 experts cannot be cut over 4"),
        (["--gpus", "8", "--virtual-stages", "7", "--pp", "2"], "2 layers cannot be cut into 14"),
        (["--gpus", "8", "--gpu", "v100-16gb", "--dtype", "bfloat16"], "no peak for bfloat16"),
        (["--gpus", "8", "--nhead", "7"], "cannot be split into 7 heads"),
        (["--gpus", "8", "--tokens", "-1"], "--tokens is -1"),
        (["--gpus", "8", "--price", "nan"], "--price is nan"),
        (["--gpus", "8", "--picture", "plan.svg"], "cannot be written"),
        (["--gpus", "8", "--trace", "no/such/folder/plan.json"], "cannot be written"),
        (["--gpus", "9223372036854775808"], "--gpus is"),
        (["--gpus", "9223372036854775807"], "at most 1,000,000"),
        (
            [
                "--gpus",
                "2",
                "--pp",
                "2",
                "--virtual-stages",
                "2",
                "--num-layers",
                "4",
                "--micro-batches",
                "3",
                "--train-batch-size",
                "3",
            ],
            "3 micro-batches cannot be interleaved over 2 ranks",
        ),
        (
            ["--gpus", "1", "--train-batch-size", "1000000", "--micro-batch-size", "1", "--trace", "no.json"],
            "too long to draw",
        ),
    ],
)
def test_bad_input_is_one_sentence(words, says, capsys):
    assert says in refused(capsys, *words)


@pytest.mark.parametrize(
    "words",
    [
        ["--gpus", "1000000", "--train-batch-size", "1000000"],
        ["--gpus", "1", "--train-batch-size", "9223372036854775807"],
        ["--gpus", "64", "--num-layers", "9223372036854775807"],
        ["--gpus", "64", "--d-model", "4611686018427387904", "--nhead", "64"],
        ["--gpus", "999983"],  # a prime
        ["--gpus", "8", "--context", "1048576"],
    ],
)
def test_huge_numbers_are_planned_at_once(words, capsys):
    start = time.process_time()
    planned(capsys, *words)
    assert time.process_time() - start < 5


def test_no_array_is_allocated(capsys):
    tracemalloc.start()
    planned(capsys, *NLG[1:], "--gpus", "2240", "--train-batch-size", "1920")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # of a model of terabytes


def test_every_gpu_of_the_table_can_be_planned_for(capsys):
    for name in GPUS:
        plan = planned(capsys, "--model-type", "gpt2", "--gpus", "16", "--gpu", name)
        assert plan["fits"] and 0.05 < plan["mfu"] < 0.8, name


def test_formulas_are_shown_with_their_numbers(capsys):
    assert main([*NLG, "--gpus", "280", "--train-batch-size", "280", "--explain"]) == 0
    shown = capsys.readouterr().out
    assert "= 529,600,819,200" in shown
    for source in ("Narayanan et al. 2021, equation 2", "Korthikanti et al. 2022", "Rajbhandari et al. 2019"):
        assert source in shown
