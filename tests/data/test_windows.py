"""Windows whose cuts move with the epoch."""

import numpy as np
import pytest

from minimega.data.tokens import START
from minimega.data.windows import Batches, Windows

T = 16


def stream_of(lengths) -> np.ndarray:
    numbers = np.arange(2, 2 + sum(lengths))  # each token of the text once
    documents = np.split(numbers, np.cumsum(lengths)[:-1])
    return np.concatenate([[START, *d] for d in documents] + [[START]])


def times(windows: Windows, rows) -> np.ndarray:
    """How often each place of the stream is a target of these windows."""
    count = np.zeros(len(windows.stream), int)
    for k, row in zip(rows, windows.take(rows)[1], strict=True):
        count[windows.edges[k] + 1 + np.flatnonzero(row >= 0)] += 1
    return count


LENGTHS = [[500], [3, 4, 5], [T, T - 1, T + 1, 2 * T], [24] * 30, [1, 100, 2, 200, 3, 17]]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_moved_windows_count_each_target_once_and_are_hardly_more(lengths):
    windows = Windows(stream_of(lengths), T)
    long = sum(n > T - 1 for n in lengths)
    for key in range(20):
        moved = windows.moved(key)
        count = times(moved, range(len(moved)))
        assert count[0] == 0 and (count[1:] == 1).all()
        assert len(windows) <= len(moved) <= len(windows) + long
    assert windows.cut_documents == (long > 0)
    if not long:
        np.testing.assert_array_equal(moved.edges, windows.edges)


def test_the_cuts_of_a_long_document_are_everywhere_over_the_epochs():
    windows = Windows(stream_of([500]), T)
    places = {int(windows.moved(key).edges[1]) for key in range(400)}
    assert places == set(range(1, T + 1))


def test_an_epoch_moves_its_windows_and_keeps_its_steps():
    windows = Windows(stream_of([500, 3, 40, 24]), T)
    plain, batches = Batches(windows, 4, seed=1), Batches(windows, 4, seed=1, offsets=True)
    assert plain.steps_per_epoch == batches.steps_per_epoch
    n, seen = plain.steps_per_epoch, []
    for epoch in range(3):
        rows = [batches(epoch * n + i + 1) for i in range(n)]
        assert {row[2] for row in rows} == {epoch + 1}
        targets = np.concatenate([row[1] for row in rows])
        counted = targets[targets > START]
        assert len(set(counted.tolist())) == len(counted) > 0.9 * 567  # none twice, few left out
        seen.append(np.concatenate([row[0] for row in rows])[:, 0])
    assert len({tuple(sorted(s.tolist())) for s in seen}) == 3
    again = Batches(windows, 4, seed=1, offsets=True)(2 * n + 2)  # as a resumed run draws it
    np.testing.assert_array_equal(again[0], batches(2 * n + 2)[0])
