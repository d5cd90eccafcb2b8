"""Lesson 09: the backward of GELU."""

import numpy as np

from minimega.learn.again import OTHERS, SHAPES, again
from minimega.learn.slopes import backward
from minimega.learn.verdict import Verdict, which
from minimega.ops import gelu

TASK = "Write back(dy), the backward of GELU by its tanh formula: dx, through dt and du."

HINT = """\
x is used in two places. Find both, and what comes back from each."""

MORE = """\
Go backward through the three lines. In y, the factor next to t is x/2: that is what dt needs. The slope of
tanh can be written with t alone, so nothing has to be computed again. Then x: it is in the line of y, and in
the line of u. Each of the two sends something back, and what comes back is added up."""

SOLUTION = '''\
def my_gelu(x):
    """y = x/2 (1 + t), t = tanh(u), u = s (x + c x^3), elementwise, and its backward."""
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
    """The checker finds that dx is wrong; the slope shows which term it is."""
    x = np.linspace(-2.4, 3.1, 15).reshape(3, 5)
    says = {("x", "path"): "dx lacks one of its terms: x reaches the result on more than one path"}
    right = "dx agrees with finite differences of the forward, at fifteen points"
    found = backward(f, gelu, x, right=right, says=says)
    others = {
        OTHERS: (-x / 2,),
        SHAPES: (np.linspace(-3.0, 2.2, 30).reshape(3, 2, 5),),
        "right for x near 0; far from it, where tanh is flat, {} is wrong": (
            np.array([-30.0, -8.0, 8.0, 30.0]),
        ),
    }
    found = again(found, f, gelu, others)
    if found.ok or not found.sentence.startswith("dx"):
        return found
    slope = np.asarray(f(x)[1](np.ones_like(x)), float)
    if np.allclose(f(x)[1](2 * np.ones_like(x)), slope):
        return found._replace(sentence="dx is the same for every dy: the chain from the loss is not in it")
    says = which(slope, _mistakes(x).items())
    if not says and not np.allclose(f(x)[1](2 * np.ones_like(x)), 2 * slope):
        says = "dy is in only a part of dx: each path back begins with it"
    return found._replace(sentence=says, detail=found.detail.split("; ")[-1]) if says else found


def _mistakes(x) -> dict[str, np.ndarray]:
    """What to say of dx/dy if it is one of these."""
    s, c = np.sqrt(2 / np.pi), 0.044715
    u = s * (x + c * x * x * x)
    t = np.tanh(u)
    direct, through, inner = (1 + t) / 2, x / 2 * (1 - t * t), s * (1 + 3 * c * x * x)
    bell = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    return {
        "dx has only the path through the tanh: x is also the factor in front of it": through * inner,
        "dx has only the factor in front: x also reaches y through the tanh": direct,
        "the path through the tanh lacks the slope of tanh itself": direct + x / 2 * inner,
        "tanh is flat at both ends, where t is 1 and where it is -1; yours only at one": direct
        + x / 2 * (1 - t) * inner,
        "the slope of tanh is largest where t is 0, and falls on both sides; yours grows": direct
        + x / 2 * (1 + t * t) * inner,
        "the slope of tanh is made with u, where its value t belongs": direct + x / 2 * (1 - u * u) * inner,
        "the slope of tanh is taken at x; it was at u that tanh was taken": direct
        + x / 2 * (1 - np.tanh(x) ** 2) * inner,
        "dt has 1 + t in it: t itself was not multiplied by that": direct + through * (1 + t) * inner,
        "the two paths are multiplied; what comes back on two paths adds up": direct * through * inner,
        "the two paths are subtracted; what comes back on two paths adds up": direct - through * inner,
        "the half in front is missing on both paths": 2 * (direct + through * inner),
        "on the direct path, x was multiplied by 1 + t; in yours, the 1 is missing": t / 2 + through * inner,
        "on the direct path, x was multiplied by 1 + t; in yours, the t is missing": 1 / 2 + through * inner,
        "from u to x: a cube's slope grows like the square; yours grows like x": direct
        + through * s * (1 + 3 * c * x),
        "from u to x: a cube's slope grows like the square; yours grows like the cube": direct
        + through * s * (1 + 3 * c * x * x * x),
        "from u to x: the slope of the cube has the wrong factor": direct + through * s * (1 + 2 * c * x * x),
        "from u to x: the cube is not all of u, and the slope of the other term is missing": direct
        + through * s * 3 * c * x * x,
        "from u to x: s multiplies both terms of u, in yours only the first": direct
        + through * (s + 3 * c * x * x),
        "from u to x: s multiplies both terms of u, in yours only the cube": direct
        + through * (1 + 3 * s * c * x * x),
        "the path through the tanh stops at u: from u to x there is one more slope": direct + through,
        "from u to x: the slope of the cube lacks its factor": direct + through * s * (1 + c * x * x),
        "from u to x: the cube has a slope too, and it is missing": direct + through * s,
        "from u to x: u is scaled by s, and the slope from u to x is not": direct + through * inner / s,
        "the half in front is missing on the path through the tanh": direct + 2 * through * inner,
        "the half in front is missing on the direct path": 2 * direct + through * inner,
        "dt lacks the factor x: it is what t was multiplied by": direct + through / x * inner,
        "the slope of the exact GELU, by the bell curve; your forward is the tanh formula": direct + x * bell,
    }
