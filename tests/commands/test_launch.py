"""`--launch threads`: a command on ranks that are threads gives what it gives on MPI and on one rank."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from minimega.commands import on_ranks
from minimega.commands.cli import main
from minimega.errors import BadInput, RunFailed
from minimega.ranks import launch

SMALL = "--tales 30 --d-model 16 --nhead 4 --num-layers 2 --context 16 --train-batch-size 8 --dtype float64"
OPTIONS = [*SMALL.split(), "--dropout", "0.1", "--num-steps", "4", "--save-every", "2", "--warmup", "2"]
THREADS = "--launch", "threads"
NO_MPI = "MPI ranks need mpi4py and an MPI, but: No module named 'mpi4py'\nTo install both: pip"


def train(folder: Path, *words) -> None:
    assert main(["train", *OPTIONS, "--save-dir", str(folder), *map(str, words)]) == 0


def figures(folder: Path) -> list[dict]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k != "tokens_per_s"} for line in lines]


def assert_same_bits(folder: Path, right: Path, step: int) -> None:
    """Losses, norms and held-out figures, and every number of the checkpoint."""
    assert figures(folder) == figures(right)
    files = sorted((right / f"step-{step}").glob("*.safetensors"))
    assert files
    for file in files:
        mine, theirs = load_file(folder / f"step-{step}" / file.name), load_file(file)
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run on two threads."""
    folder = tmp_path_factory.mktemp("runs") / "threads"
    train(folder, "--tp", "2", *THREADS)
    return folder


@pytest.fixture
def no_mpi(monkeypatch):
    def none():
        raise launch.NoMpi(NO_MPI)

    monkeypatch.setattr(launch, "find_mpi", none)


def test_the_same_bits_as_on_mpi_and_each_resumes_the_other(run, tmp_path, capfd):
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
    other, back = tmp_path / "mpi", tmp_path / "back"
    train(other, "--tp", "2", "--launch", "mpi", "--threads", "1")
    assert_same_bits(run, other, 4)
    assert "2 ranks, threads of one process" not in capfd.readouterr().out
    more = "--resume", "--num-steps", "6", "--launch"
    assert main(["reshard", str(run), "--save-dir", str(back), "--tp", "2"]) == 0
    for folder, how in ((other, "threads"), (back, "mpi")):
        assert main(["train", "--save-dir", str(folder), *more, how]) == 0
    assert_same_bits(back, other, 6)


@pytest.mark.parametrize("words", ["--dp 2 --zero 3", "--pp 2", "--tp 2 --sequence-parallel", "--cp 2"])
def test_ranks_that_are_threads_train_the_serial_run(words, tmp_path):
    train(tmp_path / "one")
    train(tmp_path / "many", *words.split(), *THREADS)
    for a, b in zip(figures(tmp_path / "many"), figures(tmp_path / "one"), strict=True):
        assert a == pytest.approx(b, rel=1e-10)


def test_without_an_mpi_the_ranks_are_threads_which_a_line_says(no_mpi, tmp_path, capsys):
    train(tmp_path / "run", "--tp", "2")
    out, err = capsys.readouterr()
    assert err == f"ranks are threads of this process: {NO_MPI.splitlines()[0]}\n"
    assert out.splitlines()[1] == "--tp 2 --dp 1; world: 2 ranks, threads of one process"
    assert out.count("step 4: held out") == 1  # one rank prints
    assert 'launch = "' not in (tmp_path / "run" / "config.toml").read_text()


def test_without_mpi4py_a_command_needs_no_option(tmp_path):
    blocked = tmp_path / "mpi4py"
    blocked.mkdir()
    (blocked / "__init__.py").write_text("raise ImportError('blocked')")
    line = [sys.executable, "-m", "minimega", "train", *OPTIONS, "--dp", "2"]
    env = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    ended = subprocess.run(line, capture_output=True, text=True, timeout=60, env=env)
    assert ended.returncode == 0 and "2 ranks, threads of one process" in ended.stdout
    assert ended.stderr.startswith("ranks are threads of this process: MPI ranks need mpi4py")


def test_mpi_that_was_asked_for_is_not_replaced(no_mpi, capsys):
    assert main(["train", "--tp", "2", "--launch", "mpi"]) == 2
    assert capsys.readouterr().err.startswith("minimega: MPI ranks need mpi4py and an MPI")


def test_threads_within_mpirun_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main(["train", "--tp", "2", *THREADS]) == 2
    assert "--launch threads starts its own ranks: run it without mpirun" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "evaluate --json --model-filename RUN",
        "generate --model-filename RUN --prompt Anna --seed 3",
        "embed RUN --prompt Anna --embed-filename OUT.npy",
        "score --model-filename RUN --prompts TEXT --json",
    ],
)
def test_commands_answer_as_on_one_rank(words, run, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("Anna was a baker .\n")
    words = words.replace("RUN", str(run)).replace("OUT", str(tmp_path / "out"))
    words = words.replace("TEXT", str(tmp_path / "text.txt")).split()
    said = []
    for how in ((), ("--tp", "2", *THREADS)):
        status = main([*words, *how])
        said.append((status, *capsys.readouterr()))
    assert said[0] == said[1] and said[0][0] == 0


def test_a_timeline_of_two_stages(capsys):
    words = [*SMALL.split()[2:-2], "--pp", "2", "--num-steps", "2"]
    assert main(["timeline", *words, *THREADS]) == 0
    assert "ranks 0, 1 of --tp 1 --dp 1 --pp 2" in capsys.readouterr().out


def test_runs_on_threads_are_compared(run, tmp_path, capsys):
    train(tmp_path / "one")
    assert main(["compare", str(run), str(tmp_path / "one")]) == 0
    assert "verdict: rounding" in capsys.readouterr().out


def test_vectors_on_two_threads(tmp_path, capsys):
    words = ["--tales", "60", "--num-epochs", "1", "--vector-size", "8", "--dp", "2"]
    assert main(["vectors", "tales", *words, "--save-vectors", str(tmp_path / "v.txt"), *THREADS]) == 0
    assert (tmp_path / "v.txt").exists()


def fails(error, ranks=(0, 1)):
    def body(o, grid):
        if grid.world.rank in ranks:
            raise error
        grid.world.barrier()

    return body


@pytest.mark.parametrize(
    ("error", "ranks", "status", "said"),
    [
        (BadInput("wrong"), (0, 1), 2, "minimega: wrong\n"),
        (BadInput("wrong"), (1,), 2, "rank 1 of 2: minimega: wrong\n"),
        (RunFailed("broken"), (0,), 1, "rank 0 of 2: minimega: broken\n"),
        (OSError(28, "No space left", "file"), (1,), 1, "rank 1 of 2: minimega: file: No space left"),
    ],
)
def test_an_error_is_one_sentence_that_names_the_rank_if_ranks_differ(
    error, ranks, status, said, monkeypatch, capsys
):
    monkeypatch.setattr("minimega.commands.evaluate._evaluate", fails(error, ranks))
    monkeypatch.setattr(on_ranks, "PATIENCE", (5.0, 5.0))
    assert main(["evaluate", "--model-filename", "x", "--dp", "2", *THREADS]) == status
    err = capsys.readouterr().err
    assert err.startswith(said) and err.count("\n") == 1


def test_each_rank_has_its_own_options(monkeypatch):
    def body(o, grid):
        o.eval_batch_size += grid.world.rank
        grid.world.barrier()
        return o.eval_batch_size

    monkeypatch.setattr("minimega.commands.evaluate._evaluate", body)
    assert main(["evaluate", "--model-filename", "x", "--dp", "3", "--eval-batch-size", "4", *THREADS]) == 6


def test_ranks_set_no_warning_filters(tmp_path, monkeypatch):
    """They would be those of all ranks: warnings.catch_warnings is not for threads."""
    set_by = []

    def noted(act):
        def on_a_rank(*args, **options):
            if threading.current_thread() is not threading.main_thread():
                module = sys._getframe(1).f_globals["__name__"]
                set_by.extend([module] * module.startswith("minimega"))
            return act(*args, **options)

        return on_a_rank

    for name in ("simplefilter", "filterwarnings", "catch_warnings", "resetwarnings"):
        monkeypatch.setattr(warnings, name, noted(getattr(warnings, name)))
    train(tmp_path / "run", "--tp", "2", *THREADS)
    for words in ("evaluate", "generate"):
        assert main([words, "--model-filename", str(tmp_path / "run"), "--tp", "2", *THREADS]) == 0
    assert set_by == []


def test_long_work_that_is_announced_is_waited_for(monkeypatch):
    def body(o, grid):
        if grid.first:
            with grid.world.busy("reading"):
                time.sleep(0.6)
        grid.world.barrier()
        return 0

    monkeypatch.setattr("minimega.commands.evaluate._evaluate", body)
    monkeypatch.setattr(on_ranks, "PATIENCE", (0.2, 0.2))
    assert main(["evaluate", "--model-filename", "x", "--dp", "2", *THREADS]) == 0


LONG = [*OPTIONS[:-6], "--num-steps", "100000", "--tp", "2", *THREADS]


def begun(folder: Path) -> subprocess.Popen:
    line = [sys.executable, "-m", "minimega", "train", *LONG, "--save-dir", str(folder)]
    job = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not job.stdout.readline().startswith("step 1/"):
        assert job.poll() is None, job.stderr.read()
    return job


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_the_end_of_the_step(number, tmp_path):
    with begun(tmp_path / "run") as job:
        job.send_signal(number)
        out, err = job.communicate(timeout=60)
    assert (job.returncode, err) == (128 + number, "")
    assert ": stopped after step " in out and "is complete; resume with: " in out
    step = (tmp_path / "run" / "latest").read_text().strip()
    assert len(list((tmp_path / "run" / step).glob("model-*.safetensors"))) == 2
    assert not list((tmp_path / "run").glob("tokens-*")) and not (tmp_path / "run" / "minimega.lock").exists()


SLOW = """
import sys, time
from minimega.commands import cli
from minimega.parallel import team

def slow(*_, **__):
    print("ready", flush=True)
    for _ in range(600):
        time.sleep(0.1)

team.Team.gradients = slow
sys.exit(cli.main())
"""


def test_a_second_signal_ends_at_once(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    line = [sys.executable, str(tmp_path / "slow.py"), "train", *LONG, "--save-dir", str(tmp_path / "run")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        while job.stdout.readline() != "ready\n":
            assert job.poll() is None, job.stderr.read()
        job.send_signal(signal.SIGINT)
        time.sleep(0.3)
        job.send_signal(signal.SIGINT)
        err = job.communicate(timeout=20)[1]
    assert (job.returncode, err) == (130, "minimega: stopped\n")
    assert not list((tmp_path / "run").glob("tokens-*"))
