"""Pipeline parallelism: the list of layers cut into stages, and the interpreter of schedules.

B batch, T time, D width, V vocabulary; p ranks, r one of them, m micro-batches, v chunks per rank.
"""

import functools
from collections.abc import Iterable
from dataclasses import replace
from typing import Self, cast

import numpy as np

from minimega.autograd import Tensor, add_up, parameters_later
from minimega.backend import library
from minimega.errors import RunFailed
from minimega.head import Head
from minimega.layer import Layer, Place, place
from minimega.model import Model
from minimega.parallel.data import Reducer
from minimega.parallel.layout import check_stages
from minimega.parallel.schedules import SCHEDULES, Action, forward_only, neighbour
from minimega.precision import finite
from minimega.ranks.group import SELF, Group, pieces
from minimega.train import origin

Batch = tuple  # inputs (B, T), targets (B, T) or None, and their Place


@functools.cache
def actions(name: str, p: int, m: int, v: int, r: int) -> tuple[Action, ...]:
    """The actions of rank r of p in the named schedule, with m micro-batches and v chunks per rank."""
    return tuple(SCHEDULES[name](p, m, v)[r])


class Run:
    """Executes one rank's list of actions on the micro-batches of one step.

    Messages are arrays (B, T, D), T the tokens that the rank holds, so both sides know the shape.
    A receive is started at its place in the list and waited for when its array is needed; sends overlap with
    what follows. `count` is the number of counted targets of the whole step, `loss` this rank's part of the
    loss. `kept`, `halves` and `dx` are indexed by `Action.key`.
    """

    def __init__(
        self, model: Model, batches: list[Batch], count: int | None = None, reducer: Reducer | None = None
    ):
        self.model, self.count, self.reducer = model, count, reducer
        self.first = next(iter(model.parameters().values()))  # for the library and the dtype of messages
        # later stages get vectors: what their layers ask of the tokens is in the place
        self.batches = [
            (x, y, at if at.tokens is not None else replace(at, tokens=x)) for x, y, at in batches
        ]
        stages = stages_of(model)
        self.group, self.chunks = stages.pipeline, stages.chunks
        self.stages = self.group.size * len(self.chunks)
        self.kept, self.halves = {}, {}  # inputs and outputs; deferred weight gradients
        self.coming, self.dx, self.sent, self.loss = {}, {}, [], 0.0
        self.act = {
            "forward": self.forward,
            "backward": self.backward,
            "backward-input": self.backward_input,
            "backward-weight": self.backward_weight,
            "reduce": self.reduce,
            "send": self.send,
            "receive": self.receive,
        }

    def execute(self, actions: Iterable[Action]) -> Self:
        """Execute the actions in order, wait for all sends, and return the run."""
        for a in actions:
            self.act[a.kind](a)
        for wait in self.sent:
            wait()
        return self

    def forward(self, a: Action) -> None:
        """Run a chunk forward, on the last stage with the loss; raises RunFailed if it is not finite."""
        (inputs, targets, at), chunk = self.batches[a.batch], self.chunks[a.chunk]
        x = Tensor(self.coming.pop(("x", *a.key))()) if self._stage(a) else inputs
        with_loss = targets is not None and self._stage(a) == self.stages - 1

        def through() -> Tensor:
            return chunk.loss(x, targets, at, self.count) if with_loss else chunk.hidden(x, at)

        y = through()
        self.kept[a.key] = x, y
        if at.training and not finite(y.data):
            what = f"the loss is {float(y.data)}" if with_loss else "an activation is not finite"
            raise RunFailed(f"{what}: it began in {origin(chunk, through)}")
        self.loss += float(y.data if with_loss else chunk.extra(at))

    def backward(self, a: Action) -> None:
        """Run a chunk backward, from the loss or a received gradient, and keep the gradient of its input."""
        (x, y), at = self.kept.pop(a.key), self.batches[a.batch][2]
        y.backward(at.scale if self._stage(a) == self.stages - 1 else self.coming.pop(("dx", *a.key))())
        if self._stage(a):
            self.dx[a.key] = x.grad

    def backward_input(self, a: Action) -> None:
        """Run a chunk backward, and defer its parameters' gradients."""
        with parameters_later() as self.halves[a.key]:
            self.backward(a)

    def backward_weight(self, a: Action) -> None:
        """Compute the deferred gradients of the parameters."""
        add_up(self.halves.pop(a.key))

    def reduce(self, a: Action) -> None:
        """Let the reducer send the chunk's gradients as the next backward completes them."""
        if self.reducer:
            self.reducer.open(self.chunks[a.chunk].parameters().values())

    def send(self, a: Action) -> None:
        """Start to send an activation or a gradient to the neighbour; keep few sends in flight."""
        x = self.kept[a.key][1].data if a.what == "x" else self.dx.pop(a.key)
        self.sent.append(self.group.start_send(x, neighbour(a, self.group.rank, self.group.size), a.what))
        if len(self.sent) > 2 * self.stages:  # the oldest send must have finished
            self.sent.pop(0)()

    def receive(self, a: Action) -> None:
        """Start to receive an activation or a gradient from the neighbour."""
        inputs, _, at = self.batches[a.batch]
        held = self.model.shares.tokens(len(at.positions))
        like = self.first.data
        shape = len(inputs), held.stop - held.start, self.model.config.d_model
        y = library(like).empty(shape, like.dtype)
        source = neighbour(a, self.group.rank, self.group.size)
        self.coming[a.what, *a.key] = self.group.start_receive(y, source)

    def _stage(self, a: Action) -> int:
        return a.chunk * self.group.size + self.group.rank


class Whole:
    """An uncut model as the only stage of a pipeline of one rank."""

    pipeline = SELF

    def __init__(self, model: Model):
        self.entire, self.chunks = model, [model]

    def home(self, parameter: str) -> int:
        """The rank of the pipeline that writes this parameter of the entire model."""
        return 0


class Staged(Model):
    """One pipeline rank's stages of a model; made by `staged`.

    `entire` is the whole model, of which only this rank's layers are drawn; `chunks` are its stages.
    """

    def __init__(self, model: Model, pipeline: Group, v: int):
        check_stages(model.config, pipeline.size * v)
        p, layers = pipeline.size, _cut(model.layers, model.config.num_layers, pipeline.size * v)
        parts = [Model(model.config, of_stage).cut(model.shares) for of_stage in layers]
        self.entire, self.pipeline, self.chunks = model, pipeline, parts[pipeline.rank :: p]
        own = {name: layer for chunk in self.chunks for name, layer in chunk.layers.items()}
        super().__init__(model.config, own)
        self.shares = model.shares
        self.homes: dict[str, list[int]] = {}  # by parameter, the pipeline ranks that hold it
        for stage, part in enumerate(parts):
            for name in part.parameters():
                self.homes.setdefault(name, []).append(stage % p)
        for name, parameter in self.parameters().items():
            parameter.at_both_ends = len(self.homes[name]) > 1

    def home(self, parameter: str) -> int:
        """The rank of the pipeline that writes this parameter of the entire model."""
        return min(self.homes[parameter])

    def count(self):
        """The number of parameters of the entire model."""
        return self.entire.count()

    def _run(self, tokens, targets, at: Place | None, count: int | None = None) -> Run:
        run = Run(self, [(tokens, targets, at or place(tokens))], count)
        return run.execute(forward_only(self.pipeline.size, len(self.chunks))[self.pipeline.rank])

    def hidden(self, tokens, at=None):
        """The last layer's output on the ranks of the last stage; on others, what their last chunk sent."""
        return self._run(tokens, None, at).kept[0, len(self.chunks) - 1][1]

    def forward(self, tokens, at=None):
        """The logits (B, T, V), broadcast to all stages."""
        y, (batch, time), last = self.hidden(tokens, at), tokens.shape, self.pipeline.size - 1
        shape = batch, time, self.config.vocab_size
        if self.pipeline.rank == last:
            y = cast(Head, self.layers["head"]).whole(y).data
        else:
            y = library(y.data).empty(shape, y.dtype)
        return Tensor(self.pipeline.broadcast(y, root=last, label="logits"))

    def loss(self, tokens, targets, at=None, count=None):
        """This rank's part of the loss: the sum over the pipeline is the loss."""
        return Tensor(np.array(self._run(tokens, targets, at, count).loss))


def _cut(layers: dict[str, Layer], blocks: int, stages: int) -> list[dict[str, Layer]]:
    """The layers of each stage: blocks as even as possible, longer stages first.

    The embedding goes to the first stage, the layers after the blocks to the last. The head is much work, so
    the last stage gets fewer blocks.
    """
    names = list(layers)
    parts = [names[1 + s.start : 1 + s.stop] for s in pieces(blocks, stages)]
    parts[0] = names[:1] + parts[0]
    parts[-1] = parts[-1] + names[1 + blocks :]
    return [{name: layers[name] for name in part} for part in parts]


def stages_of(model: Model) -> Staged | Whole:
    """A model's stages on this rank; an uncut model is one stage."""
    return model if isinstance(model, Staged) else Whole(model)


def staged(model: Model, pipeline: Group, v: int = 1) -> Model:
    """This rank's stages of a model, drawn or not; the model itself if the pipeline has one rank.

    Rank r of p has the stages r, p + r... of v p. Raises BadInput if there are fewer blocks than stages.
    """
    return model if pipeline.size == 1 else Staged(model, pipeline, v)
