"""Training on one rank: the gradients of a batch, a step, the loop, evaluation.

All of it is a pure function of the model, the batch and the step's number, so that it can be stopped and
resumed anywhere. `parallel/team.py` has the same over many ranks. B batch, T time.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from minimega import random
from minimega.autograd import Tensor, first_not_finite, no_grad
from minimega.backend import library
from minimega.data.tokens import Batches, Windows
from minimega.errors import BadInput, RunFailed
from minimega.layer import Place
from minimega.model import Model
from minimega.optim import Optimizer, clip, gradient_norm, learning_rate, unscale
from minimega.parameter import Parameter
from minimega.precision import UNSCALED, Scale, finite


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: the number of steps, the learning rate over them, clipping, and the seed."""

    steps: int
    lr: float = 1e-3
    schedule: str = "constant"
    warmup: int = 0
    min_lr: float = 0.0
    clip: float = 1.0
    seed: int = 0

    def lr_at(self, step: int) -> float:
        return learning_rate(self.schedule, step, self.steps, self.lr, self.warmup, self.min_lr)


class Alone:
    """One rank, which holds the whole model and sees the whole batch.

    `accumulate` is the number of parts a batch is split into, one after another: they need less memory, and
    give the same gradient.
    """

    def __init__(self, accumulate: int = 1):
        self.accumulate = accumulate

    def gradients(self, model: Model, inputs, targets, key: int = 0, scale: float = 1.0) -> float:
        """Add the gradient of a batch's loss, times `scale`, to every parameter's `grad`; gives the loss.

        inputs and targets (B, T). The loss is the sum over all counted targets divided by their number, which
        is known before the first backward pass, so that no split of the batch changes anything.

        Raises RunFailed if the loss is not finite, BadInput if the batch cannot be split evenly.
        """
        count, loss, xp = int((targets >= 0).sum()), 0.0, library(inputs)
        (batch, length), known = inputs.shape, {"training": True, "sequences": len(inputs), "scale": scale}
        if batch % self.accumulate:
            raise BadInput(f"{batch} sequences cannot be split into {self.accumulate} equal parts")
        for rows in xp.arange(batch).reshape(self.accumulate, -1):
            at = Place(rows, xp.arange(length), key, **known)
            forward = partial(model.loss, inputs[rows], targets[rows], at, count)
            part = forward()
            if not finite(part.data):
                raise RunFailed(f"the loss is {float(part.data)}: it began in {origin(model, forward)}")
            part.backward(scale)
            loss += float(part.data)
        return loss

    def evaluate(self, model: Model, windows: Windows, batch: int) -> float:
        """The mean loss over every counted target of the windows, in nats; no dropout."""
        xp, sums = library(next(iter(model.parameters().values())).data), np.zeros(2)
        with no_grad():
            for start in range(0, len(windows), batch):
                rows = np.arange(len(windows))[start : start + batch]
                inputs, targets = (xp.asarray(part) for part in windows.take(rows))
                counted = int((targets >= 0).sum())
                sums += counted * float(model.loss(inputs, targets).data), counted
        return float(sums[0] / sums[1])

    def draw(self, model: Model, seed: int = 0, dtype: str = "float32", xp=np) -> None:
        """Give the model its first weights."""
        for p in model.parameters().values():
            self.keep(p.draw(seed, dtype, xp))

    def keep(self, p: Parameter) -> None:
        """Keep what this rank holds of the data that p was given: here all of it."""

    def owned(self, model: Model) -> list:
        """What the optimizer updates on this rank: here all parameters."""
        return list(model.parameters().values())

    def joined(self, arrays: dict) -> dict:
        """Arrays shaped like what is owned, by its names, in the shapes of this rank's parameters."""
        return arrays

    def norm(self, owned: Iterable) -> float:
        """The norm of the whole gradient."""
        return gradient_norm(owned)

    def not_finite(self, owned: Iterable) -> str:
        """The name of the first parameter whose gradient is not finite."""
        return next((p.name for p in owned if not math.isfinite(gradient_norm([p]))), "")

    def publish(self) -> None:
        """Show the updated weights to those that use them."""


def origin(model: Model, forward: Callable[[], Tensor]) -> str:
    """The weights, or the layer of this forward pass, in which the first number was not finite."""
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
) -> dict:
    """One step of the optimizer; gives its loss, its lr, and the gradient's norm before clipping.

    inputs and targets (B, T) are the whole batch, on every rank of the team. If the loss is scaled, a step
    whose gradients overflow is skipped, and has no norm (None); otherwise RunFailed.
    """
    team = team or Alone()
    owned = team.owned(model)
    for p in owned:
        p.grad = None
    loss = team.gradients(model, inputs, targets, random.key(recipe.seed, "step", step), scale.value)
    unscale(owned, scale.value)
    norm = team.norm(owned)
    fits = math.isfinite(norm)
    if not fits and not scale.skips:
        raise RunFailed(f"the gradient of {team.not_finite(owned) or 'all weights together'} is not finite")
    lr = recipe.lr_at(step)
    if fits:
        clip(owned, recipe.clip, norm)
        optimizer.step(owned, lr)
        team.publish()
    return {"loss": loss, "lr": lr, "grad_norm": norm if fits else None, **scale.after(fits)}


def train(
    model: Model,
    optimizer: Optimizer,
    batches: Batches,
    recipe: Recipe,
    start: int = 0,
    team: Alone | None = None,
    scale: Scale = UNSCALED,
) -> Iterator[dict]:
    """Train from step start + 1 on; gives step, epoch, loss, lr, grad_norm and tokens_per_s of each step.

    The caller may do what it likes between two steps: evaluate, save, stop.
    """
    xp = library(next(iter(model.parameters().values())).data)
    for step in range(start + 1, recipe.steps + 1):
        began = time.perf_counter()
        inputs, targets, epoch = batches(step)
        batch = xp.asarray(inputs), xp.asarray(targets)
        try:
            record = train_step(model, optimizer, recipe, step, *batch, team=team, scale=scale)
        except RunFailed as why:
            raise RunFailed(f"step {step}: {why}") from None
        tokens = int((targets >= 0).sum())
        yield {"step": step, "epoch": epoch, **record, "tokens_per_s": tokens / (time.perf_counter() - began)}


def evaluate(model: Model, windows: Windows, batch: int) -> float:
    """The mean loss over every counted target of the windows, each token weighing the same; no dropout."""
    return Alone().evaluate(model, windows, batch)


def perplexity(loss: float) -> float:
    """exp(loss), the loss in nats: that of a model unsure among this many equally likely tokens.

    >>> round(perplexity(math.log(50)), 6), perplexity(1e6)
    (50.0, inf)
    """
    return math.exp(loss) if loss < 709 else math.inf
