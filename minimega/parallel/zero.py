"""ZeRO: the ranks that hold the same parameters share out what they would all keep (Rajbhandari et al. 2019).

    stage                                  1   2   3     bytes a parameter, of 16, on each of p ranks
    what the optimizer remembers           x   x   x     4 + 4 + 8/p    section 5.1
    the gradients                              x   x     4 + 4/p + 8/p  section 5.2
    the weights                                    x     (4 + 4 + 8)/p  section 5.3

A bucket's sum is cut: each rank gets one piece of it (reduce-scatter), changes the weights that it has the
sum of, and tells the others (all-gather). Those are the two halves of an all-reduce, so stages 1 and 2 put no
more bytes on the wire (section 7.2.1). Stage 3 gathers a layer's weights when it runs, forward and again
backward: half as much again at most (section 7.2.2).

The sum of a bucket is one flat array, its parameters one after another, and an owner's piece of it meets a
part of each parameter (of most none): pieces are as equal as they can be, whatever the shapes.
"""

import math
from collections.abc import Callable
from functools import cached_property

from minimega.autograd import Tensor, op
from minimega.backend import library
from minimega.errors import RunFailed
from minimega.layer import Around, Layer, Recomputed
from minimega.model import Model
from minimega.parallel.data import BUCKET, Bucket, Reducer
from minimega.parallel.grid import Grid
from minimega.parameter import Parameter, Shard
from minimega.precision import finite


class SharedBucket(Bucket):
    """A bucket whose ranks own a piece each."""

    @cached_property
    def owned(self) -> list[Shard]:
        """This rank's shard of each parameter."""
        piece, at, shards = self.group.piece(self.size), 0, []
        for p in self.parameters:
            start, stop = (min(max(edge - at, 0), p.local_size) for edge in (piece.start, piece.stop))
            shards.append(Shard(p, slice(start, stop)))
            at += p.local_size
        return shards

    def start(self, flat):
        """partial -> cut."""
        return self.group.start_reduce_scatter(flat, label="gradients")

    def joined(self, arrays: dict, label: str) -> dict:
        """Each rank's arrays of its shards, made whole, by name: cut -> whole, in one message."""
        mine = [arrays[shard.name] for shard in self.owned]
        flat = self.group.all_gather(library(*mine).concatenate(mine), length=self.size, label=label)
        found, at = {}, 0
        for p in self.parameters:
            found[p.name] = flat[at : at + p.local_size].reshape([s.stop - s.start for s in p.piece])
            at += p.local_size
        return found


class Stage1(Reducer):
    """The optimizer's state is shared out: each rank takes the step of its shards alone.

    A gradient stays whole on each rank until all parts of the batch have been added to it.
    """

    bucket = SharedBucket
    under_way = None

    def leave(self, bucket):
        """One bucket is under way at a time, so that no more is held than has to be.

        But at the other end of a pipeline they may wait for us before they can send theirs.
        """
        if self.under_way:
            self.under_way.arrive()
        bucket.leave()
        self.under_way = None if bucket.group is self.grid.ends else bucket

    @cached_property
    def shards(self) -> dict[str, Shard]:
        return {shard.name: shard for b in self.buckets for shard in b.owned}

    def owned(self, parameters):
        return [self.shards.get(p.name, p) for p in parameters]

    def publish(self):
        for b in self.buckets:
            for p, array in zip(b.parameters, self.weights(b).values(), strict=True):
                p.data[...] = array

    def weights(self, bucket: SharedBucket) -> dict:
        return bucket.joined({shard.name: shard.data for shard in bucket.owned}, "weights")

    def joined(self, arrays, label="whole"):
        found = dict(arrays)
        for b in self.buckets:
            found |= b.joined(arrays, label)
        return found


class Stage2(Stage1):
    """The gradients are shared out too: each part of the batch is added up, and only shards of it stay."""

    each_part = True


class Stage3(Stage2):
    """The weights are shared out too: those of one layer of the model's list at a time are here whole.

    They stand in one array, which all layers use in turn; a parameter's `data` is the place where it stands
    while its layer runs. A bucket holds parameters that the same layers use.
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
        self.room, self.here = None, ""
        model.layers = {name: Gathered(layer, self) for name, layer in model.layers.items()}

    def kind(self, p):
        return *super().kind(p), *self.users[p.name]

    def keep(self, p):
        if p.name in self.shards:
            shard, xp = self.shards[p.name], library(p.data)
            if self.room is None:
                most = max(sum(b.size for b in buckets) for buckets in self.used_by.values())
                self.room = xp.empty(most, p.data.dtype)
            shard.kept = p.data.reshape(-1)[shard.span].copy()
            self.place(p, 0)
            self.here = ""

    def place(self, p: Parameter, at: int) -> None:
        p.data = self.room[at : at + p.local_size].reshape([s.stop - s.start for s in p.piece])

    def gather(self, layer: str) -> None:
        """Make the weights of a layer whole, if what stands here is not them: one message a bucket."""
        if self.here == layer:
            return
        self.here, at = layer, 0
        for bucket in self.used_by[layer]:
            for p, array in zip(bucket.parameters, self.weights(bucket).values(), strict=True):
                self.place(p, at)
                p.data[...] = array
                at += p.local_size

    def publish(self):
        self.here = ""  # what stands here is old: the next use gathers the new weights


class Gathered(Around):
    """A layer whose weights are here only while it runs: gathered before its forward and its backward pass.

    It forwards everything else to the layer inside it. Its operations keep the places of
    their weights, so the weights have to be back there before the first of them goes backward. (A gradient
    that is computed late may find another layer's weights there: it must not read any, and none does.)
    """

    def __init__(self, layer: Layer, owner: Stage3):
        super().__init__(layer)
        self.owner = owner

    def __getattr__(self, name: str):
        return getattr(self.layer, name)

    def forward(self, x, place):
        self.gather()
        y = self.layer(x, place)
        # looked for here, while all ranks are: one rank alone could not run the model again to name the layer
        if place.training and not finite(y.data):
            raise RunFailed(f"an activation is not finite: it began in layer {self.name}")
        # tokens have no gradient: the first layer's backward pass needs no weights, but to run forward again
        needed = isinstance(x, Tensor) or isinstance(self.layer, Recomputed)
        return before_backward(y, call=self.gather) if needed else y

    def gather(self) -> None:
        self.owner.gather(self.name)


@op
def before_backward(y, *, call: Callable[[], None]):
    """y itself; `call` is called before the backward passes of what y was made by."""

    def back(dy):
        call()
        return dy

    return y, back


def reducer(model: Model, grid: Grid, bucket: int = BUCKET) -> Reducer:
    """What adds up the gradients of a model, or of this rank's stages of it, under the layout's ZeRO stage.

    Made before the model is drawn or after; `keep` must be told of every parameter that is given data.
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
    """The bytes of a model's state that each of so many ranks holds, at the most that a step takes.

    A model of so many numbers; `sizes` are the bytes of a weight, of its gradient, and of what the optimizer
    keeps of it. Besides what the paper counts (section 5) there is what is `at_once` in messages: the numbers
    of the largest bucket, in stage 3 of the largest layer. Its gradients are there twice, in the arrays of
    the backward pass and in the message that leaves; in stage 3 its weights are there too. The gradient of a
    `tied` table waits from its first use to its second.

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
