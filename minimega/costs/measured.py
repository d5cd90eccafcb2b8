"""What activations and a model's state take on one rank, measured on real passes."""

from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from minimega.autograd import Tensor, reachable, saved_arrays, saved_bytes
from minimega.backend import base_of
from minimega.costs import Job
from minimega.layer import Place
from minimega.model import Config, Model, gpt
from minimega.optim import OPTIMIZERS, AdamW, Optimizer
from minimega.parallel.data import BUCKET, Reducer
from minimega.parallel.grid import Grid, grid
from minimega.parallel.pipeline import Run, actions, staged
from minimega.parallel.team import Team, build
from minimega.precision import wide
from minimega.ranks.group import Group
from minimega.ranks.paper import Paper
from minimega.ranks.uncut import Uncut
from minimega.train import Recipe, train_step


def measured_block(
    config: Config, batch: int, recompute: str, shares: Uncut, dtype: str = "float32", xp=np
) -> int:
    """The bytes that one block holds for its backward pass on this rank, by `saved_bytes`.

    >>> from minimega.parallel.tensor import TensorParallel
    >>> c = Config(vocab_size=8, context=8, d_model=16, nhead=4)
    >>> measured_block(c, 2, "full", TensorParallel(Paper(4)))        # its input alone: 4 B T D
    1024
    """
    block = gpt(replace(config, num_layers=1), shares, recompute).layers["block0"].draw(0, dtype, xp)
    at = Place(
        xp.arange(batch), xp.arange(config.context), training=True, local=shares.tokens(config.context)
    )
    x = Tensor(xp.zeros((batch, len(at.local_positions), config.d_model), dtype))
    return sum(saved_bytes(block(x, at)).values())


class Weighed(Run):
    """A Run that records the most bytes a pipeline rank holds at once, over all micro-batches under way."""

    most = 0

    def forward(self, a):
        """`Run.forward`, then measure."""
        super().forward(a)
        self.most = max(self.most, sum(sum(saved_bytes(y).values()) for _, y in self.kept.values()))


def measured_stage(job: Job, xp=np) -> int:
    """The most bytes that the first stage of a pipeline holds at once in one part of a step."""
    cut = job.layout
    model = staged(gpt(job.config), Paper(cut.pp), cut.virtual_stages).draw(0, job.dtype, xp)
    batch, context = job.micro_batch, job.config.context
    tokens, at = xp.zeros((batch, context), int), xp.arange(context)
    batches = [
        (tokens, tokens, Place(xp.arange(batch) + n * batch, at, training=True))
        for n in range(cut.micro_batches)
    ]
    first = actions(cut.pipeline, cut.pp, cut.micro_batches, cut.virtual_stages, 0)
    return Weighed(model, batches).execute(first).most


def live(model: Model, reducer: Reducer, optimizer: Optimizer) -> dict[str, int]:
    """The bytes of a model's state that this rank holds now. A view counts as its whole base array."""
    parameters = list(model.parameters().values())
    both = [*parameters, *reducer.owned(parameters)]
    arrays = {
        "parameters": [p.data for p in both],
        "gradients": [p.grad for p in both if p.grad is not None],
        "optimizer": [a for slots in optimizer.state.values() for a in slots.values()],
    }
    wholes = {kind: {id(base_of(a)): base_of(a).nbytes for a in of} for kind, of in arrays.items()}
    found = {kind: sum(sizes.values()) for kind, sizes in wholes.items()}
    flying = sum(b.size * len(b.under_way) for b in reducer.buckets)
    return found | {"gradients": found["gradients"] + flying * wide(parameters[0].data[..., :0]).itemsize}


class State(NamedTuple):
    """Bytes that a rank holds of each kind of state."""

    most: dict[str, int]  # at the peak of a step
    between: dict[str, int]  # between two steps
    at_once: int  # the numbers in the largest message


class Held(Run):
    """A Run that notes after each action what the rank holds: kept by closures, and between stages.

    A subclass has `most`, a dict by kind, which all its Runs share.
    """

    most: dict[str, int]

    def execute(self, actions):
        """`Run.execute`, with a look after each action."""
        return super().execute(self._looked(actions))

    def _looked(self, actions):
        for a in actions:
            yield a
            self._look()

    def _look(self) -> None:
        not_ours = [p.data for p in self.model.parameters().values()]
        not_ours += list(reachable([(x, y) for x, y, _ in self.batches]))
        seen = {id(base_of(x)) for x in not_ours}

        def new(arrays) -> int:
            found = {id(base_of(x)): base_of(x).nbytes for x in arrays}
            found = {key: n for key, n in found.items() if key not in seen}
            seen.update(found)
            return sum(found.values())

        outputs = [y for _, y in self.kept.values()]
        kept = [x for y in outputs for _, x in saved_arrays(y)] + list(reachable(list(self.halves.values())))
        ends = [x for x, _ in self.kept.values()], [y for y in outputs if y.data.ndim]
        waits = list(self.coming.values()), self.sent
        now = {"activations": new(kept), "passing": new(reachable([*ends, list(self.dx.values()), *waits]))}
        if sum(now.values()) > sum(self.most.values()):
            self.most.update(now)


def measured_rank(job: Job, world: Group, bucket: int = BUCKET) -> dict[str, int]:
    """What this rank of a running group holds at the peak of its second step, by kind: see rank.py.

    Gradients are looked at whenever one is complete and when a bucket leaves: those of the parameters, the
    copy that is sent, and for each message under way what is sent and what comes. Every rank calls it.
    """
    most, peak = {"activations": 0, "passing": 0}, Counter()
    run = type("HeldHere", (Held,), {"most": most})
    team: Any
    model, team = build(job.config, grid(world, job.layout), bucket=bucket, run=run)
    team.draw(model, 0, job.dtype)
    reducer, optimizer, zero = team.reducer, OPTIMIZERS[job.optimizer](), job.layout.zero
    leave, complete = reducer.leave, reducer.complete
    item = wide(next(iter(model.parameters().values())).data[..., :0]).itemsize

    def look(more: int = 0) -> None:
        nonlocal peak
        coming = (
            len(range(b.size)[b.group.piece(b.size)] if zero else range(b.size)) for b in reducer.buckets
        )
        flying = sum(n * len(b.under_way) for n, b in zip(coming, reducer.buckets, strict=True))
        now = live(model, reducer, optimizer)
        peak |= Counter(now | {"gradients": now["gradients"] + item * (flying + more)})

    def leaves(b) -> None:
        if zero and reducer.under_way:
            reducer.under_way.arrive()
        look(b.size)
        leave(b)
        look()

    def completes(p) -> None:
        look()
        complete(p)

    reducer.leave, reducer.complete = leaves, completes
    ids = np.arange(job.batch * job.config.context).reshape(job.batch, -1) % job.config.vocab_size
    for step in (1, 2):
        train_step(model, optimizer, Recipe(2), step, ids, ids, team=team)
        look()
    return {
        "weights": peak["parameters"],
        **{kind: peak[kind] for kind in ("gradients", "optimizer")},
        **most,
    }


def measured_state(config: Config, grid: Grid, stage: int, bucket: int = BUCKET, xp=np) -> State:
    """What a rank holds of a model's state in a step of two accumulated parts under ZeRO `stage`.

    It is measured whenever a bucket of gradients is about to be sent, including the copy in the message.
    """
    grid = replace(grid, layout=replace(grid.layout, zero=stage, accumulate=2))
    model, optimizer, most = gpt(config, grid.shares), AdamW(), Counter()
    team = Team(model, grid, bucket)
    team.draw(model, 0, "float32", xp)
    reducer: Any = team.reducer
    leave = reducer.leave

    def look(b) -> None:
        nonlocal most
        most |= Counter(live(model, reducer, optimizer))
        if stage and reducer.under_way:
            reducer.under_way.arrive()
        now = live(model, reducer, optimizer)
        now["gradients"] += 4 * b.size if stage else 0
        most |= Counter(now)
        leave(b)

    tokens, between = xp.zeros((2 * grid.data.size, config.context), int), {}
    for step in (1, 2):
        train_step(model, optimizer, Recipe(2), step, tokens, tokens, team=team)
        now = live(model, reducer, optimizer)
        between, reducer.leave, most = between or now, look, most | Counter(now)
    at_once = max((b.size for b in reducer.buckets), default=0)
    if stage == 3:
        at_once = max(sum(b.size for b in layer) for layer in reducer.used_by.values())
    return State(dict(most), between, at_once)
