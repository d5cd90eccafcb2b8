"""The loop of training: the gradients of a batch, a step, evaluation.

All of it is a pure function of the model, the batch and the step's number, so that it can be stopped and
resumed anywhere. B batch, T time.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from minimega import random
from minimega.autograd import no_grad
from minimega.backend import library
from minimega.errors import BadInput, RunFailed
from minimega.layer import Place
from minimega.model import Model
from minimega.optim import Optimizer, clip, gradient_norm, learning_rate
from minimega.parallel.comm import Group
from minimega.parallel.data import ALONE, Reducer
from minimega.parallel.grid import SERIAL, Grid
from minimega.parallel.pipeline import Run, actions
from minimega.parallel.schedules import Action
from minimega.tokens import Batches, Windows


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: the number of steps, and the learning rate over them.

    `accumulate` splits each step's batch into that many parts, one after another, and `micro_batches` each
    of them into those that pass through the pipeline in the order of its schedule; neither enlarges it.
    """

    steps: int
    lr: float = 1e-3
    schedule: str = "constant"
    warmup: int = 0
    min_lr: float = 0.0
    clip: float = 1.0
    accumulate: int = 1
    seed: int = 0
    pipeline: str = "1f1b"
    micro_batches: int = 1

    def actions(self, model: Model) -> Sequence[Action]:
        """What this rank does with a model, or its stages of one, in one part of a step."""
        group = model.pipeline
        return actions(self.pipeline, group.size, self.micro_batches, len(model.chunks), group.rank)

    def lr_at(self, step: int) -> float:
        return learning_rate(self.schedule, step, self.steps, self.lr, self.warmup, self.min_lr)


AT_ONCE = actions("1f1b", 1, 1, 1, 0)  # forward, backward


def gradients(
    model: Model,
    inputs,
    targets,
    key: int = 0,
    accumulate: int = 1,
    reducer: Reducer = ALONE,
    todo: Sequence[Action] = AT_ONCE,
) -> float:
    """Give every parameter the gradient of a batch's loss, added to its `grad`, and give the loss.

    inputs and targets (B, T): the whole step's batch, of which each replica works on its rows, in
    `accumulate` parts; its list `todo` says in how many micro-batches each, and in which order. The loss is
    the sum over all counted targets divided by their number, known before the first backward pass, so that
    no split of the batch changes anything.

    Raises RunFailed where the loss is not finite, BadInput where the batch cannot be split like this.
    """
    count, loss, xp = int((targets >= 0).sum()), 0.0, library(inputs)
    mine, window = reducer.grid.rows(len(inputs)), xp.arange(inputs.shape[1])
    micro_batches = 1 + max(a.batch for a in todo)
    rows = xp.arange(mine.start, mine.stop)
    if len(rows) % (accumulate * micro_batches):
        raise BadInput(f"{len(rows)} sequences cannot be split into {accumulate * micro_batches} equal parts")
    for n, part in enumerate(rows.reshape(accumulate, micro_batches, -1), 1):
        batches = [(inputs[rows], targets[rows], Place(rows, window, key, training=True)) for rows in part]
        added_up = n == accumulate or reducer.each_part
        with reducer if added_up else nullcontext():
            loss += Run(model, batches, count, reducer if added_up else ALONE).follow(todo).loss
    loss = reducer.grid.copies.all_reduce(np.array(loss), label="loss")
    return float(model.pipeline.all_reduce(loss, label="loss"))  # of the last stage: the others have none


def train_step(
    model: Model, optimizer: Optimizer, recipe: Recipe, step: int, inputs, targets, reducer: Reducer = ALONE
) -> dict:
    """One step of the optimizer; gives its loss, its lr, and the gradient's norm before clipping.

    Every rank gives the whole batch, and gets the same numbers.
    """
    owned, grid = reducer.owned(model.parameters().values()), reducer.grid
    for p in owned:
        p.grad = None
    key = random.key(recipe.seed, "step", step)
    todo = recipe.actions(model)
    loss = gradients(model, inputs, targets, key, recipe.accumulate, reducer, todo)
    norm = gradient_norm(owned, grid)
    if not math.isfinite(norm):
        bad = (p.name for p in owned if not math.isfinite(gradient_norm([p])))
        raise RunFailed(f"the gradient of {_first(next(bad, ''), grid.world)} is not finite")
    clip(owned, recipe.clip, norm)
    lr = recipe.lr_at(step)
    optimizer.step(owned, lr)
    reducer.publish()
    return {"loss": loss, "lr": lr, "grad_norm": norm}


def _first(text: str, group: Group) -> str:
    """The text of the first rank that has one, on all ranks."""
    packet = np.frombuffer(text.encode().ljust(256, b"\0"), np.uint8)
    texts = group.all_gather(packet.reshape(1, -1), label="message")
    return next((bytes(t).rstrip(b"\0").decode() for t in texts if t.any()), "all weights together")


def train(
    model: Model,
    optimizer: Optimizer,
    batches: Batches,
    recipe: Recipe,
    start: int = 0,
    reducer: Reducer = ALONE,
) -> Iterator[dict]:
    """Train from step start + 1 on; give of each step, epoch, loss, lr, grad_norm and tokens_per_s.

    The caller may do what it likes between two steps: evaluate, save, stop.
    """
    xp = library(next(iter(model.parameters().values())).data)
    for step in range(start + 1, recipe.steps + 1):
        began = time.perf_counter()
        inputs, targets, epoch = batches(step)
        batch = xp.asarray(inputs), xp.asarray(targets)
        try:
            record = train_step(model, optimizer, recipe, step, *batch, reducer)
        except RunFailed as why:
            raise RunFailed(f"step {step}: {why}") from None
        tokens = int((targets >= 0).sum())
        yield {"step": step, "epoch": epoch, **record, "tokens_per_s": tokens / (time.perf_counter() - began)}


def evaluate(model: Model, windows: Windows, batch: int, grid: Grid = SERIAL) -> float:
    """The mean loss over every counted target of the windows, each token weighing the same; no dropout.

    The replicas share out the batches; the stages of a pipeline work on several at a time. For whom none is
    left in the end takes part with one that does not count: the others may need weights that it holds.
    """
    xp = library(next(iter(model.parameters().values())).data)
    sums = np.zeros(2)  # of the losses, and the number of targets
    with no_grad():
        for start in range(0, len(windows), grid.data.size * batch):
            first = start + grid.data.rank * batch
            mine = range(first, min(first + batch, len(windows)))
            inputs, targets = windows.take(mine or [0])
            targets[len(mine) :] = -1
            counted = int((targets >= 0).sum())
            loss = float(model.loss(xp.asarray(inputs), xp.asarray(targets)).data)
            sums += counted * loss, counted
    total, count = grid.data.all_reduce(sums, label="evaluation")
    return float(model.pipeline.all_reduce(total, label="evaluation") / count)
