"""Near a ReLU's kink rounding decides the slope: which inputs may switch sides, and what that changes.

The slope of a ReLU jumps at 0. If rounding can move an input across 0, two correct runs may take different
sides: their values agree, but their gradients differ by all that passes there. `find` looks for these inputs
in one batch. Two runs that are steered to the same side have equal gradients up to rounding (`steered`).
Switching all of these inputs at random shows how far two unsteered runs may diverge (`Kinks.room`). Then
their weights differ, and so do the gradients of the next step (`carried`).

B batch, T time, F hidden width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace as Options
from typing import Any, NamedTuple, cast

import ml_dtypes
import numpy as np

from minimega.autograd import Tensor, no_grad, op
from minimega.backend import library
from minimega.checkpoint import checkpoint
from minimega.experts import Experts
from minimega.layer import Layer, place
from minimega.mlp import MLP
from minimega.model import Model
from minimega.precision import HALF
from minimega.train import Alone

DRAWS = 8  # random draws of the sides
SIGMAS = 4  # standard deviations to tolerate: a sum of many switches is nearly normal
SOME = 64  # inputs per layer, those nearest to 0, that always switch: other batches have others there


@op
def steer(x, on, reach: float):
    """Move entries of x within `reach` of 0 to the side that `on` says (above 0 if true). Gradient 1."""
    xp, tiny = library(x), float(ml_dtypes.finfo(x.dtype).smallest_normal)
    other = (abs(x) <= reach) & ((x > 0) != on)
    return xp.where(other, xp.where(on, tiny, -tiny).astype(x.dtype), x), lambda dy: dy


class Steered(Layer):
    """A layer followed by a function of its result and its place."""

    def __init__(self, layer: Layer, change: Callable):
        self.layer, self.change, self.name = layer, change, layer.name

    def parts(self):
        """The parts of the wrapped layer."""
        return self.layer.parts()

    def forward(self, x, place):
        """The wrapped layer's result, changed; same shape."""
        return self.change(self.layer(x, place), place)


@dataclass
class Kinks:
    """The inputs of one batch that may switch, by layer, and what their switching changes.

    `on` holds the sides (B, T, F) that run B takes. Within `reach` of 0 rounding may decide the side. If the
    inputs within reach, or SOME of a layer, switch at random, an entry of a parameter's gradient changes by
    `room`, clipped or not, and the gradient norm by `norm`, relative: SIGMAS times the root mean square, for
    the entry where that is largest. Of `count` inputs, `near` are within reach.
    """

    on: dict[str, np.ndarray]
    reach: dict[str, float]
    room: dict[str, float]
    norm: float
    near: int
    count: int

    def arrays(self) -> dict[str, Any]:
        """The arrays of a file that `steered` takes: on/LAYER, packed bits; reach/LAYER."""
        packed = {f"on/{name}": np.packbits(on, axis=-1) for name, on in self.on.items()}
        return packed | {f"reach/{name}": np.array(self.reach[name]) for name in self.on}


def steered(model: Model, arrays: dict) -> None:
    """Make the MLPs of a model, cut or whole, take the sides in `Kinks.arrays`."""
    for layer in _bent(model):
        if f"on/{layer.name}" in arrays:
            layer.up = Steered(
                layer.up, _to(arrays[f"on/{layer.name}"], arrays[f"reach/{layer.name}"], layer)
            )


def _to(packed: np.ndarray, reach, layer: MLP) -> Callable:
    columns = layer.up.weight.piece[1]

    def change(x, at):
        xp = library(x.data)
        rows = xp.asarray(packed)[at.samples[:, None], at.positions]  # (B, its tokens, F / 8)
        on = xp.unpackbits(rows.reshape(-1, rows.shape[-1]), axis=-1).reshape(*rows.shape[:2], -1)
        return steer(x, on[..., columns].astype(bool), float(reach))

    return change


class Batch(NamedTuple):
    """The batch of a step: inputs (B, T), targets (B, T), and the key of its dropout."""

    inputs: np.ndarray
    targets: np.ndarray
    key: int


def find(weights: Path, o: Options, batch: Batch, limit: float, steps: int) -> Kinks:
    """Find the inputs that rounding may switch when a model computes this batch.

    `limit` is the distance that rounding explains after one step. After several steps the runs are up to
    `steps` times as far apart, so more inputs may switch.
    """
    inputs, targets, key = batch
    model = checkpoint.load_model(weights, _wide(o.dtype))
    layers = list(_bent(model))
    seen: dict[str, np.ndarray] = {}

    def note(name: str, z: Tensor) -> Tensor:
        seen[name] = z.data
        return z

    stood = [_put(layer, partial(note, layer.name)) for layer in layers]
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
    """How much the gradients change if the weights become `moved`: (room, norm), as in Kinks."""
    model = checkpoint.load_model(weights, _wide(o.dtype))
    right = _gradients(model, batch)
    for name, p in model.parameters().items():
        p.data[...] = moved[name]
    other = _gradients(model, batch)
    room = {name: float(np.abs(change).max()) for name, change in _changes(other, right, o.clip)}
    return room, abs(_norm(other) / (_norm(right) or 1.0) - 1)


def _changes(other: dict, right: dict, clip: float) -> Iterator[tuple[str, np.ndarray]]:
    """By name, the difference of the gradients, unclipped and clipped: (2, *shape).

    A clip divides all gradients by one norm, so a single kink can reach every parameter.
    """
    a, b = (clip / (_norm(g) or 1.0) if clip else 1.0 for g in (other, right))
    for name, g in right.items():
        yield name, np.stack([other[name] - g, a * other[name] - b * g])


def _wide(dtype: str) -> str:
    return "float32" if np.dtype(dtype) in HALF else dtype


def _bent(layer: Layer) -> Iterator[Any]:
    """The layers inside this one that have an activation."""
    if isinstance(layer, MLP | Experts):
        yield layer
        return
    for _, part in layer.parts():
        if isinstance(part, Layer):
            yield from _bent(part)


def _put(layer: Any, change: Callable):
    """Apply `change` to the input of the activation; return what it replaced."""
    before: Any
    if isinstance(layer, MLP):
        before = layer.up
        layer.up = cast(Any, Steered(before, lambda z, _: change(z)))
    else:
        before = layer.activation
        layer.activation = lambda z: before(change(z))
    return before


def _restore(layer: Any, before) -> None:
    setattr(layer, "up" if isinstance(layer, MLP) else "activation", before)


def _gradients(model: Model, batch: Batch) -> dict[str, np.ndarray]:
    parameters = model.parameters()
    for p in parameters.values():
        p.grad = None
    Alone().gradients(model, *batch)
    return {name: p.grad.astype(np.float64) for name, p in parameters.items()}


def _norm(arrays: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(a * a) for a in arrays.values())))
