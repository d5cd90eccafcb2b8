"""The planner against what was published; a few figures are computed again by hand."""

from dataclasses import replace
from statistics import fmean

import pytest

from minimega.costs import Job
from minimega.costs.plan import GPUS, Machine, estimate
from minimega.costs.plan.estimate import hardware_flops, model_flops
from minimega.costs.plan.explain import explain
from minimega.costs.plan.published import OMNI_PATH, TABLE_1, compared, counts, rows
from minimega.costs.plan.state import activations, memory, parameters
from minimega.costs.plan.work import block, collective, product
from minimega.model import Config
from minimega.parallel.layout import Layout

A100 = GPUS["a100-80gb"]
GPT3, NLG = Config(51200, 2048, 12288, 96, 96), Config(51200, 2048, 20480, 128, 105)


@pytest.fixture(scope="module")
def table():
    return [compared(row, ranked=True) for row in rows()]


@pytest.mark.parametrize("gpu", ["a100-80gb", "v100-32gb", OMNI_PATH])
def test_the_time_is_right_over_all_rows(table, gpu):
    errors = [abs(c.error) for c in table if c.row.gpu == gpu]
    assert fmean(errors) <= 0.08
    assert sum(error <= 0.15 for error in errors) >= 0.9 * len(errors)


@pytest.mark.parametrize("gpu", ["a100-80gb", "v100-32gb", OMNI_PATH])
def test_the_time_is_right_over_the_rows_that_set_no_constant(table, gpu):
    assert fmean(abs(c.error) for c in table if c.row.gpu == gpu and not c.row.fitted) <= 0.08


def test_we_are_nearer_than_calculon(table):
    known = [c for c in table if c.row.calculon]
    theirs = [c.row.value / c.row.calculon - 1 for c in known if c.row.unit == "TFLOP/s"]
    theirs += [c.row.calculon / c.row.value - 1 for c in known if c.row.unit == "s"]
    assert len(known) == 28 and fmean(map(abs, theirs)) > 0.1
    assert fmean(abs(c.error) for c in known) < 0.6 * fmean(map(abs, theirs))


def test_what_ran_fits_and_what_did_not_fit_does_not(table):
    assert all(c.plan.fits for c in table)
    # the star of Narayanan et al. 2021, table 2: 530B did not fit on 560 GPUs with 4 sequences
    full = Layout(dp=560, zero=3, recompute="full")
    assert not estimate(Job(NLG, full, 2240, "bfloat16"), Machine(A100, 560)).fits


def test_most_published_cuts_are_among_our_five_best(table):
    ranks = [c.rank for c in table if c.rank]
    assert len(ranks) == 34 and sum(rank <= 5 for rank in ranks) >= 30 and max(ranks) <= 10


def best_share(errors: dict, left_out: str = "") -> float:
    """The share of the peak for which the mean error over all rows but one is least."""
    shares = {share for share, _ in errors}
    kept = {name for _, name in errors} - {left_out}
    return min(shares, key=lambda share: fmean(abs(errors[share, name]) for name in kept))


def test_no_row_alone_sets_the_share_of_the_peak(table):
    weak = [c for c in table if c.row.source == TABLE_1]
    errors = {
        (share, c.row.name): c.row.value / estimate(c.plan.job, machine).tflops - 1
        for share in (0.7, 0.72, 0.735, 0.75, 0.765, 0.78)
        for c in weak
        for machine in [Machine(replace(A100, products=share), c.row.gpus)]
    }
    assert best_share(errors) == 0.735
    assert {best_share(errors, c.row.name) for c in weak} == {0.735}


def test_parameters_are_those_that_are_printed():
    for count in counts():
        exact = parameters(count.config)
        if count.digits is None:
            assert exact == count.printed
        else:
            # 1.7 and 3.6 of table 1 are rounded up from 1.652 and 3.562
            assert round(exact / 1e9 - 1e-4, count.digits) == count.printed, (count, exact)


def test_every_formula_that_is_shown_gives_the_number_beside_it(table):
    for c in table:
        for shown in explain(c.plan):
            value = eval(shown.numbers.replace(" x ", " * "))
            assert value == pytest.approx(shown.value, rel=1e-4, abs=1e-12), shown


def test_operations_of_a_step_by_hand():
    # Korthikanti et al. 2022, equations 7 and 8, and Narayanan et al. 2021, equation 3
    batch, layers, tokens, width, words = 280, 105, 2048, 20480, 51200
    base = batch * layers * tokens * width**2
    for recompute, by_hand in (
        ("none", 72 * base * (1 + tokens / (6 * width) + words / (12 * width * layers))),
        ("selective", 72 * base * (1 + tokens / (3 * width) + words / (12 * width * layers))),
        ("full", 96 * base * (1 + tokens / (6 * width) + words / (16 * width * layers))),
    ):
        assert hardware_flops(Job(NLG, Layout(recompute=recompute), batch)) == pytest.approx(by_hand)
    # table 5: 37.83 s are 56.0 % of the model's operations and 57.0 % of the hardware's
    job = Job(NLG, Layout(recompute="selective"), batch)
    assert round(100 * model_flops(job) / (37.83 * 280 * 312e12), 1) == 56.0
    assert round(100 * hardware_flops(job) / (37.83 * 280 * 312e12), 1) == 57.0


def test_days_by_hand():
    # Narayanan et al. 2021, section 5.1, with equation 3 instead of 4: 34.7 and 85.0 days
    for config, batch, gpus, rate, tokens, days in (
        (GPT3, 1536, 1024, 140e12, 300e9, 34.7),
        (Config(51200, 2048, 25600, 160, 128), 3072, 3072, 163e12, 450e9, 85.0),
    ):
        job = Job(config, Layout(recompute="full"), batch)
        seconds = hardware_flops(job) / (gpus * rate)
        found = tokens / (batch * 2048) * seconds / 86400
        assert found == pytest.approx(days, abs=0.15)


def test_the_state_of_a_gpu_by_hand():
    # Rajbhandari et al. 2019, figure 1: 7.5 billion parameters on 64 GPUs, in units of 1e9 bytes
    config = Config(1, 1, 4096, 32, 37)
    assert parameters(config) / 1e9 == pytest.approx(7.45, abs=0.01)
    for zero, printed in ((0, 120), (1, 31.4), (2, 16.6), (3, 1.9)):
        state = memory(Job(config, Layout(dp=64, zero=zero), 64, "float16"), A100)
        found = sum(state[kind] for kind in ("weights", "gradients", "optimizer"))
        assert found / 1e9 * 7.5 / (parameters(config) / 1e9) == pytest.approx(printed, abs=0.05)


@pytest.mark.parametrize(
    ("width", "layers", "heads", "pp", "batch", "v", "state", "none", "selective"),
    [  # Korthikanti et al. 2022, figure 1, in GiB, as calculon's validation reads it; 18 bytes per parameter
        (6144, 48, 64, 1, 4, 1, 45.5625, 59.25, 9.5625),
        (12288, 96, 96, 8, 1, 3, 45.5625, 66.84375, 12.3515625),
        (20480, 105, 128, 35, 1, 3, 31.640625, 114.0234375, 23.076171875),
        (25600, 128, 160, 64, 1, 1, 32.958984375, 131.25, 26.5625),
    ],
)
def test_the_memory_of_korthikantis_figure_1(width, layers, heads, pp, batch, v, state, none, selective):
    config = Config(51200, 2048, width, heads, layers)
    for recompute, sequence, printed in (("none", False, none), ("selective", True, selective)):
        pipeline = "interleaved" if v > 1 else "1f1b"
        how = {"recompute": recompute, "sequence": sequence, "pipeline": pipeline, "virtual_stages": v}
        cut = Layout(tp=8, pp=pp, micro_batches=4 * pp if pp > 1 else 1, **how)
        found = memory(Job(config, cut, batch * cut.parts, "bfloat16"), A100)
        assert found["activations"] / 2**30 == pytest.approx(printed, rel=0.03)
        blocks = found if pp == 1 else memory(Job(config, cut, batch * cut.parts, "bfloat16"), A100, 1)
        kept = sum(blocks[kind] for kind in ("weights", "gradients", "optimizer"))
        assert kept / 2**30 == pytest.approx(state, rel=0.02 if pp > 1 else 0.03)


def test_a_product_and_a_message_by_hand():
    # (8192, 6144) by (6144, 3072) on an A100: 64 x 24 tiles of 128 x 128 fill 14.2 of 15 waves of 108
    full = 0.96 * 64 * 24 / (15 * 108)
    by_hand = 2 * 8192 * 3072 * 6144 / (312e12 * 0.75 * full * 6144 / (6144 + 128)) + 4e-6
    assert product(A100, 8192, 3072, 6144) == pytest.approx(by_hand)
    # an all-reduce of 100 MB over 8 GPUs at 225 GB/s: 2 x 7/8 of it over each link, in 14 steps
    by_hand = 2 * 7 / 8 * 100e6 / 225e9 + 14 * 3.4e-6
    assert collective(Machine(A100, 8), "all-reduce", 100e6, 8) == pytest.approx(by_hand)
    # between nodes one GPU of each has a card of its own, at 20 of 25 GB/s
    by_hand = 31 / 32 * 1e9 / 20e9 + 31 * 14e-6
    assert collective(Machine(A100, 256), "all-gather", 1e9, 32, 8) == pytest.approx(by_hand)


def test_the_layer_of_korthikantis_table_4():
    config, machine = Config(51200, 2048, 6144, 64, 48), Machine(A100, 8)
    printed = {("none", False): (7.7, 11.9), ("none", True): (7.2, 11.8)}
    printed |= {("selective", False): (7.7, 13.2), ("selective", True): (7.2, 13.1)}
    for (recompute, sequence), times in printed.items():
        cut = Layout(tp=8, recompute=recompute, sequence=sequence)
        forward, backward, again = block(config, cut, 4, machine, "bfloat16")
        found = [1e3 * sum(w.total for w in works) for works in (forward, (*backward, *again))]
        assert found == pytest.approx(times, rel=0.08), (recompute, sequence)
        assert sum(found) == pytest.approx(sum(times), rel=0.02)


def test_activations_are_the_papers():
    config, tokens, width, t = GPT3, 2048, 12288, 8
    scores = 5 * 96 * tokens / width
    for recompute, sequence, per_token in (
        ("none", False, 10 + 24 / t + scores / t),
        ("none", True, 34 / t + scores / t),
        ("selective", False, 10 + 24 / t),
        ("selective", True, 34 / t),
        ("full", False, 2),
    ):
        cut = Layout(tp=t, sequence=sequence)
        assert activations(config, 1, cut, recompute) == pytest.approx(tokens * width * per_token)
