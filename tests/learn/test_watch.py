"""`minimega learn watch`: each save is judged, once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from minimega.commands import cli
from minimega.learn import shelf, watch

STUB = shelf.find(2).source.read_text(encoding="utf-8")
CELL = shelf.stub("02").rstrip("\n")


def put(folder, text: str) -> None:
    path = folder / "02_derivative.py"
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(before + 10**9, before + 10**9))


def end() -> None:
    raise KeyboardInterrupt


def test_each_save_is_seen_once(tmp_path, monkeypatch):
    shelf.start(shelf.find(1), tmp_path)
    steps = iter(
        [
            lambda: put(tmp_path, STUB),
            lambda: put(tmp_path, STUB),  # saved, and nothing changed
            lambda: put(tmp_path, STUB.replace("Lesson 02", "Lesson two")),  # only words
            lambda: put(tmp_path, STUB.replace(CELL, "slope = 1")),
            lambda: put(tmp_path, "half a fi"),
            lambda: put(tmp_path, STUB.replace(CELL, "slope = 2")),
            lambda: (tmp_path / "02_derivative.py").unlink(),
            lambda: put(tmp_path, STUB.replace(CELL, "slope = 3")),
            end,
        ]
    )
    monkeypatch.setattr(watch.time, "sleep", lambda _: next(steps)())
    seen = []
    with pytest.raises(KeyboardInterrupt):
        for answer in watch.saves(tmp_path):
            seen.append(answer if isinstance(answer, str) else (answer.lesson.number, answer.cell))
    (first, _), *saved = seen
    assert first == "01" and 'no cell tagged "exercise"' in saved.pop(2)
    assert saved == [("02", CELL), ("02", "slope = 1"), ("02", "slope = 2"), ("02", "slope = 3")]


def test_a_pass_moves_the_progress_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    shelf.start(shelf.find(1), tmp_path)
    put(tmp_path, STUB)
    solved = STUB.replace(CELL, shelf.exercise("02").SOLUTION)
    monkeypatch.setattr(watch.time, "sleep", lambda _: put(tmp_path, solved))
    assert cli.main(["learn", "watch", "02", "--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "not written yet" in said and "] 0 of 21 lessons done" in said
    assert "Lesson 02 \033[32mpassed\033[0m: " in said and "] 1 of 21 lessons done" in said
    assert "Next: " in said.splitlines()[-1] or "You are at" in said.splitlines()[-1]


def test_ctrl_c_ends_it_quietly(tmp_path):
    put(tmp_path, STUB)
    line = [sys.executable, "-m", "minimega", "learn", "watch", "--folder", str(tmp_path)]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, **how) as process:
        assert process.stdout.readline().startswith("Watching ")
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == "" and "Traceback" not in out


def test_nothing_to_watch_is_said(tmp_path, capsys):
    assert cli.main(["learn", "watch", "--folder", str(tmp_path)]) == 2
    assert "to watch; start with: " in capsys.readouterr().err
