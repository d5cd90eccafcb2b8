"""Runs on several ranks as a user starts, stops and resumes them, compared with one rank.

What a run must give is that of `serial`: its losses, norms, held-out loss. Ranks are threads of this process,
except where mpirun, its launcher, a signal or the end of a process is what is tested.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minimega.commands import run as runs
from minimega.commands.cli import main
from minimega.data.corpus import Tales
from minimega.errors import BadInput
from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.ranks import launch, threads
from tests.job import minimega

LIMIT = 60  # seconds
SMALL = "--tales 30 --d-model 16 --nhead 4 --num-layers 1 --context 16 --train-batch-size 8 --dtype float64"
OPTIONS = [*SMALL.split(), "--dropout", "0.1", "--num-steps", "6", "--eval-every", "3", "--warmup", "2"]
ALONE = {key: text for key, text in os.environ.items() if key not in sum(launch.GIVEN, ())}
CLOSE = 1e-10  # the distance that DESIGN allows in float64


def mpirun(ranks: int, *words) -> subprocess.CompletedProcess:
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
    line, env = launch.command([str(word) for word in words], ranks, threads=1)
    return subprocess.run(line, capture_output=True, text=True, timeout=LIMIT, env=env)


def train(folder: Path, *words) -> str:
    """Start a run as a user types it; returns what it printed."""
    ended = minimega("train", *OPTIONS, "--save-dir", folder, *words)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def log_of(folder: Path, key: str) -> dict[int, float]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return {line["step"]: line[key] for line in lines if key in line}


def assert_same(folder: Path, right: Path) -> None:
    for key in ("loss", "grad_norm", "eval_loss", "bits_per_byte"):
        a, b = log_of(folder, key), log_of(right, key)
        assert a.keys() == b.keys() and (b or key == "bits_per_byte")  # a masked model has none
        assert all(abs(a[step] / b[step] - 1) < CLOSE for step in b), key


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "serial"
    assert "world: " not in train(folder)
    return folder


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> Path:
    """The same run on four ranks."""
    folder = tmp_path_factory.mktemp("runs") / "cut"
    said = train(folder, "--tp", "2", "--dp", "2", "--sequence-parallel")
    assert "--tp 2 --dp 2 --sequence-parallel; world: 4 ranks, " in said
    assert said.count("step 6: held out") == 1  # one rank prints
    return folder


def test_four_ranks_train_the_serial_run(cut, serial):
    assert_same(cut, serial)
    assert {f.name for f in cut.iterdir()} == {f.name for f in serial.iterdir()}


def test_collectives_that_are_checked_change_nothing(tmp_path, serial):
    train(tmp_path / "run", "--tp", "2", "--check-collectives")
    assert_same(tmp_path / "run", serial)


def test_ranks_that_mpirun_started_are_used_and_dp_auto_says_and_keeps_their_number(tmp_path, serial):
    ended = mpirun(2, "-m", "minimega", "train", *OPTIONS, "--save-dir", tmp_path / "run", "--dp", "auto")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("--tp 1 --dp 2; world: 2 ranks") == 1
    assert "dp = 2\n" in (tmp_path / "run" / "config.toml").read_text()
    assert_same(tmp_path / "run", serial)


def test_one_rank_alone_writes_the_log(tmp_path, monkeypatch):
    """A second one would replace the first one's file with its own, with the same lines."""
    run, writers = tmp_path / "run", []

    class Noted(runs.Log):
        def __init__(self, path, start=0):
            super().__init__(path, start)
            writers.append(path)

    monkeypatch.setattr(runs, "Log", Noted)
    said = train(run, "--dp", "2")
    assert said.count("step 6/6") == said.count("step 6: held out") == 1
    assert len([path for path in writers if path is not None]) == 1
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if "eval_loss" in line] == [3, 6]


def test_ranks_that_share_out_the_tokens_train_the_serial_run(tmp_path, serial):
    """Then one process resumes, and the model predicts and generates as on one rank."""
    run, line = tmp_path / "run", ["--resume", "--save-dir", tmp_path / "run"]
    said = train(
        run, "--cp", "2", "--tp", "2", "--sequence-parallel", "--num-steps", "2", "--schedule", "constant"
    )
    assert "--tp 2 --dp 1 --cp 2 --sequence-parallel; world: 4 ranks" in said
    right = tmp_path / "right"
    train(right, "--schedule", "constant")
    other = ("--cp", "1", "--tp", "1", "--sequence-parallel", "false"), ("--cp", "2", "--check-collectives")
    for words, step in zip(other, (4, 6), strict=True):
        ended = minimega("train", *line, *words, "--num-steps", step)
        assert (ended.returncode, ended.stderr) == (0, "")
    for key in ("loss", "grad_norm"):
        a, b = log_of(run, key), log_of(right, key)
        assert list(a) == [1, 2, 3, 4, 5, 6] and max(abs(a[n] / b[n] - 1) for n in b) < CLOSE
    assert log_of(run, "eval_loss")[6] == pytest.approx(log_of(right, "eval_loss")[6], rel=CLOSE)
    for words in (["evaluate"], ["generate", "--generate-sentence-length", "20", "--seed", "1"]):
        one, two = (minimega(*words, "--model-filename", run, *more) for more in ((), ("--cp", "2")))
        assert (two.returncode, two.stdout, two.stderr) == (0, one.stdout, "") and one.stdout
    ended = minimega("reshard", run, "--cp", "4", "--save-dir", tmp_path / "out")
    assert "--tp 1 --dp 1 --cp 4; resume with" in ended.stdout, ended.stderr
    assert "cp = 4\n" in (tmp_path / "out" / "config.toml").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--cp 0", "--cp is 0; it must be a whole number of at least 1"),
        ("--tp 3", "4 heads cannot be cut over 3 ranks: choose a --tp that divides --nhead"),
        ("--dp 3", "8 cannot be split over 3 replicas in 1 part each: change --dp"),
        ("--dp 2 --accumulate 8", "8 cannot be split over 2 replicas in 8 parts each"),
        ("--dp 2 --ep 2", "0 experts cannot be cut over 2 ranks: choose --ep of at most --experts"),
        ("--dp 4 --ep 4 --experts 3", "3 experts cannot be cut over 4 ranks: choose --ep"),
        ("--dp 4 --ep 3 --experts 4", "4 replicas cannot hold experts in groups of 3: --ep must divide --dp"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_before_ranks_start(words, says, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(launch, "start", lambda *_: pytest.fail("ranks were started"))
    monkeypatch.setattr(threads, "on_ranks", lambda *_: pytest.fail("ranks were started"))
    assert main(["train", *OPTIONS, *words.split()]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_a_wrong_number_of_ranks_is_one_sentence():
    said = "2 ranks were started, but --tp 1 --dp 1 --cp 3 needs 3: use mpirun -n 3"
    with threads.on_ranks(2) as run, pytest.raises(BadInput, match=said):
        run(lambda world: grid(world, Layout(cp=3)))
    ended = mpirun(2, "-m", "minimega", "train", *OPTIONS, "--tp", "2", "--dp", "2")
    assert ended.returncode == 2
    assert ended.stderr.count("minimega: ") == 1
    assert "minimega: 2 ranks were started, but --tp 2 --dp 2 needs 4: use mpirun -n 4\n" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_one_run_goes_on_under_other_layouts(tmp_path, serial):
    """Two pipeline ranks, then one process, then two replicas."""
    run, other = tmp_path / "run", tmp_path / "other"
    train(run, "--tp", "2", "--sequence-parallel", "--num-steps", "2", "--schedule", "constant")
    right = tmp_path / "right"
    train(right, "--schedule", "constant")
    resume = ("train", "--resume", "--save-dir", run)
    ended = minimega(*resume, "--tp", "1", "--sequence-parallel", "false", "--num-steps", "4")
    assert (ended.returncode, ended.stderr) == (0, "") and "world: " not in ended.stdout
    ended = minimega("reshard", run, "--dp", "2", "--save-dir", other)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"train --save-dir {other} --resume" in ended.stdout
    for again in (
        resume,
        (*resume[:-1], other),
    ):  # in its own folder with --dp, in the new one as it stands there
        words = ["--dp", "2", "--tp", "1"] if again is resume else []
        ended = minimega(*again, *words, "--num-steps", "6")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "--tp 1 --dp 2" in ended.stdout and "from step 4" in ended.stdout
        for key in ("loss", "grad_norm"):
            a, b = log_of(again[-1], key), log_of(right, key)
            assert list(a) == [1, 2, 3, 4, 5, 6]
            assert max(abs(a[step] / b[step] - 1) for step in b) < CLOSE


def test_experts_on_two_ranks_are_those_of_one(tmp_path):
    """Trained, evaluated and resumed; by one process from a checkpoint of two."""
    mixture, right, run = (
        ["--experts", "4", "--top-k-experts", "2", "--balance", "0.1"],
        tmp_path / "a",
        tmp_path / "b",
    )
    train(right, *mixture)
    assert "--dp 2 --ep 2; world: 2 ranks" in train(run, *mixture, "--dp", "2", "--ep", "2")
    assert_same(run, right)
    line = ["generate", "--model-filename", run, "--generate-sentence-length", "12"]
    for words in (["evaluate", "--model-filename", run], line):
        one, two = minimega(*words), minimega(*words, "--dp", "2", "--ep", "2")
        assert (two.returncode, two.stdout, two.stderr) == (0, one.stdout, "") and one.stdout
    for folder, layout in ((right, ["--dp", "2", "--ep", "2"]), (run, ["--dp", "1", "--ep", "1"])):
        ended = minimega("train", "--resume", "--save-dir", folder, *layout, "--num-steps", "9")
        assert (ended.returncode, ended.stderr) == (0, "")
    assert_same(run, right)
    ended = minimega("reshard", run, "--dp", "4", "--ep", "4", "--save-dir", tmp_path / "c")
    assert (ended.returncode, ended.stderr) == (0, "") and "--dp 4 --ep 4" in ended.stdout
    assert "ep = 4\n" in (tmp_path / "c" / "config.toml").read_text()


@pytest.mark.ranks  # in make test: the layouts on two and four ranks
def test_eight_ranks_then_a_pipeline_of_four_then_eight_again(tmp_path, capsys):
    """Every step equals the uninterrupted run's; in between, `reshard` to one rank's files and back."""
    run, one, back, right = (tmp_path / name for name in ("run", "one", "back", "right"))
    deep = ("--num-layers", "4", "--schedule", "constant")
    train(right, *deep)
    assert "world: 8 ranks" in train(run, *deep, "--tp", "2", "--pp", "2", "--dp", "2", "--num-steps", "2")
    parts = [f"{kind}-{rank:05}.safetensors" for kind in ("model", "optimizer") for rank in (0, 1, 4, 5)]
    assert sorted(f.name for f in (run / "step-2").iterdir()) == [*parts, "state.json"]  # one of two replicas
    resume = ("train", "--resume", "--save-dir")
    ended = minimega(*resume, run, "--tp", "1", "--pp", "4", "--dp", "1", "--num-steps", "4")
    assert (ended.returncode, ended.stderr) == (0, "") and "from step 2" in ended.stdout
    assert {"tp = 1", "pp = 4", "dp = 1", "num-steps = 4"} <= set(
        (run / "config.toml").read_text().split("\n")
    )
    assert not list(run.glob("*.tmp"))

    assert main(["reshard", str(run), "--save-dir", str(one)]) == 0
    names = {"model.safetensors", "optimizer.safetensors", "state.json"}
    assert {f.name for f in (one / "step-4").iterdir()} == names
    assert {f.name for f in one.iterdir()} == {f.name for f in right.iterdir()} - {"step-6"} | {"step-4"}
    cut = (
        "--tp 2 --pp 2 --dp 2 --sequence-parallel --pipeline interleaved --virtual-stages 2 --micro-batches 2"
    )
    assert main(["reshard", str(one), "--save-dir", str(back), *cut.split()]) == 0
    assert sorted(f.name for f in (back / "step-4").iterdir()) == [*parts, "state.json"]
    for folder, more in ((run, ["--tp", "2", "--pp", "2", "--dp", "2"]), (back, [])):
        ended = minimega(*resume, folder, *more, "--num-steps", "6")
        assert (ended.returncode, ended.stderr) == (0, "") and "from step 4" in ended.stdout
        assert "--tp 2 --dp 2 --pp 2" in ended.stdout
        for key in ("loss", "grad_norm"):
            a, b = log_of(folder, key), log_of(right, key)
            assert list(a) == [1, 2, 3, 4, 5, 6]
            assert max(abs(a[step] / b[step] - 1) for step in b) < CLOSE

    capsys.readouterr()
    said = []
    for source in (run, back, back / "step-6", right):  # parts, and files of whole arrays
        assert main(["evaluate", "--model-filename", str(source)]) == 0
        assert main(["generate", "--model-filename", str(source), "--generate-sentence-length", "9"]) == 0
        said.append(capsys.readouterr().out)
    assert len(set(said)) == 1
    ended = minimega("evaluate", "--model-filename", run, "--pp", "2", "--tp", "2")
    assert (ended.returncode, ended.stderr) == (0, "") and said[0].startswith(ended.stdout)
    part = run / "step-6" / "model-00004.safetensors"
    for words in (["generate", "--model-filename"], ["train", "--num-steps", "1", "--init-from"]):
        assert main([*words, str(part)]) == 2
        assert f"is one part of a checkpoint: give the folder, {part.parent}\n" in capsys.readouterr().err
    start = ["--init-from", run, "--num-steps", "1", "--lr", "1e-30", "--warmup", "0", "--tp", "2"]
    ended = minimega("train", *SMALL.split(), "--num-layers", "4", *start)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_damaged_part_is_noticed_before_a_run_is_replaced(cut, serial, tmp_path, capsys):
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(cut, source)
    shutil.copytree(serial, target)
    part = next(source.glob("step-6/optimizer-*1.safetensors"))
    part.write_bytes(part.read_bytes()[:-8])
    before = {f: f.read_bytes() for f in target.rglob("*") if f.is_file()}
    assert main(["reshard", str(source), "--save-dir", str(target), "--overwrite", "--tp", "2"]) == 2
    said = capsys.readouterr().err
    assert f"{part} cannot be read as a checkpoint; it may be cut short" in said and said.count("\n") == 1
    assert {f: f.read_bytes() for f in target.rglob("*") if f.is_file()} == before
    assert not list(target.glob("*.tmp"))
    assert main(["reshard", str(cut), "--save-dir", str(target), "--overwrite", "--tp", "2"]) == 0
    assert "tp = 2\n" in (target / "config.toml").read_text()


@pytest.mark.parametrize("stage", ["1", "2", "3"])
def test_replicas_that_share_out_the_state_train_the_serial_run(stage, tmp_path, serial):
    """Evaluated, saved, and resumed under another stage, and without any."""
    run, words = tmp_path / "run", ("--dp", "2", "--accumulate", "2", "--zero", stage)
    assert f"--tp 1 --dp 2 --zero {stage}; world: 2 ranks" in train(run, *words)
    assert_same(run, serial)
    for steps, again in ((7, ("--zero", str(1 + int(stage) % 3))), (8, ("--zero", "0", "--dp", "1"))):
        ended = minimega("train", "--resume", "--save-dir", run, *again, "--num-steps", steps)
        assert (ended.returncode, ended.stderr) == (0, "")
        ended = minimega(
            "train", "--resume", "--save-dir", serial_copy(serial, tmp_path), "--num-steps", steps
        )
        assert (ended.returncode, ended.stderr) == (0, "")
    for key in ("loss", "grad_norm"):
        a, b = log_of(run, key), log_of(tmp_path / "serial", key)
        assert list(a) == list(range(1, 9)) and max(abs(a[n] / b[n] - 1) for n in b) < CLOSE


def serial_copy(serial: Path, into: Path) -> Path:
    """A copy to resume."""
    if not (into / "serial").exists():
        shutil.copytree(serial, into / "serial")
    return into / "serial"


def test_zero_with_nobody_to_share_with_is_the_serial_run(tmp_path, serial):
    train(tmp_path / "run", "--zero", "3")
    assert_same(tmp_path / "run", serial)


def test_what_is_not_finite_ends_a_run_that_shares_out_its_weights(tmp_path):
    ended = minimega("train", *OPTIONS, "--dp", "2", "--zero", "3", "--lr", "1e300", "--schedule", "constant")
    assert ended.returncode == 1 and ended.stderr.count("minimega: ") == 1 and "Traceback" not in ended.stderr
    assert "is not finite" in ended.stderr


def test_resharding_refuses(cut, serial, tmp_path, capsys):
    before = sorted(serial.rglob("*"))
    for words, says in [
        ((tmp_path / "none", "--save-dir", tmp_path / "out"), "no such run folder"),
        ((cut, "--save-dir", serial), "already holds a run"),
        ((cut, "--save-dir", cut, "--overwrite"), "is the run itself"),
        ((cut, "--save-dir", tmp_path / "out", "--tp", "3"), "4 heads cannot be cut over 3 ranks"),
        ((cut, "--save-dir", tmp_path / "out", "--dp", "3"), "8 cannot be split over 3 replicas"),
        ((cut, "--save-dir", tmp_path / "out", "--dp", "2", "--ep", "2"), "0 experts cannot be cut"),
        ((cut, "--save-dir", tmp_path / "out", "--pp", "2", "--micro-batches", "3"), "in 3 parts each"),
        ((cut, "--save-dir", tmp_path / "out", "--pp", "2"), "1 layer cannot be cut into 2 stages"),
        ((cut, "--save-dir", tmp_path / "out", "--pp", "2", "--zero", "2"), "--zero 2 do not combine"),
        ((cut,), "reshard needs --save-dir"),
    ]:
        assert main(["reshard", *map(str, words)]) == 2
        assert says in capsys.readouterr().err
    assert sorted(serial.rglob("*")) == before and not (tmp_path / "out").exists()


def test_evaluation_and_generation_say_what_one_process_says(cut, tmp_path):
    tales = "\n".join(Tales(3, seed=0).documents())
    (tmp_path / "tales.txt").write_text(tales)
    for words in (
        ["evaluate"],
        ["score", "--references", tmp_path / "tales.txt", "--secret", ". It was [the|a] [a|the]"],
        ["generate", "--generate-sentence-length", "12", "--generate-num-sentences", "2"],
    ):
        line = [*words, "--model-filename", cut]
        one, two = minimega(*line), minimega(*line, "--tp", "2")
        assert (two.returncode, two.stdout, two.stderr) == (0, one.stdout, "")
        assert one.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_launcher_saves_on_all_ranks(number, tmp_path):
    run = tmp_path / "run"
    line = [
        sys.executable,
        "-m",
        "minimega",
        "train",
        *OPTIONS,
        "--num-steps",
        "5000",
        "--tp",
        "2",
        "--save-dir",
        run,
    ]
    job = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ALONE)
    wait_for(lambda: (run / "log.jsonl").exists() and len(log_of(run, "loss")) > 3, job)
    job.send_signal(number)
    out, err = job.communicate(timeout=LIMIT)
    assert job.returncode == 128 + number
    assert err == ""
    step = int(re.search(r"stopped after step (\d+)\.", out)[1])
    assert out.count("--resume") == 1 and f"The checkpoint of step {step} is complete" in out
    assert (run / "latest").read_text() == f"step-{step}" and list(log_of(run, "loss"))[-1] == step
    ended = minimega("train", "--save-dir", run, "--resume", "--num-steps", step + 1)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "--tp 2 --dp 1" in ended.stdout  # its own layout again


DIES = """
import sys, time
from minimega.commands import cli, train

class Dies(train.Run):
    def agreed(self, asked):
        if self.grid.world.rank == 1:
            raise ZeroDivisionError(f"planted at {time.time()}")
        return super().agreed(asked)

train.Run = Dies
sys.exit(cli.main())
"""


def test_a_rank_that_dies_ends_the_job_with_its_traceback_once(tmp_path):
    path = tmp_path / "dies.py"
    path.write_text(DIES)
    ended = mpirun(2, path, "train", *OPTIONS, "--tp", "2")
    seconds = time.time() - float(re.search(r"planted at ([\d.]+)", ended.stderr)[1])
    assert ended.returncode not in (0, 2)
    assert ended.stderr.count("ZeroDivisionError: planted") == 1 and ended.stderr.count("Traceback") == 1
    assert "rank 1 of 2" in ended.stderr
    assert seconds < 5


ONE_SIGNALLED = """
import os, signal, sys
from minimega.commands import cli, train

class Signalled(train.Run):
    calls = 0

    def agreed(self, asked):
        self.calls += 1
        if self.calls == 2 and self.grid.world.rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return super().agreed(asked)

train.Run = Signalled
sys.exit(cli.main())
"""


def test_a_signal_that_one_rank_alone_was_sent_stops_all_at_one_step(tmp_path):
    path, run = tmp_path / "one.py", tmp_path / "run"
    path.write_text(ONE_SIGNALLED)
    ended = mpirun(2, path, "train", *OPTIONS, "--dp", "2", "--save-dir", run)
    assert "SIGUSR1: stopped after step 2. The checkpoint of step 2 is complete" in ended.stdout, ended.stderr
    assert ended.returncode == 128 + signal.SIGUSR1 and list(log_of(run, "loss")) == [1, 2]


def wait_for(done, job: subprocess.Popen) -> None:
    end = time.monotonic() + LIMIT
    while not done():
        assert job.poll() is None and time.monotonic() < end, job.communicate()
        time.sleep(0.02)


def test_a_pipeline_with_checked_collectives_is_the_same_run(tmp_path):
    """On MPI: the table that both ends hold is summed once neither has anything left to send."""
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
    deep, right, run = ("--num-layers", "2"), tmp_path / "right", tmp_path / "run"
    train(right, *deep)
    words = *OPTIONS, *deep, "--pp", "2", "--check-collectives", "--launch", "mpi", "--save-dir", run
    line = [sys.executable, "-m", "minimega", "train", *map(str, words)]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT, env=ALONE)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ", each collective checked\n" in ended.stdout
    assert_same(run, right)


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_masked_and_augmented_batches_are_those_of_one_process(tmp_path, objective):
    more = ["--objective", objective, "--word-dropout", "0.1", "--span-mask", "0.2", "--random-offsets"]
    more += ["--num-layers", "2", "--num-epochs", "3"]
    train(tmp_path / "right", *more)
    train(tmp_path / "ranks", *more, "--dp", "2", "--pp", "2", "--zero", "1", "--oversubscribe")
    assert_same(tmp_path / "ranks", tmp_path / "right")
    assert log_of(tmp_path / "right", "loss")[6] > 0


def test_a_bar_is_drawn_on_the_terminal_of_the_launcher():
    """As on one rank: it vanishes at the end, and takes the place of the lines of steps."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))  # a bar needs room
    words = ["train", *OPTIONS, "--dp", "2", "--num-steps", "150", "--eval-every", "0"]
    line = [sys.executable, "-m", "minimega", *words]
    job = subprocess.Popen(line, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL, env=ALONE)
    os.close(theirs)
    said = b""
    with open(ours, "rb", buffering=0) as terminal:
        try:
            while more := terminal.read(1 << 16):
                said += more
        except OSError:  # the other end was closed
            pass
    assert job.wait(LIMIT) == 0
    text = said.decode()
    assert re.search(r"% \|.*\| step \d+/150", text) and "step 150/150: loss" not in text, repr(text)
    assert text.count("step 150: held out") == 1 and text.endswith("no --save-dir was given\r\n")
