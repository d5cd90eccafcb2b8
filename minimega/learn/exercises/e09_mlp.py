"""Lesson 09: the backward of GELU."""

import numpy as np

from minimega.learn.judge import Verdict, backward, unlike
from minimega.ops import gelu

TASK = "Write back(dy), the backward of GELU by its tanh formula: dx, by way of dt and du."

STUB = '''\
def my_gelu(x):
    """y = x/2 (1 + t), t = tanh(u), u = s (x + c x^3), entry by entry, and its backward."""
    s, c = np.sqrt(2 / np.pi), 0.044715
    u = s * (x + c * x * x * x)
    t = np.tanh(u)
    y = x / 2 * (1 + t)

    def back(dy):
        dx = ...
        return dx

    return y, back
'''

HINT = """\
Go backward through the three lines. In y, the factor beside t is x/2: that is what dt needs. The slope of
tanh can be written with t alone, so that nothing has to be computed again. Then x: it stands in the line of
y, and in the line of u. Each of the two sends something back, and what comes back is added up."""

SOLUTION = '''\
def my_gelu(x):
    """y = x/2 (1 + t), t = tanh(u), u = s (x + c x^3), entry by entry, and its backward."""
    s, c = np.sqrt(2 / np.pi), 0.044715
    u = s * (x + c * x * x * x)
    t = np.tanh(u)
    y = x / 2 * (1 + t)

    def back(dy):
        dt = dy * x / 2
        du = dt * (1 - t * t)
        dx = dy * (1 + t) / 2 + du * s * (1 + 3 * c * x * x)
        return dx

    return y, back
'''


def judge(f) -> Verdict:
    """The checker finds that dx is wrong; which term it is, is read off the slope."""
    x = np.linspace(-2.4, 3.1, 12).reshape(3, 4)
    found = backward(f, gelu, x, right="dx agrees with differences of the forward, at twelve places")
    if found.ok or not found.sentence.startswith("dx"):
        return found
    slope = np.asarray(f(x)[1](np.ones_like(x)), float)
    if np.allclose(f(x)[1](2 * np.ones_like(x)), slope):
        return found._replace(sentence="dx is the same for every dy: the chain from the loss is not in it")
    says = next((s for s, wrong in _mistakes(x).items() if not unlike(slope, wrong, "dx")), "")
    return found._replace(sentence=says, detail=found.detail.split("; ")[-1]) if says else found


def _mistakes(x) -> dict[str, np.ndarray]:
    """What is said of dx/dy where it is one of these."""
    s, c = np.sqrt(2 / np.pi), 0.044715
    t = np.tanh(s * (x + c * x * x * x))
    direct, through, inner = (1 + t) / 2, x / 2 * (1 - t * t), s * (1 + 3 * c * x * x)
    bell = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    return {
        "dx has the way through the tanh alone: x is also the factor in front of it": through * inner,
        "dx has the factor in front alone: x also reaches y through the tanh": direct,
        "the way through the tanh lacks the slope of tanh itself": direct + x / 2 * inner,
        "tanh is flat at both of its ends, where t is 1 and where it is -1; yours only at one": direct
        + x / 2 * (1 - t) * inner,
        "the way through the tanh stops at u: from u to x there is one more slope": direct + through,
        "from u to x: the slope of the cube lacks its factor": direct + through * s * (1 + c * x * x),
        "from u to x: the cube has a slope too, and it is missing": direct + through * s,
        "from u to x: u is scaled by s, and the slope from u to x is not": direct + through * inner / s,
        "the half in front is missing on the way through the tanh": direct + 2 * through * inner,
        "the half in front is missing on the direct way": 2 * direct + through * inner,
        "dt lacks the factor x: it is what t was multiplied by": direct + through / x * inner,
        "the slope of the exact GELU, by the bell curve; your forward is the tanh formula": direct + x * bell,
    }
