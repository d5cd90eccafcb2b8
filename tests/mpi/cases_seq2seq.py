"""The encoder-decoder on ranks, beyond the pairs of cases_pairs.py: schedules, all at once, generation."""

import numpy as np

from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.sample import generate
from minimega.seq2seq.beam import beam_search
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


@sizes(2)
def case_beam_search_is_the_serial_one(group):
    for factors in ({"encoder-decoder"}, set(), {"experts"}):
        case = Case(frozenset(factors), layers=3)
        prompts = np.array([case.config.prompt(ids) for ids in ([5, 6], [7, 8])])
        (want, other) = beam_search(case.model(), prompts, 9, beams=3)
        for layout in (Layout(tp=2), Layout(pp=2), Layout(dp=2, ep=2)):
            if layout.ep == 2 and "experts" not in factors:
                continue
            got = beam_search(case.model(grid(group, layout)), prompts, 9, beams=3)
            assert [f.tokens for f in got[0]] == [f.tokens for f in want]
            assert [f.tokens for f in got[1]] == [f.tokens for f in other]
            assert np.allclose([f.score for f in got[0]], [f.score for f in want], atol=1e-10)
