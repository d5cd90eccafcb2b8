"""Word dropout and spans: the right share, the right lengths, a pure function of key, window and place."""

import numpy as np
import pytest

from minimega.data.augment import LONGEST, hidden, span_mask, spans, word_dropout
from minimega.data.tokens import START, UNKNOWN

AUGMENT = [word_dropout, span_mask]
MANY = np.arange(400)


@pytest.fixture
def inputs(rng):
    return rng.integers(2, 50, (400, 64))


@pytest.mark.parametrize("augment", AUGMENT)
@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_the_share_that_is_hidden_is_p(augment, p, inputs):
    share = (augment(inputs, p, 7, MANY) == UNKNOWN).mean(axis=0)  # at each position
    assert share.mean() == pytest.approx(p, abs=0.01)
    assert abs(share - p).max() < 0.15  # the first positions no less than others


@pytest.mark.parametrize("augment", AUGMENT)
def test_start_tokens_and_fixed_ones_stay(augment, inputs):
    inputs[:, ::5], inputs[:, 1::5] = START, 9
    changed = augment(inputs, 0.9, 7, MANY, fixed=[9])
    assert ((changed == inputs) | (changed == UNKNOWN)).all()
    for kept in (START, 9):
        assert ((changed == kept) == (inputs == kept)).all()


@pytest.mark.parametrize("augment", AUGMENT)
def test_what_is_hidden_is_a_function_of_the_key_the_window_and_the_place(augment, inputs):
    whole = augment(inputs, 0.3, 7, MANY)
    which = np.array([310, 2, 17])
    np.testing.assert_array_equal(augment(inputs[which], 0.3, 7, which), whole[which])
    np.testing.assert_array_equal(augment(inputs[:, :20], 0.3, 7, MANY), whole[:, :20])
    assert (augment(inputs, 0.3, 8, MANY) != whole).mean() > 0.2
    assert (augment(inputs, 0.3, 7, MANY + 1) != whole).mean() > 0.2


def test_augmentations_draw_apart(inputs):
    both = (word_dropout(inputs, 0.3, 7, MANY) == UNKNOWN) & (span_mask(inputs, 0.3, 7, MANY) == UNKNOWN)
    assert both.mean() == pytest.approx(0.09, abs=0.01)


def test_the_lengths_of_spans_are_geometric_up_to_ten():
    inside = np.pad(spans(0.002, 3, np.arange(20000), 100), ((0, 0), (1, 1)))  # so few hardly ever touch
    step = np.diff(inside.astype(int), axis=1)
    begins, ends = np.argwhere(step == 1), np.argwhere(step == -1)
    whole = (begins[:, 1] > 0) & (ends[:, 1] < 100)
    lengths = (ends - begins)[whole, 1]
    shares = np.bincount(lengths, minlength=LONGEST + 1)[1 : LONGEST + 1] / len(lengths)
    expected = 0.2 * 0.8 ** np.arange(LONGEST) / (1 - 0.8**LONGEST)
    np.testing.assert_allclose(shares, expected, atol=0.01)
    assert lengths.mean() == pytest.approx(3.8, abs=0.1)


@pytest.mark.parametrize("p", [0.0, 1e-300, 0.999999])
def test_the_ends_of_the_range(p):
    share = spans(p, 3, MANY, 50).mean()
    assert share == pytest.approx(p, abs=1e-3)
    assert (hidden(np.array([[5]]), np.array([[p > 0.5]])) == (UNKNOWN if p > 0.5 else 5)).all()
