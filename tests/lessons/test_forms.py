"""Right answers of another form are right: lists for tuples, a stacked array, float32, a lambda."""

import pytest

from minimega.learn import shelf
from tests.lessons.mutants.trial import judged

pytestmark = pytest.mark.lessons
LAMBDA = "my_linear = lambda x, w, b: (x @ w + b, lambda dy: (dy @ w.T, x.T @ dy, dy.sum(0)))\n"
CUBE_ROOT = "def slope(f, x):\n    h = np.cbrt(np.finfo(float).eps) * (1 + abs(x))\n"
ANSWERS = [  # the lesson, what is replaced in its solution, and by what
    ("01", "(B, T, D)", "[B, T, D]"),
    ("01", "4 * D", "np.int64(4 * D)"),
    ("02", None, CUBE_ROOT + "    return (f(x + h) - f(x - h)) / (2 * h)\n"),
    ("02", "6e-6", "1e-6"),
    ("02", "6e-6", "2e-5"),
    ("03", "return dx, dw, db", "return [dx, dw, db]"),
    ("03", "return y, back", "return [y, back]"),
    ("03", "return dx, dw, db", "return tuple(d.astype(np.float32) for d in (dx, dw, db))"),
    ("03", None, LAMBDA),
    ("04", "{y: 1.0}", "{y: np.float64(1.0)}"),
    ("05", "return dtable", "return [dtable]"),
    ("06", "return loss, back", "return float(loss), back"),
    ("07", "return dx, dw, db", "return [dx, dw, db]"),
    ("08", "return dq, dk, dv", "return np.stack([dq, dk, dv])"),
    ("08", "return dq, dk, dv", "return [dq, dk, dv]"),
    ("10", "return dx", "return (dx,)"),
    ("11", "return w, mean, square", "return [w, mean, square]"),
    ("11", "return w, mean, square", "return np.array([w, mean, square])"),
    ("12", "total / count", "np.float32(total / count)"),
    ("13", "return order", "return np.int32(0) + order"),
    ("14", None, "def recompute(f):\n    return lambda x: (f(x)[0], lambda dy: f(x)[1](dy))\n"),
    ("15", "return y, back", "return [y, back]"),
    ("16", "dw1(), db1(), dw2()", "dw1, db1, dw2"),
    ("18", "return loss, grad", "return [loss, grad]"),
    ("19", '[("forward", n) for', '[["forward", n] for'),
    ("19", "return order", "return tuple(order)"),
    ("20", "return y, top, total", "return [y, top, total]"),
    ("21", "np.sqrt(group.all_reduce(total))", "float(group.all_reduce(total)) ** 0.5"),
    (
        "21",
        None,
        "norm = lambda own, group: group.all_reduce(sum((g * g).sum() / n for g, n in own)) ** 0.5\n",
    ),
    # computed in float32, or rounded to it at the end
    ("03", "y = x @ w + b", "x, w, b = (a.astype('f4') for a in (x, w, b))\n    y = x @ w + b"),
    ("05", "return dtable", "return dtable.astype('f4')"),
    ("06", "return dlogits * dy / n", "return (dlogits * dy / n).astype('f4')"),
    ("06", "p = softmax(logits)[0]", "p = softmax(logits.astype('f4'))[0]"),
    ("07", "return dx, dw, db", "return dx.astype('f4'), dw.astype('f4'), db.astype('f4')"),
    ("07", "centred = x", "x, w, b = (a.astype('f4') for a in (x, w, b))\n    centred = x"),
    ("08", "return dq, dk, dv", "return dq.astype('f4'), dk.astype('f4'), dv.astype('f4')"),
    ("08", "scale = q", "q, k, v = (a.astype('f4') for a in (q, k, v))\n    scale = q"),
    ("09", "u = s", "x = x.astype('f4')\n    u = s"),
    ("10", "return dx", "return dx.astype('f4')"),
    ("11", "return w, mean", "return w.astype('f4'), mean"),
    ("13", "order = np", "logits = logits.astype('f4')\n    order = np"),
    ("14", "return dx", "return dx.astype('f4')"),
    ("15", "return y, back", "return y.astype('f4'), lambda dy: back(dy).astype('f4')"),
    ("16", "dw1(), db1(), dw2(), db2", "dw1(), db1(), dw2().astype('f4'), db2.astype('f4')"),
    ("17", "return (", "return np.float32(1) * ("),
    ("18", "return loss, grad", "return np.float32(loss), grad.astype('f4')"),
    ("20", "return y, top", "return y.astype('f4'), top"),
    ("21", "return np.sqrt(", "return np.float32(1) * np.sqrt("),
]


@pytest.mark.parametrize(("number", "right", "other"), ANSWERS)
def test_a_right_answer_of_another_form_is_right(number, right, other):
    solution = shelf.exercise(number).SOLUTION
    assert right is None or right in solution
    found = judged(number, other if right is None else solution.replace(right, other))
    assert found.ok, found
