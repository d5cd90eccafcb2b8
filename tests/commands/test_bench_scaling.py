"""How a step grows: the arithmetic of theory, where an axis ends, and what is printed."""

import json

import pytest

from minimega.commands import bench_scaling, cli
from minimega.commands.bench_scaling import AXES, cost, grown, slopes
from minimega.errors import BadInput
from minimega.model import Config
from minimega.ranks import launch

SHAPE = "--kernels none --d-model 16 --nhead 2 --num-layers 1 --context 8 --train-batch-size 2"
BASE = Config(vocab_size=8, d_model=256, nhead=4, num_layers=4, context=64), 8, 1


def by_theory(axis: str, n: int) -> float:
    return cost(AXES[axis](BASE, n)) / cost(BASE)


def test_theory():
    assert by_theory("batch", 4) == 4 and by_theory("ranks", 4) == 1 / 4
    assert by_theory("layers", 64) == pytest.approx(64, rel=0.01)  # the table of tokens counts once
    assert 3.8 < by_theory("width", 2) < 4  # 12 D^2 a layer, and 12 L T D of attention
    assert 2 < by_theory("context", 2) < 2.2
    assert by_theory("context", 2**14) / by_theory("context", 2**13) > 3.9  # attention alone
    config, batch, ranks = AXES["width"](BASE, 3)
    assert (config.d_model, config.d_hidden, config.nhead, batch, ranks) == (768, 3072, 12, 8, 1)


def test_slopes():
    (one,) = slopes([[4, 1.0, 1.0], [16, 4.0, 0.25]])
    assert one == (1.0, -1.0)


def test_an_axis_ends(monkeypatch):
    o = cli.parse("bench", ["--num-steps", "1"])
    ended = grown("batch", BASE, 1.0, lambda shape: 7.0, o)
    assert ended["points"] == [[8, 1.0, 3.5], [16, 7.0, 7.0]]  # theory goes through the last
    assert ended["ended"] == "steps of 14.0 s" and len(ended["slopes"]) == 1
    assert grown("ranks", BASE, 1.0, lambda shape: 0.7, o)["points"][0] == [1, 1.0, 1.0]
    monkeypatch.setattr(launch, "cores", lambda: 4)
    assert grown("ranks", BASE, 1.0, lambda shape: 0.5, o)["ended"] == "4 cores"
    odd = BASE[0], 6, 1
    assert grown("ranks", odd, 1.0, lambda shape: 0.5, o)["ended"] == "a batch of 6"
    assert grown("batch", BASE, 1e-9, lambda shape: 1e-9, o)["points"][-1][0] == 8 * bench_scaling.MOST

    def full(job):
        raise BadInput("too large")

    monkeypatch.setattr(bench_scaling, "check_fits", full)
    assert grown("width", BASE, 1.0, lambda shape: 1.0, o)["ended"] == "memory"


def test_what_it_prints(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bench_scaling, "MOST", 2)
    monkeypatch.setattr(launch, "cores", lambda: 2)
    words = ["bench", "--scaling", *SHAPE.split(), "--num-steps", "1"]
    picture = tmp_path / "scaling.png"
    assert cli.main([*words, "--picture", str(picture)]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{axis} " in out for axis in AXES) and "ends at: 2 times the smallest" in out
    assert picture.stat().st_size > 20_000
    assert cli.main([*words, "--json"]) == 0
    axes = json.loads(capsys.readouterr().out)["axes"]
    assert {axis: [size for size, *_ in one["points"]] for axis, one in axes.items()} == {
        "batch": [2, 4],
        "width": [16, 32],
        "layers": [1, 2],
        "context": [8, 16],
        "ranks": [1, 2],
    }
    assert all(took > 0 for one in axes.values() for _, took, _ in one["points"])


def test_one_of_both(capsys):
    assert cli.main(["bench", "--scaling", "--profile"]) == 2
    assert "choose one of them" in capsys.readouterr().err
