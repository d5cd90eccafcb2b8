"""The model in stages equals the serial one: every schedule, alone and with the other cuts."""

from itertools import product
from types import SimpleNamespace

import numpy as np

from minimega.commands import run
from minimega.costs import messages
from minimega.errors import RunFailed
from minimega.optim import AdamW
from minimega.parallel import pipeline, zero
from minimega.parallel import team as teams
from minimega.parallel.data import Reducer
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout
from minimega.parallel.pipeline import stages_of
from minimega.parallel.team import Team
from minimega.train import train_step
from tests.mpi import equal
from tests.mpi.adjoint import assert_whole
from tests.mpi.equal import PAIRS, STEPS, Case, assert_equal, assert_used_alike
from tests.mpi.ranks import seldom, sizes
from tests.mpi.together import planted

LAYOUTS = {  # by the number of ranks: (tp, dp, sequence parallelism, pp)
    2: [(1, 1, False, 2)],
    3: [(1, 1, False, 3)],
    4: [(1, 1, False, 4), (2, 1, False, 2), (2, 1, True, 2), (1, 2, False, 2)],
    8: [(2, 2, False, 2), (2, 2, True, 2), (2, 1, True, 4), (1, 2, False, 4), (1, 1, False, 8)],
}
SCHEDULES = [("gpipe", 1), ("1f1b", 1), ("zero-bubble", 1), ("interleaved", 2)]


def layouts(group) -> list[Grid]:
    return [grid(group, Layout(*layout)) for layout in LAYOUTS[group.size]]


def on(g: Grid, schedule: str = "1f1b", v: int = 1, factors=frozenset(), dtype="float64", m: int = 0) -> Case:
    """One layer more than stages, so that stages differ; m is by default the number of stages."""
    p = g.pipeline.size
    m = m or p
    batch = g.data.size * m * (2 if "accumulate" in factors else 1)
    return Case(factors - {"deep"}, max(batch, 2), 8, dtype, v * p + 1, schedule, v, m)


def some(group, every: int = 1, dtypes=("float64",)):
    """Layouts with the rows of pairs of factors, each with one schedule after another."""
    for n, g in enumerate(layouts(group)):
        for i, (factors, dtype) in enumerate(product(PAIRS[n % every :: every], dtypes)):
            schedule, v = SCHEDULES[(i + n) % 4]
            yield g, on(g, schedule, v, factors, dtype)


@sizes(2, 3, 4, 8)
def case_every_schedule(group):
    for g, (schedule, v) in product(layouts(group), SCHEDULES):
        assert_equal(on(g, schedule, v, frozenset({"dropout"})), g)


@sizes(2, 3)
def case_other_numbers_of_micro_batches(group):
    (g,) = layouts(group)
    for m, (schedule, v) in product((1, 2, 5), SCHEDULES[:3]):
        assert_equal(on(g, schedule, v, m=m), g)
    for v, rounds in ((1, 1), (2, 3), (3, 2), (4, 1)):
        assert_equal(on(g, "interleaved", v, m=rounds * group.size), g)


@sizes(2, 3, 8)
def case_pairs_of_factors(group):
    """Untied, recomputation, dropout, uneven widths...: see FACTORS."""
    for g, case in some(group, every={8: 6}.get(group.size, 1)):
        assert_equal(case, g)


@sizes(4)
def case_pairs_of_factors_with_sequence_parallelism_or_replicas(group):
    for g, case in some(group, every=2):
        if g.shares.partial or g.data.size > 1:
            assert_equal(case, g)


@sizes(4)
@seldom(4)
def case_pairs_of_factors_with_tensor_parallelism_or_stages_alone(group):
    for g, case in some(group, every=2):
        if not (g.shares.partial or g.data.size > 1):
            assert_equal(case, g)


@sizes(2, 3, 4)
@seldom(4)
def case_some_factors_in_float32(group):
    for g, case in some(group, every=6, dtypes=("float32",)):
        assert_equal(case, g)


@sizes(2, 4)
@seldom(4)
def case_every_pair_with_zero_bubble(group):
    """The halves of each kind of layer's backward."""
    g = layouts(group)[0]
    for factors in PAIRS:
        assert_equal(on(g, "zero-bubble", 1, factors), g)


@sizes(2, 4, 8)
@seldom(4)
def case_copies_are_equal_to_the_bit(group):
    """The table that the first and the last stage hold too, after some steps of AdamW."""
    for g, case in some(group, every=3, dtypes=("float32",)):
        model, optimizer = case.model(g), AdamW()
        team = case.team(model, g, 700)
        for step in range(1, STEPS + 1):
            record = train_step(model, optimizer, case.recipe(), step, *case.data(), team=team)
        assert_whole(np.array([record["loss"], record["grad_norm"]]), g.world)
        for p in model.parameters().values():
            for x in (p.data, p.grad, *optimizer.state[p.name].values()):
                assert_whole(x, g.ends if p.at_both_ends else g.stage if p.axis is None else g.data)


@sizes(2, 3, 4, 8)
def case_evaluation_and_generation_are_the_serial_ones(group):
    for g, case in some(group, every=4):
        assert_used_alike(case, g)


@sizes(2, 4, 8)
def case_a_step_sends_what_the_formula_says(group):
    for g, (schedule, v) in product(layouts(group), SCHEDULES):
        case, p = on(g, schedule, v, frozenset({"accumulate"})), g.pipeline.size
        model = case.model(g)
        team = case.team(model, g)
        group.counter.traffic.clear()
        train_step(model, AdamW(), case.recipe(), 1, *case.data(), team=team)
        got = {row: (t.calls, t.bytes) for row, t in group.counter.traffic.items() if row[0] == "pipeline"}
        assert got == messages.of_pipeline(case.job(g), group.rank), (schedule, got)
        ends = group.counter.total("ends", "all-reduce")  # the tied table, in one call
        table = stages_of(model).entire.parameters()["embedding.tokens"]
        cut = len(range(table.whole_shape[0])[g.tensor.piece(table.whole_shape[0])])
        at_end = g.pipeline.rank in (0, p - 1)
        assert (ends.calls, ends.bytes) == ((1, cut * table.whole_shape[1] * 8) if at_end else (0, 0))


@sizes(2, 3)
def case_what_is_not_finite_is_named_on_all_ranks(group):
    (g,) = layouts(group)
    case = on(g)

    class TooLarge(Team):
        def gradients(self, model, *batch):
            loss = super().gradients(model, *batch)
            for name, p in model.parameters().items():
                if name == "block1.mlp.branch.up.weight":
                    p.grad[0, 0] = np.inf
            return loss

    model = case.model(g)
    team = TooLarge(model, case.team(model, g).grid)
    try:
        train_step(model, AdamW(), case.recipe(), 1, *case.data(), team=team)
    except RunFailed as why:
        assert "the gradient of block1.mlp.branch.up.weight is not finite" in str(why)
    else:
        raise AssertionError("not noticed")


@sizes(2, 3)
def case_weights_that_are_not_finite_stop_all_ranks(group):
    """Each stage checks its own; a rank that went on to save would wait for the others."""
    (g,) = layouts(group)
    case = on(g)
    model = case.model(g)
    what = SimpleNamespace(model=model, team=case.team(model, g), grid=g)
    run.Run.check_weights(what, 7)
    for name, p in model.parameters().items():
        if name.startswith("block1.mlp"):
            p.data[...] = np.nan
    try:
        run.Run.check_weights(what, 7)
    except RunFailed as why:
        assert "step 7: block1.mlp" in str(why)
    else:
        raise AssertionError("not noticed")


@sizes(2, 4)
def case_planted_mistakes_are_caught(group):
    g = layouts(group)[0]

    class NoTiedSum(Reducer):
        def __init__(self, parameters, grid, bucket):
            super().__init__([p for p in parameters if not p.at_both_ends], grid, bucket)

    class LocalCount(pipeline.Run):
        def __init__(self, model, batches, count, *more):
            super().__init__(model, batches, sum(int((t >= 0).sum()) for _, t, _ in batches[:1]), *more)

    class SwappedOrder(pipeline.Run):
        """The last rank takes the micro-batches in another order than those before it."""

        def __init__(self, model, batches, *more):
            turned = model.pipeline.rank == model.pipeline.size - 1
            super().__init__(model, batches[::-1] if turned else batches, *more)

    class SkippedHalf(pipeline.Run):
        def backward_weight(self, a):
            if a.batch == 1 and self.group.rank == 0:
                return self.halves.pop(a.key).clear()
            return super().backward_weight(a)

    for schedule, where, name, wrong in (
        ("1f1b", zero, "Reducer", NoTiedSum),
        ("gpipe", teams, "Run", LocalCount),
        ("gpipe", teams, "Run", SwappedOrder),
        ("zero-bubble", teams, "Run", SkippedHalf),
    ):
        case = on(g, schedule)
        equal.serial(case)
        with planted(group, lambda plant=(where, name, wrong): [plant]):
            far = [n for n, x in equal.compare(case, g).items() if not x <= 1]
        assert group.all_reduce(np.array(len(far))) > 0, f"not caught: {wrong.__name__}"
