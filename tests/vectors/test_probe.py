"""The linear classifier on fixed vectors: its gradient, what it learns, what it refuses."""

import numpy as np
import pytest

from minimega import random
from minimega.errors import BadInput
from minimega.gradcheck import assert_gradients
from minimega.vectors.probe import Probe, fitted


def points(count, key=0):
    """Three clouds in the plane, one feature on quite another scale, and which cloud each point is of."""
    kinds = np.arange(count) % 3
    z = random.normal(random.key(key, "points"), np.arange(2 * count)).reshape(count, 2)
    centres = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    return (z + centres[kinds]) * [1.0, 1e4] + [0.0, 1e6], kinds


def test_it_tells_three_clouds_apart_on_points_that_it_has_not_seen():
    (x, y), (other, right) = points(150), points(150, key=1)
    probe = fitted(x, y, kinds=3)
    assert (probe.kinds(other) == right).mean() > 0.97
    again = fitted(x, y, kinds=3)
    assert (probe.weight.data == again.weight.data).all()


def test_what_is_not_in_the_vectors_is_not_found():
    x, y = points(300)
    shuffled = y[random.order(random.key(3, "shuffle"), 300)]
    assert (fitted(x, shuffled, kinds=3).kinds(points(300, key=1)[0]) == points(300, key=1)[1]).mean() < 0.6


def test_its_gradients():
    probe = Probe(4, 3).named("probe").draw(dtype="float64")
    probe.shift, probe.scale = np.arange(4.0), np.array([1.0, 2.0, 0.5, 1.0])
    assert_gradients(probe, random.normal(1, np.arange(20)).reshape(5, 4))


def test_vectors_and_kinds_that_do_not_fit_together_are_refused():
    for x, y in [(np.zeros((3, 2)), [0, 1]), (np.zeros(3), [0, 1, 1]), (np.zeros((0, 2)), [])]:
        with pytest.raises(BadInput, match="a probe needs vectors"):
            fitted(x, np.array(y, int), kinds=2)
    with pytest.raises(BadInput, match="0 to 1, not 0 to 2"):
        fitted(np.zeros((3, 2)), np.array([0, 1, 2]), kinds=2)
