"""The model on many ranks equals the serial one: every layout, with every pair of factors."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np

from minimega.data.windows import Windows
from minimega.errors import BadInput
from minimega.model import Config, gpt
from minimega.optim import AdamW
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout
from minimega.ranks.group import Group, pieces
from minimega.sample import generate, next_logits
from minimega.train import Recipe, evaluate, train_step
from tests.mpi.adjoint import assert_whole
from tests.mpi.equal import FACTORS, PAIRS, STEPS, Case, assert_equal, distance
from tests.mpi.ranks import seldom, sizes

LAYOUTS = {  # by the number of ranks: (tp, dp, sequence parallelism)
    1: [(1, 1, False), (1, 1, True)],
    2: [(2, 1, False), (2, 1, True), (1, 2, False), (1, 2, True)],
    3: [(3, 1, False), (3, 1, True), (1, 3, False)],
    4: [(4, 1, False), (4, 1, True), (2, 2, False), (2, 2, True), (1, 4, False)],
    6: [(2, 3, False), (3, 2, True)],
    8: [(8, 1, True), (4, 2, False), (4, 2, True), (2, 4, False), (2, 4, True), (1, 8, False)],
}
MORE = "first half ignored", "deep", "no attention", "selective", "full"  # what is in no row of PAIRS
MIXED = [(2, 2, False), (2, 2, True)]  # two cuts at once


def grids(group) -> list[Grid]:
    return [grid(group, Layout(*layout)) for layout in LAYOUTS[group.size]]


def on(g: Grid, factors=frozenset(), dtype="float64") -> Case:
    """A case that this grid can cut: at least two sequences per replica, heads for all ranks."""
    return Case(factors, max(4, 2 * g.data.size), 6 if g.tensor.size == 3 else 8, dtype)


@sizes(1)
def case_the_factors_cover_all_pairs(group):
    for a, b in combinations(FACTORS, 2):
        seen = {(a in factors, b in factors) for factors in PAIRS}
        assert seen == set(product((False, True), repeat=2)), (a, b)


@sizes(1, 2, 4)
@seldom(4)
def case_each_factor_alone(group):
    for g, factor in product(grids(group), FACTORS):
        assert_equal(on(g, frozenset({factor})), g)


@sizes(1, 2, 4)
def case_each_other_factor_alone(group):
    for g, factor in product(grids(group), MORE):
        more = {"dropout"} if factor in ("selective", "full") else set()
        assert_equal(on(g, frozenset({factor, *more})), g)


@sizes(1, 2, 3, 8)
def case_all_pairs_in_float64(group):
    for g, factors in product(grids(group), PAIRS):
        assert_equal(on(g, factors), g)


@sizes(4)
def case_all_pairs_in_float64_cut_in_two_ways(group):
    for layout, factors in product(MIXED, PAIRS):
        g = grid(group, Layout(*layout))
        assert_equal(on(g, factors), g)


@sizes(4)
@seldom(4)
def case_all_pairs_in_float64_cut_in_one_way(group):
    for layout, factors in product([cut for cut in LAYOUTS[4] if cut not in MIXED], PAIRS):
        g = grid(group, Layout(*layout))
        assert_equal(on(g, factors), g)


@seldom(4)
def case_all_pairs_in_float32(group):
    some = PAIRS[::2] if group.size in (3, 8) else PAIRS
    for g, factors in product(grids(group), some):
        assert_equal(on(g, factors, "float32"), g)


@sizes(8)
def case_six_ranks(group):
    part = group.split(group.rank < 6)
    for g, factors in product(grids(part), PAIRS):
        assert_equal(on(g, factors), g)


class Ring(Group):
    """A group that sums like a ring: each piece of an array starts at another rank.

    MPICH sums small arrays in the same order everywhere, which hides where copies could diverge.
    """

    def __init__(self, group: Group):
        super().__init__(group.name, group.counter, group.ranks)
        self.group, self.rank, self.size = group, group.rank, group.size

    def start_all_reduce(self, x, op="sum", label=""):
        everyone = self.group.all_gather(x.reshape(1, -1), label=label)  # (p, N)
        y = np.zeros_like(everyone[0])
        for first, part in enumerate(pieces(y.size, self.size)):
            for r in range(self.size):
                y[part] += everyone[(first + r) % self.size, part]
        return lambda: y.reshape(x.shape)

    def start_reduce_scatter(self, x, axis=0, label=""):
        return lambda: self.all_reduce(x, label=label)[self.piece(len(x))]

    def start_all_gather(self, x, axis=0, length=None, label=""):
        return self.group.start_all_gather(x, axis, length, label)


def assert_copies_are_equal(case: Case, g: Grid, over=lambda group: group, bucket: int = 700) -> None:
    """After some steps of AdamW: weights, gradients and the optimizer's state, bit for bit."""
    model, optimizer, recipe = case.model(g), AdamW(), Recipe(STEPS, 0.01, clip=0.5)
    parameters = model.parameters().values()
    over_rings = {name: over(getattr(g, name)) for name in ("stage", "copies", "expert_copies")}
    team = case.team(model, replace(g, **over_rings), bucket)
    for step in range(1, STEPS + 1):
        record = train_step(model, optimizer, recipe, step, *case.data(), team=team)
    assert_whole(np.array([record["loss"], record["grad_norm"]]), g.world)
    for p in parameters:
        for x in (p.data, p.grad, *optimizer.state[p.name].values()):
            assert_whole(x, g.stage if p.axis is None else g.holders(p))


def case_copies_are_equal_to_the_bit(group):
    for g, factors in product(grids(group), PAIRS[::3]):
        assert_copies_are_equal(on(g, factors, "float32"), g)


@sizes(8)
def case_copies_are_equal_to_the_bit_whatever_the_order_of_sums(group):
    six = group.split(group.rank < 6)
    for g, bucket in product(grids(group) + grids(six), (700, 1 << 20)):
        assert_copies_are_equal(on(g, frozenset({"uneven", "dropout"}), "float32"), g, Ring, bucket)


def case_evaluation_is_the_serial_one(group):
    text = np.random.default_rng(2).integers(0, 37, 100)
    text[[0, -1, *range(7, 90, 13)]] = 0  # documents of several lengths
    windows = Windows(text, 8)
    for g, factors, batch in product(grids(group), PAIRS[::3], (3, 50)):  # of 50: most replicas have none
        case = on(g, factors)
        got = case.team(model := case.model(g), g).evaluate(model, windows, batch)
        want = evaluate(case.model(), windows, batch)
        assert abs(got - want) < 1e-10 * want, (got, want)
        assert_whole(np.array(got), group)


@seldom(4)
def case_generation_is_the_serial_one(group):
    """From 3 tokens to 23, past the context of 8; with cut sequences most ranks hold no token at a time."""
    how = {"temperature": 0}, {"temperature": 0.8, "top_k": 20}, {"top_p": 0.9}
    for g, factors, choice in product(grids(group)[:2], PAIRS[::3], how):
        case = on(g, factors)
        got, want = (
            np.stack(list(generate(case.model(where), [1, 2, 3], 20, range(2, 5), banned=(0,), **choice)))
            for where in (g, Grid())
        )
        assert (got == want).all() and want.shape == (20, 3), (got, want)
        # with a tied table and random weights the most likely token is the last one, again and again
        assert len(set(want.ravel())) > 3 or ("untied" not in factors and "temperature" in choice), want


def case_logits_with_and_without_the_cache_are_the_serial_ones(group):
    tokens = np.random.default_rng(3).integers(0, 37, (2, 14))
    for g, factors in product(grids(group)[:2], PAIRS[::3]):
        case = on(g, factors)
        for cached in (True, False):
            talks = [next_logits(case.model(where), tokens[:, :3], cached) for where in (g, Grid())]
            for n in range(3, 14):
                got, want = (next(t) if n == 3 else t.send(tokens[:, n - 1]) for t in talks)
                assert distance(got, want) < 1e-10, (n, cached)
                assert_whole(got, group)


@sizes(3, 4, 8)
def case_a_rank_without_a_piece_is_refused(group):
    shares = grid(group, Layout(group.size)).shares
    for short in ("vocab_size", "d_hidden"):
        config = Config(
            **{"vocab_size": 48, "d_model": 24, "nhead": 24, "d_hidden": 48, short: group.size - 1}
        )
        try:
            gpt(config, shares)
        except BadInput as told:
            assert f"over {group.size} ranks" in str(told)
        else:
            raise AssertionError(f"{short} {group.size - 1} on {group.size} ranks")


@sizes(2, 4)
def case_what_a_model_cannot_take_is_an_error_on_every_rank(group):
    """A cut table gives zeros for what others have, and a rank of a context has a part of the window."""
    n = group.size
    cuts = Layout(tp=n), Layout(tp=n, sequence=True), Layout(cp=n)
    for g, positions in product([grid(group, cut) for cut in cuts], ((), ("sinusoidal",))):
        case = on(g, frozenset(positions))
        (inputs, targets), vocabulary = case.data(), case.config.vocab_size
        long, off, counted = np.tile(inputs, 2), inputs.copy(), targets.copy()
        off[1], counted[1] = vocabulary, -2  # of every rank's tokens
        for batch, said in (
            ((off, targets), f"token id {vocabulary} at position"),
            ((inputs, counted), "target -2 at"),
            ((long, long), f"a window of {2 * inputs.shape[1]} tokens is longer than the context"),
        ):
            model = case.model(g)
            try:
                case.team(model, g, 700).gradients(model, *batch)
            except BadInput as told:
                assert said in str(told), told
            else:
                raise AssertionError(f"not refused: {said}")
