"""`minimega bench --launches`: what it runs, what it prints, and who wins."""

import json

import pytest

from minimega.commands import bench_launch, cli
from minimega.ranks import launch

SHAPE = ["--num-layers", "1", "--d-model", "8", "--nhead", "1", "--context", "8", "--train-batch-size", "4"]
SPEED = {"threads": 2e-3, "mpi": 1e-3, "blas": 4e-3}


@pytest.fixture
def turns(monkeypatch):
    """The turns that were asked for; each takes as long as SPEED says."""
    asked = []

    def turn(way, ranks, words):
        asked.append((way, ranks, words))
        return [SPEED[way]] * bench_launch.steps(cli.parse("bench", words))

    monkeypatch.setattr(launch, "cores", lambda: 2)
    monkeypatch.setattr(launch, "find_mpi", lambda: None)
    monkeypatch.setattr(bench_launch, "turn", turn)
    return asked


def test_ways_take_turns_and_the_fastest_is_named(turns, capsys):
    assert cli.main(["bench", "--launches", *SHAPE]) == 0
    assert [way for way, _, _ in turns] == ["threads", "mpi", "blas"] * 3
    assert {ranks for _, ranks, _ in turns} == {2}
    assert capsys.readouterr().out.splitlines() == [
        "1 layer of width 8: 4 x 8 tokens, float32; medians of 3 turns of 4 steps",
        "2 MPI ranks: 32,000 tokens/s",
        "2 ranks as threads: 16,000 tokens/s",
        "1 rank, 2 BLAS threads: 8,000 tokens/s",
        "fastest: 2 MPI ranks, 2.00 times as fast as 2 ranks as threads (3 of 3 turns), "
        "4.00 times as fast as 1 rank, 2 BLAS threads (3 of 3 turns)",
    ]


def test_without_a_shape_it_compares_two(turns, capsys):
    assert cli.main(["bench", "--launches", "--dtype", "float64"]) == 0
    shapes = [line for line in capsys.readouterr().out.splitlines() if " layers of width " in line]
    assert [line.partition(";")[0] for line in shapes] == [
        "4 layers of width 128: 12 x 64 tokens, float64",
        "6 layers of width 384: 8 x 256 tokens, float64",
    ]


def test_without_an_mpi_its_ranks_are_left_out_and_a_line_says_so(turns, monkeypatch, capsys):
    def none():
        raise launch.NoMpi("none\nTo install both: ...")

    monkeypatch.setattr(launch, "find_mpi", none)
    assert cli.main(["bench", "--launches", *SHAPE]) == 0
    out = capsys.readouterr().out
    assert out.startswith("without MPI ranks: none\n") and "fastest: 2 ranks as threads, 2.00 times" in out
    assert {way for way, _, _ in turns} == {"threads", "blas"}


def test_a_batch_of_one_has_no_ranks(turns, capsys):
    assert cli.main(["bench", "--launches", *SHAPE[:-1], "1"]) == 2
    assert "a batch of 1 cannot be split over ranks: --train-batch-size 2" in capsys.readouterr().err


@pytest.mark.parametrize("way", bench_launch.WAYS)
def test_a_turn(way):
    if way == "mpi":
        pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
    took = bench_launch.turn(way, 2, [*SHAPE, "--num-steps", "4"])
    assert len(took) == 2 and all(0 < seconds < 60 for seconds in took), json.dumps(took)


def test_a_turn_that_fails_says_why():
    with pytest.raises(
        bench_launch.RunFailed, match=r"a turn \(threads\) failed: .*d_model 8 cannot be split into 3 heads"
    ):
        bench_launch.turn("threads", 2, [*SHAPE, "--nhead", "3"])
