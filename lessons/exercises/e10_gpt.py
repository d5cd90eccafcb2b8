"""Lesson 10: the wiring of a block, forward and backward."""

import numpy as np

from minimega import random
from minimega.attention import self_attention
from minimega.learn.again import OTHERS, SHAPES, again
from minimega.learn.slopes import backward
from minimega.learn.verdict import Verdict, sharper, which
from minimega.linear import linear
from minimega.norm import layer_norm
from minimega.ops import gelu

TASK = "Write block(x, attention, mlp, norm1, norm2): the pre-norm block, its value and its backward."

HINT = """\
Write the forward first, one call a line, each result under its own name. The backward is these lines,
last one first."""

MORE = """\
Give every value its own name, and every back too: n, back_norm1 = norm1(x), and so on down to y, with h
for what lies between the two halves. Then read your lines from the last to the first. h is used in two of
them, so dh has two parts; x is used in two of them as well."""

SOLUTION = '''\
def block(x, attention, mlp, norm1, norm2):
    """Pre-norm, (B, T, D) -> (B, T, D). Each of the four returns (its value, its back), and so does block."""
    n1, back_norm1 = norm1(x)
    a, back_attention = attention(n1)
    h = x + a
    n2, back_norm2 = norm2(h)
    m, back_mlp = mlp(n2)
    y = h + m

    def back(dy):
        dh = dy + back_norm2(back_mlp(dy))
        dx = dh + back_norm1(back_attention(dh))
        return dx

    return y, back
'''


PATH = "dx lacks one of its terms: x reaches y on several paths"


def judge(f) -> Verdict:
    """The checker finds what is wrong; the values show which wire it is."""
    four, x = _four(), _draw(1, 3, 6)
    right = "the value is a pre-norm block's, and dx agrees with finite differences of it"
    found = backward(
        lambda x: f(x, *four),
        lambda x: (_value(x, *four), None),
        x,
        right=right,
        says={("x", "path"): PATH},
    )
    others = {OTHERS: (_draw(3, 1, 3, 6)[0],), SHAPES: (_draw(3, 5, 6),)}
    plain = [_bent(w) for w in _draw(4, 8, 8)]  # none of them is a norm: what a norm would hide shows
    for these, calls in (
        (four, others),
        (plain, {"right for one attention, mlp and norms; for others {} is wrong": (_draw(2, 5, 8),)}),
    ):
        found = again(found, lambda x, t=these: f(x, *t), lambda x, t=these: _right(x, *t), calls)
    if found.ok:
        return found
    if found.sentence.startswith("the forward"):
        got, known = f(x, *four)[0], _forward(x, *four)
    elif found.sentence.startswith("dx "):
        dy = _draw(1, 3, 6) + 1
        got, known = f(x, *four)[1](dy), _backward(x, dy, *four)
        found = found._replace(detail=found.detail.split("; ")[-1])
    else:
        return found
    return sharper(found, which(got, known.items()))


def _value(x, attention, mlp, norm1, norm2) -> np.ndarray:
    h = x + attention(norm1(x)[0])[0]
    return h + mlp(norm2(h)[0])[0]


def _right(x, *four):
    return _value(x, *four), lambda dy: _backward(x, dy, *four)["right"]


def _forward(x, attention, mlp, norm1, norm2) -> dict[str, np.ndarray]:
    """What to say of y if it is one of these."""
    a, m, n1, n2 = ((lambda x, f=f: f(x)[0]) for f in (attention, mlp, norm1, norm2))
    h, post, bare, both = x + a(n1(x)), n1(x + a(x)), x + a(x), n1(x) + a(n1(x))
    return {
        "the norms stand after the sums: this is post-norm": n2(post + m(post)),
        "norm1 is used twice: the mlp has its own norm": h + m(n1(h)),
        "norm2 is used twice: attention has its own norm": x + a(n2(x)) + m(n2(x + a(n2(x)))),
        "nothing goes around: there is no sum in y": m(n2(a(n1(x)))),
        "nothing goes around attention": a(n1(x)) + m(n2(a(n1(x)))),
        "nothing goes around the mlp": m(n2(h)),
        "what goes around both halves is normalised: it should be what came in": n2(both) + m(n2(both)),
        "what goes around the mlp is normalised: it should be what came in": n2(h) + m(n2(h)),
        "what goes around attention is normalised: it should be what came in": both + m(n2(both)),
        "the mlp reads x instead of what attention made of it": h + m(n2(x)),
        "x goes around the mlp: what attention added is lost there": x + m(n2(h)),
        "attention reads x without its norm": x + a(x) + m(n2(x + a(x))),
        "the mlp reads h without its norm": h + m(h),
        "x is added twice: h contains it already": x + h + m(n2(h)),
        "the mlp comes first: attention is the first half of a block": x + m(n1(x)) + a(n2(x + m(n1(x)))),
        "there is no norm in it: each of the two branches begins with one": bare + m(bare),
    }


def _backward(x, dy, attention, mlp, norm1, norm2) -> dict[str, np.ndarray]:
    """What to say of dx if it is one of these."""
    n1, back_norm1 = norm1(x)
    a, back_attention = attention(n1)
    n2, back_norm2 = norm2(x + a)
    back_mlp = mlp(n2)[1]

    def first(dh):
        return back_norm1(back_attention(dh))

    second = back_norm2(back_mlp(dy))
    dh = dy + second
    early = dy + back_mlp(back_norm2(dy))
    bare = dy + back_mlp(dy)
    return {
        "right": dh + first(dh),
        "dx lacks both residual paths: what goes around passes its gradient on unchanged": first(second),
        "dx lacks the residual path around attention": first(dh),
        "dx lacks the residual path around the mlp": second + first(second),
        "dx lacks the branch of attention: x reaches h through it too": dh,
        "dx lacks the branch of the mlp: h reaches y through it too": dy + first(dy),
        "attention's branch is given dy, where the gradient of h belongs": dh + first(dy),
        "dy goes around attention, where the gradient of h belongs": dy + first(dh),
        "the back of norm1 is missing": dh + back_attention(dh),
        "the back of norm2 is missing": bare + first(bare),
        "in attention's branch the norm came first, so its back comes last": dh
        + back_attention(back_norm1(dh)),
        "in the mlp's branch the norm came first, so its back comes last": early + first(early),
        "dy is in dx twice: the gradient of h contains it already": dy + dh + first(dh),
        "the mlp's branch is in dx twice: the gradient of h contains it already": dh
        + first(dh)
        + back_norm2(back_mlp(dh)),
        "the two halves are in the forward's order: what came last goes back first": dy
        + first(dy)
        + back_norm2(back_mlp(dy + first(dy))),
        "the norm came first in its branch, so its back comes last": early
        + back_attention(back_norm1(early)),
        "the backs of the norms are missing": bare + back_attention(bare),
        "the second norm's back is used for both norms (under one name for both?)": dh
        + back_norm2(back_attention(dh)),
    }


def _draw(*shape: int) -> np.ndarray:
    key = random.key(10, "exercise", str(shape))
    return random.normal(key, np.arange(int(np.prod(shape)))).reshape(shape)


def _bent(w):
    """tanh(x w) as a function that returns its value and its back."""

    def f(x):
        y = np.tanh(x @ w)
        return y, lambda dy: (dy * (1 - y * y)) @ w.T

    return f


def _four():
    """Attention of two heads, an MLP, and two norms that differ; each returns its value and its back."""

    def chain(*steps):
        def f(x):
            backs = []
            for step in steps:
                x, back = step(x)
                backs.append(back)

            def through(dy):
                for back in reversed(backs):
                    dy = back(dy)
                    dy = dy[0] if isinstance(dy, tuple) else dy
                return dy

            return x, through

        return f

    def by(w):
        return lambda x: linear(x, w)

    attention = chain(by(_draw(6, 18)), lambda x: self_attention(x, 2), by(_draw(6, 6)))
    mlp = chain(by(_draw(6, 7)), gelu, by(_draw(7, 6)))
    norm1, norm2 = (
        chain(lambda x, i=i: layer_norm(x, _draw(2, 6)[i] + 1.5, _draw(2, 2, 6)[i, 0])) for i in (0, 1)
    )
    return attention, mlp, norm1, norm2
