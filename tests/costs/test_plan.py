"""The planner: parameters, memory, messages and time of jobs on machines that are not here."""

from dataclasses import replace

import pytest

from minimega.costs import Job
from minimega.costs.plan import GPUS, Fixed, Machine, estimate, search
from minimega.costs.plan.state import memory, micro_batches_held, parameters
from minimega.model import SHAPES, Config, gpt
from minimega.parallel.bubble import held
from minimega.parallel.layout import Layout

A100 = GPUS["a100-80gb"]
NLG = Config(51200, 2048, 20480, 128, 105)
SMALL = Config(500, 64, 32, 4, 6)


@pytest.mark.parametrize(
    "config",
    [
        *(Config(**{"vocab_size": 100} | shape) for shape in SHAPES.values()),
        replace(SMALL, tied=False, head_bias=True),
        replace(SMALL, d_embedding=8),
        replace(SMALL, experts=4),
        replace(SMALL, attention=False, positions="sinusoidal"),
        replace(SMALL, norm_position="post", d_hidden=100),
    ],
)
def test_parameters_are_those_of_the_model(config):
    assert parameters(config) == gpt(config).count()


@pytest.mark.parametrize(("p", "m", "v"), [(4, 8, 1), (4, 8, 2), (4, 4, 3), (8, 16, 2), (2, 1, 1)])
def test_a_rank_holds_as_many_micro_batches_as_its_schedule_says(p, m, v):
    pipeline = "interleaved" if v > 1 else "1f1b"
    cut = Layout(pp=p, micro_batches=m, virtual_stages=v, pipeline=pipeline)
    for stage, actions in enumerate(cut.schedule()):
        assert micro_batches_held(cut, stage) == held(actions) / v


def test_the_time_of_the_530_billion_model_is_near_what_was_measured():
    cut = Layout(tp=8, pp=35, micro_batches=280, virtual_stages=3, pipeline="interleaved")
    for recompute, sequence, seconds in (("full", False, 49.05), ("selective", True, 37.83)):
        how = replace(cut, recompute=recompute, sequence=sequence)
        plan = estimate(Job(NLG, how, 280, "float16"), Machine(A100, 280))
        assert plan.iteration_seconds == pytest.approx(seconds, rel=0.12)
        assert plan.fits


def test_zero_divides_the_state_among_replicas():
    def state(zero, kind):
        return memory(Job(SMALL, Layout(dp=4, zero=zero), 4, "float16"), A100)[kind]

    for kind, stage in (("optimizer", 1), ("gradients", 2), ("weights", 3)):
        assert state(stage, kind) == state(0, kind) / 4
        assert state(stage - 1, kind) == state(0, kind)


def test_a_search_gives_cuts_that_fit_best_first_and_says_why_others_lose():
    found = search(Config(51200, 2048, 12288, 96, 96), Machine(A100, 64), 64)
    seconds = [plan.iteration_seconds for plan in found.plans]
    assert seconds == sorted(seconds) and all(plan.fits for plan in found.plans)
    assert all(plan.gpus == 64 for plan in found.plans)
    assert all("slower" in reason or "memory" in reason for reason in found.reasons()[1:])
    only = search(Config(51200, 2048, 12288, 96, 96), Machine(A100, 64), 64, fixed=Fixed(tp=8, pp=8))
    assert [str(plan.job.layout)[:14] for plan in only.plans] == ["--tp 8 --dp 1 "]
