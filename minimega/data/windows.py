"""Windows on a token stream, and the batch of each step.

T context, N tokens of the stream, B batch.
"""

from collections.abc import Callable, Iterator
from copy import copy
from math import ceil
from typing import Protocol

import numpy as np

from minimega import random
from minimega.data.special import START
from minimega.errors import BadInput

# Makes inputs (B, T) and targets (B, T) into others, from a key and the numbers of the windows (B,).
Change = Callable[[np.ndarray, np.ndarray, int, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Rows(Protocol):
    """What can be evaluated: windows, or what a task makes of them. `take` is as that of Windows."""

    def __len__(self) -> int: ...
    def take(self, which) -> tuple[np.ndarray, np.ndarray]:
        """The inputs (B, T) and targets (B, T) of the windows with these B numbers."""
        ...


class Trainable(Rows, Protocol):
    """What batches are made of: `moved` gives windows that cut long documents elsewhere."""

    @property
    def context(self) -> int:
        """The tokens of a window."""
        ...

    @property
    def cut_documents(self) -> bool:
        """Whether any document is longer than a window, so that it is cut."""
        ...

    def moved(self, key: int) -> "Trainable":
        """The same documents, cut elsewhere."""
        ...


class Windows:
    """A token stream as windows of `context` inputs and their targets.

    A document that a window would cut starts again in the next window and counts only there. So the model
    always sees a short document whole, and a long one in contiguous windows. Each target counts in exactly
    one window; elsewhere it is -1. Start tokens fill up the last window.

    `counted`, bool (N,), says which tokens of the stream count as targets at all (None: every one), such as
    those of answers.

    Raises BadInput for a context below 1, or if no token counts.

    >>> w = Windows(np.array([0, 5, 6, 0, 7, 8, 0]), context=4)      # "5 6" and "7 8"
    >>> inputs, targets = w.take([0, 1])
    >>> inputs.tolist(), targets.tolist()
    ([[0, 5, 6, 0], [0, 7, 8, 0]], [[5, 6, 0, -1], [7, 8, 0, -1]])
    """

    def __init__(self, stream: np.ndarray, context: int, counted: np.ndarray | None = None):
        if context < 1:
            raise BadInput(f"a context of {context} tokens is too short. Choose at least 1.")
        if counted is not None and not counted[1:].any():
            raise BadInput(
                "no token of this text counts as a target, so there is nothing to learn or evaluate"
            )
        self.stream, self.context, self.counted = stream, context, counted
        # window k counts the targets after edges[k], up to and including edges[k + 1]
        self.edges = np.array([*_edges(stream, context), len(stream) - 1])

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def cut_documents(self) -> bool:
        """Whether any document is longer than a window, so that it is cut."""
        return bool((self.stream[self.edges[:-1]] != START).any())

    def moved(self, key: int) -> "Windows":
        """Windows on the same stream that cut long documents elsewhere, as this key says.

        The first window of each document that is longer than the context becomes shorter by a random number
        of tokens, and the others follow. Each target still counts in one window; there are never fewer.
        """
        new = copy(self)
        new.edges = np.array([*_edges(self.stream, self.context, key), len(self.stream) - 1])
        return new

    def take(self, which) -> tuple[np.ndarray, np.ndarray]:
        """The inputs (B, T) and targets (B, T) of the windows with these B numbers, int64."""
        which = np.asarray(which, np.int64)
        places = self.edges[which][:, None] + np.arange(self.context + 1)  # (B, T+1)
        rows = self.stream[np.minimum(places, len(self.stream) - 1)].astype(np.int64)
        rows[places >= len(self.stream)] = START
        counts = places[:, 1:] <= self.edges[which + 1][:, None]
        if self.counted is not None:
            counts &= self.counted[np.minimum(places[:, 1:], len(self.stream) - 1)]
        return rows[:, :-1], np.where(counts, rows[:, 1:], -1)


class Changed:
    """Windows that `change` makes into others, the same at each call; `take` and len as of Windows."""

    def __init__(self, windows: Windows, change: Change, key: int):
        self.windows, self.change, self.key = windows, change, key

    def __len__(self) -> int:
        return len(self.windows)

    def take(self, which) -> tuple[np.ndarray, np.ndarray]:
        """The changed inputs (B, T) and targets (B, T) of the windows with these B numbers."""
        which = np.asarray(which, np.int64)
        return self.change(*self.windows.take(which), self.key, which)


def _edges(stream: np.ndarray, context: int, key: int | None = None) -> Iterator[int]:
    starts = _starts(stream)
    at, last = 0, len(stream) - 1
    while at < last:
        yield at
        end = at + context  # the last target in view
        if end >= last:
            return
        latest = int(starts[np.searchsorted(starts, end, "right") - 1])
        if latest <= at and key is not None and stream[at] == START:
            end -= int(random.uniform(key, np.array(at)) * context)
        at = latest if latest > at else end


def _starts(stream: np.ndarray, block: int = 2**22) -> np.ndarray:
    blocks = range(0, len(stream), block)  # a mapped file is never all in memory
    return np.concatenate([i + np.flatnonzero(stream[i : i + block] == START) for i in blocks])


class Batches:
    """The batch of each step, a function of the seed and the step (from 1) alone.

    An epoch is a permutation of all windows, drawn from the seed and the epoch (from 1). Rows that do not
    count fill up its last batch: all batches have one shape, and every window comes once per epoch.

    `change` makes a batch's inputs and targets into others (masked.py, augment.py); its key is that of the
    seed and the step. With `offsets`, each epoch cuts long documents elsewhere (`Windows.moved`). All epochs
    keep the number of steps of the first cut, so a few windows of an epoch may be left out.

    Raises BadInput for a batch size below 1 or above the number of windows.

    >>> b = Batches(Windows(np.array([0, 5, 6, 0, 7, 8, 0]), context=3), batch_size=2, seed=0)
    >>> inputs, targets, epoch = b(step=4)
    >>> b.steps_per_epoch, inputs.shape, epoch
    (1, (2, 3), 4)
    """

    def __init__(
        self,
        windows: Trainable,
        batch_size: int,
        seed: int,
        change: Change | None = None,
        offsets: bool = False,
    ):
        if not 1 <= batch_size <= len(windows):
            raise BadInput(
                f"a batch of {batch_size} cannot be made from this text: it has {len(windows)} windows of"
                f" {windows.context} tokens. Choose a batch from 1 to {len(windows)}, or a longer text."
            )
        self.windows, self.batch_size, self.seed = windows, batch_size, seed
        self.change, self.offsets = change, offsets
        self.steps_per_epoch = ceil(len(windows) / batch_size)
        self._latest = 0, windows, np.empty(0)  # an epoch, its windows and their permutation

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, int]:
        """The inputs (B, T) and targets (B, T; -1: not counted) of a step, and its epoch."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        if self._latest[0] != epoch + 1:
            windows = self.windows
            if self.offsets:
                windows = windows.moved(random.key(self.seed, "offsets", epoch + 1))
            key = random.key(self.seed, "batches", epoch + 1)
            self._latest = epoch + 1, windows, random.order(key, len(windows))
        _, windows, order = self._latest
        which = order[place * self.batch_size :][: self.batch_size]
        inputs, targets = windows.take(which)
        if self.change:
            inputs, targets = self.change(inputs, targets, random.key(self.seed, "change", step), which)
        fill = (0, self.batch_size - len(which)), (0, 0)
        inputs = np.pad(inputs, fill, constant_values=START)
        return inputs, np.pad(targets, fill, constant_values=-1), epoch + 1
