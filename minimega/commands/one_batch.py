"""Computes one batch in the layout of a run, and writes every result to one file.

    python -m minimega.commands.one_batch RUN WEIGHTS BATCH OUT

WEIGHTS is a checkpoint folder of any layout. BATCH is an .npz with inputs (B, T), targets (B, T), the step
(it decides the dropout), and the sides that ReLUs take near their kink (kinks.py). OUT is an .npz of whole
arrays: output/LAYER (B, T, D), number/loss, number/gradient norm and gradient/PARAMETER.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Options
from typing import Any

import numpy as np

from minimega import random
from minimega.autograd import no_grad
from minimega.backend import device, library, to_numpy
from minimega.checkpoint import checkpoint, run_folder
from minimega.commands import kinks, options, threads
from minimega.commands.on_ranks import on_ranks
from minimega.layer import Layer, Place
from minimega.model import Block, Model
from minimega.optim import unscale
from minimega.parallel.context import share
from minimega.parallel.grid import Grid
from minimega.parallel.pipeline import staged, stages_of
from minimega.parallel.team import team_of
from minimega.precision import loss_scale, wide
from minimega.ranks import launch


def measure(run: Path, weights: Path, batch: Path, out: Path) -> int:
    """Start the ranks of this run's layout and compute the batch there; return the exit status."""
    o = options.complete("train", options.read(str(run / "config.toml")))
    o.words = ["-m", "minimega.commands.one_batch", *map(str, (run, weights, batch, out))]
    return on_ranks(o, lambda o, grid: _measure(o, grid, weights, batch, out))


def _measure(o: Options, grid: Grid, weights: Path, batch: Path, out: Path) -> int:
    xp = device(o.device)
    with np.load(batch) as file:
        arrays = dict(file)
    inputs, targets, key = (
        arrays["inputs"],
        arrays["targets"],
        random.key(o.seed, "step", int(arrays["step"])),
    )
    inputs, targets = xp.asarray(inputs), xp.asarray(targets)
    model = checkpoint.load_model(weights, o.dtype, xp, grid.shares)
    threads.settle(o, grid.world, model.config)
    kinks.steered(model, arrays)
    rows = grid.rows(len(inputs))
    window = xp.arange(inputs.shape[1])
    at = Place(xp.arange(rows.start, rows.stop), window, key, training=True, tokens=inputs[rows])
    x, _, at = share(inputs[rows], targets[rows], at, grid.context)
    tokens = len(at.positions)
    at = replace(at, local=grid.shares.tokens(tokens))
    found: dict[str, Any] = {}
    with no_grad():
        for layer in _layers(model):
            x = layer(x, at)
            y = grid.tensor.all_gather(x.data, 1, tokens) if grid.shares.partial else x.data
            whole = xp.zeros((*inputs[rows].shape, y.shape[-1]), y.dtype)
            whole[:, at.positions] = y  # other ranks' tokens stay 0
            whole = grid.context.all_reduce(whole)
            found[f"output/{layer.name}"] = to_numpy(wide(grid.data.all_gather(whole)))
    model = staged(model, grid.pipeline, grid.layout.virtual_stages)
    team, scale = team_of(model, grid), _scale(weights, o.dtype)
    for p in model.parameters().values():
        team.keep(p)
    owned = team.owned(model)
    loss = team.gradients(model, inputs, targets, key, scale)
    unscale(owned, scale)
    norm = team.norm(owned)
    whole = gathered(model, team.joined({p.name: p.grad for p in owned}))
    found |= {"number/loss": np.float64(loss), "number/gradient norm": np.float64(norm)}
    found |= {f"gradient/{name}": gradient for name, gradient in whole.items()}
    if grid.first:
        np.savez(out, **found)
    return 0


def gathered(model: Model, arrays: dict) -> dict[str, np.ndarray]:
    """Collect arrays by parameter name from all stages, whole, on the first stage; {} on the others."""
    stages, found = stages_of(model), {}
    group, like = stages.pipeline, next(iter(arrays.values()))
    for name, p in stages.entire.parameters().items():
        home = stages.home(name)
        if group.rank == home:
            array = p.whole(arrays[name])
            if home:
                group.start_send(array, 0, "gradients")()
        elif group.rank == 0:
            array = group.start_receive(library(like).empty(p.whole_shape, like.dtype), home)()
        if group.rank == 0:
            found[name] = to_numpy(array)
    return found


def _scale(checkpoint_folder: Path, dtype: str) -> float:
    """The loss scale of the run that wrote these weights, else the initial one."""
    scale = loss_scale(dtype)
    if dtype == "float16":
        vars(scale).update(run_folder.read_state(checkpoint_folder).get("loss_scale", {}))
    return scale.value


def _layers(model: Model) -> Iterator[Layer]:
    """The layers before the head; a GPT's block gives its two branches."""
    for name, layer in model.layers.items():
        if type(layer) is Block:
            yield from (part for _, part in layer.parts() if isinstance(part, Layer))
        elif name != "head":
            yield layer


if __name__ == "__main__":
    launch.guard()
    sys.exit(measure(*map(Path, sys.argv[1:])))
