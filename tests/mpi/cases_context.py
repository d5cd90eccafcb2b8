"""Cut sequences equal the serial model: ring attention on ranks, and every layout with --cp."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np

from minimega.attention import attention
from minimega.autograd import saved_bytes
from minimega.costs import memory, messages
from minimega.gradcheck import check_adjoint
from minimega.layer import place
from minimega.model import gpt
from minimega.optim import AdamW
from minimega.parallel import context
from minimega.parallel import team as teams
from minimega.parallel.context import halves, ring_attention, share
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout
from minimega.ranks.watch import watched
from minimega.train import train_step
from tests.mpi.cases_model import Ring, assert_copies_are_equal
from tests.mpi.cases_pipeline import SCHEDULES
from tests.mpi.equal import PAIRS, Case, assert_equal, assert_used_alike, compare, serial
from tests.mpi.ranks import processes, sizes
from tests.mpi.together import planted

PLAIN = 1, 1, False, 1
LAYOUTS = {  # by the number of ranks: (tp, dp, sequence parallelism, pp, cp)
    2: [(*PLAIN, 2)],
    3: [(*PLAIN, 3)],
    4: [(*PLAIN, 4), (2, 1, False, 1, 2), (2, 1, True, 1, 2), (1, 2, False, 1, 2), (1, 1, False, 2, 2)],
    8: [(*PLAIN, 8), (2, 1, False, 2, 2), (2, 1, True, 2, 2), (2, 2, True, 1, 2), (1, 2, False, 1, 4)],
}


def layouts(group) -> list[Grid]:
    return [grid(group, Layout(*layout)) for layout in LAYOUTS[group.size]]


def on(g: Grid, schedule: int = 1, factors=frozenset(), dtype="float64", tokens: int = 8) -> Case:
    """One layer more than stages, and a micro-batch for each; `schedule` is a number of SCHEDULES."""
    p = g.pipeline.size
    name, v = SCHEDULES[schedule % 4] if p > 1 else ("1f1b", 1)
    batch, layers = g.data.size * p * (2 if "accumulate" in factors else 1), v * p + (p > 1)
    return Case(factors - {"deep"}, max(batch, 2), 8, dtype, layers, name, v, p, context=tokens)


def some(group, every: int = 1, dtype: str = "float64"):
    """Layouts with the rows of pairs of factors; if not all are taken, each layout gets different ones."""
    for n, g in enumerate(layouts(group)):
        for i, factors in enumerate(PAIRS[n % every :: every]):
            yield g, on(g, i + n, factors, dtype)


def tokens(group, length: int) -> np.ndarray:
    return np.concatenate([np.arange(length)[half] for half in halves(length, group.size)[group.rank]])


def drawn(length: int, dtype="float64"):
    """q, k, v, dy and the kept weights of a whole window."""
    rng = np.random.default_rng(length)
    return *rng.standard_normal((4, 2, 3, length, 5)).astype(dtype), rng.random((2, 3, length, length)) < 0.7


def ring(group, q, k, v, mask=None, causal: bool = True):
    """What this rank computes from its tokens of whole arrays."""
    keep = None if mask is None else lambda queries, keys: mask[:, :, queries, keys]
    mine, window = tokens(group, q.shape[2]), np.arange(q.shape[2])
    return ring_attention(*(x[:, :, mine] for x in (q, k, v)), causal, keep, 0.3, group=group, window=window)


def case_ring_attention_is_attention(group):
    for length, dtype, causal, dropped in product(
        (1, 5, 16, 23), ("float64", "float32"), (True, False), (True, False)
    ):
        *qkv, dy, mask = drawn(length, dtype)
        mask, mine = mask if dropped else None, tokens(group, length)
        y, back = ring(group, *qkv, mask, causal)
        right, right_back = attention(
            *(x.astype("float64") for x in qkv), causal, (lambda mask=mask: mask) if dropped else None, 0.3
        )
        for got, want in zip((y, *back(dy[:, :, mine])), (right, *right_back(dy)), strict=True):
            assert got.dtype == dtype
            off = float(np.abs(got - want[:, :, mine]).max(initial=0) / max(1, np.abs(want).max()))
            assert off < (1e-12 if dtype == "float64" else 2e-6), (length, dtype, causal, dropped, off)


def case_adjoint_identity_in_the_values(group):
    """y is linear in v: each rank has its tokens of both, and of their gradients."""
    for length in (1, 8, 13):
        q, k, v, _, mask = drawn(length)
        mine = tokens(group, length)

        def of(values, q=q, k=k, mask=mask, length=length, mine=mine):
            whole = np.zeros((2, 3, length, 5))
            whole[:, :, mine] = values
            return ring(group, q, k, whole, mask)

        shape = v[:, :, mine].shape
        found = check_adjoint(
            lambda v: of(v)[0], lambda dy: of(0)[1](dy)[2], (shape, shape), (("cut", "cut"),) * 2, group
        )
        assert found.ok, found


@sizes(2, 3, 4, 8)
def case_every_layout(group):
    """Windows whose halves have one token or none, and several."""
    for (n, g), length in product(enumerate(layouts(group)), (8, 23)):
        assert_equal(on(g, n, frozenset({"dropout"}), tokens=length), g)


@sizes(4)
def case_every_schedule(group):
    for schedule in range(4):
        assert_equal(on(layouts(group)[-1], schedule, frozenset({"dropout"})), layouts(group)[-1])


@sizes(2, 3, 4, 8)
def case_pairs_of_factors(group):
    for g, case in some(group, every={4: 6, 8: 12}.get(group.size, 1)):
        assert_equal(case, g)


@sizes(2, 3, 4, 8)
def case_some_factors_in_float32(group):
    for g, case in some(group, every=6 if group.size < 4 else 12, dtype="float32"):
        assert_equal(case, g)


@sizes(2, 4)
def case_recomputation(group):
    parts = ("selective", "full") if group.size == 2 else ("full",)
    for (n, g), part in product(enumerate(layouts(group)), parts):
        assert_equal(on(g, n, frozenset({part, "dropout", "accumulate"})), g)


@sizes(2, 4, 8)
def case_copies_are_equal_to_the_bit(group):
    for g in layouts(group):
        if g.pipeline.size == 1:
            for over in (lambda group: group, Ring):
                assert_copies_are_equal(on(g, 0, frozenset({"uneven", "dropout"}), "float32"), g, over)


@sizes(2, 3, 4, 8)
def case_evaluation_and_generation_are_the_serial_ones(group):
    for g, case in some(group, every=12):
        assert_used_alike(case, g)


@sizes(2, 3, 4, 8)
def case_a_step_sends_what_the_formulas_say(group):
    how = zip((8, 11, 11), ("none", "selective", "full"), strict=True)
    for layout, (length, recompute) in product(LAYOUTS[group.size], how):
        g = grid(group, Layout(*layout))
        case = on(g, 1, frozenset({"accumulate", recompute}), "float32", length)
        model = case.model(g)
        team = case.team(model, g)
        group.counter.traffic.clear()
        train_step(model, AdamW(), case.recipe(), 1, *case.data(), team=team)
        got = {row: (t.calls, t.bytes) for row, t in group.counter.traffic.items()}
        want = messages.of_step(case.job(g), group.rank)
        assert got == want, (layout, length, recompute, got.items() ^ want.items())


@sizes(2, 4)
def case_what_a_rank_holds_is_what_the_planner_says(group):
    g = grid(group, Layout(cp=group.size))
    for recompute, dropout in product(("none", "selective", "full"), (0.0, 0.1)):
        config = replace(Case(nhead=4).config, context=128, num_layers=2, dropout=dropout)
        inputs = np.zeros((3, 128), int)
        batch = share(inputs, inputs, place(inputs, training=True), g.context)
        loss = gpt(config, g.shares, recompute).draw(0).loss(*batch, inputs.size)
        held, planned = (
            sum(saved_bytes(loss).values()),
            memory.activations(config, 3, "float32", recompute, group.size),
        )
        assert abs(planned / held - 1) < 0.05, (recompute, dropout, held, planned)
        loss.backward()


@sizes(2, 3)
@processes
def case_checked_collectives_change_nothing(group):
    g = grid(watched(group), Layout(cp=group.size))
    assert_equal(on(g, factors=frozenset({"dropout"})), g)


# Planted mistakes: what is replaced where, and what must differ


def mask_by_local_positions():
    right = context.blocks
    yield context, "blocks", lambda length, size, r, j, causal: right(length, size, r, r, causal)


def dropout_at_local_coordinates():
    def wrong(q, k, v, causal, keep, p, **where):
        def local(queries, keys):
            return keep(queries - queries.min(), keys - keys.min())

        return ring_attention(q, k, v, causal, local, p, **where)

    yield context, "ring_attention", wrong


def merging_without_scaling_down():
    def exp(x, out=None):
        return np.ones_like(x) if out is None else np.exp(x, out=out)

    yield context, "library", lambda *_: SimpleNamespace(**vars(np) | {"exp": exp})


def gradients_one_rank_short_of_home():
    right = context.pass_on

    def wrong(x, j, length, group, label):
        at_last = label == "dkv" and j == (group.rank + 1) % group.size
        return (lambda: x) if at_last else right(x, j, length, group, label)

    yield context, "pass_on", wrong


def gradients_of_what_one_rank_saw():
    right = context.pass_on

    def wrong(x, j, length, group, label):
        wait = right(x, j, length, group, label)
        return (lambda: 0 * wait()) if label == "dkv" and j == group.rank else wait

    yield context, "pass_on", wrong


def positions_of_the_wrong_halves():
    def wrong(inputs, targets, at, group):
        *both, at = share(inputs, targets, at, group)
        return *both, replace(at, positions=at.positions[::-1])

    yield teams, "share", wrong


def one_half_after_another_instead_of_from_both_ends():
    """The tokens are cut as neighbours, but the ring assumes halves."""

    def wrong(inputs, targets, at, group):
        mine = group.piece(inputs.shape[1])
        *_, cut = share(inputs, targets, at, group)
        return inputs[:, mine], targets[:, mine], replace(cut, positions=at.positions[mine])

    yield teams, "share", wrong


PLANTED = {
    mask_by_local_positions: "loss",
    dropout_at_local_coordinates: "loss",
    merging_without_scaling_down: "loss",
    gradients_one_rank_short_of_home: "gradient block0.attention.branch.qkv.weight",
    gradients_of_what_one_rank_saw: "gradient block0.attention.branch.qkv.weight",
    positions_of_the_wrong_halves: "loss",
    one_half_after_another_instead_of_from_both_ends: "loss",
}


@sizes(2, 4)
def case_planted_mistakes_differ_from_the_serial_model(group):
    g = grid(group, Layout(cp=group.size))
    case = on(g, factors=frozenset({"dropout"}))
    serial(case)
    for plant, differs in PLANTED.items():
        with planted(group, plant):
            found = compare(case, g)
        worst = group.all_reduce(np.array(found[differs]), "max")
        assert worst > 1e6, (plant.__name__, differs, worst)
