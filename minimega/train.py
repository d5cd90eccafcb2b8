"""The loop of training: the gradients of a batch, a step, evaluation.

All of it is a pure function of the model, the batch and the step's number, so that it can be stopped and
resumed anywhere. B batch, T time.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from minimega import random
from minimega.autograd import first_not_finite, no_grad
from minimega.backend import library
from minimega.errors import BadInput, RunFailed
from minimega.layer import Place
from minimega.model import Model
from minimega.optim import Optimizer, clip, gradient_norm, learning_rate
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


def gradients(model: Model, inputs, targets, key: int = 0, accumulate: int = 1) -> float:
    """Add the gradient of a batch's loss to every parameter's `grad`, and give the loss.

    inputs and targets (B, T). The loss is the sum over the counted targets of the whole batch divided by
    their number, known before the first backward pass, so that splitting the batch changes nothing.
    RunFailed where it is not finite.
    """
    count, loss = int((targets >= 0).sum()), 0.0
    xp, (batch, length) = library(inputs), inputs.shape
    if batch % accumulate:
        raise BadInput(f"a batch of {batch} sequences cannot be split into {accumulate} equal parts")
    for rows in xp.arange(batch).reshape(accumulate, -1):
        at = Place(rows, xp.arange(length), key, training=True)
        ask = functools.partial(model.loss, inputs[rows], targets[rows], at, count=count)
        part = ask()
        if not math.isfinite(float(part.data)):
            raise RunFailed(f"the loss is {float(part.data)}: it began in {_origin(model, ask)}")
        loss += float(part.data)
        part.backward()
    return loss


def _origin(model: Model, ask: Callable) -> str:
    for name, p in model.parameters().items():
        if not bool(library(p.data).isfinite(p.data).all()):
            return f"the weights {name}"
    return f"layer {first_not_finite(ask)}"


def train_step(model: Model, optimizer: Optimizer, recipe: Recipe, step: int, inputs, targets) -> dict:
    """One step of the optimizer; gives its loss, its lr, and the gradient's norm before clipping."""
    parameters = model.parameters()
    for p in parameters.values():
        p.grad = None
    loss = gradients(model, inputs, targets, random.key(recipe.seed, "step", step), recipe.accumulate)
    norm = gradient_norm(parameters.values())
    if not math.isfinite(norm):
        bad = next(n for n, p in parameters.items() if not math.isfinite(gradient_norm([p])))
        raise RunFailed(f"the gradient of {bad} is not finite")
    clip(parameters.values(), recipe.clip, norm)
    lr = recipe.lr_at(step)
    optimizer.step(parameters.values(), lr)
    return {"loss": loss, "lr": lr, "grad_norm": norm}


def train(
    model: Model, optimizer: Optimizer, batches: Batches, recipe: Recipe, start: int = 0
) -> Iterator[dict]:
    """Train from step start + 1 on; give of each step, epoch, loss, lr, grad_norm and tokens_per_s.

    The caller may do what it likes between two steps: evaluate, save, stop.
    """
    xp = library(next(iter(model.parameters().values())).data)
    for step in range(start + 1, recipe.steps + 1):
        began = time.perf_counter()
        inputs, targets, epoch = batches(step)
        try:
            record = train_step(model, optimizer, recipe, step, xp.asarray(inputs), xp.asarray(targets))
        except RunFailed as why:
            raise RunFailed(f"step {step}: {why}") from None
        tokens = int((targets >= 0).sum())
        yield {"step": step, "epoch": epoch, **record, "tokens_per_s": tokens / (time.perf_counter() - began)}


def evaluate(model: Model, windows: Windows, batch: int) -> float:
    """The mean loss over every counted target of the windows, each token weighing the same; no dropout."""
    xp = library(next(iter(model.parameters().values())).data)
    total, count = 0.0, 0
    with no_grad():
        for first in range(0, len(windows), batch):
            inputs, targets = windows.take(np.arange(first, min(first + batch, len(windows))))
            counted = int((targets >= 0).sum())
            total += counted * float(model.loss(xp.asarray(inputs), xp.asarray(targets)).data)
            count += counted
    return total / count
