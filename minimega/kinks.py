"""Where a ReLU bends, rounding decides: which entries may switch, and what their switching does.

The slope of a ReLU jumps at 0. Of an input nearer to 0 than rounding moves it, two right runs may take
different sides: the values agree, the gradients differ by all that passes there. `find` looks for these
inputs in one batch. Two runs that are steered to one side there have the same gradients but for rounding
(`steered`), and switching all of them by chance shows how far two runs that are not steered may part
(`Kinks.room`).

B batch, T time, F hidden width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from minimega import checkpoint
from minimega.autograd import no_grad, op
from minimega.backend import HALF, library
from minimega.experts import Experts
from minimega.layer import Layer, place
from minimega.mlp import MLP
from minimega.model import Model
from minimega.train import Alone

DRAWS = 4  # how often all that may switch is drawn anew: one entry in 16 then never switches
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

    `on` are the sides (B, T, F) that B takes, `reach` how near to 0 rounding may decide. `room` is the most
    by which an entry of a parameter's gradient changes, `norm` the gradient norm's, relative, when what is
    that near, or SOME of a layer, switches by chance. Of `count` inputs `near` are within reach.
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


def find(weights: Path, dtype: str, batch: tuple, key: int, limit: float, steps: int) -> Kinks:
    """The kinks in reach of rounding when a model computes this batch of inputs and targets.

    `limit` is the distance that rounding explains in a step; in one of several steps the runs are up to
    `steps` times that apart, and more may switch.
    """
    inputs, targets = batch
    model = checkpoint.load_model(weights, "float32" if np.dtype(dtype) in HALF else dtype)
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
    right = _gradients(model, inputs, targets, key)
    rng, room, norms = np.random.default_rng(0), dict.fromkeys(right, 0.0), [_norm(right)]
    for layer in layers:
        z = np.abs(seen[layer.name]).ravel()
        nearest = float(np.partition(z, min(SOME, z.size) - 1)[min(SOME, z.size) - 1])
        r = max(steps * reach[layer.name], nearest)
        _put(layer, lambda z, r=r: steer(z, rng.random(z.shape) < 0.5, r))
    for _ in range(DRAWS):
        other = _gradients(model, inputs, targets, key)
        room = {n: max(room[n], float(np.abs(g - right[n]).max())) for n, g in other.items()}
        norms.append(_norm(other))
    norm = max(abs(n - norms[0]) for n in norms) / (norms[0] or 1.0)
    return Kinks(on, reach, room, norm, near, sum(z.size for z in seen.values()))


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


def _gradients(model: Model, inputs, targets, key: int) -> dict[str, np.ndarray]:
    parameters = model.parameters()
    for p in parameters.values():
        p.grad = None
    Alone().gradients(model, inputs, targets, key)
    return {name: p.grad.astype(np.float64) for name, p in parameters.items()}


def _norm(arrays: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(a * a) for a in arrays.values())))
