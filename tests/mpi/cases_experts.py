"""Experts over ranks equal those of one rank: every layout, the messages, and planted mistakes.

N tokens, E experts, k experts a token, D width.
"""

from dataclasses import replace
from itertools import product

import numpy as np

from minimega import experts
from minimega.autograd import Tensor, no_grad, op
from minimega.checkpoint import checkpoint
from minimega.commands.texts import workspace
from minimega.costs import messages
from minimega.errors import BadInput
from minimega.experts import from_experts, route, to_experts, top
from minimega.gradcheck import check_adjoint
from minimega.layer import Place, place
from minimega.model import Model, gpt
from minimega.optim import AdamW
from minimega.parallel import regions
from minimega.parallel import team as teams
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout
from minimega.parallel.pipeline import staged
from minimega.parallel.tensor import SequenceParallel, TensorParallel
from minimega.ranks.group import pieces
from minimega.train import train_step
from tests.mpi import together
from tests.mpi.cases_model import assert_copies_are_equal
from tests.mpi.equal import PAIRS, Case, assert_equal, assert_used_alike, compare, distance, serial
from tests.mpi.ranks import seldom, sizes

LAYOUTS = {  # by the number of ranks: (tp, dp, sequence parallelism, pp, cp, ep)
    1: [(1, 1, False)],
    2: [(2, 1, False), (2, 1, True), (1, 2, False), (1, 2, False, 1, 1, 2)],
    3: [(1, 3, False, 1, 1, 3)],
    4: [(1, 4, False, 1, 1, 2), (1, 4, False, 1, 1, 4), (2, 2, False, 1, 1, 2), (2, 2, True, 1, 1, 2)],
    8: [(2, 2, False, 2, 1, 2), (2, 2, True, 2, 1, 2), (1, 4, False, 2, 1, 2)],
}
SCHEDULES = [("gpipe", 1), ("1f1b", 1), ("zero-bubble", 1), ("interleaved", 2)]


def layouts(group) -> list[Grid]:
    return [grid(group, Layout(*layout)) for layout in LAYOUTS[group.size]]


def on(g: Grid, factors=frozenset(), dtype="float64", schedule="1f1b", v=1) -> Case:
    p = g.pipeline.size
    layers = v * p + 1 if p > 1 else 1
    return Case(factors | {"experts"}, max(4, 2 * g.data.size * p), 8, dtype, layers, schedule, v, p)


@sizes(1, 2, 3, 4)
def case_each_layout(group):
    for g, dtype in product(layouts(group), ("float64", "float32")):
        assert_equal(on(g, dtype=dtype), g)


@sizes(4)
def case_experts_of_replicas_whose_tokens_are_cut(group):
    """Only with both does it matter which ranks hold copies of an expert."""
    g = grid(group, Layout(dp=2, cp=2, ep=2))
    assert_equal(on(g, frozenset({"dropout"})), g)


@sizes(8)
def case_every_schedule(group):
    some, cut, copies = layouts(group)
    for g, (schedule, v) in [*((some, s) for s in SCHEDULES), (cut, SCHEDULES[3]), (copies, SCHEDULES[2])]:
        assert_equal(on(g, frozenset({"accumulate"}) if g is cut else frozenset(), "float64", schedule, v), g)


@sizes(2, 4)
@seldom(4)
def case_pairs_of_factors(group):
    """Accumulation, recomputation, dropout, five experts on two and four ranks...: see FACTORS."""
    for n, g in enumerate(layouts(group)):
        for factors in PAIRS[n % 4 :: 4]:
            assert_equal(on(g, factors), g)


@sizes(2, 4)
def case_copies_are_equal_to_the_bit(group):
    for g in layouts(group):
        assert_copies_are_equal(on(g, frozenset({"uneven", "dropout"}), "float32"), g)


def case_rows_find_their_experts_and_their_way_back(group):
    """Dropless: a row for each choice of each token, whatever the load. Each way is the other's adjoint."""
    rng, (n, k, width, count) = np.random.default_rng(group.rank), (7 - group.rank % 3, 2, 3, group.size + 2)
    own = pieces(count, group.size)[group.rank]
    for chosen in (
        np.argsort(rng.random((n, count)))[:, :k],
        np.tile([count - 1, 0], (n, 1)),  # all to two experts: other ranks get no row
        np.zeros((0, k), int),  # a rank may have no token (here: none has)
    ):
        routes = route(chosen, count, group)
        everyone = group.all_reduce(np.bincount(chosen.ravel(), minlength=count))
        assert routes.counts == everyone[own].tolist()
        ids = np.stack([chosen.ravel(), np.arange(chosen.size) + 1000 * group.rank], axis=1)
        came = routes.there(ids)()
        assert came[:, 0].tolist() == np.arange(count)[own].repeat(routes.counts).tolist()
        assert (routes.back(came)() == ids).all()
        if not len(chosen):
            continue
        for f, shape, out in (
            (lambda x, by=routes: to_experts(x, by, k), (n, width), (len(came), width)),
            (lambda x, by=routes: from_experts(x, by), (len(came), width), (n * k, width)),
        ):

            def back(dy, f=f, shape=shape):
                return f(np.zeros(shape))[1](dy)()

            found = check_adjoint(lambda x, f=f: f(x)[0], back, (shape, out), ("cut", "cut"), group)
            assert found.ok, found


@sizes(2, 3)
def case_sequences_cut_over_a_context(group):
    """Each rank has its tokens of every sequence: the sums of values and gradients equal one rank's."""
    config, rng = Case(frozenset({"experts"})).config, np.random.default_rng(4)
    x, dy = rng.normal(size=(2, 2, 7, config.d_model))
    mine, found = pieces(7, group.size)[group.rank], []
    for shares, own in ((TensorParallel(context=group), mine), (TensorParallel(), slice(0, 7))):
        layer = experts.Experts(config, 0.02).named("experts").cut(shares).draw(1, "float64")
        at, held = place(x[..., 0], training=True), Tensor(x[:, own])
        layer(held, at).backward(dy[:, own])
        found.append((at.extra["experts"], held.grad, *(p.grad for p in layer.parameters().values())))
    (value, dx, *grads), (right, right_dx, *right_grads) = found
    assert abs(group.all_reduce(value) - right) < 1e-14
    assert distance(dx, right_dx[:, mine]) < 1e-12
    for a, b in zip(grads, right_grads, strict=True):
        assert distance(group.all_reduce(a), b) < 1e-12


def chosen_by_layer(case: Case) -> list[np.ndarray]:
    """What the serial model chooses for a step's batch: (B, T, k) for each layer."""
    found = []

    def noted(probs, k):
        found.append(top(probs, k))
        return found[-1]

    with together.replaced(experts, "top", noted), no_grad():
        replace(case, schedule="1f1b", v=1).model().hidden(case.data()[0])
    return [ids.reshape(case.batch, 8, -1) for ids in found]


@sizes(2, 4)
def case_a_step_sends_what_the_formulas_say(group):
    for g, factors in product(layouts(group), ((), ("accumulate", "full", "deep"))):
        case = on(g, frozenset({*factors, "uneven"}))
        ep, job = g.experts.size, case.job(g)
        own, held = g.rows(case.batch), pieces(5, ep)[g.experts.rank]
        parts = np.arange(own.start, own.stop).reshape(2 if factors else 1, -1)
        first = (g.data.rank - g.experts.rank) * (
            own.stop - own.start
        )  # sequence of those that hold the same experts
        routed, stay = [], 0
        for ids in chosen_by_layer(case):
            here = (held.start <= ids) & (ids < held.stop)
            all_parts = [parts - own.start + first + r * (own.stop - own.start) for r in range(ep)]
            came = [sum(int(here[rows[n]].sum()) for rows in all_parts) for n in range(len(parts))]
            routed.append([(ids[rows].size, m) for rows, m in zip(parts, came, strict=True)])
            stay += int(here[parts].sum())
        want = messages.of_layers(job, group.rank) | messages.of_norm(group.size)
        want |= messages.of_gradients(job, group.rank, 700)
        routed = {f"block{n}": each for n, each in enumerate(routed)}
        want |= messages.of_experts(job, routed) if ep > 1 else {}
        model, recipe = case.model(g), case.recipe()
        team = case.team(model, g, 700)
        group.counter.traffic.clear()
        train_step(model, AdamW(), recipe, 1, *case.data(), team=team)
        got = {row: (t.calls, t.bytes) for row, t in group.counter.traffic.items()}
        assert got == want, (ep, g, got.items() ^ want.items())
        if ep > 1:
            row, forward = group.counter.total("experts", "all-to-all"), 1 + bool(factors)
            kept = 2 * stay * (forward + 1) * case.config.d_model * 8
            kept += forward * len(parts) * len(routed) * 8 * (held.stop - held.start)
            assert row.wire == row.bytes - kept, "what stays on its rank is not sent"


@sizes(2, 3, 4)
@seldom(4)
def case_evaluation_and_generation_are_the_serial_ones(group):
    for g in layouts(group):
        case = on(g, frozenset({"uneven", "untied", "dropout"}))
        assert_used_alike(case, g, (3, 50))  # of 50: most replicas have none


@sizes(4)
def case_any_layout_reads_the_checkpoint_of_any_other(group):
    case, grids = Case(frozenset({"experts", "uneven"}), 4), [*layouts(group), Grid()]
    with workspace(None, group) as folder:
        for g in grids:
            model, optimizer = case.model(g), AdamW()
            team = case.team(model, g)
            train_step(model, optimizer, case.recipe(), 1, *case.data(), team=team)
            checkpoint.save(folder, model, optimizer, {"step": 1}, world=group)
            want = None
            for other in grids:
                model, optimizer = (
                    staged(gpt(case.config, other.shares), other.pipeline).draw(9, "float64"),
                    AdamW(),
                )
                checkpoint.resume(folder / "step-1", model, optimizer)
                team = case.team(model, other)
                record = train_step(model, optimizer, case.recipe(), 2, *case.data(), team=team)
                want = want or record
                assert all(abs(record[k] - want[k]) < 1e-10 for k in ("loss", "grad_norm")), other
            group.barrier()


@sizes(3, 4)
def case_a_rank_without_an_expert_is_refused(group):
    config = Case(frozenset({"experts"})).config
    for wanted, said in ((0, "0 experts cannot be"), (2, "2 experts cannot be cut over")):
        try:
            gpt(replace(config, experts=wanted), grid(group, Layout(1, group.size, ep=group.size)).shares)
        except BadInput as told:
            assert said in str(told) and "choose --ep of at most --experts" in str(told)
        else:
            raise AssertionError("not refused")


# Mistakes: the layout and factors, what has to differ, and (where, attribute, what stands there instead).
ENTER, EXTRA, HOLDERS = TensorParallel.enter, Model.extra, Grid.holders
ROUTER, UP = "gradient block0.mlp.branch.router", "gradient block0.mlp.branch.up"
PLANTED = {
    "balance a mean over each part": (
        ("data", "accumulate"),
        "loss",
        lambda: [(teams, "Place", lambda *a, **known: Place(*a, **known | {"sequences": 0}))],
    ),
    "its gradient too": (
        ("data", "accumulate"),
        ROUTER,
        lambda: [(teams, "Place", lambda *a, **known: Place(*a, **known | {"sequences": 0}))],
    ),
    "balance of the own tokens": (
        ("sequence",),
        ROUTER,
        lambda: [(SequenceParallel, "over_tokens", lambda self, x, label: x)],
    ),
    "its value added up over the ranks that all know it": (
        ("sequence",),
        "loss",
        lambda: [(Model, "extra", lambda self, at: EXTRA(self, at) * self.shares.group.size)],
    ),
    "its value counted by every chunk": (
        ("pipeline",),
        "loss",
        lambda: [(Model, "extra", lambda self, at: sum(at.extra.values()))],
    ),
    "its value known to the last stage alone": (
        ("pipeline",),
        "loss",
        lambda: [(Model, "extra", lambda self, at: EXTRA(self, at) * ("head" in self.layers))],
    ),
    "the gates' gradient not summed over tensor ranks": (
        ("tensor",),
        ROUTER,
        lambda: [
            (
                TensorParallel,
                "enter",
                lambda self, x, at, label: x if "router" in label else ENTER(self, x, at, label),
            )
        ],
    ),
    "experts summed over replicas that hold others": (
        ("experts",),
        UP,
        lambda: [(Grid, "holders", lambda self, p: self.copies if p.by_expert else HOLDERS(self, p))],
    ),
    "experts counted in the norm as if all replicas held them": (
        ("experts",),
        "norm",
        lambda: [(Grid, "copies_of", lambda self, p: self.data.size)],
    ),
    "rows in the order of experts taken for that of tokens": (
        ("experts",),
        "loss",
        lambda: [(experts, "_sorted_by", twice(experts._sorted_by))],
    ),
    "no gradient through the sum of the chosen": (
        ("experts",),
        ROUTER,
        lambda: [(experts, "gates", fixed_sum())],
    ),
}


ONE_OF_TWO = {  # in the place of SequenceParallel.over_tokens
    "context": lambda self, x, label: regions.reduce(x, group=self.context, label=label),
    "sequence": lambda self, x, label: regions.reduce(x, group=self.group, label=label),
}


def twice(right):
    return lambda ids: right(ids)[:1] * 2


def fixed_sum():
    @op
    def gates(probs, chosen):
        places = np.arange(len(probs))[:, None], chosen
        total = probs[places].sum(axis=1, keepdims=True)

        def back(dy):
            dprobs = np.zeros(probs.shape)
            dprobs[places] = dy / total
            return dprobs

        return probs[places] / total, back

    return gates


@sizes(2)
def case_planted_mistakes_differ_from_the_serial_model(group):
    where = {
        "data": (1, 2, False, 1, 1, 1),
        "tensor": (2, 1, False),
        "sequence": (2, 1, True),
        "experts": (1, 2, False, 1, 1, 2),
        "pipeline": (1, 1, False, 2),
    }
    for name, ((layout, *factors), differs, plant) in PLANTED.items():
        g = grid(group, Layout(*where[layout]))
        how = ("interleaved", 2) if layout == "pipeline" else ("1f1b", 1)
        case = on(g, frozenset(factors), "float64", *how)
        serial(case)  # before anything is planted
        with together.planted(group, plant):
            wrong = compare(case, g)
        worst = float(group.all_reduce(np.array(wrong.get(differs, 0.0)), "max"))
        assert worst > 1e6, (name, differs, worst, {n for n, x in wrong.items() if x > 1})


@sizes(4)
def case_the_balance_of_a_sequence_cut_twice_is_summed_over_both_groups(group):
    g = grid(group, Layout(2, 1, True, 1, 2))
    case = on(g)
    assert_equal(case, g)
    for summed, over in ONE_OF_TWO.items():
        with together.planted(group, lambda over=over: [(SequenceParallel, "over_tokens", over)]):
            wrong = compare(case, g)
        worst = float(group.all_reduce(np.array(wrong[ROUTER]), "max"))
        assert worst > 1e6, (f"summed over the ranks of the {summed} alone", worst)
