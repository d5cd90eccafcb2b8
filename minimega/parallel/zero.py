"""ZeRO: ranks that hold the same parameters shard what they would all keep (Rajbhandari et al. 2019).

    what is sharded                stage   1   2   3     bytes per parameter, of 16, on each of p ranks
    the optimizer's state                  x   x   x     4 + 4 + 8/p    section 5.1
    the gradients                              x   x     4 + 4/p + 8/p  section 5.2
    the weights                                    x     (4 + 4 + 8)/p  section 5.3

Each rank gets one piece of a bucket's sum (reduce-scatter), updates the weights of that piece, and sends them
to the others (all-gather). Together these are an all-reduce, so stages 1 and 2 send no more bytes than data
parallelism (section 7.2.1). Stage 3 gathers a layer's weights when it runs, forward and again backward: at
most 1.5 times the bytes (section 7.2.2).

A bucket is one flat array of its parameters, cut as evenly as possible, whatever their shapes. So a rank's
shard of a parameter may be a part of it, or empty.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

from minimega.autograd import Tensor, op
from minimega.backend import library
from minimega.errors import RunFailed
from minimega.layer import Around, Layer, Recomputed
from minimega.model import Model
from minimega.parallel.data import BUCKET, Bucket, Reducer
from minimega.parallel.grid import Grid
from minimega.parallel.shard import Shard
from minimega.parameter import Parameter
from minimega.precision import finite


class SharedBucket(Bucket):
    """A bucket of which each rank owns one piece."""

    @cached_property
    def owned(self) -> list[Shard]:
        """This rank's shard of each parameter; most may be empty."""
        piece, at, shards = self.group.piece(self.size), 0, []
        for p in self.parameters:
            start, stop = (min(max(edge - at, 0), p.local_size) for edge in (piece.start, piece.stop))
            shards.append(Shard(p, slice(start, stop)))
            at += p.local_size
        return shards

    def start(self, flat):
        """Start the sum of a flat bucket (`size`,): partial -> cut."""
        return self.group.start_reduce_scatter(flat, label="gradients")

    def joined(self, arrays: dict, label: str) -> dict:
        """All ranks' arrays of their shards, joined, by parameter name: cut -> whole, in one message."""
        mine = [arrays[shard.name] for shard in self.owned]
        flat = self.group.all_gather(library(*mine).concatenate(mine), length=self.size, label=label)
        found, at = {}, 0
        for p in self.parameters:
            found[p.name] = flat[at : at + p.local_size].reshape([s.stop - s.start for s in p.piece])
            at += p.local_size
        return found


class Stage1(Reducer):
    """ZeRO 1 shards the optimizer's state: each rank updates only its shards.

    Gradients stay whole on each rank until all parts of the batch have been added.
    """

    bucket = SharedBucket
    under_way: Any = None  # a bucket, between its message's start and its arrival

    def leave(self, bucket):
        """Send a bucket once the one before has arrived: only one is in flight, to save memory.

        Buckets of both pipeline ends are not waited for: the other end may need our messages to send its own.
        """
        if self.under_way:
            self.under_way.arrive()
        bucket.leave()
        self.under_way = None if self.grid.at_ends(bucket.group) else bucket

    @cached_property
    def shards(self) -> dict[str, Shard]:
        """This rank's shards, by parameter name."""
        return {shard.name: shard for b in self.buckets for shard in b.owned}

    def owned(self, parameters):
        """This rank's shards; a parameter that no other rank holds stays whole."""
        return [self.shards.get(p.name, p) for p in parameters]

    def publish(self):
        """Gather the new weights, one bucket after another."""
        for b in self.buckets:
            for p, array in zip(b.parameters, self.weights(b).values(), strict=True):
                p.data[...] = array

    def weights(self, bucket: Any) -> dict:
        """Gather a bucket's weights, by parameter name."""
        return bucket.joined({shard.name: shard.data for shard in bucket.owned}, "weights")

    def joined(self, arrays, label="whole"):
        """Shards are gathered, one message per bucket."""
        found = dict(arrays)
        for b in self.buckets:
            found |= b.joined(arrays, label)
        return found


class Stage2(Stage1):
    """ZeRO 2 also shards gradients: each part of the batch is summed, and each rank keeps its shards."""

    each_part = True


class Stage3(Stage2):
    """ZeRO 3 also shards weights: only one layer of the model's list at a time has its whole weights here.

    All layers use one array (`room`) in turn; a parameter's `data` is its place in it while its layer runs.
    `here` names the layer whose weights are there. A bucket holds parameters that the same layers use.
    """

    def __init__(self, model: Model, grid: Grid):
        layers = {name: layer.parameters().values() for name, layer in model.layers.items()}
        self.users: dict[str, list[str]] = {}
        for name, p in ((name, p) for name, inside in layers.items() for p in inside):
            self.users.setdefault(p.name, []).append(name)
        super().__init__(model.parameters().values(), grid, math.inf)
        self.used_by = {
            name: [b for b in self.buckets if name in self.users[b.parameters[0].name]] for name in layers
        }
        self.room: Any = None  # an array of either library, once a parameter is kept
        self.here = ""
        gathered: dict[str, Layer] = {name: Gathered(layer, self) for name, layer in model.layers.items()}
        model.layers = gathered

    def kind(self, p):
        """Also the layers that use p."""
        return *super().kind(p), *self.users[p.name]

    def keep(self, p):
        """Copy this rank's shard; p's data moves into `room`."""
        if p.name in self.shards:
            shard, xp = self.shards[p.name], library(p.data)
            if self.room is None:
                most = max(sum(b.size for b in buckets) for buckets in self.used_by.values())
                self.room = xp.empty(most, p.data.dtype)
            shard.kept = p.data.reshape(-1)[shard.span].copy()
            self.place(p, 0)
            self.here = ""

    def place(self, p: Parameter, at: int) -> None:
        """Let p's data be the part of `room` that begins at element `at`."""
        p.data = self.room[at : at + p.local_size].reshape([s.stop - s.start for s in p.piece])

    def gather(self, layer: str) -> None:
        """Gather a layer's weights into `room`, unless they are there: one message per bucket."""
        if self.here == layer:
            return
        self.here, at = layer, 0
        for bucket in self.used_by[layer]:
            for p, array in zip(bucket.parameters, self.weights(bucket).values(), strict=True):
                self.place(p, at)
                p.data[...] = array
                at += p.local_size

    def publish(self):
        """Nothing is sent now: the next use of a layer gathers its new weights."""
        self.here = ""  # the weights in `room` are old


class Gathered(Around):
    """A layer whose weights are gathered before its forward and its backward pass.

    It forwards everything else to the layer inside it. Operations keep views of their weights, so the weights
    must be back in place before the first of them runs backward. (A gradient that is computed later may find
    another layer's weights there. It must not read any, and none does.)
    """

    def __init__(self, layer: Layer, owner: Stage3):
        super().__init__(layer)
        self.owner = owner

    def __getattr__(self, name: str):
        return getattr(self.layer, name)

    def forward(self, x, place):
        """The layer's forward; raises RunFailed if its output is not finite in training."""
        self.gather()
        y = self.layer(x, place)
        # checked here, where all ranks are: one rank alone could not rerun the model to find the layer
        if place.training and not finite(y.data):
            raise RunFailed(f"an activation is not finite: it began in layer {self.name}")
        # The first layer's input needs no gradient: backward needs its weights only to recompute, or for the
        # gradient of the table through its projection.
        layer: Any = self.layer
        needed = isinstance(x, Tensor) or isinstance(layer, Recomputed) or layer.projection is not None
        return before_backward(y, call=self.gather) if needed else y

    def gather(self) -> None:
        """Gather this layer's weights."""
        self.owner.gather(self.name)


@op(exact=True)
def before_backward(y, *, call: Callable[[], None]):
    """y itself; `call` runs before the backward of the operations that made y."""

    def back(dy):
        call()
        return dy

    return y, back


def reducer(model: Model, grid: Grid, bucket: int = BUCKET) -> Reducer:
    """The reducer of a model, or of this rank's stages of it, for the layout's ZeRO stage.

    Make it before the model is drawn or after, and call `keep` for every parameter that is given data.
    """
    if grid.layout.zero == 3:
        return Stage3(model, grid)
    return (Reducer, Stage1, Stage2)[grid.layout.zero](model.parameters().values(), grid, bucket)


def state_bytes(
    stage: int,
    numbers: int,
    ranks: int,
    at_once: int = 0,
    tied: int = 0,
    sizes: tuple[int, int, int] = (4, 4, 8),
) -> dict[str, int]:
    """Bytes of a model's state on each of `ranks` ranks, at the peak of a step.

    `numbers` is the model's number of parameters; `sizes` are the bytes of a weight, its gradient and its
    optimizer state. The paper (section 5) does not count messages. `at_once` is the number of parameters in
    flight: the largest bucket, in stage 3 the largest layer. Their gradients exist twice, in the arrays of
    backward and in the message; in stage 3 their whole weights are here too. The gradient of a `tied` table
    (its number of parameters) waits from its first use to its second.

    >>> sum(state_bytes(2, 7_500_000_000, ranks=64).values()) / 7.5e9      # 4 + 4/64 + 8/64
    4.1875
    """
    share, (weight, gradient, kept) = -(-numbers // ranks), sizes
    gradients = {0: numbers, 1: numbers + at_once}.get(stage, share + 2 * at_once + tied)
    return {
        "parameters": weight * (numbers if stage < 3 else share + at_once),
        "gradients": gradient * gradients,
        "optimizer": kept * (share if stage else numbers),
    }
