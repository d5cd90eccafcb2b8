"""Two runs never write to one folder; a killed run blocks nobody."""

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minimega.checkpoint import run_folder, run_lock
from minimega.commands import train as run
from minimega.commands.cli import main

SMALL = ["--tales", "60", "--d-model", "16", "--nhead", "2", "--num-layers", "1", "--context", "32"]
TRAIN = ["train", *SMALL, "--train-batch-size", "4"]
LONG = [*TRAIN, "--num-steps", "100000", "--save-every", "5", "--schedule", "constant"]


def begin(folder: Path, *more: str) -> subprocess.Popen:
    """A run that does not end on its own, once it has a checkpoint.

    Its output goes to a file: nobody reads a pipe meanwhile, and a run that waits for a reader saves nothing.
    """
    words = [sys.executable, "-m", "minimega", *LONG, "--save-dir", str(folder), *more]
    said = folder.parent / f"{folder.name}.said"
    with said.open("w") as out:
        job = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT)
    waited = time.monotonic()
    while not (folder / "latest").exists():
        assert job.poll() is None and time.monotonic() - waited < 90, said.read_text()
        time.sleep(0.02)
    return job


def holder(folder: Path) -> int:
    """The process that holds a folder, according to the lock file."""
    return int((folder / run_lock.NAME).read_text().split()[1])


def refused(words: list, capsys) -> str:
    capsys.readouterr()
    assert main(list(map(str, words))) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_second_of_two_runs_says_who_holds_the_folder(tmp_path, capsys):
    folder, other = tmp_path / "run", tmp_path / "other"
    new = [*TRAIN, "--num-steps", "1", "--save-dir", folder]
    job = begin(folder)
    try:
        assert main([*TRAIN, "--num-steps", "1", "--save-dir", str(other)]) == 0
        before = (folder / "tokenizer.json").stat().st_mtime_ns
        for words in (
            ["train", "--save-dir", folder, "--resume"],
            new,
            [*new, "--overwrite"],
            [*new, "--overwrite", "--dp", "2", "--launch", "threads"],
            ["reshard", other, "--save-dir", folder, "--overwrite"],
        ):
            said = refused(words, capsys)
            held = rf"{re.escape(str(folder))} is in use: process {job.pid} on {socket.gethostname()} since "
            assert re.search(held + r"\w{3} \w{3} +\d+ [\d:]{8} \d{4} writes into it; wait until it", said)
        assert main(["reshard", str(folder), "--save-dir", str(tmp_path / "cut")]) == 0  # only read
        assert main(["generate", "--model-filename", str(folder), "--generate-sentence-length", "3"]) == 0
        assert job.poll() is None and (folder / "tokenizer.json").stat().st_mtime_ns == before
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=60) == 128 + signal.SIGTERM
        assert not (folder / run_lock.NAME).exists()
    finally:
        job.kill()
        job.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_lock_that_a_killed_run_left_is_no_obstacle(tmp_path):
    job = begin(tmp_path)
    job.kill()
    job.wait()
    assert holder(tmp_path) == job.pid
    steps = int(run_folder.newest(tmp_path).name[5:]) + 1
    assert main(["train", "--save-dir", str(tmp_path), "--resume", "--num-steps", str(steps)]) == 0
    assert not (tmp_path / run_lock.NAME).exists()


def test_ranks_hold_the_folder_as_long_as_the_first_of_them_lives(tmp_path, capsys):
    """The launcher may be gone, but there are never two writers."""
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
    job = begin(tmp_path, "--dp", "2")
    rank = holder(tmp_path)
    try:
        assert rank != job.pid
        assert f"process {rank} on " in refused(["train", "--save-dir", tmp_path, "--resume"], capsys)
        words = ["train", "--save-dir", str(tmp_path), "--resume", "--dp", "2"]
        mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or "mpirun"
        second = [mpirun, "-n", "2", sys.executable, "-m", "minimega", *words]
        ended = subprocess.run(second, capture_output=True, text=True, timeout=90)  # by another launcher
        said = [line for line in ended.stderr.splitlines() if "minimega: " in line]
        assert ended.returncode == 2 and len(said) == 1 and f"process {rank} on " in said[0]
        job.kill()
        job.wait()
        if alive(rank):  # if it ends in between, this run goes on, but not for long: it makes one step
            more = str(int(run_folder.newest(tmp_path).name[5:]) + 1)
            words = ["train", "--save-dir", str(tmp_path), "--resume", "--dp", "1", "--num-steps", more]
            assert main(words) == 2 or not alive(rank)
    finally:
        job.kill()
        if alive(rank):
            os.kill(rank, signal.SIGKILL)  # and MPI ends the others
        job.wait()
    waited = time.monotonic()
    while alive(rank):
        assert time.monotonic() - waited < 30
        time.sleep(0.05)
    steps = str(int(run_folder.newest(tmp_path).name[5:]) + 1)
    assert main(["train", "--save-dir", str(tmp_path), "--resume", "--dp", "1", "--num-steps", steps]) == 0


def alive(process: int) -> bool:
    """Whether a process runs; a zombie does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout
    return state.strip()[:1] not in ("", "Z")


@pytest.mark.parametrize("why", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told_of_and_used(why, tmp_path, capsys, monkeypatch):
    def none(_):
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(run_lock, "_lock", none)
    assert main([*TRAIN, "--num-steps", "1", "--save-dir", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.count("is on a file system without locks: start no second run in it\n") == 1
    assert said.err == "" and not (tmp_path / run_lock.NAME).exists()


def test_a_lock_on_a_file_that_is_gone_is_no_lock(tmp_path, monkeypatch):
    """Its holder removed it between our open and our lock: another process may hold a new file by now."""
    usual, left = run_lock._lock, [2]

    def late(file):
        if left[0]:
            left[0] -= 1
            (tmp_path / run_lock.NAME).unlink()
        usual(file)

    monkeypatch.setattr(run_lock, "_lock", late)
    with run_lock.writing(tmp_path):
        assert left == [0] and holder(tmp_path) == os.getpid()
        with pytest.raises(run_lock.BadInput, match=f"process {os.getpid()} on"), run_lock.writing(tmp_path):
            raise AssertionError("two hold it")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_another_one_continued_meanwhile_is_not_gone_on_with(tmp_path, capsys, monkeypatch):
    """Ranks take seconds to start; what was read before is checked again under the lock."""
    assert main([*TRAIN, "--num-steps", "2", "--save-every", "1", "--save-dir", str(tmp_path)]) == 0
    usual = run.on_ranks

    def late(o, body):
        (tmp_path / "latest").write_text("step-1")
        return usual(o, body)

    monkeypatch.setattr(run, "on_ranks", late)
    assert "a newer checkpoint now" in refused(["train", "--save-dir", tmp_path, "--resume"], capsys)


def test_a_folder_that_may_not_be_written_into_is_refused(tmp_path, capsys, monkeypatch):
    """Monkeypatched, since the superuser may write everywhere."""

    def denied(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(run_lock.os, "open", denied)
    said = refused([*TRAIN, "--num-steps", "1", "--save-dir", tmp_path], capsys)
    assert f"{tmp_path} cannot be written into: Permission denied" in said


def test_a_run_that_another_one_began_meanwhile_is_left_alone(tmp_path, capsys, monkeypatch):
    usual, words = run.on_ranks, [*TRAIN, "--num-steps", "1", "--save-dir", str(tmp_path)]

    def late(o, body):
        monkeypatch.setattr(run, "on_ranks", usual)
        assert main([*words, "--seed", "1"]) == 0
        return usual(o, body)

    monkeypatch.setattr(run, "on_ranks", late)
    assert "already holds a run" in refused(words, capsys)
    assert "seed = 1\n" in (tmp_path / "config.toml").read_text()
