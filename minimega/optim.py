"""Optimizers with float32 masters of 16-bit weights, clipping by the global norm, learning-rate schedules.

w a weight, g its gradient, lr the learning rate, n the number of the step (from 1).
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from minimega.backend import library
from minimega.elsewhere.keywords import renamed
from minimega.errors import BadInput, shown
from minimega.kernels import replaceable
from minimega.parameter import ALIKE, Parameter
from minimega.precision import HALF, check_eps, narrow, wide


@renamed
class Optimizer:
    """Updates weights in place from their gradients; `state` holds what it keeps per weight, by name.

    It is given its parameters, by name or as a list, and its learning rate lr when it is made or at each
    step. A loop written by hand gives them once, and then calls `zero_grad`, `backward` and `step`.
    `train_step` gives them at each step: the parameters that this rank owns, and the schedule's rate.

    A subclass names its `slots` (arrays of the weight's shape, initially zero) and writes `update`.

    A step is often smaller than the gap between two 16-bit numbers and would be rounded away. So the state of
    a 16-bit weight has a float32 "master": it starts as a copy of the weight, all steps add up in it, and the
    weight is its rounded value (Micikevicius et al. 2017, section 3.1).
    """

    slots: tuple[str, ...] = ()
    divides = False  # by a denominator that eps is added to

    def __init__(
        self,
        parameters: Mapping[str, Parameter] | Iterable[Parameter] = (),
        lr: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        self.parameters, self.lr = self._taken(parameters), lr
        self.beta1, self.beta2, self.eps, self.weight_decay = beta1, beta2, eps, weight_decay
        self.steps = 0
        self.state: dict[str, dict] = {}

    def _taken(self, given) -> list[Parameter]:
        given, kind = given.values() if isinstance(given, Mapping) else given, type(self).__name__
        every = [given] if isinstance(given, Parameter) or not np.iterable(given) else [*given]
        for i, p in enumerate(every):
            if not isinstance(p, Parameter):
                raise BadInput(f"{kind} takes parameters, such as layer.parameters(), not {shown(p)}")
            p.name = p.name or f"parameter{i}"
            if p.name in (other.name for other in every[:i]):
                raise BadInput(ALIKE.format(p.name))
        return every

    def zero_grad(self) -> None:
        """Forget the gradients of this optimizer's parameters, before the next `backward` adds to them."""
        for p in self.parameters:
            p.grad = None

    def step(self, parameters: Iterable[Parameter] | None = None, lr: float | None = None) -> None:
        """Update every parameter that has a gradient; matrices decay, biases and norms do not.

        By default they are the optimizer's own, with its own lr, and their frozen rows stay. Raises BadInput
        if there are none, or if the optimizer divides and eps underflows in the weights' dtype.

        >>> w = Parameter((2,), mean=1.0).draw(seed=0)
        >>> optimizer = SGD([w], lr=0.1)
        >>> (w * w).sum().backward(); optimizer.step(); optimizer.zero_grad()
        >>> w.tolist(), w.grad
        ([0.800000011920929, 0.800000011920929], None)
        """
        if parameters is None:
            if not self.parameters:
                kind = type(self).__name__
                raise BadInput(f"this {kind} has no parameters: {kind}(layer.parameters(), lr={self.lr:g})")
            parameters = self.parameters
            freeze(parameters)
        lr = self.lr if lr is None else lr
        self.steps += 1
        for p in parameters:
            if p.grad is not None:
                kept, w = self.state.setdefault(p.name, {}), p.data
                if p.data.dtype in HALF:
                    w = kept["master"] = kept["master"] if "master" in kept else wide(p.data)
                if self.divides:
                    check_eps(self.eps, w.dtype)
                kept |= {slot: library(w).zeros_like(w) for slot in self.slots if slot not in kept}
                slots = {slot: kept[slot] for slot in self.slots}
                self.update(w, p.grad, lr, self.weight_decay * p.decays, **slots)
                if w is not p.data:
                    p.data[...] = narrow(w, p.data)

    def update(self, w, g, lr: float, decay: float, **slots) -> None:
        """Update w, and the slots, in place from the gradient g, all of one shape; `decay` is 0 for no decay.

        w is the float32 master if the weight is 16-bit. `self.steps` is n.
        """
        raise NotImplementedError


class SGD(Optimizer):
    """w -= lr (g + decay w)."""

    def update(self, w, g, lr, decay):
        """w -= lr (g + decay w)."""
        w -= lr * (g + decay * w)


class Momentum(Optimizer):
    """A decaying sum of gradients: v = beta1 v + g, w -= lr v (Polyak 1964)."""

    slots = ("velocity",)

    def update(self, w, g, lr, decay, velocity):
        """v = beta1 v + g + decay w, then w -= lr v."""
        velocity *= self.beta1
        velocity += g + decay * w
        w -= lr * velocity


class AdaGrad(Optimizer):
    """Each weight's step shrinks as its squared gradients add up (Duchi et al. 2011)."""

    slots, divides = ("squares",), True

    def update(self, w, g, lr, decay, squares):
        """s += g^2, then w -= lr g / (sqrt(s) + eps), where g includes decay w."""
        g = g + decay * w
        squares += g * g
        w -= lr * g / (library(w).sqrt(squares) + self.eps)


class Adam(Optimizer):
    """Running means of gradients and squared gradients, corrected for their start at 0 (Kingma and Ba 2014).

    The decay is added to the gradient, so it passes through the means.
    """

    slots, divides = ("mean", "square"), True

    def update(self, w, g, lr, decay, mean, square):
        """w -= lr m / (sqrt(v) + eps), where m and v are the corrected means (algorithm 1 of the paper)."""
        if decay:
            g = g + decay * w
        mean += (1 - self.beta1) * (g - mean)
        square += (1 - self.beta2) * (g * g - square)
        # mean / (1 - beta1^n) over sqrt(square / (1 - beta2^n)) + eps
        step = library(w).asarray(library(w).sqrt(square))  # an array to write in, also for a 0-d weight
        step /= math.sqrt(1 - self.beta2**self.steps)
        step += self.eps
        library(w).divide(mean, step, out=step)
        step *= lr / (1 - self.beta1**self.steps)
        w -= step


class AdamW(Adam):
    """Adam with decoupled decay: it acts on the weights directly, not through the means.

    Loshchilov and Hutter 2017.

    >>> w = Parameter((1, 2), mean=1.0).draw(seed=0)
    >>> w.grad = np.array([[3.0, -0.5]], "float32")
    >>> AdamW(weight_decay=0.1).step([w], lr=0.5)
    >>> w.data.round(4)  # decay leaves 0.95; Adam's first step is lr, against the gradient's sign
    array([[0.45, 1.45]], dtype=float32)
    """

    @replaceable
    def update(self, w, g, lr, decay, mean, square):
        """w *= 1 - lr decay, then Adam's update."""
        if decay:
            w *= 1 - lr * decay
        super().update(w, g, lr, 0.0, mean, square)


OPTIMIZERS = {"sgd": SGD, "momentum": Momentum, "adagrad": AdaGrad, "adam": Adam, "adamw": AdamW}


@replaceable
def sum_of_squares(p: Parameter):
    """The sum of a parameter's squared gradient entries, a float64 on its device; 0 without a gradient."""
    if p.grad is None:
        return 0.0
    flat = p.grad.reshape(-1).astype("float64")
    return flat @ flat


def gradient_norm(parameters: Iterable[Parameter]) -> float:
    """The global norm: the square root of the sum of all squared gradient entries.

    >>> p = Parameter((2,)).draw(0); p.grad = np.array([3.0, 4.0]); gradient_norm([p])
    5.0
    """
    return math.sqrt(float(sum((sum_of_squares(p) for p in parameters), 0.0)))  # waits for the GPU once


def freeze(parameters: Iterable[Parameter]) -> None:
    """Set the gradient of frozen rows to 0: no optimizer moves them then, and the norm does not see them.

    It acts on the whole batch's gradient, so every layout freezes the same rows; a Shard freezes its part.

    >>> p = Parameter((2, 2)).draw(0); p.frozen = np.array([True, False])
    >>> p.grad = np.ones((2, 2)); freeze([p]); p.grad.tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    for p in parameters:
        if p.frozen is not None and p.grad is not None:
            rows = p.frozen[p.piece[0]]
            keep = np.repeat(~rows, math.prod(s.stop - s.start for s in p.piece[1:]))
            keep = keep if p.span is None else keep[p.span]
            p.grad = p.grad * library(p.grad).asarray(keep.reshape(p.grad.shape))


def clip(parameters: Iterable[Parameter], most: float, norm: float) -> None:
    """Scale all gradients by most/norm if norm > most (Pascanu et al. 2012); most = 0 does not clip."""
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
    """The learning rate of a step (from 1) in a run of `steps` steps.

    It rises linearly to lr at step `warmup`. Then "constant" stays at lr; "cosine" and "linear" fall to
    min_lr at the last step; "step" divides by 10 at a half and at three quarters of the remaining steps,
    never below min_lr. A run of a single step uses lr. Raises BadInput for an unknown schedule.

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
