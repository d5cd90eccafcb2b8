"""What `--dp auto` means, by cores and batch, and without an MPI."""

import os

import pytest

from minimega.commands import on_ranks
from minimega.commands.cli import main, parse
from minimega.commands.options import layout_of
from minimega.ranks import launch


@pytest.mark.parametrize(
    ("cores", "words", "replicas"),
    [
        (1, "", 1),
        (2, "", 2),
        (3, "", 2),  # three do not divide a batch of 16
        (4, "", 4),
        (8, "", 8),
        (12, "", 8),
        (64, "", 16),
        (8, "--train-batch-size 12", 6),
        (8, "--train-batch-size 7", 7),
        (8, "--tp 2", 4),  # a core for each rank
        (4, "--tp 2 --pp 2", 1),
        (2, "--tp 4", 1),
        (8, "--accumulate 4", 4),  # of the 4 sequences of each part
    ],
)
def test_dp_auto_takes_the_cores_that_divide_the_batch(cores, words, replicas, monkeypatch):
    monkeypatch.setattr(launch, "cores", lambda: cores)
    monkeypatch.setattr(launch, "find_mpi", lambda: None)
    o = parse("train", ["--dp", "auto", *words.split()])
    cut = layout_of(o)
    found = on_ranks.automatic(None, cut, o)
    assert found == replicas and (found * cut.ranks <= cores or found == 1)
    assert on_ranks.automatic(4, cut, o) <= max(4 // cut.ranks, 1)  # ranks that mpirun started


SMALL = ["--tales", "30", "--d-model", "8", "--nhead", "1", "--context", "16", "--num-steps", "1"]


@pytest.fixture
def four_cores_without_mpi(monkeypatch):
    def none():
        raise launch.NoMpi("MPI ranks need mpi4py and an MPI, but: none\nTo install both: ...")

    monkeypatch.setattr(launch, "cores", lambda: 4)
    monkeypatch.setattr(launch, "find_mpi", none)


def test_dp_auto_without_an_mpi_is_threads_and_says_why(four_cores_without_mpi, capsys):
    assert main(["train", "--dp", "auto", *SMALL]) == 0
    out, err = capsys.readouterr()
    assert err == "ranks are threads of this process: MPI ranks need mpi4py and an MPI, but: none\n"
    assert out.splitlines()[1] == "--tp 1 --dp 4; world: 4 ranks, threads of one process"
    assert out.splitlines()[2].startswith("1 BLAS thread per rank")
    assert out.count("held out: loss") == 1


def test_dp_auto_with_an_mpi_starts_its_ranks(monkeypatch):
    asked = []
    monkeypatch.setattr(launch, "cores", lambda: 4)
    monkeypatch.setattr(launch, "start", lambda words, ranks, threads: asked.append((ranks, threads)) or 0)
    assert main(["train", "--dp", "auto", *SMALL]) == 0
    assert asked == [(4, None)]


def test_dp_auto_on_a_gpu_without_an_mpi_is_one_rank_that_says_why(four_cores_without_mpi, capsys):
    o = parse("train", ["--dp", "auto", *SMALL])
    o.device = "cuda"
    assert on_ranks.automatic(None, layout_of(o), o) == 1
    said = capsys.readouterr().out
    assert said == "--dp auto: one rank, since MPI ranks need mpi4py and an MPI, but: none\n"


@pytest.mark.parametrize("how", [("--dp", "auto"), ("--layout", "auto")], ids=" ".join)
def test_an_mpi_that_was_asked_for_is_not_replaced(how, four_cores_without_mpi, capsys):
    assert main(["train", *how, "--launch", "mpi", *SMALL]) == 2
    assert capsys.readouterr().err.startswith("minimega: MPI ranks need mpi4py and an MPI, but: none\n")


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "0\n"}, None),
    ],
)
def test_a_container_with_less_time_than_cores_has_fewer(files, most, tmp_path, monkeypatch):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert launch.cores(tmp_path) == (most or 8)
