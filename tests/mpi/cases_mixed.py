"""16-bit models on many ranks equal the serial one up to rounding, master weights and loss scale included."""

from dataclasses import replace
from itertools import product

import numpy as np

from minimega import train
from minimega.checkpoint import checkpoint
from minimega.commands.one_batch import gathered
from minimega.commands.texts import workspace
from minimega.costs import messages
from minimega.model import gpt
from minimega.optim import AdamW
from minimega.parallel import pipeline
from minimega.parallel import team as teams
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout
from minimega.parallel.pipeline import staged
from minimega.precision import LossScale, loss_scale
from minimega.train import train_step
from tests.mpi import equal
from tests.mpi.adjoint import assert_whole
from tests.mpi.cases_traffic import counted
from tests.mpi.equal import PAIRS, STEPS, Case, assert_equal
from tests.mpi.ranks import seldom, sizes
from tests.mpi.together import planted

SLOTS = "master", "mean", "square"
LAYOUTS = {  # by the number of ranks: (tp, dp, sequence parallelism, pp)
    2: [(2, 1, False, 1), (2, 1, True, 1), (1, 2, False, 1), (1, 1, False, 2)],
    4: [(2, 2, True, 1), (2, 1, True, 2), (1, 2, False, 2)],
}
TYPES = "float16", "bfloat16"


def layouts(group) -> list[Grid]:
    return [grid(group, Layout(*layout)) for layout in LAYOUTS[group.size]]


def on(g: Grid, dtype: str, factors=frozenset()) -> Case:
    """Without ReLU: a rounded sum on the other side of 0 would have another slope."""
    p = g.pipeline.size
    order = "zero-bubble" if p > 1 else "1f1b"
    return Case(factors - {"relu"}, 4 * g.data.size, 8, dtype, max(p, 2), order, 1, p)


@sizes(2, 4)
@seldom(4)
def case_16_bit_training_is_the_serial_one(group):
    for g, dtype, factors in product(layouts(group), TYPES, PAIRS[::4]):
        assert_equal(on(g, dtype, factors), g)


@sizes(2, 4)
@seldom(4)
def case_copies_of_16_bit_models_are_equal_to_the_bit(group):
    """Weights, masters and the scale, which all halve in the same steps: the first ones overflow float16."""
    for g, dtype in product(layouts(group), TYPES):
        case, optimizer, scale = on(g, dtype), AdamW(), loss_scale(dtype)
        if dtype == "float16":
            scale = LossScale(value=2.0**24, every=2)
        model, log = case.model(g), []
        team = case.team(model, g, 700)
        with np.errstate(all="ignore"):
            for step in range(1, 16):
                how = {"team": team, "scale": scale}
                log.append(train_step(model, optimizer, case.recipe(), step, *case.data(), **how))
        if dtype == "float16":
            scales, skipped = [r["loss_scale"] for r in log], [r["skipped"] for r in log]
            assert skipped[0] and not all(skipped[STEPS:]) and len(set(scales)) > 2
            assert optimizer.steps == skipped.count(False)
            assert_whole(np.array([*scales, scale.value, scale.good]), group)
        assert_whole(np.array([r["loss"] for r in log]), group)
        for p in model.parameters().values():
            for x in (p.data, p.grad, *optimizer.state[p.name].values()):
                assert_whole(x, g.ends if p.at_both_ends else g.stage if p.axis is None else g.data)


@sizes(2)
def case_any_layout_reads_a_16_bit_checkpoint_to_the_bit(group):
    def state(model, optimizer) -> list[dict]:
        slots = [{name: kept[slot] for name, kept in optimizer.state.items()} for slot in SLOTS]
        arrays = {name: p.data for name, p in model.parameters().items()}
        return [gathered(model, of) for of in (arrays, *slots)]

    with workspace(None, group) as folder:
        for g, dtype in product(layouts(group), TYPES):
            case, optimizer = on(g, dtype), AdamW()
            model, scale = case.model(g), loss_scale(dtype)
            team = case.team(model, g)
            train_step(model, optimizer, case.recipe(), 1, *case.data(), team=team, scale=scale)
            assert all(set(kept) == set(SLOTS) for kept in optimizer.state.values())
            checkpoint.save(folder, model, optimizer, {"step": 1}, world=group)
            written = state(model, optimizer)
            for other in layouts(group):
                model, optimizer = staged(gpt(case.config, other.shares), other.pipeline), AdamW()
                checkpoint.resume(folder / "step-1", model.draw(9, dtype), optimizer)
                for a, b in zip(written, state(model, optimizer), strict=True):
                    same = (a[n].dtype == b[n].dtype and (a[n] == b[n]).all() for n in a)
                    assert group.rank or (list(a) == list(b) and all(same))
            group.barrier()


@sizes(2, 4)
def case_16_bit_messages_are_those_of_the_formulas(group):
    for (tp, dp, sequence, p), dtype in product(LAYOUTS[group.size], TYPES):
        g = grid(group, Layout(tp, dp, sequence, p))
        case = replace(on(g, dtype, frozenset({"uneven"})), micro_batches=1)
        if p == 1:
            got = counted(group, (tp, dp, sequence), case, recompute="full")
            job = replace(case, factors=case.factors | {"full"}).job(g)
            want = messages.of_layers(job, group.rank) | messages.of_norm(group.size)
            want |= messages.of_gradients(job, group.rank)
            assert got == want, got.items() ^ want.items()
            continue
        model = case.model(g)
        team = case.team(model, g)
        group.counter.traffic.clear()
        train_step(model, AdamW(), case.recipe(), 1, *case.data(), team=team)
        got = {row: (t.calls, t.bytes) for row, t in group.counter.traffic.items() if row[0] == "pipeline"}
        assert got == messages.of_pipeline(case.job(g), group.rank)


@sizes(2)
def case_planted_mistakes_in_the_scale_are_caught(group):
    g = layouts(group)[3]  # a pipeline

    class Forgotten(pipeline.Run):
        def __init__(self, model, batches, count, reducer):
            batches = [(x, y, replace(at, scale=1.0)) for x, y, at in batches]
            super().__init__(model, batches, count, reducer)

    def on_one_stage(parameters, scale):
        right(parameters, scale if g.pipeline.rank else 1.0)

    case, right = on(g, "float16"), train.unscale
    equal.serial(case)
    for module, name, wrong in ((teams, "Run", Forgotten), (train, "unscale", on_one_stage)):
        with planted(group, lambda plant=(module, name, wrong): [plant]):
            far = [n for n, x in equal.compare(case, g).items() if not x <= 1]
        assert group.all_reduce(np.array(len(far))) > 0, f"not caught: {name}"
