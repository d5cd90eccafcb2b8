"""Data parallelism: the gradients of all replicas added up in buckets, while the backward pass still runs.

A bucket holds the gradients of some neighbouring parameters in one flat array, so that few large messages
travel instead of many small ones. It leaves as soon as its last gradient is complete; since the backward
pass completes the last layer first, the buckets are filled from the last parameter to the first (Li et al.
2020, section 3.2).
"""

import functools
import operator
from collections.abc import Iterable

from minimega.backend import library
from minimega.parallel.grid import Grid
from minimega.parameter import Parameter, Shard
from minimega.precision import wide
from minimega.ranks.group import Group, Wait

BUCKET = 1 << 20  # elements: 4 MB of float32


class Bucket:
    """Some parameters whose gradients the same ranks hold; `owned` is what gets the sums."""

    def __init__(self, group: Group):
        self.group, self.parameters, self.size = group, [], 0
        self.empty()

    owned = property(lambda self: self.parameters)

    def empty(self) -> None:
        """Nothing has arrived in it, and it has not left."""
        self.missing, self.left, self.under_way = {p.name for p in self.parameters}, False, []

    def add(self, p: Parameter) -> None:
        self.parameters.append(p)
        self.size += p.local_size

    def leave(self) -> None:
        """Send what is here on its way to the sum; nothing of it stays here."""
        xp = library(self.parameters[0].data)
        grads = (xp.zeros_like(wide(p.data)) if p.grad is None else p.grad for p in self.parameters)
        flat, self.left = xp.concatenate([g.reshape(-1) for g in grads]), True
        for p in self.parameters:
            p.grad = None
        self.under_way.append(self.start(flat))

    def start(self, flat) -> Wait:
        """Start the sum: partial -> whole."""
        return self.group.start_all_reduce(flat, label="gradients")

    def is_complete(self) -> bool:
        """Whether it has left, and no gradient came since."""
        return self.left and all(p.grad is None for p in self.parameters)

    def arrive(self) -> None:
        """Add the sums to the gradients of what is owned here."""
        if not self.under_way:
            return
        flat, at = functools.reduce(operator.add, (wait() for wait in self.under_way)), 0
        for p in self.owned:
            g = flat[at : at + p.data.size].reshape(p.data.shape)
            p.grad = g if p.grad is None else p.grad + g
            at += p.data.size
        self.under_way = []  # or it would hold all of this memory until the next step


class Reducer:
    """Adds gradients up over their holders; `with reducer:` goes around the last backward passes of a step.

    Within it, `open` says whose gradients the next backward pass completes. What follows is for those that
    share out more than the batch (zero.py): here every rank owns all that it holds.
    """

    bucket = Bucket
    each_part = False  # whether each part of an accumulated batch is added up by itself

    def __init__(self, parameters: Iterable[Parameter], grid: Grid, bucket: int = BUCKET):
        self.grid, self.buckets = grid, []
        open_buckets: dict[tuple, Bucket] = {}  # by kind, the one that is not full
        for p in reversed(list(parameters)):
            group, kind = grid.holders(p), self.kind(p)
            if group.size == 1:
                continue
            if kind not in open_buckets or open_buckets[kind].size >= bucket:
                open_buckets[kind] = self.bucket(group)
                self.buckets.append(open_buckets[kind])
            open_buckets[kind].add(p)
        self.bucket_of = {p.name: b for b in self.buckets for p in b.parameters}

    def kind(self, p: Parameter) -> tuple:
        """Parameters of one kind may lie in one bucket: those of one group.

        Apart lies what all ranks of a replica hold: those buckets are the same on each of them, so that sums
        run in one order, and the copies keep the same bits.
        """
        return id(self.grid.holders(p)), p.axis is None

    def __enter__(self) -> "Reducer":
        for b in self.buckets:
            b.empty()
        return self

    def open(self, parameters: Iterable[Parameter]) -> None:
        """From here on the gradients of these parameters may leave as soon as they are complete."""
        for p in parameters:
            if p.name in self.bucket_of:
                p.complete = self.complete

    def complete(self, p: Parameter) -> None:
        """The engine says that the gradient of p is complete: nothing more will be added to it."""
        bucket = self.bucket_of[p.name]
        bucket.missing.discard(p.name)
        # What both ends of a pipeline hold leaves in the end: the first stage, which is the last to have it,
        # may still wait for what this one has to send.
        if not bucket.missing and not bucket.left and bucket.group is not self.grid.ends:
            self.leave(bucket)

    def leave(self, bucket: Bucket) -> None:
        bucket.leave()

    def __exit__(self, kind, *_) -> None:
        for b in self.buckets:
            for p in b.parameters:
                p.complete = None
        if kind is None:
            for b in self.buckets:
                # A recomputed layer is a backward pass of its own, which does not know that a table that it
                # shares with another layer (tied) gets more: then the bucket has left too early.
                if not b.is_complete():
                    self.leave(b)
            for b in self.buckets:
                b.arrive()

    def keep(self, p: Parameter) -> None:
        """Of the data that p was given, keep what this rank holds between the steps."""

    def owned(self, parameters: Iterable[Parameter]) -> list[Parameter | Shard]:
        """What the optimizer changes on this rank: of each parameter all, or a shard."""
        return list(parameters)

    def publish(self) -> None:
        """After the optimizer's step: tell the others the new weights of what is owned here."""

    def joined(self, arrays: dict, label: str = "whole") -> dict:
        """Arrays that are cut as what is owned, by its names, as the parameters on this rank are cut."""
        return arrays
