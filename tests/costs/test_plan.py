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


def test_experts_are_cut_counted_and_sent():
    config = Config(51200, 2048, 4096, 32, 32, experts=8)
    alone, cut = (
        estimate(Job(config, Layout(dp=8, ep=ep, zero=1), 64, "bfloat16"), Machine(A100, 8)) for ep in (1, 8)
    )
    experts = 32 * 8 * 2 * 4096 * 4 * 4096
    assert alone.memory["weights"] - cut.memory["weights"] == pytest.approx(2 * experts * 7 / 8)
    assert "expert" not in alone.messages
    # rows there and back, forward and backward, 2 of each token
    rows = 2 * 2048 * 4096 * 2 * (64 // 8)
    assert cut.messages["expert"].nbytes == 32 * 4 * rows
    assert cut.seconds["expert"] > 0 and cut.seconds["data"] < alone.seconds["data"]


def test_a_ring_cuts_activations_and_sends_keys_and_values():
    config = Config(51200, 32768, 4096, 32, 32)
    alone, ring = (
        estimate(Job(config, Layout(cp=cp, recompute="selective"), 1, "bfloat16"), Machine(A100, cp))
        for cp in (1, 4)
    )
    assert ring.memory["activations"] == pytest.approx(alone.memory["activations"] / 4, rel=0.05)
    assert ring.messages["context"].calls > 0 and ring.iteration_seconds < 0.5 * alone.iteration_seconds


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_zero_sends_what_rajbhandari_says(zero):
    # section 7: 2 numbers a parameter, and 3 in stage 3 (there forward and backward gather the weights)
    cut = Layout(dp=64, zero=zero, recompute="full")
    plan = estimate(Job(SMALL, cut, 64, "float16"), Machine(A100, 64))
    numbers = plan.messages["data"].nbytes / 2
    assert numbers == pytest.approx((3 if zero == 3 else 2) * parameters(SMALL), rel=1e-9)


def test_more_of_anything_never_takes_less_time():
    job = Job(Config(51200, 2048, 4096, 32, 16), Layout(tp=4, pp=2, micro_batches=8), 8, "bfloat16")
    base = estimate(job, Machine(A100, 8)).iteration_seconds
    for bigger in (
        replace(job, batch=16),
        replace(job, config=replace(job.config, num_layers=20)),
        replace(job, config=replace(job.config, d_model=4608, d_hidden=4 * 4608)),
        replace(job, config=replace(job.config, vocab_size=128000)),
        replace(job, layout=replace(job.layout, recompute="full")),
    ):
        assert estimate(bigger, Machine(A100, 8)).iteration_seconds > base
    slower = replace(A100, inside=replace(A100.inside, bandwidth=A100.inside.bandwidth / 2))
    assert estimate(job, Machine(slower, 8)).iteration_seconds > base
