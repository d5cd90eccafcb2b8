"""Data parallelism: the gradients of all replicas added up in buckets, while the backward pass still runs.

A bucket holds the gradients of some neighbouring parameters in one flat array, so that few large messages
travel instead of many small ones. It leaves as soon as its last gradient is complete; since the backward
pass completes the last layer first, the buckets are filled from the last parameter to the first (Li et al.
2020, section 3.2).
"""

from collections.abc import Iterable

from minimega.backend import library
from minimega.parallel.comm import Group
from minimega.parallel.grid import SERIAL, Grid
from minimega.parameter import Parameter

BUCKET = 1 << 20  # elements: 4 MB of float32


class Bucket:
    """Some parameters whose gradients the same ranks hold."""

    def __init__(self, group: Group):
        self.group, self.parameters, self.size = group, [], 0
        self.empty()

    def empty(self) -> None:
        """Nothing has arrived in it, and it has not left."""
        self.missing, self.wait, self.sent = {p.name for p in self.parameters}, None, []

    def add(self, p: Parameter) -> None:
        self.parameters.append(p)
        self.size += p.data.size

    def leave(self) -> None:
        """Send the sum on its way: partial -> whole."""
        if self.wait:
            self.wait()  # of an earlier time, which was too early: its buffers may go now
        xp, self.sent = library(self.parameters[0].data), [p.grad for p in self.parameters]
        flat = xp.concatenate([g.reshape(-1) for g in self.sent])
        self.wait = self.group.start_all_reduce(flat, label="gradients")

    def is_complete(self) -> bool:
        """Whether it has left, and nothing was added to a gradient since."""
        return bool(self.sent) and all(p.grad is g for p, g in zip(self.parameters, self.sent, strict=True))

    def arrive(self) -> None:
        """Put the sums where the gradients were."""
        flat, at = self.wait(), 0
        for p in self.parameters:
            p.grad = flat[at : at + p.data.size].reshape(p.data.shape)
            at += p.data.size
        self.empty()  # or it would hold all of this memory until the next step


class Reducer:
    """Adds gradients up over their holders; `with reducer:` goes around the last backward passes of a step.

    Within it, `open` says whose gradients the next backward pass completes.
    """

    def __init__(self, parameters: Iterable[Parameter], grid: Grid, bucket: int = BUCKET):
        self.grid, self.buckets = grid, []
        # The one that is not full, by group, and apart for what all ranks of a replica hold: those buckets
        # are the same on each of them, so that sums run in one order, and the copies keep the same bits.
        open_buckets: dict[tuple[int, bool], Bucket] = {}
        for p in reversed(list(parameters)):
            group = grid.holders(p)
            if group.size == 1:
                continue
            kind = id(group), p.axis is None
            if kind not in open_buckets or open_buckets[kind].size >= bucket:
                open_buckets[kind] = Bucket(group)
                self.buckets.append(open_buckets[kind])
            open_buckets[kind].add(p)
        self.bucket_of = {p.name: b for b in self.buckets for p in b.parameters}

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
        if not bucket.missing and bucket.wait is None:
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
                    b.leave()
            for b in self.buckets:
                b.arrive()


ALONE = Reducer((), SERIAL)  # for one rank: there is nothing to add up
