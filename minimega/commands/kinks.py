"""Where a ReLU bends, rounding decides: which entries may switch, and what their switching does.

The slope of a ReLU jumps at 0. Of an input nearer to 0 than rounding moves it, two right runs may take
different sides: the values agree, the gradients differ by all that passes there. `find` looks for these
inputs in one batch. Two runs that are steered to one side there have the same gradients but for rounding
(`steered`), and switching all of them by chance shows how far two runs that are not steered may part
(`Kinks.room`). From there on their weights differ, and so do the gradients of the next step (`carried`).

B batch, T time, F hidden width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace as Options
from typing import NamedTuple

import ml_dtypes
import numpy as np

from minimega.autograd import no_grad, op
from minimega.backend import library
from minimega.checkpoint import checkpoint
from minimega.experts import Experts
from minimega.layer import Layer, place
from minimega.mlp import MLP
from minimega.model import Model
from minimega.precision import HALF
from minimega.train import Alone

DRAWS = 8  # how often all that may switch is drawn anew
SIGMAS = 4  # standard deviations that chance explains: a sum of what switches is nearly normal
SOME = 64  # of each layer's inputs, those nearest to 0, switch in a draw: other batches have others there


@op
def steer(x, on, reach: float):
    """x, but that what is within reach of 0 lies above it where `on` says so, and below elsewhere."""
    xp, tiny = library(x), float(ml_dtypes.finfo(x.dtype).smallest_normal)
    other = (abs(x) <= reach) & ((x > 0) != on)
    return xp.where(other, xp.where(on, tiny, -tiny).astype(x.dtype), x), lambda dy: dy


class Steered(Layer):
    """A layer whose result goes through a function of it and of its place."""

    def __init__(self, layer: Layer, change: Callable):
        self.layer, self.change, self.name = layer, change, layer.name

    def parts(self):
        return self.layer.parts()

    def forward(self, x, place):
        return self.change(self.layer(x, place), place)


@dataclass
class Kinks:
    """What may switch in one batch: by layer, and what comes of it.

    `on` are the sides (B, T, F) that B takes, `reach` how near to 0 rounding may decide. `room` is what an
    entry of a parameter's gradient changes by, clipped or not, and `norm` what their norm does, relative,
    when what is that near, or SOME of a layer, switches by chance: SIGMAS times the root of the mean square,
    of the entry where that is largest. Of `count` inputs `near` are within reach.
    """

    on: dict[str, np.ndarray]
    reach: dict[str, float]
    room: dict[str, float]
    norm: float
    near: int
    count: int

    def arrays(self) -> dict[str, np.ndarray]:
        """For a file: see `steered`."""
        packed = {f"on/{name}": np.packbits(on, axis=-1) for name, on in self.on.items()}
        return packed | {f"reach/{name}": np.float64(self.reach[name]) for name in self.on}


def steered(model: Model, arrays: dict) -> None:
    """Let the MLPs of a model, cut or whole, take the sides of `Kinks.arrays`."""
    for layer in _bent(model):
        if f"on/{layer.name}" in arrays:
            layer.up = Steered(
                layer.up, _to(arrays[f"on/{layer.name}"], arrays[f"reach/{layer.name}"], layer)
            )


def _to(packed: np.ndarray, reach, layer: MLP) -> Callable:
    columns = layer.up.weight.piece[1]

    def change(x, at):
        xp = library(x.data)
        rows = xp.asarray(packed)[at.samples[:, None], at.window]  # (B, its tokens, F / 8)
        on = xp.unpackbits(rows.reshape(-1, rows.shape[-1]), axis=-1).reshape(*rows.shape[:2], -1)
        return steer(x, on[..., columns].astype(bool), float(reach))

    return change


class Batch(NamedTuple):
    """Of one step: inputs (B, T), targets (B, T), and the key of its dropout."""

    inputs: np.ndarray
    targets: np.ndarray
    key: int


def find(weights: Path, o: Options, batch: Batch, limit: float, steps: int) -> Kinks:
    """The kinks in reach of rounding when a model computes this batch.

    `limit` is the distance that rounding explains in a step; in one of several steps the runs are up to
    `steps` times that apart, and more may switch.
    """
    inputs, targets, key = batch
    model = checkpoint.load_model(weights, _wide(o.dtype))
    layers = list(_bent(model))
    seen: dict[str, np.ndarray] = {}

    def note(name: str, z: np.ndarray) -> None:
        seen[name] = z

    stood = [_put(layer, lambda z, name=layer.name: (note(name, z.data), z)[1]) for layer in layers]
    with no_grad():
        model.loss(inputs, targets, place(inputs, key=key, training=True))
    reach = {name: limit * float(np.abs(z).max()) for name, z in seen.items()}
    near = sum(int((np.abs(z) <= reach[name]).sum()) for name, z in seen.items())
    on = {layer.name: seen[layer.name] > 0 for layer in layers if isinstance(layer, MLP)}
    for layer, before in zip(layers, stood, strict=True):
        _restore(layer, before)
    right, rng = _gradients(model, batch), np.random.default_rng(0)
    for layer in layers:
        z = np.abs(seen[layer.name]).ravel()
        nearest = float(np.partition(z, min(SOME, z.size) - 1)[min(SOME, z.size) - 1])
        r = max(steps * reach[layer.name], nearest)
        _put(layer, lambda z, r=r: steer(z, rng.random(z.shape) < 0.5, r))
    square, norm = {name: np.zeros((2, *g.shape)) for name, g in right.items()}, 0.0
    for _ in range(DRAWS):
        other = _gradients(model, batch)
        norm += (_norm(other) / (_norm(right) or 1.0) - 1) ** 2
        for name, change in _changes(other, right, o.clip):
            square[name] += change**2
    room = {name: SIGMAS * float(np.sqrt(s.max() / DRAWS)) for name, s in square.items()}
    norm = SIGMAS * float(np.sqrt(norm / DRAWS))
    return Kinks(on, reach, room, norm, near, sum(z.size for z in seen.values()))


def carried(weights: Path, moved: dict[str, np.ndarray], o: Options, batch: Batch) -> tuple[dict, float]:
    """What the gradients change by when a model's weights become `moved`: as Kinks' room and norm."""
    model = checkpoint.load_model(weights, _wide(o.dtype))
    right = _gradients(model, batch)
    for name, p in model.parameters().items():
        p.data[...] = moved[name]
    other = _gradients(model, batch)
    room = {name: float(np.abs(change).max()) for name, change in _changes(other, right, o.clip)}
    return room, abs(_norm(other) / (_norm(right) or 1.0) - 1)


def _changes(other: dict, right: dict, clip: float) -> Iterator[tuple[str, np.ndarray]]:
    """By name, how far gradients are apart as they are, and after a clip that acts: (2, *shape).

    A clip divides all by one norm, so that what a single kink does to that reaches every parameter.
    """
    a, b = (clip / (_norm(g) or 1.0) if clip else 1.0 for g in (other, right))
    for name, g in right.items():
        yield name, np.stack([other[name] - g, a * other[name] - b * g])


def _wide(dtype: str) -> str:
    return "float32" if np.dtype(dtype) in HALF else dtype


def _bent(layer: Layer) -> Iterator[MLP | Experts]:
    """The layers in this one that have an activation inside."""
    if isinstance(layer, MLP | Experts):
        yield layer
        return
    for _, part in layer.parts():
        if isinstance(part, Layer):
            yield from _bent(part)


def _put(layer: MLP | Experts, change: Callable):
    """Let the input of the activation go through `change`; gives what stood there."""
    if isinstance(layer, MLP):
        before, layer.up = layer.up, Steered(layer.up, lambda z, _: change(z))
    else:
        before = layer.activation
        layer.activation = lambda z: before(change(z))
    return before


def _restore(layer: MLP | Experts, before) -> None:
    setattr(layer, "up" if isinstance(layer, MLP) else "activation", before)


def _gradients(model: Model, batch: Batch) -> dict[str, np.ndarray]:
    parameters = model.parameters()
    for p in parameters.values():
        p.grad = None
    Alone().gradients(model, *batch)
    return {name: p.grad.astype(np.float64) for name, p in parameters.items()}


def _norm(arrays: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(a * a) for a in arrays.values())))
