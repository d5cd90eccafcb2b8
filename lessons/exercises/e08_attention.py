"""Lesson 08: the backward of attention's core."""

import numpy as np

from minimega.attention import attention, attention_weights
from minimega.learn.again import OTHERS, SHAPES, again
from minimega.learn.slopes import backward
from minimega.learn.verdict import Verdict, draw, sharper, which

TASK = "Write back(dy), the backward of attention of one head, from the weights w on: dq, dk and dv."

HINT = """\
Three operations lie between v and y, in this order: scores, softmax, a product. Go back through them,
last one first."""

MORE = """\
y = w v is a product of matrices: dv and dw come from dy as dw and dx do in lesson 03. Then a row of w was a
softmax: for ds, subtract from dw the mean of its row, weighted by w, and multiply what is left by w. And s
= scale q k^T is a product of matrices again, with a factor and with k transposed. The mask needs no line of
its own: where a weight is 0, ds is 0."""

SOLUTION = '''\
def my_attention(q, k, v):
    """Causal attention of one head: (T, C), (T, C), (T, C) -> (T, C), and its backward."""
    scale = q.shape[-1] ** -0.5
    w = attention_weights(q * scale, k)  # softmax of the masked scores; (T, T)
    y = w @ v

    def back(dy):
        dw = dy @ v.T
        ds = w * (dw - (w * dw).sum(axis=-1, keepdims=True))
        dq = scale * ds @ k
        dk = scale * ds.T @ q
        dv = w.T @ dy
        return dq, dk, dv

    return y, back
'''

GIVEN = {"attention_weights": attention_weights}


def one_head(q, k, v):
    """The library's attention, of one head of one text."""
    y, back = attention(q[None, None], k[None, None], v[None, None])
    return y[0, 0], lambda dy: tuple(d[0, 0] for d in back(dy[None, None]))


DRAW = np.random.default_rng(8).normal
Q, K, V, DY = DRAW(size=(4, 5, 3))  # of 5 tokens, a head of width 3


def judge(f) -> Verdict:
    """T is not C, so that a wrong axis shows; if a typical mistake explains a gradient, it is said."""
    found = backward(
        f,
        one_head,
        Q,
        K,
        V,
        right="dq, dk and dv agree with finite differences of the forward",
        says={
            (
                "q",
                "mask",
            ): "dq is not 0 where no score moves a weight: w is 0, or a token sees itself alone",
            ("q", "rank-one"): "dq lacks, or has wrong, the sum that softmax subtracts",
            ("k", "rank-one"): "dk lacks, or has wrong, the sum that softmax subtracts",
            ("k", "mask"): "dk has a part from queries that do not see this key: the mask is not in it",
            ("v", "mask"): "dv has a part from queries that do not see this value: the mask is not in it",
        },
    )
    others = {
        OTHERS: (K, V, Q),
        SHAPES: tuple(draw(n, (3, 7)) for n in range(3)),
        "right for several tokens; for a single one, {} is wrong": tuple(draw(n, (1, 2)) for n in range(3)),
    }
    found = again(found, f, one_head, others)
    name = found.sentence.split()[0]
    return found if found.ok or name not in ("dq", "dk", "dv") else sharper(found, _mistake(f, name))


def _mistake(f, name: str) -> str:
    """The sentence of the typical mistake that gives just this gradient; "" if none does."""
    given = dict(zip(("dq", "dk", "dv"), f(Q.copy(), K.copy(), V.copy())[1](DY.copy()), strict=True))[name]
    scale = 3**-0.5
    w = attention_weights(Q * scale, K)
    dw = DY @ V.T
    inner = (w * dw).sum(axis=-1, keepdims=True)
    ds = w * (dw - inner)
    lacks = "ds lacks the sum that softmax subtracts: a weight that rises takes from all others in its row"
    mistakes = [
        (w * dw, lacks),
        (
            w * (1 - w) * dw,
            "ds has the diagonal of softmax alone: a score moves the other weights of its row too",
        ),
        (w * (dw + inner), "the sum in ds has the wrong sign"),
        (
            w * (dw - inner[:, 0]),
            "the sum of each row is taken from a column: it has lost its axis (keepdims)",
        ),
        (w * (dw - inner.sum()), "the sum in ds runs over all tokens: each query has its own"),
        (w * (dw - inner / 5), "the sum in ds is divided by T: the weights make it a mean already"),
        (
            w * (dw - w * dw.sum(axis=-1, keepdims=True)),
            "the sum in ds is of dw alone: w belongs inside it",
        ),
        (dw - inner, "ds is not multiplied by w: a score moves a weight in proportion to the weight"),
        (w * dw - inner, "the sum in ds is not multiplied by w"),
        (w * (dw - (w * dw).sum(axis=0)), "the sum in ds runs over the queries: softmax is over the keys"),
        (w * (dw - dw.sum(axis=-1, keepdims=True)), "the sum in ds is not weighted by w"),
        (w * (dw - dw.mean(axis=-1, keepdims=True)), "the sum in ds is a plain mean, not weighted by w"),
        (dw, "ds is dw itself: the softmax between them is left out"),
        (np.tril(dw), "ds is dw itself, masked: the softmax between them is left out"),
        (np.triu(ds), "ds is masked on the wrong side: a token sees itself and what is before it"),
        (np.tril(ds, -1), "ds is masked off by one: a token sees itself too"),
        (
            w * (dw.T - (w * dw.T).sum(axis=-1, keepdims=True)),
            "dw is transposed: its row t belongs to query t",
        ),
    ]
    back = one_head(Q, K, V)[1](DY)
    order = [(d, "the gradients are in the wrong order: it should be dq, dk, dv") for d in back]
    no_scale = "lacks the scale: q was multiplied by it before it met k"
    wrong = {
        "dq": [
            (ds @ K, f"dq {no_scale}"),
            (scale * ds.T @ K, "dq has ds the wrong way round: row t of ds belongs to query t"),
            (scale * scale * ds @ K, "dq has the scale twice"),
            (ds @ K / scale, "dq is divided by the scale; the score is multiplied by it"),
            (scale * ds @ Q, "dq is made with q: what q was multiplied by is k"),
            *((scale * d @ K, says) for d, says in mistakes),
            *((d @ K, f"{says}; and dq {no_scale}") for d, says in mistakes),
        ],
        "dk": [
            (ds.T @ Q, f"dk {no_scale}"),
            (scale * ds @ Q, "dk has ds the wrong way round: row t of ds belongs to query t, not to key t"),
            (scale * scale * ds.T @ Q, "dk has the scale twice"),
            (ds.T @ Q / scale, "dk is divided by the scale; the score is multiplied by it"),
            (scale * ds.T @ K, "dk is made with k: what k was multiplied by is q"),
        ],
        "dv": [
            (w @ DY, "dv has w the wrong way round: row t of w belongs to query t, not to value t"),
            (ds.T @ DY, "dv is made with ds: what v was multiplied by is w"),
            (dw.T @ DY, "dv is made with dw: what v was multiplied by is w"),
            (w.T @ V, "dv is made with v; it is dy that comes back"),
            (scale * w.T @ DY, "dv has the scale in it: the scale belongs to the scores, not to the values"),
        ],
    }[name] + order
    return which(given, ((says, array) for array, says in wrong))
