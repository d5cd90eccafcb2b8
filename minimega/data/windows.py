"""Windows on a token stream, and the batch of each step.

T context, N tokens of the stream, B batch.
"""

from collections.abc import Iterator
from math import ceil

import numpy as np

from minimega import random
from minimega.data.tokens import START
from minimega.errors import BadInput


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


def _edges(stream: np.ndarray, context: int) -> Iterator[int]:
    starts = _starts(stream)
    at, last = 0, len(stream) - 1
    while at < last:
        yield at
        end = at + context  # the last target in view
        if end >= last:
            return
        latest = int(starts[np.searchsorted(starts, end, "right") - 1])
        at = latest if latest > at else end


def _starts(stream: np.ndarray, block: int = 2**22) -> np.ndarray:
    blocks = range(0, len(stream), block)  # a mapped file is never all in memory
    return np.concatenate([i + np.flatnonzero(stream[i : i + block] == START) for i in blocks])


class Batches:
    """The batch of each step, a function of the seed and the step (from 1) alone.

    An epoch is a permutation of all windows, drawn from the seed and the epoch (from 1). Rows that do not
    count fill up its last batch: all batches have one shape, and every window comes once per epoch.

    Raises BadInput for a batch size below 1 or above the number of windows.

    >>> b = Batches(Windows(np.array([0, 5, 6, 0, 7, 8, 0]), context=3), batch_size=2, seed=0)
    >>> inputs, targets, epoch = b(step=4)
    >>> b.steps_per_epoch, inputs.shape, epoch
    (1, (2, 3), 4)
    """

    def __init__(self, windows: Windows, batch_size: int, seed: int):
        if not 1 <= batch_size <= len(windows):
            raise BadInput(
                f"a batch of {batch_size} cannot be made from this text: it has {len(windows)} windows of"
                f" {windows.context} tokens. Choose a batch from 1 to {len(windows)}, or a longer text."
            )
        self.windows, self.batch_size, self.seed = windows, batch_size, seed
        self.steps_per_epoch = ceil(len(windows) / batch_size)
        self._order = 0, np.empty(0)  # the latest epoch and its permutation

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, int]:
        """The inputs (B, T) and targets (B, T; -1: not counted) of a step, and its epoch."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        if self._order[0] != epoch + 1:
            key = random.key(self.seed, "batches", epoch + 1)
            self._order = epoch + 1, random.order(key, len(self.windows))
        which = self._order[1][place * self.batch_size :][: self.batch_size]
        inputs, targets = self.windows.take(which)
        fill = (0, self.batch_size - len(which)), (0, 0)
        inputs = np.pad(inputs, fill, constant_values=START)
        return inputs, np.pad(targets, fill, constant_values=-1), epoch + 1
