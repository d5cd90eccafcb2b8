"""The capstone on four ranks: what a learner wrote in lessons 16, 17, 19 and 21 joins what came before.

The ranks are threads: two stages of a pipeline, each cut over two tensor ranks. The MLP has ReLU, as in
lesson 16, so the GELU of lesson 09 is not used; the loss of lesson 17 replaces that of 06, which knows no
ranks. Lesson 17 asks for a loss without its gradient: the gradient is the library's.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

import minimega as mm
from minimega.autograd import op
from minimega.head import cross_entropy
from minimega.kernels import chosen
from minimega.layer import Around
from minimega.learn.capstone import BATCH, PARTS, STEPS, Own, Part, Race, own_parts
from minimega.mlp import MLP
from minimega.model import Block, PreNorm, gpt
from minimega.parallel.bubble import held, meet
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout
from minimega.parallel.pipeline import staged
from minimega.parallel.schedules import Schedule, in_order
from minimega.parallel.team import Team
from minimega.ranks.group import SELF, Group
from minimega.ranks.threads import on_ranks
from minimega.train import train_step

LAYOUT = Layout(tp=2, pp=2, micro_batches=4)
SPREAD = 0.1  # least standard deviation of the weights with which functions are compared
PATIENCE = 120.0  # seconds until a rank is missing


def _mlp(mine: Callable) -> Callable:
    def mlp(x, w1, b1, w2, b2, group):
        y, back = mine(x.reshape(-1, x.shape[-1]), w1, b1, w2, b2, group)

        def back_rows(dy):
            dx, dw1, db1, dw2, db2 = map(_array, back(dy.reshape(-1, dy.shape[-1])))
            return dx.reshape(x.shape), dw1, db1, dw2, db2

        return y.reshape(x.shape), back_rows

    return mlp


def _array(g: Any) -> Any:
    return g() if callable(g) else g  # a gradient may come as a function, as the library's do


def _loss(mine: Callable) -> Callable:
    def loss(logits, targets, count, first, group):
        counted = targets >= 0
        value = mine(logits[counted], targets[counted], first, group)  # (N, V/p), (N,)
        return value * (int(counted.sum()) / count)  # of the batch, of which this is a part

    return loss


def _order(mine: Callable) -> Callable:
    def order(cut: Layout) -> Schedule:
        schedule = in_order([mine(r, cut.pp, cut.micro_batches) for r in range(cut.pp)])
        meet(schedule)  # raises if the ranks would wait for ever, or an action comes too early
        return schedule

    return order


def _norm(mine: Callable) -> Callable:
    def norm(owned, cut: Grid) -> float:
        held_by = [(p.grad.astype("float64"), cut.copies_of(p)) for p in owned if p.grad is not None]
        return float(mine(held_by, cut.world))

    return norm


RANKS_PARTS = [
    Part("16", "MLP on ranks", "minimega.mlp.MLP.forward", _mlp),
    Part("17", "loss over a cut vocabulary", "minimega.head.cross_entropy", _loss),
    Part("19", "order of a pipeline", "minimega.parallel.schedules.one_f_one_b", _order),
    Part("21", "norm over ranks", "minimega.parallel.team.Team.norm", _norm),
]
UNUSED = "06", "09"  # see above
EVERY = [part for part in PARTS if part.number not in UNUSED] + RANKS_PARTS


class OwnMLP(Around):
    """An MLP that calls the learner's function with its own weights."""

    def __init__(self, layer: MLP, mine: Callable):
        super().__init__(layer)
        self.shares, self.plain = layer.shares, layer.plain  # it is cut already

        def mlp(x, w1, b1, w2, b2, *, group):
            return mine(x, w1, b1, w2, b2, group)

        mlp.__name__ = "your MLP of lesson 16"  # in what the engine says of it
        self.mlp = op(mlp)

    def forward(self, x, place=None):
        """(B, T, D) -> (B, T, D)."""
        up, down = cast(MLP, self.layer).up, cast(MLP, self.layer).down
        return self.mlp(x, up.weight, up.bias, down.weight, down.bias, group=self.shares.group)


def _with_gradient(mine: Callable) -> Callable:
    """The learner's loss, with the library's gradient."""

    def loss(logits, targets, count=None, first=0, group=SELF, vocabulary=None):
        if group.size == 1 or not (counted := int((targets >= 0).sum())):
            return NotImplemented
        with _instead({}):
            value, back = cross_entropy(logits, targets, count, first, group, vocabulary)
        own = mine(logits, targets, counted if count is None else count, first, group)
        return np.asarray(own, value.dtype), back

    return loss


@contextmanager
def _instead(functions: dict[str, Callable]) -> Iterator[None]:
    token = chosen.set(functions)
    try:
        yield
    finally:
        chosen.reset(token)


class OwnTeam(Team):
    """A team with the learner's order and norm, where there are any."""

    def __init__(self, model: mm.Model, cut: Grid, own: dict[str, Callable]):
        super().__init__(model, cut)
        self.own_norm = own.get("21")
        if "19" in own:
            self.actions = tuple(own["19"](cut.layout)[cut.pipeline.rank])

    def norm(self, owned):
        """As the library's: the norm over all ranks."""
        return self.own_norm(owned, self.grid) if self.own_norm else super().norm(owned)


class Rank:
    """One rank: its part of the model, and the learner's functions, defined anew on each as in a process."""

    def __init__(self, race: "RanksRace", world: Group, own: list[Own], spread: float):
        self.race, self.grid, self.own = race, grid(world, race.layout), own
        mine = {one.part.number: one.function for one in own}
        self.model = staged(gpt(race.config, self.grid.shares), self.grid.pipeline)
        if "16" in mine:
            for layer in self.model.layers.values():
                if isinstance(layer, Block):
                    residual = cast(PreNorm, layer.mlp)
                    residual.branch = OwnMLP(cast(MLP, residual.branch), mine["16"])
        self.team = OwnTeam(self.model, self.grid, mine)
        for p in self.model.parameters().values():
            p.std = max(p.std, spread)
        self.team.draw(self.model, seed=0)
        self.optimizer = mm.AdamW(beta2=0.99)
        self.instead = {one.part.instead_of: one.function for one in own}
        if "17" in mine:
            self.instead[RANKS_PARTS[1].instead_of] = _with_gradient(mine["17"])

    def step(self, step: int) -> dict:
        """Train one step; returns its record."""
        batch = self.race.batches(step)[:2]
        with _instead(self.instead):
            return train_step(self.model, self.optimizer, self.race.recipe, step, *batch, team=self.team)


class Step(NamedTuple):
    """What one step gave: loss, norm, the whole gradients (clipped) and weights, and what each rank holds."""

    loss: float
    norm: float
    gradients: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    held: list[int]


class Ran(NamedTuple):
    """The loss of each step, the held-out loss, and each lesson's seconds of processor time on all ranks."""

    losses: list[float]
    held_out: float
    seconds: dict[str, float]


class RanksRace(Race):
    """A GPT of two blocks on the tales, on the ranks of a layout: with the given parts, or the library's."""

    def __init__(self, mine: Path, steps: int = STEPS, tales: int | None = None, layout: Layout = LAYOUT):
        super().__init__(steps, tales)
        self.mine, self.layout = mine, layout
        self.config = replace(self.config, num_layers=2, activation="relu")

    def on_each(self, body: Callable[[Rank], object], parts: Iterable[Part], spread: float = 0.0) -> list:
        """Call `body` on every rank, with these parts of the learner's; what each returned."""
        own = [own_parts(self.mine, parts) for _ in range(self.layout.ranks)]
        with on_ranks(self.layout.ranks, PATIENCE) as run:
            return run(lambda world: body(Rank(self, world, own[world.rank], spread)))

    def train(self, parts: Iterable[Part], watched: Callable = lambda steps, speaks: steps) -> Ran:
        """Train with these parts; `watched(steps, speaks)` may show the steps as they are taken."""

        def body(rank: Rank) -> Ran:
            steps = watched(range(1, self.steps + 1), rank.grid.first)
            losses = [rank.step(step)["loss"] for step in steps]
            held_out = rank.team.evaluate(rank.model, self.held_out, BATCH)
            return Ran(losses, held_out, {one.part.number: one.seconds[0] for one in rank.own})

        ran = self.on_each(body, parts)
        seconds = {number: sum(one.seconds[number] for one in ran) for number in ran[0].seconds}
        return ran[0]._replace(seconds=seconds)

    def first_step(self, parts: Iterable[Part]) -> Step:
        """The first step with these parts, joined over the ranks.

        No bias begins at 0, as it does in training: that would hide mistakes.
        """

        def body(rank: Rank) -> tuple:
            record, own = rank.step(1), rank.model.parameters()
            return record, own, held([a for a in rank.team.actions if not a.what])

        gradients: dict[str, np.ndarray] = {}
        weights: dict[str, np.ndarray] = {}
        ran = self.on_each(body, parts, SPREAD)
        for _, own, _ in ran:
            for name, p in own.items():
                for whole, piece in ((gradients, p.grad), (weights, p.data)):
                    whole.setdefault(name, np.zeros(p.whole_shape, p.dtype))[p.piece] = piece
        record = ran[0][0]
        return Step(record["loss"], record["grad_norm"], gradients, weights, [n for *_, n in ran])

    def differences(self, parts: Iterable[Part]) -> Iterator[str]:
        """A sentence about each part with which alone the first step is not the library's."""
        theirs = self.first_step([])
        for part in parts:
            if says := _unlike(self.first_step([part]), theirs):
                yield f"your {part.called} of lesson {part.number}: {says}"


def _unlike(mine: Step, theirs: Step) -> str:
    """What is not the library's, the plainest first; "" if all is, up to rounding."""
    if not math.isclose(mine.loss, theirs.loss, rel_tol=1e-4):
        return f"the loss is {mine.loss:.5g}, and the library's is {theirs.loss:.5g}"
    for r, (n, most) in enumerate(zip(mine.held, theirs.held, strict=True)):
        if n != most:
            return f"rank {r} holds {n} micro-batches at once, and in the library's order {most}"
    if not math.isclose(mine.norm, theirs.norm, rel_tol=1e-4):
        return f"the norm of the gradient is {mine.norm:.5g}, and the library's is {theirs.norm:.5g}"
    for what in ("gradients", "weights"):
        a, b = getattr(mine, what), getattr(theirs, what)
        off = {name: float(np.abs(a[name] - b[name]).max() / (np.abs(b[name]).max() + 1e-12)) for name in b}
        name = max(off, key=lambda name: off[name])
        if not off[name] < 1e-3:
            of = "the gradient of" if what == "gradients" else "after a step"
            return f"{of} {name} is off by {100 * off[name]:.2g} % of its largest entry"
        if max(off.values()) > 0:  # Adam turns rounding of a tiny gradient into a whole step
            return ""
    return ""
