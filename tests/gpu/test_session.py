"""`bash tests/gpu/run`, rehearsed on the CPU: its parts, their limits, its JSON."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.gpu import against_numpy as against
from tests.gpu import parts, session, standin


@pytest.fixture
def bench():
    with standin.installed() as xp:
        yield parts.Bench(xp, rehearsal=True)


def last(part, bench):
    *_, (says, figures) = part(bench)
    json.dumps(figures, default=str)
    return says, figures


def test_without_a_gpu_it_says_so_and_stops(capsys, monkeypatch):
    monkeypatch.setattr(session, "gpu", lambda: "CuPy is not installed")
    assert session.main([]) == 0
    assert capsys.readouterr().out == (
        "no GPU here (CuPy is not installed): nothing to do; --rehearse runs every part on the CPU\n"
    )


def test_why_there_is_no_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert session.gpu() == "CuPy is not installed"
    with standin.installed() as xp:
        assert session.gpu() == ""
        xp.is_available = lambda: False
        assert session.gpu() == "CuPy finds no GPU"


def test_a_rehearsal_writes_its_figures_to_out(tmp_path):
    ended = subprocess.run(
        ["bash", "tests/gpu/run", "--rehearse", "machine", "nccl"],
        cwd=session.ROOT,
        env=os.environ | {"OUT": str(tmp_path / "out"), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = ended.stdout.splitlines()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert lines[0].startswith("machine   ok, ") and "nccl      skipped" in lines[1] and len(lines) == 3
    told = json.loads((tmp_path / "out" / "gpu-rehearsal.json").read_text())
    assert told["rehearsal"] and told["parts"]["machine"]["figures"]["copy, GB/s"] > 0


SAY = "import json, time; print(json.dumps({'says': 'half', 'figures': {'a': 1}}), flush=True); "


@pytest.mark.parametrize(
    "code, state, says",
    [
        (SAY, "ok", "half"),
        ("print('no JSON'); print('[1]')", "ok", ""),
        ("1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "skipped", ""),
        (SAY + "time.sleep(60)", "too long", "half"),
    ],
)
def test_a_part_ends_in_one_of_these_states(code, state, says):
    found = session.one([sys.executable, "-c", code], seconds=3)
    assert (found["state"], found["says"]) == (state, says) and found["seconds"] < 15


def test_what_a_part_started_ends_with_it(tmp_path):
    mark = tmp_path / "mark"
    child = f"import time, pathlib; time.sleep(4); pathlib.Path({str(mark)!r}).touch()"
    code = (
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    )
    assert session.one([sys.executable, "-c", code], seconds=2)["state"] == "too long"
    assert session.one([sys.executable, "-c", "import time; time.sleep(4)"], seconds=20)["state"] == "ok"
    assert not mark.exists()


def test_no_part_begins_when_the_time_is_up(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("OUT", str(tmp_path))
    assert session.main(["--rehearse", "--seconds", "0", "speed"]) == 0
    assert capsys.readouterr().out.startswith("speed     no time, 0 s: ")


def test_every_part_has_a_limit_and_they_begin_with_the_most_valuable():
    assert session.PARTS.keys() == parts.EVERY.keys()
    assert list(session.PARTS)[:2] == ["machine", "float32"] and session.SECONDS < 480


@pytest.mark.parametrize("name", ["machine", "training", "gpt2", "speed", "pieces", "float16"])
def test_a_part_rehearsed(name, bench):
    says, figures = last(parts.EVERY[name], bench)
    assert says and not says.startswith("failed") and figures


def test_numbers_that_are_wrong_are_named_and_the_others_go_on(bench, monkeypatch):
    operation = against.operations()["linear"]
    wrong = operation._replace(f=lambda q, k, v, causal: (np.asarray(q), None))
    monkeypatch.setattr(
        against, "operations", lambda seed=0: {"linear": operation, "attention, causal": wrong}
    )
    monkeypatch.setattr(against, "CONFIGS", {"pre-norm": against.CONFIGS["pre-norm"]})
    monkeypatch.setattr(parts.Bench, "__call__", lambda self, real, rehearsed: real)
    says, figures = last(parts.EVERY["float32"], bench)
    assert says.startswith("failed: 1 of ") and list(figures["wrong"]) == ["attention, causal"]
    assert figures["wrong"]["attention, causal"].startswith("TypeError at ")
    assert "linear: y" in figures["off"] and "adamw: w" in figures["off"]


def test_a_run_without_a_writer_of_toml(tmp_path):
    """tests/gpu/missing stands in for tomli-w, and tomllib reads what it writes."""
    import importlib.util
    import tomllib

    spec = importlib.util.spec_from_file_location("shim", session.ROOT / "tests/gpu/missing/tomli_w.py")
    shim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shim)
    table = {"a": 'x "y" \\ ü\n', "b": 1, "c": 0.5, "d": True, "e": 1e-08}
    assert tomllib.loads(shim.dumps(table)) == table
