"""Optimizers, learning-rate schedules, and clipping by the global norm; masters of 16-bit weights.

w a weight, g its gradient, lr the learning rate, n the number of the step (from 1).
"""

import math
from collections.abc import Iterable

from minimega.backend import library
from minimega.errors import BadInput
from minimega.parameter import Parameter
from minimega.precision import HALF, check_eps, narrow, wide


class Optimizer:
    """Changes weights in place from their gradients; what it remembers of each lies in `state`, by name.

    A subclass names its `slots` (the arrays that it keeps for a weight, zero at first) and writes `update`.

    A step is often smaller than the distance of two 16-bit numbers, and would be rounded away. So a 16-bit
    weight has a "master" in the state: it begins as the weight itself in float32, all steps add up in it, and
    the weight is what it rounds to (Micikevicius et al. 2017, section 3.1).
    """

    slots: tuple[str, ...] = ()
    divides = False  # by something to which eps is added

    def __init__(self, beta1: float = 0.9, beta2: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0):
        self.beta1, self.beta2, self.eps, self.weight_decay = beta1, beta2, eps, weight_decay
        self.steps = 0
        self.state: dict[str, dict] = {}

    def step(self, parameters: Iterable[Parameter], lr: float) -> None:
        """One step for every parameter that has a gradient; matrices decay, biases and norms do not."""
        self.steps += 1
        for p in parameters:
            if p.grad is not None:
                kept, w = self.state.setdefault(p.name, {}), p.data
                if p.data.dtype in HALF:
                    w = kept["master"] = kept["master"] if "master" in kept else wide(p.data)
                if self.divides:
                    check_eps(self.eps, w.dtype)
                for slot in self.slots:
                    if slot not in kept:
                        kept[slot] = library(w).zeros_like(w)
                slots = {slot: kept[slot] for slot in self.slots}
                self.update(w, p.grad, lr, self.weight_decay * p.decays, **slots)
                if w is not p.data:
                    p.data[...] = narrow(w, p.data)

    def update(self, w, g, lr: float, decay: float, **slots) -> None:
        raise NotImplementedError


class SGD(Optimizer):
    """w -= lr (g + decay w)."""

    def update(self, w, g, lr, decay):
        w -= lr * (g + decay * w)


class Momentum(Optimizer):
    """A running sum of gradients, beta1 of it kept: v = beta1 v + g, w -= lr v (Polyak 1964)."""

    slots = ("velocity",)

    def update(self, w, g, lr, decay, velocity):
        velocity *= self.beta1
        velocity += g + decay * w
        w -= lr * velocity


class AdaGrad(Optimizer):
    """Each weight's step shrinks with the squares that it has seen (Duchi et al. 2011)."""

    slots, divides = ("squares",), True

    def update(self, w, g, lr, decay, squares):
        g = g + decay * w
        squares += g * g
        w -= lr * g / (library(w).sqrt(squares) + self.eps)


class Adam(Optimizer):
    """Running means of gradients and of their squares, corrected for starting at 0 (Kingma and Ba 2014).

    The decay is added to the gradient: it goes through the means.
    """

    slots, divides = ("mean", "square"), True

    def update(self, w, g, lr, decay, mean, square):
        if decay:
            g = g + decay * w
        mean += (1 - self.beta1) * (g - mean)
        square += (1 - self.beta2) * (g * g - square)
        # mean / (1 - beta1^n) over sqrt(square / (1 - beta2^n)) + eps
        step = library(w).asarray(library(w).sqrt(square))  # of a single weight too, an array to write in
        step /= math.sqrt(1 - self.beta2**self.steps)
        step += self.eps
        library(w).divide(mean, step, out=step)
        step *= lr / (1 - self.beta1**self.steps)
        w -= step


class AdamW(Adam):
    """Adam whose decay acts on the weights directly, beside the means (Loshchilov and Hutter 2017)."""

    def update(self, w, g, lr, decay, mean, square):
        if decay:
            w *= 1 - lr * decay
        super().update(w, g, lr, 0.0, mean, square)


OPTIMIZERS = {"sgd": SGD, "momentum": Momentum, "adagrad": AdaGrad, "adam": Adam, "adamw": AdamW}


def sum_of_squares(p: Parameter) -> float:
    """The sum of the squared gradient entries of a parameter, added up in float64."""
    if p.grad is None:
        return 0.0
    flat = p.grad.reshape(-1).astype("float64")
    return float(flat @ flat)


def gradient_norm(parameters: Iterable[Parameter]) -> float:
    """The square root of the sum of all squared gradient entries.

    >>> p = Parameter((2,)).draw(0); p.grad = np.array([3.0, 4.0]); gradient_norm([p])
    5.0
    """
    return math.sqrt(sum((sum_of_squares(p) for p in parameters), 0.0))


def clip(parameters: Iterable[Parameter], most: float, norm: float) -> None:
    """Scale all gradients by most/norm where their norm is larger (Pascanu et al. 2012); 0 does not clip."""
    if most and norm > most:
        for p in parameters:
            if p.grad is not None:
                p.grad = p.grad * p.grad.dtype.type(most / norm)


def unscale(parameters: Iterable[Parameter], scale: float) -> None:
    """Divide the gradients of a scaled loss by the scale (see precision.py)."""
    if scale != 1:
        for p in parameters:
            if p.grad is not None:
                p.grad = p.grad * p.grad.dtype.type(1 / scale)


SCHEDULES = ("constant", "cosine", "linear", "step")


def learning_rate(
    schedule: str, step: int, steps: int, lr: float, warmup: int = 0, min_lr: float = 0.0
) -> float:
    """The learning rate of a step (from 1) of a run of `steps`.

    It rises linearly over the warm-up steps, to lr at step `warmup`. Then: constant stays; cosine and
    linear fall to min_lr at the last step; step divides by 10 at a half and at three quarters of what
    remains, never below min_lr. A run of a single step has nothing to fall along: it takes lr.

    >>> [round(learning_rate("linear", n, 6, 1.0, warmup=2), 2) for n in range(1, 7)]
    [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if step <= warmup:
        return lr * step / warmup
    done = min((step - warmup) / max(steps - warmup, 1), 1.0) if steps > 1 else 0.0
    if schedule == "constant":
        return lr
    if schedule == "linear":
        return min_lr + (lr - min_lr) * (1 - done)
    if schedule == "cosine":
        return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * done)) / 2
    if schedule == "step":
        return max(min_lr, lr * 0.1 ** ((done > 0.5) + (done > 0.75)))
    raise BadInput(f"schedule is {schedule!r}; it can be {', '.join(SCHEDULES)}")
