"""Training over the ranks of a grid: the interface of `train.Alone`, with the same results.

B batch, T time.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np

from minimega.autograd import no_grad
from minimega.backend import library
from minimega.errors import BadInput
from minimega.layer import Place, place
from minimega.model import Config, Model, gpt
from minimega.optim import sum_of_squares
from minimega.parallel import zero
from minimega.parallel.context import share
from minimega.parallel.data import BUCKET
from minimega.parallel.grid import Grid
from minimega.parallel.pipeline import Run, actions, staged
from minimega.ranks.group import first_text
from minimega.train import Alone


class Team(Alone):
    """One rank of a grid, with its part of the model (see `build`).

    Every rank passes the whole batch and gets the same results. Make it before the model is drawn, or after;
    call `keep` for every parameter that gets data by other means than `draw`. `bucket` is the size of a
    gradient message, in elements; `run` replaces `Run` (costs/stopwatch.py).
    """

    def __init__(self, model: Model, grid: Grid, bucket: int = BUCKET, run: Callable[..., Run] | None = None):
        cut = grid.layout
        super().__init__(cut.accumulate)
        self.grid, self.run, self.reducer = grid, run or Run, zero.reducer(model, grid, bucket)
        where = grid.pipeline.size, cut.micro_batches, cut.virtual_stages, grid.pipeline.rank
        self.actions = actions(cut.pipeline, *where)

    def gradients(self, model, inputs, targets, key=0, scale=1.0):
        """As `Alone.gradients`: each replica works on its rows, each context rank on its tokens of them.

        Raises BadInput if the batch cannot be split evenly, RunFailed if the loss is not finite.
        """
        grid, cut, xp = self.grid, self.grid.layout, library(inputs)
        count, loss, window = int((targets >= 0).sum()), 0.0, xp.arange(inputs.shape[1])
        mine = grid.rows(len(inputs))
        rows, known = xp.arange(mine.start, mine.stop), {"sequences": len(inputs), "scale": scale}
        if len(rows) % cut.parts:
            raise BadInput(f"{len(rows)} sequences cannot be split into {cut.parts} equal parts")
        for n, part in enumerate(rows.reshape(cut.accumulate, cut.micro_batches, -1), 1):
            at = [Place(rows, window, key, training=True, **known) for rows in part]
            whole = [(inputs[rows], targets[rows], where) for rows, where in zip(part, at, strict=True)]
            batches = [share(*batch, grid.context) for batch in whole]
            reducer = self.reducer if n == cut.accumulate or self.reducer.each_part else None
            with reducer or nullcontext():
                loss += self.run(model, batches, count, reducer).execute(self.actions).loss
        loss = grid.copies.all_reduce(np.array(loss), label="loss")
        return float(grid.pipeline.all_reduce(loss, label="loss"))  # only the last stage has one

    def evaluate(self, model, windows, batch):
        """As `Alone.evaluate`: each replica takes every dp-th batch, each context rank its tokens.

        A replica without a batch runs the first window and does not count it: others may need the experts or
        weights that it holds.
        """
        grid, xp = self.grid, library(next(iter(model.parameters().values())).data)
        sums = np.zeros(2)  # of the losses, and the number of targets
        with no_grad():
            for start in range(0, len(windows), grid.data.size * batch):
                first = start + grid.data.rank * batch
                mine = np.arange(len(windows))[first : first + batch]
                inputs, targets = (xp.asarray(part) for part in windows.take(mine if len(mine) else [0]))
                inputs, targets, at = share(inputs, targets, place(inputs), grid.context)
                counted = int((targets >= 0).sum()) if len(mine) else 0
                sums += counted * float(model.loss(inputs, targets, at).data), counted
        total, count = grid.copies.all_reduce(sums, label="evaluation")
        return float(grid.pipeline.all_reduce(total, label="evaluation") / count)

    def keep(self, p):
        """Keep all of p's data, or this rank's shard (ZeRO 3)."""
        self.reducer.keep(p)

    def owned(self, model):
        """The parameters on this rank, or its shards of them (ZeRO)."""
        return self.reducer.owned(model.parameters().values())

    def joined(self, arrays):
        """Shards are gathered (ZeRO)."""
        return self.reducer.joined(arrays)

    def norm(self, owned):
        """The norm over all ranks; a piece that n ranks hold counts 1/n on each of them."""
        total = float(sum((sum_of_squares(p) / self.grid.copies_of(p) for p in owned), 0.0))
        return math.sqrt(float(self.grid.world.all_reduce(np.array(total), label="norm")))

    def not_finite(self, owned):
        """The name of a parameter whose gradient is not finite on some rank, the same on all ranks."""
        return first_text(super().not_finite(owned), self.grid.world)

    def publish(self):
        """Gather the updated weights of the shards (ZeRO)."""
        self.reducer.publish()


def build(config: Config, grid: Grid, **options) -> tuple[Model, Alone]:
    """This rank's part of a model, not drawn yet, and the team that trains it; `options` go to Team.

    A single rank gets the whole model and `Alone`.
    """
    cut = grid.layout
    model = staged(gpt(config, grid.shares, cut.recompute), grid.pipeline, cut.virtual_stages)
    return model, team_of(model, grid, **options)


def team_of(model: Model, grid: Grid, **options) -> Alone:
    """The team of a model that is already cut for this grid; `options` go to Team."""
    alone = grid.world.size == 1 and not options
    return Alone(grid.layout.parts) if alone else Team(model, grid, **options)
