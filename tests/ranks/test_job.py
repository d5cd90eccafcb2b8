"""Ranks and their launcher: neither outlives the other, and the last message is ours."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.job import begin, run

T = "--tales 60 --d-model 16 --nhead 2 --num-layers 1 --context 32 --train-batch-size 4"
BEGIN = """
import os, signal, sys, time
import numpy as np
from minimega.ranks import lifeline
from minimega.ranks.mpi import world
group = world()
print("pid", os.getpid())
group.barrier()
"""
STUCK = {
    "at work": "while True: pass",
    "in a collective": "if group.rank: time.sleep(99)\ngroup.all_reduce(np.ones(3))",
    "inside MPI": "from mpi4py import MPI\nMPI.COMM_WORLD.Recv(bytearray(1), 1 - group.rank)",
    "one stopped": "if group.rank: os.kill(os.getpid(), signal.SIGSTOP)\ngroup.barrier()",
}


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return not state.strip() or state.startswith("Z")


def all_gone(pids: list[int], limit: float = 15) -> bool:
    end = time.monotonic() + limit
    while not all(map(gone, pids)):
        if time.monotonic() > end:
            for pid in pids:
                if not gone(pid):
                    os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.1)
    return True


def pids(job: subprocess.Popen, ranks: int) -> list[int]:
    """The ranks' process ids, as the ranks print them."""
    return [int(job.stdout.readline().split()[1]) for _ in range(ranks)]


@pytest.mark.parametrize("what", STUCK)
def test_ranks_end_with_a_launcher_that_is_killed(tmp_path, what):
    job = begin(tmp_path, 2, BEGIN + STUCK[what])
    ranks = pids(job, 2)
    time.sleep(0.5)
    job.kill()
    job.communicate(timeout=30)
    assert all_gone(ranks)


def train(folder: Path, *words: str) -> subprocess.Popen:
    """A run of two ranks without an end, once it has a checkpoint."""
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
    how = ["--num-steps", "1000000", "--save-every", "5", "--dp", "2", "--save-dir", str(folder), *words]
    job = subprocess.Popen(
        [sys.executable, "-m", "minimega", "train", *T.split(), *how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not (folder / "latest").exists():
        assert job.poll() is None and time.monotonic() < end, job.communicate()
        time.sleep(0.1)
    return job


def ranks_of(job: subprocess.Popen) -> list[int]:
    """The ranks below a launcher, by number: the processes without children."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    level, leaves = [job.pid], []
    while level:
        below = {p: [child for child, parent in pairs if parent == p] for p in level}
        leaves += [p for p in level if not below[p]]
        level = [child for children in below.values() for child in children]
    return sorted(leaves)


def test_a_run_whose_launcher_is_killed_has_ended(tmp_path):
    job = train(tmp_path / "a run")
    ranks = ranks_of(job)
    job.kill()
    job.communicate(timeout=30)
    assert len(ranks) == 2 and all_gone(ranks)


def test_one_ctrl_c_ends_a_run_in_which_a_rank_is_stopped(tmp_path):
    folder = tmp_path / "a run"
    job = train(folder)
    ranks = ranks_of(job)
    os.kill(ranks[0], signal.SIGSTOP)
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=30)
    first, second = err.splitlines()
    assert first.startswith("minimega: Ctrl-C: rank ") and " did not answer for 4 s; all 2 ranks" in first
    assert second.startswith("The checkpoint of step ") and second.endswith(f"--save-dir '{folder}' --resume")
    assert job.returncode == 130 and all_gone(ranks)


def test_a_killed_rank_is_named_with_what_is_left(tmp_path):
    job = train(tmp_path / "run")
    ranks = ranks_of(job)
    os.kill(ranks[1], signal.SIGKILL)
    out, err = job.communicate(timeout=30)
    first, second = err.splitlines()
    assert first.startswith("minimega: rank 1 of 2 was killed by SIGKILL after step ")
    assert second.startswith("The checkpoint of step ") and second.endswith(f"{tmp_path / 'run'} --resume")
    assert job.returncode == 1 and "TERMINATED" not in out and all_gone(ranks)


def test_one_ctrl_c_ends_ranks_that_wait_for_one_another(tmp_path):
    wait = "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\nif not group.rank:\n    print('ready')\n"
    wait += "group.start_receive(np.ones(1), 1 - group.rank)()"
    job = run(tmp_path, 2, BEGIN + wait, send=(signal.SIGINT,), patience=1)
    assert (
        job.status == 130
        and job.err == "minimega: Ctrl-C: no rank made progress for 1 s; all 2 ranks were killed.\n"
    )


def test_a_step_that_takes_long_is_waited_for(tmp_path):
    slow = """
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
if group.rank == 0:
    print("ready")
while not asked:
    time.sleep(0.01)
end = time.monotonic() + 4 * (group.rank == 0)
while time.monotonic() < end:  # the other rank waits for it
    pass
group.barrier()
print("saved")
sys.exit(128 + signal.SIGUSR1)
"""
    job = run(tmp_path, 2, BEGIN + slow, send=(signal.SIGINT,), patience=1)
    assert job.out.split().count("saved") == 2 and (job.status, job.err) == (130, "")


FATAL = "SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTERM"
ENDS = {
    f"os.kill(os.getpid(), signal.{name})": (
        (1,),
        f"minimega: rank 1 of 3 was killed by {name} after step 7.",
    )
    for name in FATAL
} | {
    "import ctypes; ctypes.string_at(0)": (
        (1,),
        "minimega: rank 1 of 3 was killed by SIGSEGV after step 7.",
    ),
    "os.kill(os.getpid(), signal.SIGKILL)": (
        (1,),
        "minimega: rank 1 of 3 was killed by SIGKILL after step 7: out of memory[?]",
    ),
    "os._exit(3)": ((1,), "minimega: rank 1 of 3 .* after step 7[.:].*"),
    "raise ValueError('odd')": ((1,), "ValueError: odd"),
    "print('Abort(3): Fatal error in MPI_Init: Other MPI error, error stack:', file=sys.stderr)\n"
    "    print('PMPI_Init(7)...: no shared memory', file=sys.stderr); os._exit(3)": (
        (1,),
        "minimega: MPI failed on rank 1 of 3 after step 7. Its error: no shared memory",
    ),
}


# make test-mpi has the signals that are told apart as SIGSEGV and SIGABRT are.
SELDOM = [f"os.kill(os.getpid(), signal.{name})" for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL")]


@pytest.mark.parametrize("how", [pytest.param(h, marks=[pytest.mark.ranks] * (h in SELDOM)) for h in ENDS])
def test_the_last_words_tell_what_is_left(tmp_path, how):
    program = (
        f"lifeline.tell(step=7, left='Step 5 is whole.')\nif group.rank == 1:\n    {how}\ngroup.barrier()"
    )
    status, words = ENDS[how]
    job = run(tmp_path, 3, BEGIN + program)
    said, left = job.err.splitlines()[-2:]
    assert left == "Step 5 is whole." and re.fullmatch(words, said), job.err
    assert job.status in status
    assert "=" not in job.out and "MPI_Abort" not in job.err


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="only Linux tells the order")
def test_the_rank_that_ended_first_is_named_however_late_the_launcher_looks(tmp_path):
    program = """
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
lifeline.tell(step=group.rank)  # unread messages of all ranks
if group.rank == 2:
    time.sleep(0.3)
    os._exit(3)
group.barrier()
"""
    job = begin(tmp_path, 3, BEGIN + program, str(tmp_path / "go"))
    for _ in range(3):
        assert job.stdout.readline().startswith("pid")
    time.sleep(0.5)
    job.send_signal(signal.SIGSTOP)  # the launcher, as on a busy machine
    (tmp_path / "go").touch()
    time.sleep(1)
    job.send_signal(signal.SIGCONT)
    _, err = job.communicate(timeout=30)
    assert err.startswith("minimega: rank 2 of 3 "), err


def test_ranks_whose_output_nobody_reads_may_tidy_up(tmp_path):
    work = """
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
group.barrier()
while not asked:
    print("x")
    time.sleep(0.01)
open(os.path.join(sys.argv[1], f"tidy-{group.rank}"), "w").close()
"""
    job = begin(tmp_path, 2, BEGIN + work, str(tmp_path))
    while job.stdout.readline() != "x\n":
        assert job.poll() is None
    job.stdout.close()
    with job.stderr:
        job.stderr.read()
    assert job.wait(30) != 0 and {path.name for path in tmp_path.glob("tidy-*")} == {"tidy-0", "tidy-1"}
