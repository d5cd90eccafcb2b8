"""Signals outside the training steps: temporary files are removed, and a run is saved."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from minimega.checkpoint import run_folder
from minimega.commands import signals
from minimega.commands.cli import main
from tests.job import run as run_job

RUN = "train --tales 60 --d-model 16 --nhead 2 --num-layers 1 --context 32 --train-batch-size 4".split()  # noqa: SIM905
SLOW = """
import sys, time
from minimega.commands import cli
from minimega.data import tokens

def slow(*_):
    print("ready", flush=True)
    time.sleep(60)

tokens.tokenize = slow
sys.exit(cli.main())
"""
ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


@pytest.fixture
def alone(tmp_path):
    """The environment of a command, with temporary files where the test can see them."""
    (tmp_path / "tmp").mkdir()
    return os.environ | {"TMPDIR": str(tmp_path / "tmp"), "OPENBLAS_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("command", "number"),
    [*(("train --save-dir", number) for number in ALL), ("train", ALL[1]), ("evaluate", ALL[2])],
)
def test_a_signal_while_the_text_is_tokenized_leaves_nothing(tmp_path, alone, number, command):
    run, program = tmp_path / "run", tmp_path / "slow.py"
    program.write_text(SLOW)
    words = {"train": RUN, "train --save-dir": [*RUN, "--save-dir", run], "evaluate": ["evaluate"]}[command]
    if command == "evaluate":
        assert main([*RUN, "--num-steps", "1", "--save-dir", str(run)]) == 0
        words = ["evaluate", "--model-filename", run]
    before = sorted(run.rglob("*"))
    line = [sys.executable, program, *words]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=alone) as slow:
        assert slow.stdout.readline() == "ready\n"
        slow.send_signal(number)
        _, err = slow.communicate(timeout=30)
    assert slow.returncode == 128 + number
    assert "minimega: stopped" in err and err.count("\n") == 1
    assert sorted(run.rglob("*")) == before and not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_text_is_tokenized_leaves_nothing_of_two_ranks(tmp_path, number):
    run = tmp_path / "run"
    ended = run_job(tmp_path, 2, SLOW, *RUN, "--dp", "2", "--save-dir", str(run), send=(number,))
    assert ended.status == 128 + number and "Traceback" not in ended.err
    assert not list(run.glob("tokens-*"))


def test_nohup_is_heard(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.ending(), signals.interruptible() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGUSR1)
        assert asked == [signal.SIGUSR1] and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_whose_terminal_closes_saves(tmp_path, alone):
    run = tmp_path / "run"
    words = [sys.executable, "-m", "minimega", *RUN, "--num-steps", "100000", "--save-dir", str(run)]
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, words, alone)
    log, end = run / "log.jsonl", time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") > 3):
        assert time.monotonic() < end
        time.sleep(0.02)
    os.close(terminal)  # the system sends SIGHUP, and every write to the terminal fails from here on
    end = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    assert os.waitstatus_to_exitcode(ended[1]) == 128 + signal.SIGHUP
    last = log.read_text().count('"lr"')
    assert run_folder.newest(run).name == f"step-{last}"


def test_ctrl_c_while_modules_are_loaded_is_no_traceback(tmp_path):
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt")
    line = [sys.executable, "-m", "minimega", "--version"]
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(line, env=env, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "minimega: stopped\n")
