"""One batch through a run's model, cut as the run cuts it: every number that comes out, in one file.

    python -m minimega.measure RUN WEIGHTS BATCH OUT

WEIGHTS is a .safetensors of any layout, BATCH an .npz of inputs (B, T), targets (B, T) and the step, which
decides the dropout. OUT is an .npz: output/LAYER (B, T, D), number/loss, number/gradient norm and
gradient/PARAMETER, all of them whole.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace as Options

import numpy as np

from minimega import checkpoint, launch, options, random
from minimega.autograd import no_grad
from minimega.backend import device, to_numpy, wide
from minimega.layer import Layer, Place
from minimega.model import Block, Model
from minimega.optim import gradient_norm, unscale
from minimega.parallel.data import Reducer
from minimega.parallel.grid import Grid, micro_batches, on_ranks, virtual_stages
from minimega.parallel.pipeline import staged
from minimega.precision import loss_scale
from minimega.train import Recipe, gradients


def measure(run: Path, weights: Path, batch: Path, out: Path) -> int:
    """Start the ranks that this run needs, and measure there; gives the exit status."""
    o = options.complete("train", options.read(str(run / "config.toml")))
    o.words = ["-m", "minimega.measure", *map(str, (run, weights, batch, out))]
    return on_ranks(o, lambda grid: _measure(o, grid, weights, batch, out))


def _measure(o: Options, grid: Grid, weights: Path, batch: Path, out: Path) -> int:
    xp = device(o.device)
    with np.load(batch) as file:
        inputs, targets, key = file["inputs"], file["targets"], random.key(o.seed, "step", int(file["step"]))
    inputs, targets = xp.asarray(inputs), xp.asarray(targets)
    model = checkpoint.load_model(weights, o.dtype, xp, grid.shares)
    rows, length = grid.rows(len(inputs)), inputs.shape[1]
    x, held = inputs[rows], grid.shares.tokens(length)
    at = Place(xp.arange(rows.start, rows.stop), xp.arange(length), key, training=True, held=held)
    found = {}
    with no_grad():
        for layer in _layers(model):
            x = layer(x, at)
            y = grid.tensor.all_gather(x.data, 1, length) if grid.shares.partial else x.data
            found[f"output/{layer.name}"] = to_numpy(wide(grid.data.all_gather(y)))
    model = staged(model, grid.pipeline, virtual_stages(o))
    parameters, recipe = model.parameters(), Recipe(1, pipeline=o.pipeline, micro_batches=micro_batches(o))
    reducer, todo = Reducer(parameters.values(), grid), recipe.actions(model)
    scale = _scale(weights, o.dtype)
    loss = gradients(model, inputs, targets, key, o.accumulate, reducer, todo, scale)
    unscale(parameters.values(), scale)
    norm = gradient_norm(parameters.values(), grid.tensor, grid.pipeline)
    whole = checkpoint.gathered(model, {name: p.grad for name, p in parameters.items()})
    found |= {"number/loss": np.float64(loss), "number/gradient norm": np.float64(norm)}
    found |= {f"gradient/{name}": gradient for name, gradient in whole.items()}
    if grid.first:
        np.savez(out, **found)
    return 0


def _scale(weights: Path, dtype: str) -> float:
    """That of the run which these weights come from, or the one to begin with."""
    state, scale = weights.with_name("state.json"), loss_scale(dtype)
    if state.is_file() and dtype == "float16":
        vars(scale).update(json.loads(state.read_text()).get("loss_scale", {}))
    return scale.value


def _layers(model: Model) -> Iterator[Layer]:
    """The layers before the head, a block's two branches each."""
    for name, layer in model.layers.items():
        if isinstance(layer, Block):
            yield from (part for _, part in layer.parts())
        elif name != "head":
            yield layer


if __name__ == "__main__":
    launch.guard()
    sys.exit(measure(*map(Path, sys.argv[1:])))
