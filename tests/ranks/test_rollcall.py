"""Ranks that wait for long name the rank they wait for; with --check-collectives the job ends."""

import pytest

from tests.job import run

# A training run in which rank 1 is stopped (SIGSTOP) within its second step.
STOPPED = """
import functools, os, signal, sys
from minimega.ranks import launch
from minimega.commands.cli import main
from minimega.model import Block
from minimega.commands import on_ranks
from minimega.ranks import mpi
from minimega.ranks.rollcall import RollCall
on_ranks.watched = functools.partial(on_ranks.watched, seconds=2)
mpi.RollCall = functools.partial(RollCall, seconds=2)
calls, forward = [], Block.forward
def stopped(self, *args):
    calls.append(1)
    if len(calls) == 7 and launch._given()[2] == "1":
        os.kill(os.getpid(), signal.SIGSTOP)
    return forward(self, *args)
Block.forward = stopped
sys.exit(main(sys.argv[1:]))
"""
SMALL = """train --tales 30 --d-model 16 --nhead 2 --num-layers 4 --context 16 --train-batch-size 8
--num-steps 4 --threads 1"""
CUT = {  # the layout, its ranks, and where rank 0 waits for rank 1
    "--dp 2": "all-reduce (sum) of (16112,) float32 in data, data.py",
    "--pp 2": "receive from rank 1 in pipeline, pipeline.py",
    "--cp 2": "in context, context.py",
    "--tp 2": "all-reduce (sum) of (8, 16, 16) float32 in tensor",
    "--dp 2 --zero 3": "in data, zero.py",
    "--dp 2 --experts 4 --ep 2": "in experts, experts.py",
}


OFTEN = "--dp 2", "--pp 2", "--cp 2"  # make test-mpi has the others


@pytest.mark.parametrize(
    "layout", [pytest.param(c, marks=[pytest.mark.ranks] * (c not in OFTEN)) for c in CUT]
)
def test_a_stopped_rank_ends_a_checked_job(tmp_path, layout):
    words = [*SMALL.split(), *layout.split(), "--check-collectives"]
    job = run(tmp_path, 2, STOPPED, *words, limit=60)
    assert job.status == 1
    assert job.err.count("ranks do not meet: rank 1 did not arrive within 2 s, last seen in: all-") == 1
    assert job.err.count("rank 0 waits in ") == 1 and CUT[layout] in job.err, job.err


def test_the_rank_that_is_named_is_the_one_that_all_wait_for(tmp_path):
    """Ranks 2 and 3 wait for 0 and 1 of the pipeline; 0 waits for 1."""
    words = [*SMALL.split(), "--tp", "2", "--pp", "2", "--check-collectives"]
    job = run(tmp_path, 4, STOPPED, *words, limit=60)
    assert job.status == 1 and job.err.count("did not arrive") == 1
    assert "ranks do not meet: rank 1 did not arrive within 2 s" in job.err
    assert "rank 2 waits in receive from rank 0 in pipeline" in job.err, job.err


BEGIN = """
import sys, time
import numpy as np
from minimega.ranks.mpi import world
from minimega.ranks.watch import watched
group = world()
x = np.ones(3)
half = group.split(group.rank // 2, "half")
group.roll.seconds = 0.5
"""
LATE = {
    "a collective": ("group.all_reduce(x)", "all-reduce in world"),
    "a receive": (
        "half.start_receive(x, 1)() if half.rank == 0 else half.start_send(x, 0)()",
        "receive from rank 1 in half",
    ),
}


@pytest.mark.parametrize("what", LATE)
def test_without_the_option_a_long_wait_is_said_in_one_line(tmp_path, what):
    body, where = LATE[what]
    wait = "for _ in range(2):\n    if group.rank == 1:\n        time.sleep(4)\n"
    program = BEGIN + wait + "".join(f"    {line}\n" for line in body.splitlines()) + "group.barrier()\n"
    job = run(tmp_path, 4, program, limit=60)
    assert job.status == 0
    (line,) = job.err.splitlines()
    assert line.startswith("minimega: rank 1 did not arrive within 0.5 s: rank 0")
    assert f"waits in {where}, program.py:" in line


@pytest.mark.parametrize("check", [False, True])
def test_announced_work_is_no_missing_rank(tmp_path, check):
    checked = "group = watched(group, seconds=0.5)\n" * check
    work = "if group.rank == 0:\n    with group.busy('reading the texts'):\n        time.sleep(4)\n"
    job = run(tmp_path, 3, f"{BEGIN}{checked}{work}group.barrier()\ngroup.all_reduce(x)\n", limit=60)
    said = "minimega: rank 0 is reading the texts: others have waited for 0.5 s\n"
    assert (job.status, job.err) == (0, "" if check else said)


SLOW_TEXTS = """
import functools, sys, time
from minimega.data import tokens
from minimega.commands.cli import main
from minimega.commands import on_ranks
on_ranks.watched = functools.partial(on_ranks.watched, seconds=2)
train = tokens.train
tokens.train = lambda *args: (time.sleep(6), train(*args))[1]
sys.exit(main(sys.argv[1:]))
"""


def test_reading_a_long_text_is_no_missing_rank(tmp_path):
    job = run(tmp_path, 2, SLOW_TEXTS, *SMALL.split(), "--dp", "2", "--check-collectives", limit=60)
    assert (job.status, job.err) == (0, "") and "held out: loss" in job.out


def test_ranks_that_wait_for_each_other_are_all_named(tmp_path):
    program = "group = watched(group, seconds=0.5)\ngroup.start_receive(x, 1 - group.rank)()\n"
    job = run(tmp_path, 2, BEGIN + program, limit=60)
    assert job.status == 1 and job.err.count("all have waited for one another for 0.5 s") == 1
    for r in (0, 1):
        assert f"rank {r} waits in receive from rank {1 - r} in world, program.py:11" in job.err
