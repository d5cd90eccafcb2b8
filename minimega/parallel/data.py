"""Data parallelism: gradients are summed over the replicas in buckets, while the backward pass still runs.

A bucket is one flat array of neighbouring parameters' gradients: a few large messages instead of many small
ones. It is sent as soon as its last gradient is complete. The backward pass completes the last layer first,
so buckets are filled from the last parameter to the first (Li et al. 2020, section 3.2).
"""

import functools
import operator
from collections.abc import Iterable
from typing import Any

from minimega.backend import library
from minimega.parallel.grid import Grid
from minimega.parallel.shard import Shard
from minimega.parameter import Parameter
from minimega.precision import wide
from minimega.ranks.group import Group, Wait

BUCKET = 1 << 20  # elements: 4 MB of float32


class Bucket:
    """Parameters whose gradients are summed over the same ranks; `owned` receives the sums."""

    def __init__(self, group: Group):
        self.group, self.parameters, self.size = group, [], 0
        self.empty()

    owned = property(lambda self: self.parameters)

    def empty(self) -> None:
        """Start a step: no gradient is complete, nothing has been sent."""
        self.missing, self.left, self.under_way = {p.name for p in self.parameters}, False, []

    def add(self, p: Parameter) -> None:
        """Append a parameter."""
        self.parameters.append(p)
        self.size += p.local_size

    def leave(self) -> None:
        """Start the sum of the gradients, and free them; a parameter without one counts as zeros."""
        xp = library(self.parameters[0].data)
        grads = (xp.zeros_like(wide(p.data)) if p.grad is None else p.grad for p in self.parameters)
        flat, self.left = xp.concatenate([g.reshape(-1) for g in grads]), True
        for p in self.parameters:
            p.grad = None
        self.under_way.append(self.start(flat))

    def start(self, flat) -> Wait:
        """Start the sum of a flat bucket (`size`,): partial -> whole."""
        return self.group.start_all_reduce(flat, label="gradients")

    def is_complete(self) -> bool:
        """Whether it has been sent, and no gradient came since."""
        return self.left and all(p.grad is None for p in self.parameters)

    def arrive(self) -> None:
        """Wait for the sums, and add them to the gradients of `owned`."""
        if not self.under_way:
            return
        flat, at = functools.reduce(operator.add, (wait() for wait in self.under_way)), 0
        for p in self.owned:
            g = flat[at : at + p.data.size].reshape(p.data.shape)
            p.grad = g if p.grad is None else p.grad + g
            at += p.data.size
        self.under_way = []  # frees the messages' memory


class Reducer:
    """Sums gradients over their holders; use `with reducer:` around the last backward passes of a step.

    Inside, `open` names the parameters whose gradients the next backward pass completes. ZeRO overrides
    `keep`, `owned`, `publish` and `joined`; here every rank owns all that it holds. A bucket is full once it
    has `bucket` elements.
    """

    bucket = Bucket
    each_part = False  # whether each part of an accumulated batch is summed separately

    def __init__(self, parameters: Iterable[Parameter], grid: Grid, bucket: float = BUCKET):
        self.grid, self.buckets = grid, []
        open_buckets: dict[tuple, Bucket] = {}  # by kind, the bucket that is being filled
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
        """Parameters of the same kind may share a bucket: those with the same holders.

        Parameters that all tensor ranks hold get their own buckets. These are the same on each of those
        ranks, so sums run in the same order and copies keep the same bits.
        """
        return id(self.grid.holders(p)), p.axis is None

    def __enter__(self) -> "Reducer":
        for b in self.buckets:
            b.empty()
        return self

    def open(self, parameters: Iterable[Parameter]) -> None:
        """From here on these parameters' gradients are sent as soon as they are complete."""
        for p in parameters:
            if p.name in self.bucket_of:
                p.complete = self.complete

    def complete(self, p: Any) -> None:
        """Called by the engine when p's gradient is complete; sends the bucket after its last gradient."""
        bucket = self.bucket_of[p.name]
        bucket.missing.discard(p.name)
        # A table at both ends of a pipeline is sent last: the first stage completes it last, and may still
        # wait for messages from this rank.
        if not bucket.missing and not bucket.left and not self.grid.at_ends(bucket.group):
            self.leave(bucket)

    def leave(self, bucket: Bucket) -> None:
        """Send a bucket."""
        bucket.leave()

    def __exit__(self, kind, *_) -> None:
        for b in self.buckets:
            for p in b.parameters:
                p.complete = None
        if kind is None:
            for b in self.buckets:
                # Recompute runs its own backward, so a tied table's bucket may have left early: send again.
                if not b.is_complete():
                    self.leave(b)
            for b in self.buckets:
                b.arrive()

    def keep(self, p: Parameter) -> None:
        """Keep what this rank holds of p's data between steps. Call it when p has been given data."""

    def owned(self, parameters: Iterable[Parameter]) -> list[Parameter | Shard]:
        """What the optimizer updates on this rank: each parameter, or this rank's shard of it."""
        return list(parameters)

    def publish(self) -> None:
        """After the optimizer's step: send the new weights of `owned` to the ranks that use them."""

    def joined(self, arrays: dict, label: str = "whole") -> dict:
        """Arrays by name, in the shapes of `owned`, joined to the shapes of this rank's parameters."""
        return arrays
