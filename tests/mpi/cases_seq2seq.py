"""The encoder-decoder on ranks, beyond the pairs of cases_pairs.py: schedules, all at once, generation."""

import numpy as np

from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.sample import generate
from tests.mpi.equal import Case, assert_equal
from tests.mpi.ranks import sizes

ON = frozenset({"encoder-decoder", "dropout", "uneven"})


@sizes(2)
def case_every_option_is_the_serial_model(group):
    for more in ({"post", "relu"}, {"sinusoidal", "untied"}, {"head_bias", "ignored"}):
        for layout in (Layout(tp=2), Layout(pp=2, micro_batches=2)):
            case = Case(ON | more, layers=3, micro_batches=layout.micro_batches)
            assert_equal(case, grid(group, layout))


@sizes(2)
def case_every_schedule_is_the_serial_model(group):
    for schedule, v in (("gpipe", 1), ("1f1b", 1), ("interleaved", 2), ("zero-bubble", 1)):
        case = Case(ON | {"accumulate"}, batch=8, layers=5, schedule=schedule, v=v, micro_batches=4)
        assert_equal(case, grid(group, Layout(pp=2)))


@sizes(4)
def case_all_at_once_is_the_serial_model(group):
    assert_equal(Case(ON | {"full"}, layers=3, micro_batches=2, zero=1), grid(group, Layout(dp=2, pp=2)))
    assert_equal(Case(ON | {"selective"}, layers=2, zero=3), grid(group, Layout(tp=2, dp=2)))
    assert_equal(Case(ON, layers=3, micro_batches=2), grid(group, Layout(tp=2, pp=2)))


@sizes(2)
def case_generation_is_the_serial_one(group):
    case = Case(frozenset({"encoder-decoder"}), layers=3)
    prompt = case.config.prompt([5, 6])
    want = np.stack(list(generate(case.model(), prompt, 9, range(3), temperature=0.9)))
    for layout in (Layout(tp=2), Layout(pp=2)):
        model = case.model(grid(group, layout))
        got = np.stack(list(generate(model, prompt, 9, range(3), temperature=0.9)))
        assert got.shape == want.shape == (4, 3) and (got == want).all()
