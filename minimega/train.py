"""The loop of training: the gradients of a batch, a step, evaluation.

All of it is a pure function of the model, the batch and the step's number, so that it can be stopped and
resumed anywhere. B batch, T time.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from minimega import random
from minimega.autograd import first_not_finite, no_grad
from minimega.backend import library
from minimega.errors import BadInput, RunFailed
from minimega.layer import Place
from minimega.model import Model
from minimega.optim import Optimizer, clip, gradient_norm, learning_rate
from minimega.parallel.data import ALONE, Reducer
from minimega.parallel.grid import SERIAL, Grid
from minimega.tokens import Batches, Windows


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: the number of steps, and the learning rate over them.

    `accumulate` splits each step's batch into that many parts, one after another; it never enlarges it.
    """

    steps: int
    lr: float = 1e-3
    schedule: str = "constant"
    warmup: int = 0
    min_lr: float = 0.0
    clip: float = 1.0
    accumulate: int = 1
    seed: int = 0

    def lr_at(self, step: int) -> float:
        return learning_rate(self.schedule, step, self.steps, self.lr, self.warmup, self.min_lr)


def gradients(
    model: Model, inputs, targets, key: int = 0, accumulate: int = 1, reducer: Reducer = ALONE
) -> float:
    """Give every parameter the gradient of a batch's loss, added to its `grad`, and give the loss.

    inputs and targets (B, T): the whole step's batch, of which each replica works on its rows, in
    `accumulate` parts. The loss is the sum over all counted targets divided by their number, known before
    the first backward pass, so that no split of the batch changes anything.

    Raises RunFailed where the loss is not finite, BadInput where the batch cannot be split like this.
    """
    count, loss, xp = int((targets >= 0).sum()), 0.0, library(inputs)
    mine, length = reducer.grid.rows(len(inputs)), inputs.shape[1]
    if (mine.stop - mine.start) % accumulate:
        raise BadInput(f"{mine.stop - mine.start} sequences cannot be split into {accumulate} equal parts")
    parts = list(xp.arange(mine.start, mine.stop).reshape(accumulate, -1))
    for n, rows in enumerate(parts, 1):
        at = Place(rows, xp.arange(length), key, training=True)
        ask = functools.partial(model.loss, inputs[rows], targets[rows], at, count=count)
        part = ask()
        if not math.isfinite(float(part.data)):
            raise RunFailed(f"the loss is {float(part.data)}: it began in {_origin(model, ask)}")
        loss += float(part.data)
        with reducer if n == accumulate else nullcontext():
            part.backward()
    return float(reducer.grid.data.all_reduce(np.array(loss), label="loss"))


def _origin(model: Model, ask: Callable) -> str:
    for name, p in model.parameters().items():
        if not bool(library(p.data).isfinite(p.data).all()):
            return f"the weights {name}"
    return f"layer {first_not_finite(ask)}"


def train_step(
    model: Model, optimizer: Optimizer, recipe: Recipe, step: int, inputs, targets, reducer: Reducer = ALONE
) -> dict:
    """One step of the optimizer; gives its loss, its lr, and the gradient's norm before clipping.

    Every rank gives the whole batch, and gets the same numbers.
    """
    parameters, tensor = model.parameters(), reducer.grid.tensor
    for p in parameters.values():
        p.grad = None
    key = random.key(recipe.seed, "step", step)
    loss = gradients(model, inputs, targets, key, recipe.accumulate, reducer)
    norm = gradient_norm(parameters.values(), tensor)
    if not math.isfinite(norm):
        bad = next(n for n, p in parameters.items() if not math.isfinite(gradient_norm([p], tensor)))
        raise RunFailed(f"the gradient of {bad} is not finite")
    clip(parameters.values(), recipe.clip, norm)
    lr = recipe.lr_at(step)
    optimizer.step(parameters.values(), lr)
    return {"loss": loss, "lr": lr, "grad_norm": norm}


def train(
    model: Model, optimizer: Optimizer, batches: Batches, recipe: Recipe, start: int = 0, grid: Grid = SERIAL
) -> Iterator[dict]:
    """Train from step start + 1 on; give of each step, epoch, loss, lr, grad_norm and tokens_per_s.

    The caller may do what it likes between two steps: evaluate, save, stop.
    """
    parameters = list(model.parameters().values())
    xp, reducer = library(parameters[0].data), Reducer(parameters, grid)
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

    The replicas share out the batches.
    """
    xp = library(next(iter(model.parameters().values())).data)
    sums = np.zeros(2)  # of the losses, and the number of targets
    with no_grad():
        for first in range(grid.data.rank * batch, len(windows), grid.data.size * batch):
            inputs, targets = windows.take(np.arange(first, min(first + batch, len(windows))))
            counted = int((targets >= 0).sum())
            loss = float(model.loss(xp.asarray(inputs), xp.asarray(targets)).data)
            sums += counted * loss, counted
    total, count = grid.data.all_reduce(sums, label="evaluation")
    return float(total / count)
