"""A factorised table of token vectors, and frozen rows of it, in every layout (see also cases_pairs.py)."""

from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from tests.mpi.equal import Case, assert_equal, assert_used_alike
from tests.mpi.ranks import seldom, sizes

ON = frozenset({"factorised", "frozen", "dropout", "uneven"})


@sizes(2)
def case_each_layout_is_the_serial_model(group):
    for layout in (Layout(tp=2), Layout(tp=2, sequence=True), Layout(dp=2), Layout(cp=2)):
        assert_equal(Case(ON), grid(group, layout))
    for more in ({"untied"}, {"sinusoidal", "post"}, {"head_bias", "recompute"}):
        assert_equal(Case(ON | more, layers=2, micro_batches=2), grid(group, Layout(pp=2)))
    for stage in (1, 2, 3):
        assert_equal(Case(ON | {"accumulate"}, zero=stage), grid(group, Layout(dp=2)))


@sizes(4)
def case_two_cuts_at_once_are_the_serial_model(group):
    for layout, zero in (Layout(tp=2, pp=2, sequence=True), 0), (Layout(dp=2, pp=2), 1):
        assert_equal(Case(ON, layers=3, micro_batches=2, zero=zero), grid(group, layout))
    for layout, zero in (Layout(tp=2, dp=2, sequence=True), 3), (Layout(cp=2, dp=2), 1):
        assert_equal(Case(ON | {"selective"}, zero=zero), grid(group, layout))


@sizes(4)
@seldom(4)
def case_other_cuts_at_once_are_the_serial_model(group):
    for layout in (Layout(tp=2, pp=2), Layout(dp=2, pp=2), Layout(cp=2, pp=2)):
        assert_equal(Case(ON, layers=3, micro_batches=2), grid(group, layout))
    for layout, zero in (
        *((Layout(tp=2, dp=2), zero) for zero in (1, 3)),
        (Layout(tp=2, dp=2, sequence=True), 1),
        (Layout(cp=2, dp=2), 3),
    ):
        assert_equal(Case(ON | {"selective"}, zero=zero), grid(group, layout))


@sizes(2)
def case_it_is_used_as_the_serial_model_is(group):
    for layout in (Layout(tp=2), Layout(pp=2)):
        assert_used_alike(Case(frozenset({"factorised", "uneven"}), layers=2), grid(group, layout))
