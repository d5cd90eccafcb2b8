"""Ranks as threads: a step on them, and what happens when they do not meet (the cases: tests/mpi)."""

import os
import subprocess
import sys
import threading
import time
from contextvars import ContextVar

import numpy as np
import pytest

import minimega as mm
from minimega.errors import RunFailed
from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.parallel.team import build
from minimega.ranks.threads import on_ranks
from tests.ranks import stress

SHAPE = {"vocab_size": 24, "context": 8, "d_model": 16, "nhead": 4, "num_layers": 2, "dropout": 0.1}


def step(group, layout: Layout) -> tuple[float, float]:
    """Loss and gradient norm of one training step in float64."""
    ids = np.random.default_rng(0).integers(2, 24, (8, 9))
    model, team = build(mm.Config(**SHAPE), grid(group, layout))
    team.draw(model, 0, "float64")
    with np.errstate(invalid="ignore"):
        record = mm.train_step(model, mm.AdamW(), mm.Recipe(steps=1), 1, ids[:, :-1], ids[:, 1:], team=team)
    return record["loss"], record["grad_norm"]


LAYOUTS = [
    Layout(tp=2),
    Layout(dp=2, zero=2),
    Layout(pp=2, micro_batches=2),
    Layout(cp=2),
    Layout(tp=2, dp=2, sequence=True),
    Layout(pp=2, dp=2, micro_batches=2, pipeline="zero-bubble"),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_step_on_threads_is_the_serial_one(layout):
    serial = step(mm.ranks.group.SELF, Layout())
    with on_ranks(layout.ranks) as run:
        found = run(lambda group: step(group, layout))
    for loss_and_norm in found:
        np.testing.assert_allclose(loss_and_norm, serial, rtol=1e-12)


@pytest.mark.parametrize("layout", stress.LAYOUTS, ids=str)
def test_a_step_has_the_same_bits_each_time_however_late_a_rank_comes(layout):
    """The long form is python -m tests.ranks.stress."""
    assert stress.sets_of_bits(layout, 3, slow=True) == 1


def test_what_each_rank_returns():
    with on_ranks(3) as run:
        assert run(lambda group: (group.rank, group.size)) == [(0, 3), (1, 3), (2, 3)]
        assert run(lambda group: repr(group))[0] == "world: 3 ranks, threads of one process"
    with on_ranks(1) as run:
        assert run(lambda group: group.size) == [1]
    with pytest.raises(ValueError, match="at least 1"), on_ranks(0):
        pass


def test_an_exception_is_raised_once_with_its_rank_and_its_traceback():
    def f(group):
        if group.rank == 2:
            raise ZeroDivisionError("planted")
        group.barrier()

    with on_ranks(4) as run:
        with pytest.raises(ZeroDivisionError, match="planted") as told:
            run(f)
        assert told.value.__notes__ == ["on rank 2 of 4"]
        assert told.traceback[-1].name == "f"
        assert run(lambda group: group.rank) == [0, 1, 2, 3]  # the next run is a new one


def test_ranks_that_enter_different_collectives():
    def f(group):
        if group.rank:
            return group.all_reduce(np.ones(3))
        return group.barrier()

    with on_ranks(2) as run, pytest.raises(RunFailed) as told:
        run(f)
    first, *places = str(told.value).splitlines()
    assert first == "ranks do not meet in one collective:"
    assert places[0].startswith("rank 0 entered barrier in world, test_threads.py:")
    assert places[1].startswith("rank 1 entered all-reduce (sum) of 3 float64 in world, test_threads.py:")


def test_a_rank_that_has_ended():
    def f(group):
        if group.rank != 1:
            group.barrier()

    with on_ranks(3) as run, pytest.raises(RunFailed, match=r"^rank 1 did not come:\n") as told:
        run(f)
    assert "ranks 0, 2 in barrier in world, test_threads.py:" in str(told.value)
    assert "rank 1 ended" in str(told.value)


def test_ranks_that_wait_for_each_other():
    def f(group):
        y = np.empty(2)
        group.start_receive(y, 1 - group.rank)()  # nobody sends

    with on_ranks(2) as run, pytest.raises(RunFailed, match="did not come:\nranks 0, 1 in receive in world"):
        run(f)


def test_a_rank_that_does_not_come_in_time_is_named_with_the_place_where_it_is():
    free = threading.Event()

    def f(group):
        if group.rank == 1:
            free.wait(20)
        group.barrier()

    with on_ranks(2, seconds=0.3) as run, pytest.raises(RunFailed) as told:
        run(lambda group: f(group))
    free.set()
    said = str(told.value)
    assert said.startswith("rank 1 did not come within 0.3 s:\nrank 0 in barrier in world, test_threads.py:")
    assert "rank 1 at " in said


def test_messages_between_two_ranks_arrive_in_order():
    def f(group):
        if group.rank == 0:
            waits = [group.start_send(np.array([float(n)]), 1) for n in range(5)]
            return [float(wait()[0]) for wait in waits]
        return [float(group.start_receive(np.empty(1), 0)()[0]) for _ in range(5)]

    with on_ranks(2) as run:
        assert run(f) == [[0, 1, 2, 3, 4]] * 2


def test_two_groups_at_once_and_one_within_another():
    def inner(group):
        with on_ranks(2) as run:
            return sum(run(lambda g: int(g.all_reduce(np.array(g.rank + 10 * group.rank)))))

    found = {}

    def outer(name):
        with on_ranks(2) as run:
            found[name] = run(inner)

    threads = [threading.Thread(target=outer, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {0: [2, 42], 1: [2, 42]}


def test_a_rank_that_waits_leaves_its_core_to_others():
    def f(group):
        if group.rank:
            time.sleep(0.6)
        begun = time.thread_time()
        group.barrier()
        return time.thread_time() - begun

    with on_ranks(2) as run:
        assert run(f)[0] < 0.06  # seconds of a core, where a wait that polls takes all 0.6


def test_threads_take_turns_sooner_as_long_as_any_ranks_run():
    before, seen = sys.getswitchinterval(), []

    def inner(group):
        seen.append(sys.getswitchinterval())
        group.barrier()

    def outer(group):
        with on_ranks(2) as run:
            run(inner)
        seen.append(sys.getswitchinterval())  # the inner ranks have ended, these have not

    with on_ranks(2) as run:
        run(outer)
    assert len(seen) == 6 and all(abs(each - 5e-4) < 1e-6 for each in seen)
    assert sys.getswitchinterval() == before


def test_what_a_rank_sets_is_its_own():
    def f(group):
        with np.errstate(divide="ignore" if group.rank == 0 else "raise"):
            group.barrier()
            try:
                return bool(np.isinf(np.ones(1) / np.zeros(1))[0])
            except FloatingPointError:
                return "raised"

    with on_ranks(2) as run:
        assert run(f) == [True, "raised"]

    def no_gradient(group):
        x = mm.Tensor(np.ones(2))
        if group.rank:
            return x.exp().maker is None
        with mm.no_grad():
            group.rank  # noqa: B018
            return x.exp().maker is None

    with on_ranks(2) as run:
        assert run(no_gradient) == [True, False]


def test_a_context_variable_is_a_ranks_own():
    told = ContextVar("told", default=0)
    told.set(7)

    def f(group):
        before = told.get()
        told.set(group.rank)
        group.barrier()
        return before, told.get()

    with on_ranks(3) as run:
        assert run(f) == [(7, 0), (7, 1), (7, 2)]
    assert told.get() == 7


def test_a_line_that_was_begun_is_ended_before_others_are_written(capsys):
    def f(group):
        if group.rank == 0:
            print("begun", end="", flush=True)
        group.barrier()
        if group.rank == 1:
            print("of another rank")
        group.barrier()
        if group.rank == 0:
            print(", ended")

    with on_ranks(2) as run:
        run(f)
    assert capsys.readouterr().out == "begun, ended\nof another rank\n"


def test_lines_stay_whole(capsys):
    def f(group):
        for _ in range(200):
            print("rank", group.rank, "says", "a" * 40)
        print("end", end="")

    with on_ranks(4) as run:
        run(f)
    out = capsys.readouterr().out
    assert out.count("end") == 4
    lines = out.replace("end", "").splitlines()
    assert len(lines) == 800 and set(lines) == {f"rank {r} says {'a' * 40}" for r in range(4)}


DEBUGGED = """
import numpy as np
import minimega as mm

def f(group):
    x = np.array(group.rank + 1.0)
    breakpoint()
    y = group.all_reduce(x)
    return float(y)

with mm.on_ranks(2, seconds=0.5) as run:
    print(run(f))
"""


def test_a_debugger_prompts_for_one_rank_at_a_time(tmp_path):
    (tmp_path / "program.py").write_text(DEBUGGED)
    job = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    time.sleep(2)  # at the prompt, longer than the limit of 0.5 s
    said, _ = job.communicate("p x\nc\np x\nc\n", timeout=60)
    assert job.returncode == 0, said
    assert "(rank 0) " in said and "(rank 1) " in said and "[3.0, 3.0]" in said
