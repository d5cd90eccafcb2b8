"""Lesson 14: an operation that keeps only its input, and runs again in the backward."""

import numpy as np

from minimega.autograd import Tensor, op, saved_bytes
from minimega.learn.again import OTHERS, SHAPES, again
from minimega.learn.guard import guarded
from minimega.learn.slopes import backward
from minimega.learn.verdict import Verdict, draw, parts, which, written
from minimega.ops import gelu, softmax

TASK = "Write recompute(f): the operation f, but its back keeps only x, and runs f again to get f's own back."

HINT = """\
What does f return? Which of the two do you need now, and which one only later?"""

MORE = """\
In the forward you want f's first result and not its second: drop that one at once. In the backward you need
f's back, which is gone. Where did it come from the first time? What back refers to from outside is what it
keeps: x and f, and nothing else."""

SOLUTION = '''\
def recompute(f):
    """f, which returns (y, back) for x, as an operation that keeps only x for its backward."""

    def g(x):
        y = f(x)[0]

        def back(dy):
            _, inner = f(x)
            dx = inner(dy)
            return dx

        return y, back

    return g
'''

SHAPE = (3, 5)


class Deep:
    """GELU, then softmax: an operation that keeps three arrays. It counts how often it runs."""

    def __init__(self):
        self.runs, self.__name__, self.__qualname__ = 0, "deep", "deep"

    def __call__(self, x):
        self.runs += 1
        h, back_gelu = gelu(x)
        y, back_softmax = softmax(h)
        return y, lambda dy: back_gelu(back_softmax(dy))


def judge(recompute) -> Verdict:
    """First its form, then how often f runs, then dx, then what it holds."""
    f = Deep()
    x, dy = np.linspace(-1.0, 1.3, 15).reshape(SHAPE), np.sin(np.arange(15.0)).reshape(SHAPE)
    g = written(recompute(f), "what recompute returns")
    if not callable(g):
        return Verdict(False, "recompute returns no function: it should return g, which takes x as f does")
    bare, g = g, guarded(g)
    if f.runs:
        return Verdict(False, "f runs before there is an x: recompute only makes g, and g(x) runs f")
    result = written(g(x), "what g returns")
    y, back = parts(result, ("y", "back"), "g should return two things as f does: y, and the function back")
    if isinstance(y, tuple):
        return Verdict(False, "y is the pair that f returns: f's own y is the first of the two")
    forward = f.runs
    if forward > 1:
        return Verdict(
            False, f"f runs {forward} times in the forward: the second run belongs to the backward"
        )
    if not callable(back):
        return Verdict(False, "the second thing that g returns should be the function back")
    dx = written(back(dy), "dx")
    reruns = f.runs - forward
    if problem := _about_dx(dx, x, y, dy):
        return Verdict(False, problem)
    found = backward(lambda x: g(x), Deep(), SHAPE, says={("x", "zero"): "dx is zero: dy goes into f's back"})
    found = again(
        found, guarded(recompute(Deep())), Deep(), {OTHERS: (draw(1, SHAPE),), SHAPES: (draw(2, (2, 7)),)}
    )
    if not found.ok:
        return found
    held = sum(saved_bytes(op(bare)(Tensor(x))).values())
    if held > x.nbytes:
        detail = f"back holds {held} bytes; x has {x.nbytes}"
        if not reruns:
            return Verdict(
                False, "nothing is saved: back keeps f's own back, and everything that it keeps", detail
            )
        return Verdict(False, "back keeps more than x: each array that it refers to stays in memory", detail)
    if reruns > 1:
        return Verdict(False, f"f runs {reruns} times in one backward; one run gives all it needs")
    return Verdict(
        True, f"dx agrees with finite differences, and of f's three arrays back holds x alone: {held} bytes"
    )


def _about_dx(dx, x, y, dy) -> str:
    """What the typical mistakes return instead of dx, in a sentence."""
    inner = Deep()(x)[1]
    if callable(dx):
        return "dx is a function: f's own back, which was never called with dy"
    if isinstance(dx, tuple) and len(dx) == 1:
        dx = dx[0]
    if isinstance(dx, tuple):
        return "dx is a pair: f run again returns (y, back), and dx comes from that back"
    mistakes = {
        "dx is y times dy: the second run returns a back too, and that one takes dy": y * dy,
        "dx is f's back of x, times dy: back takes dy, and does the multiplying itself": inner(x) * dy,
        "dx is dy: it passes through as if f were not there": dy,
        "dx is y once more: the second run returns a back too, and that one is wanted": y,
        "f is run again on y, not on x: this is the slope of f at another place": Deep()(y)[1](dy),
        "f is run again on dy: the forward runs on x, and only its back takes dy": Deep()(dy)[1](x),
        "dx is the gradient of a sum of y: dy was replaced by ones": inner(np.ones_like(y)),
        "f's back is given y, not dy": inner(y),
        "f's back is given x, not dy": inner(x),
        "f's back is applied twice": inner(inner(dy)),
    }
    return which(dx, mistakes.items())
