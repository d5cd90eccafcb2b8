"""A sentence is never about something else: kinds of mistakes, in every lesson in which they can occur."""

import re

import numpy as np
import pytest

from minimega.learn import shelf
from tests.lessons.mutants.trial import judged

pytestmark = pytest.mark.lessons


def told(number: str, right: str, wrong: str) -> str:
    """What is said of the lesson's solution with one thing replaced."""
    solution = shelf.exercise(number).SOLUTION
    assert right in solution
    with np.errstate(all="ignore"):
        found = judged(number, solution.replace(right, wrong, 1))
    assert not found.ok, found
    return str(found)


IN_PLACE = [  # the lesson, what is replaced, by what, and what is changed
    ("03", "y = x @ w + b", "y = x @ w + b\n    w *= 2", "w"),
    ("03", "dx = dy @ w.T", "dx = dy @ w.T\n        dy -= 1", "dy"),
    ("05", "y = table[ids]", "y = table[ids]\n    ids[:] = 0", "ids"),
    ("06", "n = len(rows)", "n = len(rows)\n    targets[targets < 0] = 0", "targets"),
    ("06", "loss = ", "logits -= 1\n    loss = ", "logits"),
    ("07", "xhat = centred * r", "x -= x\n    xhat = centred * r", "x"),
    ("07", "dxhat = dy * w", "dy *= w\n        dxhat = dy", "dy"),
    ("08", "w = attention_weights(q * scale, k)", "q *= scale\n    w = attention_weights(q, k)", "q"),
    ("08", "dv = w.T @ dy", "dv = w.T @ dy\n        v[:] = 0", "v"),
    ("08", "dv = w.T @ dy", "dv = w.T @ dy\n        y[:] = 0", "y"),
    ("09", "dt = dy * x / 2", "dy *= x\n        dt = dy / 2", "dy"),
    ("10", "h = x + a", "x += a\n    h = x", "x"),
    ("10", "dh = dy + ", "dh = dy\n        dh += ", "dy"),
    ("12", "for loss, targets in batches:", "for loss, targets in batches:\n        targets += 1", "batches"),
    (
        "12",
        "    for loss, targets in batches:",
        "    for loss, targets in batches[:]:\n        batches.pop()",
        "batches",
    ),
    ("13", "order = np.argsort", "logits /= temperature\n    order = np.argsort", "logits"),
    ("13", "order = np.argsort", "logits.sort()\n    order = np.argsort", "logits"),
    ("14", "dx = inner(dy)", "dx = inner(dy)\n            dy += 1", "dy"),
    ("15", "y = group.all_gather(x)", "y = group.all_gather(x)\n    x[:] = 0", "x"),
    ("16", "y = group.all_reduce(z) + b2", "y = group.all_reduce(z) + b2\n    b2 += 1", "b2"),
    ("16", "dz = dy", "dz = dy\n        dz *= 2", "dy"),
    ("17", "place = targets - first", "targets -= first\n    place = targets", "targets"),
    ("18", "grad = group", "grad_sum /= everywhere\n    grad = group", "grad_sum"),
    ("20", "y = y1 * down1", "y1 *= down1\n    y = y1", "y1"),
    ("21", "total = ", "own[0][0][:] = 0\n    total = ", "own"),
    ("21", "total = ", "own.sort(key=lambda two: two[1])\n    own.pop()\n    total = ", "own"),
]


@pytest.mark.parametrize(("number", "right", "wrong", "what"), IN_PLACE)
def test_what_is_changed_in_place_is_named(number, right, wrong, what):
    assert re.match(rf"(rank \d of \d: )?{what} is changed in place: ", told(number, right, wrong))


# With a gradient that is wrong in no typical way, nothing is said of what the lesson does not have.
FOREIGN = {
    "softmax": ("06", "08"),
    "mask": ("08",),
    "mean term": ("07",),
    "comes through": ("07",),
    "keeps one": ("05",),
    "another token": ("05",),
    "sqrt": (),
}
GRADIENTS = {
    "03": "return dx",
    "05": "return dtable",
    "06": "return dlogits * dy / n",
    "07": "return dx",
    "08": "return dq",
    "09": "return dx",
    "10": "return dx",
    "14": "return dx",
}
ODD = {
    "more and more": "({0}) * (1 + np.arange(({0}).size).reshape(({0}).shape))",
    "a constant": "({0}) + 3 * np.sum(dy)",
    "a row alike": "({0}) + ({0}).max(axis=-1, keepdims=True)",
    "twice": "2 * ({0})",
}


@pytest.mark.parametrize("number", GRADIENTS)
@pytest.mark.parametrize("odd", ODD)
def test_nothing_is_said_of_what_a_lesson_does_not_have(number, odd):
    gradient = GRADIENTS[number].removeprefix("return ")
    said = told(number, GRADIENTS[number], f"return {ODD[odd].format(gradient)}")
    assert not [word for word, lessons in FOREIGN.items() if word in said and number not in lessons], said
    assert "wrong sign" not in said
    assert odd != "twice" or re.search(r"constant factor|times 2|dx is|half", said), said
