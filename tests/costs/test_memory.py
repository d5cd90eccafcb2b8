"""The memory planner against measurements and published sizes."""

import tracemalloc
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from minimega.autograd import saved_bytes
from minimega.commands import cli
from minimega.costs import Job, memory
from minimega.errors import BadInput
from minimega.layer import place
from minimega.model import RECOMPUTE, SHAPES, Config, gpt
from minimega.optim import OPTIMIZERS
from minimega.parallel.layout import Layout
from minimega.parallel.zero import state_bytes

GB = 10**9


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # the released checkpoints of Radford et al. 2019, as the transformers library counts them
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
    ],
)
def test_parameters_equal_the_released_checkpoints(name, published):
    assert gpt(Config(**SHAPES[name])).count() == memory.parameters(Config(**SHAPES[name])) == published


@pytest.mark.parametrize(
    ("name", "published", "rounded"),
    [
        ("gpt3-175b", 174.6e9, 0.05e9),  # Brown et al. 2020, table 2.1 (175.0 there)
        ("megatron-8.3b", 8.3e9, 0.05e9),  # Shoeybi et al. 2019, table 1
        ("megatron-turing-nlg", 529.6e9, 0.05e9),  # Narayanan et al. 2021, table 1
    ],
)
def test_parameters_agree_with_published_ones_to_the_last_digit_given(name, published, rounded):
    assert abs(gpt(Config(**SHAPES[name])).count() - published) <= rounded


def test_a_model_of_absurd_depth_is_refused_at_once():
    with pytest.raises(BadInput, match="1000000000 layers"):
        memory.check_fits(Job(Config(vocab_size=500, num_layers=10**9), batch=16), has=25 * GB)


def one_step(config: Config, batch: int, dtype: str, optimizer: str = "adamw", recompute: str = "none"):
    """What backward holds, by saved_bytes, and the peak of two steps with the model's own arrays."""
    tokens = np.zeros((batch, config.context), int)
    at = place(tokens, training=True)
    tracemalloc.start()
    try:
        model, rule = gpt(config, recompute=recompute).draw(0, dtype), OPTIMIZERS[optimizer]()
        tracemalloc.reset_peak()
        for _ in range(2):
            loss = model.loss(tokens, tokens, at)
            held = sum(saved_bytes(loss).values())
            loss.backward()
            del loss
            rule.step(model.parameters().values(), 1e-3)
            for p in model.parameters().values():
                p.grad = None
        return held, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


SMALL = {"vocab_size": 70, "context": 24, "d_model": 32, "nhead": 4, "num_layers": 2}


@pytest.mark.parametrize(
    ("activation", "norm", "positions", "attention", "dtype"),
    list(
        product(
            ("gelu", "relu", "gelu-erf"),
            ("pre", "post"),
            ("learned", "sinusoidal"),
            (True, False),
            ("float16", "bfloat16", "float32", "float64"),
        )
    ),
)
def test_activations_equal_what_the_engine_holds(activation, norm, positions, attention, dtype):
    options = {
        "activation": activation,
        "norm_position": norm,
        "positions": positions,
        "attention": attention,
    }
    config = Config(**SMALL, **options)
    assert memory.activations(config, 5, dtype) == one_step(config, 5, dtype)[0]


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activations_under_recomputation_equal_what_the_engine_holds(recompute, attention, dtype):
    config = Config(**SMALL | {"attention": attention, "num_layers": 3})
    held = one_step(config, 5, dtype, recompute=recompute)[0]
    assert memory.activations(config, 5, dtype, recompute) == held


@pytest.mark.parametrize(
    "change",
    [
        {"tied": False},
        {"head_bias": True},
        {"d_hidden": 50},
        {"dropout": 0.1},
        {"num_layers": 5},
        {"d_embedding": 24},
        {"d_embedding": 200, "tied": False},
    ],
)
def test_activations_are_right_within_a_hundredth_at_other_options(change):
    config = Config(**SMALL | change)
    assert memory.activations(config, 5) == pytest.approx(one_step(config, 5, "float32")[0], rel=0.01)


@pytest.mark.parametrize(
    ("change", "batch", "optimizer"),
    [
        ({}, 16, "adamw"),
        ({}, 16, "sgd"),
        ({"dropout": 0.1}, 16, "adamw"),
        ({"context": 256, "nhead": 8}, 2, "adamw"),
        ({"context": 256, "nhead": 8, "dropout": 0.1}, 2, "adamw"),
        ({"vocab_size": 4000, "num_layers": 1}, 8, "adamw"),
        ({"d_model": 256}, 2, "adamw"),
        ({"attention": False}, 16, "momentum"),
        ({"norm_position": "post", "activation": "relu"}, 16, "adamw"),
        ({"experts": 4}, 16, "adamw"),
        ({"d_embedding": 300, "vocab_size": 4000, "num_layers": 1}, 4, "adamw"),
        ({"experts": 3, "top_k_experts": 1, "d_model": 128}, 8, "sgd"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_the_need_is_never_below_the_measured_peak_nor_far_above(change, batch, optimizer, dtype):
    config = Config(**{"vocab_size": 500, "context": 64, "d_model": 64, "nhead": 4} | change)
    measured = one_step(config, batch, dtype, optimizer)[1]
    # Gradients are counted as if all activations were held at the same time, as with accumulation.
    needed = memory.needs(Job(config, batch=batch, dtype=dtype, optimizer=optimizer))
    assert measured <= needed <= 1.3 * measured


def test_what_ranks_share_out_a_rank_needs_a_part_of():
    """Rajbhandari et al. 2019, figure 1: 7.5 billion parameters, 64 ranks; of 4 + 4 + 8 bytes."""
    numbers = 7_500_000_000
    for stage, each in enumerate((16, 8 + 8 / 64, 4 + 12 / 64, 16 / 64)):
        assert sum(state_bytes(stage, numbers, 64).values()) == pytest.approx(each * numbers)
    config = Config(**SHAPES["gpt2-xl"])
    needs = [memory.needs(Job(config, Layout(dp=64, zero=stage), batch=64)) for stage in range(4)]
    assert needs == sorted(needs, reverse=True)
    in_flight = 4 * memory.parameters(config)  # at the end all gradients are copied, and their sums come
    assert memory.needs(Job(config)) + in_flight == needs[0]
    with pytest.raises(BadInput):
        memory.check_fits(Job(config), has=25 * GB)
    memory.check_fits(Job(config, Layout(dp=64, zero=2)), has=25 * GB)


def test_ranks_that_share_out_a_sequence_hold_a_part_of_it():
    """A quarter of the tokens each, and no T x T weights; what ranks measure is in mpi/cases_context.py."""
    config = Config(vocab_size=500, context=8192)
    one, four = (memory.activations(config, 1, cp=cp) for cp in (1, 4))
    weights = 2 * 4 * 8192**2 * 4  # of 2 layers with 4 heads
    assert 4 * four == pytest.approx(one - weights, rel=0.1)
    memory.check_fits(Job(config, Layout(cp=4)), has=GB)
    with pytest.raises(BadInput, match=r"needs 3\.5 GB"):
        memory.check_fits(Job(config), has=GB)


def test_each_rank_of_a_layout_is_counted():
    config = Config(vocab_size=500, context=512, d_model=256, nhead=8, num_layers=8)
    whole = memory.needs(Job(config, batch=8))
    for cut in (Layout(tp=4), Layout(pp=4), Layout(tp=2, pp=2), Layout(cp=4), Layout(dp=4, zero=3)):
        every = memory.needs_by_rank(Job(config, cut, batch=8))
        assert len(every) == 4 and memory.needs(Job(config, cut, batch=8)) == max(every)
        assert memory.needs(Job(config, cut, batch=8), here=4) == sum(every)
        assert whole / 8 < max(every) < 0.6 * whole, cut
    # ranks that share a machine's memory: one fits, four do not
    two = Job(config, Layout(dp=4), batch=8)
    memory.check_fits(two, has=2 * memory.needs(two))
    with pytest.raises(BadInput, match=r"on 4 ranks \(--tp 1 --dp 4\)"):
        memory.check_fits(two, has=2 * memory.needs(two), here=4)


def test_the_nearest_that_fits_may_be_another_way():
    """The state does not fit whatever the batch, but its shards do."""
    job = Job(
        Config(vocab_size=500, d_model=1024, nhead=8, num_layers=8), Layout(dp=4, accumulate=2), batch=8
    )
    need = [memory.needs(replace(job, layout=replace(job.layout, zero=z))) for z in range(4)]
    assert memory.needs(replace(job, batch=0)) > need[1] > need[2] > need[3]
    for stage in (1, 2, 3):
        with pytest.raises(BadInput, match=f"It would fit with `zero` {stage}") as error:
            memory.check_fits(job, has=need[stage])
        assert len(str(error.value).splitlines()) == 3
    pipeline = Job(job.config, Layout(pp=2), batch=4)  # which refuses `zero` 2 and 3
    with pytest.raises(BadInput, match="The nearest shape"):
        memory.check_fits(pipeline, has=memory.needs(replace(pipeline, batch=0)) - 1)


def test_a_deep_model_is_a_straight_line():
    deep = Job(Config(vocab_size=70, context=12, d_model=16, nhead=2, num_layers=601), Layout(pp=4), batch=8)
    shallow = replace(deep, config=replace(deep.config, num_layers=memory.DEEP))
    assert memory.needs(deep) / memory.needs(shallow) == pytest.approx(601 / memory.DEEP, rel=0.02)
    exact = [sum(memory.memory(deep, r).values()) for r in range(4)]
    assert memory.needs_by_rank(deep) == pytest.approx(exact, rel=1e-3)


def test_the_ranks_of_a_long_pipeline_are_on_a_straight_line():
    long = Job(Config(vocab_size=70, context=12, d_model=16, nhead=2, num_layers=24), Layout(pp=12), batch=24)
    exact = [sum(memory.memory(long, r).values()) for r in range(12)]
    assert memory.needs_by_rank(long) == pytest.approx(exact, rel=0.03)


def test_what_cannot_fit_is_told_with_the_nearest_shape():
    config = Config(**SHAPES["megatron-turing-nlg"])
    with pytest.raises(BadInput) as error:
        memory.check_fits(Job(config, batch=16), has=25 * GB)
    said = str(error.value)
    assert "megatron-turing-nlg (530 billion parameters) needs 18 TB" in said
    assert "8.5 TB of it" in said and "25 GB" in said  # 16 bytes for each of 529.6e9
    assert "`model_type` gpt2-large, with 1 sequence at a time" in said
    assert len(said.splitlines()) <= 3


def test_where_the_batch_alone_is_too_much_the_largest_that_fits_is_named():
    config = Config(**SHAPES["gpt2"])
    with pytest.raises(BadInput, match="`train_batch_size` 12,") as error:
        memory.check_fits(Job(config, batch=16), has=25 * GB)
    assert "the nearest shape" not in str(error.value)
    memory.check_fits(Job(config, batch=12), has=25 * GB)
    with pytest.raises(BadInput):
        memory.check_fits(Job(config, batch=13), has=25 * GB)


def test_edges():
    config = Config(vocab_size=500)
    need = memory.needs(Job(config, batch=16))
    memory.check_fits(Job(config, batch=16), has=need)
    with pytest.raises(BadInput, match="`train_batch_size` 15"):
        memory.check_fits(Job(config, batch=16), has=need - 1)
    with pytest.raises(BadInput, match="No named shape fits"):
        memory.check_fits(Job(config, batch=16), has=1000)
    with pytest.raises(BadInput, match="a model of 2 layers of width 99999 "):
        memory.check_fits(Job(Config(vocab_size=500, d_model=99999, nhead=1), batch=16), has=25 * GB)


def test_the_command_refuses_what_cannot_fit(capsys):
    assert cli.main(["bench", "--model-type", "megatron-turing-nlg"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("minimega: megatron-turing-nlg") and len(said.splitlines()) <= 3


def test_the_machine_tells_its_memory(tmp_path):
    whole = memory.machine_memory(tmp_path)  # no control group there
    assert whole is None or whole > GB / 4
    group = tmp_path / "sys/fs/cgroup/jobs/mine"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/jobs/mine\n")
    (group / "memory.max").write_text("max\n")
    assert memory.machine_memory(tmp_path) == whole
    (group.parent / "memory.max").write_text("3000\n")  # the limit of the group around ours counts too
    assert memory.machine_memory(tmp_path) == 3000
    (tmp_path / "sys/fs/cgroup/memory").mkdir()
    (tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text("2000\n")  # the first version's file
    assert memory.machine_memory(tmp_path) == 2000


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (24e9, "24 GB"),
        (8.47e12, "8.5 TB"),
        (999_999, "1.0 MB"),
        (999.7e6, "1.0 GB"),
        (10**18, "1000 PB"),
    ],
)
def test_sizes_for_a_person(count, words):
    assert memory.size(count) == words
