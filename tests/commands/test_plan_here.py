"""`minimega plan --gpu here`: this machine, by measured rates (made up here)."""

import json

import numpy as np
import pytest

from minimega.commands.cli import main
from minimega.costs import calibrate, kept
from minimega.costs.calibrate import measure
from minimega.ranks import launch
from minimega.ranks.group import SELF
from tests.commands.test_auto_layout import made_up

KEYS = [
    "parameters",
    "memory_bytes_per_gpu",
    "fits",
    "tp",
    "pp",
    "dp",
    "micro_batch_size",
    "virtual_stages",
    "iteration_seconds",
]
KEYS += ["tflops_per_gpu", "mfu", "bubble", "alternatives"]


@pytest.fixture()
def file(tmp_path, monkeypatch):
    """A file of rates of a machine with two cores."""
    monkeypatch.setattr(launch, "cores", lambda: 2)
    path = tmp_path / "machine.toml"
    path.write_text(kept.text([made_up(1), made_up(2)]))
    return path


def test_the_plan_for_this_machine(file, monkeypatch, capsys):
    monkeypatch.setattr(kept, "default_path", lambda: file)
    assert main(["plan", "--gpu", "here"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[1].startswith("--tp 1 --dp 2") and "cuts, best first" in said
    assert "the fastest that fits" in said and "since its ranks wait" in said


def test_a_file_of_rates_names_a_machine(file, capsys):
    assert main(["plan", "--gpu", str(file), "--gpus", "2", "--pp", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(KEYS) <= told.keys() and (told["pp"], told["dp"]) == (2, 1)
    assert told["memory_bytes_per_gpu"]["total"] == sum(
        n for kind, n in told["memory_bytes_per_gpu"].items() if kind != "total"
    )
    assert 0 < told["mfu"] < 1 and 0 < told["bubble"] < 1


def test_calibrate_writes_what_is_read(file, monkeypatch, capsys):
    monkeypatch.setattr(kept, "measured_here", lambda *_: [made_up(1), made_up(2, message=1.0)])
    assert main(["plan", "--calibrate", "--gpu", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gpu"] == "here"
    assert kept.read(file) == [made_up(1), made_up(2, message=1.0)]


def test_what_cannot_be_cut_or_read(file, tmp_path, capsys):
    assert main(["plan", "--gpu", str(file), "--gpus", "3", "--tp", "2"]) == 2
    assert "no layout of 3 ranks fits" in capsys.readouterr().err
    broken = tmp_path / "broken.toml"
    broken.write_text("[[rates]]\nranks = 1\n")
    assert main(["plan", "--gpu", str(broken)]) == 2
    assert "has no rates of a machine" in capsys.readouterr().err


def test_a_measurement_knows_every_operation(monkeypatch):
    """A short one, on one rank: times grow with sizes, and a step is no shorter than its operations."""
    monkeypatch.setattr(calibrate, "ROWS", (16, 512))
    monkeypatch.setattr(calibrate, "ACROSS", (32, 256))
    monkeypatch.setattr(calibrate, "VOCABULARIES", (64, 512))
    monkeypatch.setattr(calibrate, "HEADS", (2, 16))
    monkeypatch.setattr(calibrate, "SIDES", (16, 64))
    monkeypatch.setattr(calibrate, "NUMBERS", (1 << 10, 1 << 16))
    found = measure(SELF)
    assert found.tables.keys() == made_up(1).tables.keys() - {n for n in made_up(1).tables if " of " in n}
    for name, table in found.tables.items():
        seconds = np.array([s for *_, s in table.points])
        assert (seconds > 0).all() and seconds[-1] > seconds[0], name
    assert 0.5 < found.scale < 5 and min(found.per_step, found.per_part, found.per_block) >= 0
