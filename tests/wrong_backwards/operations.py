"""minimega's operations, all right, with random shapes."""

from collections.abc import Callable

import numpy as np

from minimega import ops
from minimega.attention import attention, self_attention
from minimega.embedding import embedding
from minimega.head import cross_entropy
from minimega.linear import linear
from minimega.norm import layer_norm


def _right() -> dict[str, Callable]:
    """By name, a function of rng that returns (f, arrays)."""

    def n(rng, *shape):
        return rng.normal(size=shape)

    def size(rng, low=3, high=5):
        return int(rng.integers(low, high + 1))

    def positive(rng, *shape):
        return rng.uniform(0.5, 2, shape)

    right = {}

    def made(f):
        right[f.__name__] = f
        return f

    for f in (ops.add, ops.subtract, ops.multiply):
        right[f.__name__] = lambda rng, f=f: (f, [n(rng, size(rng), a := size(rng)), n(rng, a)])
    right["divide"] = lambda rng: (ops.divide, [n(rng, size(rng), a := size(rng)), positive(rng, a)])
    for f in (ops.exp, ops.tanh, ops.negative, ops.relu, ops.gelu, ops.softmax, ops.log_softmax):
        right[f.__name__] = lambda rng, f=f: (f, [n(rng, size(rng), size(rng))])
    for f in (ops.log, ops.sqrt):
        right[f.__name__] = lambda rng, f=f: (f, [positive(rng, size(rng), size(rng))])
    right["power"] = lambda rng: (lambda x: ops.power(x, 3.0), [positive(rng, size(rng), size(rng))])
    right["softmax over axis 0"] = lambda rng: (
        lambda x: ops.softmax(x, axis=0),
        [n(rng, size(rng), size(rng))],
    )
    for f in (ops.sum, ops.mean, ops.max):
        for axis in (0, -1, None):
            right[f"{f.__name__} over axis {axis}"] = lambda rng, f=f, axis=axis: (
                lambda x: f(x, axis=axis),
                [n(rng, size(rng), size(rng))],
            )
    right["mean over axis 1, kept"] = lambda rng: (
        lambda x: ops.mean(x, axis=1, keepdims=True),
        [n(rng, size(rng), size(rng), size(rng))],
    )
    right["reshape"] = lambda rng: (lambda x: ops.reshape(x, -1), [n(rng, size(rng), size(rng))])
    right["transpose"] = lambda rng: (ops.transpose, [n(rng, size(rng), size(rng))])
    right["transpose 1 2 0"] = lambda rng: (
        lambda x: ops.transpose(x, 1, 2, 0),
        [n(rng, size(rng), size(rng), size(rng))],
    )
    right["take slice"] = lambda rng: (lambda x: ops.take(x, slice(1, 3)), [n(rng, size(rng), size(rng))])

    @made
    def take_rows(rng):
        ids = np.array([0, 2, 2, 1, 0])
        return lambda x: ops.take(x, ids), [n(rng, size(rng), size(rng))]

    @made
    def concatenate(rng):
        d = size(rng)
        return lambda a, b: ops.concatenate(a, b, axis=0), [n(rng, size(rng), d), n(rng, size(rng), d)]

    @made
    def matmul(rng):
        k = size(rng)
        return ops.matmul, [n(rng, size(rng), k), n(rng, k, size(rng))]

    @made
    def matmul_square(rng):
        k = size(rng)
        return ops.matmul, [n(rng, k, k), n(rng, k, k)]

    @made
    def matmul_stacked(rng):
        k = size(rng)
        return ops.matmul, [n(rng, 2, size(rng), k), n(rng, k, size(rng))]

    @made
    def dropout(rng):
        shape = size(rng), size(rng)
        keep = rng.random(shape) < 0.7
        return lambda x: ops.dropout(x, keep=lambda: keep, p=0.3), [n(rng, *shape)]

    @made
    def linear_(rng):
        i, o = size(rng), size(rng)
        return linear, [n(rng, 2, size(rng), i), n(rng, i, o), n(rng, o)]

    @made
    def layer_norm_(rng):
        d = size(rng, 4, 6)
        return layer_norm, [n(rng, size(rng), d), n(rng, d), n(rng, d)]

    @made
    def attention_causal(rng):
        t, c = size(rng, 3, 4), size(rng, 2, 4)
        return attention, [n(rng, 1, 2, t, c) for _ in range(3)]

    @made
    def attention_across(rng):
        t, s, c = size(rng, 2, 4), size(rng, 2, 4), size(rng, 2, 4)
        arrays = [n(rng, 1, 2, t, c), n(rng, 1, 2, s, c), n(rng, 1, 2, s, c)]
        return lambda q, k, v: attention(q, k, v, causal=False), arrays

    @made
    def self_attention_(rng):
        return lambda qkv: self_attention(qkv, heads=2), [n(rng, 1, size(rng, 3, 4), 12)]

    @made
    def embedding_(rng):
        v = size(rng, 4, 6)
        ids = rng.integers(0, v, (2, 4))
        return lambda table: embedding(table, ids), [n(rng, v, size(rng))]

    @made
    def cross_entropy_(rng):
        rows, v = size(rng), size(rng)
        targets = rng.integers(0, v, rows)
        targets[0] = -1
        return lambda logits: cross_entropy(logits, targets), [n(rng, rows, v)]

    return right


RIGHT = _right()
