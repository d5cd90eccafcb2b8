"""Data parallelism: the gradients of all replicas added up in buckets, while the backward pass still runs.

A bucket holds the gradients of some neighbouring parameters in one flat array, so that few large messages
travel instead of many small ones. It leaves as soon as its last gradient is complete; since the backward
pass completes the last layer first, the buckets are filled from the last parameter to the first (Li et al.
2020, section 3.2).
"""

from collections.abc import Iterable

from minimega.backend import library
from minimega.parallel.comm import Group, Wait
from minimega.parallel.grid import SERIAL, Grid
from minimega.parameter import Parameter

BUCKET = 1 << 20  # elements: 4 MB of float32


class Bucket:
    """Some parameters whose gradients the same ranks hold."""

    def __init__(self, group: Group):
        self.group, self.parameters, self.size = group, [], 0
        self.missing: set[str] = set()
        self.wait: Wait | None = None

    def add(self, p: Parameter) -> None:
        self.parameters.append(p)
        self.size += p.data.size

    def leave(self) -> None:
        """Send the sum on its way: partial -> whole."""
        xp = library(self.parameters[0].data)
        flat = xp.concatenate([p.grad.reshape(-1) for p in self.parameters])
        self.wait = self.group.start_all_reduce(flat, label="gradients")

    def arrive(self) -> None:
        """Put the sums where the gradients were."""
        flat, at = self.wait(), 0
        for p in self.parameters:
            p.grad = flat[at : at + p.data.size].reshape(p.data.shape)
            at += p.data.size


class Reducer:
    """Adds gradients up over their holders; `with reducer:` goes around the last backward pass of a step."""

    def __init__(self, parameters: Iterable[Parameter], grid: Grid, bucket: int = BUCKET):
        self.grid, self.buckets = grid, []
        open_buckets: dict[int, Bucket] = {}  # by group, the one that is not full
        for p in reversed(list(parameters)):
            group = grid.holders(p)
            if group.size == 1:
                continue
            if id(group) not in open_buckets or open_buckets[id(group)].size >= bucket:
                open_buckets[id(group)] = Bucket(group)
                self.buckets.append(open_buckets[id(group)])
            open_buckets[id(group)].add(p)
        self.bucket_of = {p.name: b for b in self.buckets for p in b.parameters}

    def __enter__(self) -> "Reducer":
        for b in self.buckets:
            b.missing, b.wait = {p.name for p in b.parameters}, None
            for p in b.parameters:
                p.complete = self.complete
        return self

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
                if b.wait is None:  # a gradient that came by a way of its own (recomputation)
                    b.leave()
            for b in self.buckets:
                b.arrive()


ALONE = Reducer((), SERIAL)  # for one rank: there is nothing to add up
