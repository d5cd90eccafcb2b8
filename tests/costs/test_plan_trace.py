"""The planned step as a trace: its time and bubble are the formulas', its order that of the schedule."""

import json
from collections import defaultdict

import pytest

from minimega.costs import Job
from minimega.costs.plan import GPUS, Machine, estimate
from minimega.costs.plan.state import memory
from minimega.costs.plan.trace import step, trace
from minimega.model import Config
from minimega.parallel.layout import Layout

A100 = GPUS["a100-80gb"]
NLG = Config(51200, 2048, 20480, 128, 105)
MINIATURE = Config(512, 128, 128, 4, 8)


def planned(config, cut, batch):
    return estimate(Job(config, cut, batch, "bfloat16"), Machine(A100, cut.ranks))


@pytest.fixture(scope="module")
def published():
    """The 530-billion model as Smith et al. 2022 trained it."""
    return planned(NLG, Layout(tp=8, pp=35, dp=8, micro_batches=240, recompute="full"), 1920)


def test_the_time_and_the_bubble_are_the_formulas(published):
    made = step(published)
    after = published.seconds["data"] + published.seconds["optimizer"]
    assert made.seconds + after == pytest.approx(published.iteration_seconds, rel=1e-9)
    # The last rank waits only while the pipeline fills and drains, and the table is a part of that.
    assert made.waiting(34) == pytest.approx(
        published.seconds["bubble"] + sum(published.stage.first), rel=1e-9
    )


@pytest.mark.parametrize(("p", "m", "v"), [(35, 280, 3), (4, 8, 2), (8, 16, 4), (2, 2, 1), (4, 4, 2)])
def test_with_virtual_stages_they_are_nearly(p, m, v):
    config = NLG if p == 35 else Config(51200, 2048, 8192, 64, 32)
    pipeline = "interleaved" if v > 1 else "1f1b"
    cut = Layout(tp=8, pp=p, micro_batches=m, pipeline=pipeline, virtual_stages=v, recompute="full")
    plan = planned(config, cut, m)
    after = plan.seconds["data"] + plan.seconds["optimizer"]
    assert step(plan).seconds + after == pytest.approx(plan.iteration_seconds, rel=0.01)


def test_all_280_ranks_are_there_with_their_actions_messages_and_memory(published):
    found = trace(published)
    by = defaultdict(list)
    for event in found["traceEvents"]:
        by[event["ph"]].append(event)
    actions = [e for e in by["X"] if e["cat"] in ("forward", "backward")]
    assert len({(e["pid"], e["tid"]) for e in actions}) == 280
    assert len(actions) == 280 * 2 * 240
    sent = [e for e in by["X"] if e["cat"] in ("send", "receive")]
    assert {e["args"]["bytes"] for e in sent} == {2 * 2048 * 20480 // 8}
    assert any(e["cat"] == "wait" for e in by["X"])
    whole = max(e["ts"] + e["dur"] for e in by["X"])
    assert whole == pytest.approx(1e6 * published.iteration_seconds, rel=1e-6)
    for rank in (0, 17, 34):
        peak = max(sum(e["args"].values()) for e in by["C"] if e["pid"] == rank)
        assert 1e9 * peak == pytest.approx(memory(published.job, A100, rank)["total"], rel=1e-3)
    assert json.loads(json.dumps(found)) == found


def test_events_of_a_thread_do_not_overlap():
    found = trace(planned(MINIATURE, Layout(tp=2, pp=4, micro_batches=8), 8))
    clock: dict = {}
    for e in found["traceEvents"]:
        if e["ph"] == "X":
            where = e["pid"], e["tid"]
            assert e["ts"] >= clock.get(where, 0.0) - 2e-3
            clock[where] = e["ts"] + e["dur"]


@pytest.mark.parametrize(("pipeline", "v"), [("1f1b", 1), ("interleaved", 2)])
def test_a_miniature_has_the_list_of_actions_that_ranks_run(pipeline, v):
    # `minimega timeline` stops if what its ranks did departs from this schedule (stopwatch.departure)
    cut = Layout(tp=2, pp=4, micro_batches=8, pipeline=pipeline, virtual_stages=v)
    found = trace(planned(MINIATURE, cut, 8))
    for rank, actions in enumerate(cut.schedule()):
        listed = [(a.kind, a.batch, a.chunk) for a in actions if a.kind in ("forward", "backward")]
        drawn = [
            (e["cat"], e["args"]["micro-batch"], e["args"]["chunk"])
            for e in found["traceEvents"]
            if e["ph"] == "X" and e["pid"] == rank and e["tid"] == 0 and e["cat"] in ("forward", "backward")
        ]
        assert drawn == listed
