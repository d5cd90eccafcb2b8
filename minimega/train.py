"""Training on one rank: the loop, and what it calls.

    batch        inputs, targets, epoch = batches(step)     train
    loss         loss = model.loss(inputs, targets)         Alone.gradients
    backward     loss.backward()                            Alone.gradients
    clip         clip(owned, recipe.clip, norm)             train_step
    step         optimizer.step(owned, lr)                  train_step

Each step is a pure function of the weights, the optimizer's state and the step's number, so a run can stop
and resume anywhere. `parallel/team.py` does the same over many ranks. B batch, T time.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minimega import random
from minimega.autograd import Tensor, first_not_finite, no_grad
from minimega.backend import library
from minimega.data.windows import Batches, Rows
from minimega.errors import BadInput, RunFailed
from minimega.layer import Place
from minimega.model import Model
from minimega.optim import Optimizer, clip, freeze, gradient_norm, learning_rate, unscale
from minimega.parameter import Parameter
from minimega.precision import UNSCALED, Scale, finite


@dataclass(frozen=True)
class Recipe:
    """How to train a model: steps, learning rate, clipping, seed.

    >>> recipe = Recipe(steps=10, lr=0.01, schedule="cosine", warmup=2)
    >>> [round(recipe.lr_at(step), 4) for step in (1, 2, 6, 10)]
    [0.005, 0.01, 0.005, 0.0]
    """

    steps: int
    lr: float = 1e-3  # the largest
    schedule: str = "constant"  # or another of optim.SCHEDULES
    warmup: int = 0  # steps
    min_lr: float = 0.0
    clip: float = 1.0  # largest gradient norm; 0: no clipping
    seed: int = 0  # of dropout

    def lr_at(self, step: int) -> float:
        """The learning rate of a step (from 1); see `optim.learning_rate`."""
        return learning_rate(self.schedule, step, self.steps, self.lr, self.warmup, self.min_lr)


class Alone:
    """A team of one rank: it holds the whole model and sees the whole batch.

    `accumulate` splits each batch into that many equal parts, run one after another: less memory, the same
    gradient.

    >>> from minimega import Config, gpt
    >>> model, ids = gpt(Config(vocab_size=9, d_model=8, nhead=2)).draw(seed=0), np.arange(8).reshape(2, 4)
    >>> whole, parts = (Alone(n).gradients(model, ids, ids + 1) for n in (1, 2))
    >>> round(whole, 4) == round(parts, 4)
    True
    """

    def __init__(self, accumulate: int = 1):
        self.accumulate = accumulate

    def gradients(self, model: Model, inputs, targets, key: int = 0, scale: float = 1.0) -> float:
        """Add the gradient of a batch's loss, times `scale`, to each parameter's `grad`; returns the loss.

        inputs and targets (B, T); `key` draws the dropout. The loss, in nats, is the sum over all counted
        targets divided by their number. That number is known before the first backward pass, so splitting
        the batch changes nothing.

        Raises RunFailed if the loss is not finite, BadInput if the batch does not split evenly.
        """
        count, total, xp = int((targets >= 0).sum()), 0.0, library(inputs)
        batch, length = inputs.shape
        if batch % self.accumulate:
            raise BadInput(f"{batch} sequences cannot be split into {self.accumulate} equal parts")
        for rows in xp.arange(batch).reshape(self.accumulate, -1):
            at = Place(rows, xp.arange(length), key, training=True, sequences=batch, scale=scale)
            forward = partial(model.loss, inputs[rows], targets[rows], at, count)
            loss = forward()
            if not finite(loss.data):
                raise RunFailed(f"the loss is {float(loss.data)}: it began in {origin(model, forward)}")
            loss.backward(scale)
            total += float(loss.data)
        return total

    def evaluate(self, model: Model, windows: Rows, batch: int) -> float:
        """The mean loss in nats over every counted target of the windows, `batch` windows at a time.

        Every token weighs the same; no dropout.
        """
        xp, sums = library(next(iter(model.parameters().values())).data), np.zeros(2)
        with no_grad():
            for start in range(0, len(windows), batch):
                rows = np.arange(len(windows))[start : start + batch]
                inputs, targets = (xp.asarray(part) for part in windows.take(rows))
                counted = int((targets >= 0).sum())
                sums += counted * float(model.loss(inputs, targets).data), counted
        return float(sums[0] / sums[1])

    def draw(self, model: Model, seed: int = 0, dtype: str = "float32", xp=np) -> None:
        """Give the model its initial weights."""
        for p in model.parameters().values():
            self.keep(p.draw(seed, dtype, xp))

    def keep(self, p: Parameter) -> None:
        """Keep this rank's part of the data that p was just given: here all of it."""

    def owned(self, model: Model) -> list:
        """What the optimizer updates on this rank (parameters or shards of them): here all parameters."""
        return list(model.parameters().values())

    def joined(self, arrays: dict) -> dict:
        """Gather arrays shaped like what is owned, by name, into the shapes of this rank's parameters."""
        return arrays

    def norm(self, owned: Iterable) -> float:
        """The global norm of the gradient: the root of the sum of all its squared entries."""
        return gradient_norm(owned)

    def not_finite(self, owned: Iterable) -> str:
        """The name of the first parameter whose gradient is not finite; "" if there is none."""
        return next((p.name for p in owned if not math.isfinite(gradient_norm([p]))), "")

    def publish(self) -> None:
        """Send the updated weights to the ranks that use them: here none."""


def origin(model: Model, forward: Callable[[], Tensor]) -> str:
    """Name the weights, or else the layer of this forward pass, where the first non-finite number appears."""
    for name, p in model.parameters().items():
        if not finite(p.data):
            return f"the weights {name}"
    return f"layer {first_not_finite(forward)}"


def train_step(
    model: Model,
    optimizer: Optimizer,
    recipe: Recipe,
    step: int,
    inputs,
    targets,
    *,
    team: Alone | None = None,
    scale: Scale = UNSCALED,
) -> dict[str, Any]:
    """Train on one batch: loss, backward, clip, step. Returns loss, lr and grad_norm (before clipping).

    inputs and targets (B, T) are the whole batch, on every rank of the team; -1 marks a target that does not
    count. `step` counts from 1. With a loss scale, the record also has loss_scale and skipped: a step whose
    gradients overflow is skipped, and its grad_norm is None.

    Raises RunFailed if the loss is not finite; if the gradient is not and there is no loss scale; or if the
    loss scale falls below its least value.

    >>> from minimega import AdamW, Config, gpt
    >>> model, adam = gpt(Config(vocab_size=9, d_model=8, nhead=2)).draw(seed=0), AdamW()
    >>> ids, recipe = np.arange(8).reshape(2, 4), Recipe(steps=30, lr=0.02)
    >>> records = [train_step(model, adam, recipe, step, ids, ids + 1) for step in range(1, 31)]
    >>> records[0]["loss"] > 2 > records[-1]["loss"]
    True
    """
    team = team or Alone()
    owned = team.owned(model)
    for p in owned:
        p.grad = None
    loss = team.gradients(model, inputs, targets, random.key(recipe.seed, "step", step), scale.value)
    freeze(owned)
    unscale(owned, scale.value)
    norm = team.norm(owned)
    lr = recipe.lr_at(step)
    if fits := math.isfinite(norm):
        clip(owned, recipe.clip, norm)
        optimizer.step(owned, lr)
        team.publish()
    elif not scale.skips:
        raise RunFailed(f"the gradient of {team.not_finite(owned) or 'all weights together'} is not finite")
    return {"loss": loss, "lr": lr, "grad_norm": norm if fits else None, **scale.after(fits)}


def train(
    model: Model,
    optimizer: Optimizer,
    batches: Batches,
    recipe: Recipe,
    start: int = 0,
    team: Alone | None = None,
    scale: Scale = UNSCALED,
) -> Iterator[dict[str, Any]]:
    """Train from step start + 1 to recipe.steps; yields a record after each step.

    A record has step, epoch, what `train_step` returns, and tokens_per_s (counted targets per second). The
    caller may evaluate, save or stop between two steps. Raises RunFailed, with the step's number.
    """
    xp = library(next(iter(model.parameters().values())).data)
    for step in range(start + 1, recipe.steps + 1):
        began = time.perf_counter()
        inputs, targets, epoch = batches(step)
        batch = xp.asarray(inputs), xp.asarray(targets)  # onto the model's device
        try:
            record = train_step(model, optimizer, recipe, step, *batch, team=team, scale=scale)
        except RunFailed as why:
            raise RunFailed(f"step {step}: {why}") from None
        tokens = int((targets >= 0).sum())
        yield {"step": step, "epoch": epoch, **record, "tokens_per_s": tokens / (time.perf_counter() - began)}


def evaluate(model: Model, windows: Rows, batch: int) -> float:
    """The mean loss in nats over every counted target of the windows, `batch` windows at a time.

    Every token weighs the same; no dropout.

    >>> from minimega import Config, Windows, gpt
    >>> windows = Windows(np.array([0, 5, 6, 0, 7, 8, 0]), context=4)
    >>> model = gpt(Config(vocab_size=9, d_model=8, nhead=2)).draw(seed=0)
    >>> loss = evaluate(model, windows, batch=2)
    >>> abs(loss - math.log(9)) < 0.1  # before training: all tokens about equally likely
    True
    """
    return Alone().evaluate(model, windows, batch)


def perplexity(loss: float) -> float:
    """exp(loss), the loss in nats per token: the number of equally likely tokens with the same loss.

    >>> round(perplexity(math.log(50)), 6), perplexity(1e6)
    (50.0, inf)
    """
    return math.exp(loss) if loss < 709 else math.inf
