"""A second held-out group: written last, and no detector was changed because of it."""

import numpy as np

from tests.wrong_backwards import kept, matrix, n, simple, size, square
from tests.wrong_backwards.held_out import only, sigmoid, soft, tall, two_alike, with_right


def unseen(cause, name, f, gradient, shapes, i=0):
    simple(cause, name, f, gradient, shapes, i, "unseen")


def _length(x):
    return np.sqrt(kept(x * x))


def _slope(x):
    return sigmoid(x) * (1 - sigmoid(x))


def cube(rng):
    return [n(rng, size(rng), 2, size(rng, 3, 6))]


def halves(rng):
    return [n(rng, size(rng), 2 * size(rng, 2, 3))]


def invertible(rng):
    return [n(rng, 4, 4) + 4 * np.eye(4)]


unseen("unknown", "softplus: dy * y", only(lambda x: np.log1p(np.exp(x))), lambda dy, y, x: dy * y, matrix)
unseen("sign", "cosine: + sin", only(np.cos), lambda dy, y, x: dy * np.sin(x), matrix)
unseen("scale", "cube: 3 forgotten", only(lambda x: x**3), lambda dy, y, x: dy * x * x, matrix)
unseen(
    "mask",
    "relu: the other half",
    only(lambda x: np.maximum(x, 0)),
    lambda dy, y, x: dy * (x < 0),
    matrix,
)
unseen(
    "mask",
    "Huber: never clipped",
    only(lambda x: np.clip(x, -1, 1).sum(1)),
    lambda dy, y, x: np.repeat(dy[:, None], x.shape[1], 1),
    lambda r: [2 * n(r, 4, 5)],
)
unseen("mask", "lower triangle: all", only(np.tril), lambda dy, y, x: dy.copy(), square)
unseen("mask", "lower triangle: no diagonal", only(np.tril), lambda dy, y, x: np.tril(dy, -1), square)
unseen(
    "mean",
    "direction g x / |x|: no projection",
    only(lambda x: 3 * x / _length(x)),
    lambda dy, y, x: 3 * dy / _length(x),
    matrix,
)
unseen(
    "mean",
    "instance norm: without the mean of dy",
    only(lambda x: (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)),
    lambda dy, y, x: (dy - y * (dy * y).mean(-1, keepdims=True)) / x.std(-1, keepdims=True),
    cube,
)
unseen("mean", "centred columns: dx = dy", only(lambda x: x - x.mean(0)), lambda dy, y, x: dy.copy(), tall)
unseen(
    "path",
    "x sigmoid(mean x): the gate's own",
    only(lambda x: x * sigmoid(x.mean(-1, keepdims=True))),
    lambda dy, y, x: dy * sigmoid(x.mean(-1, keepdims=True)),
    matrix,
)
QUERY = np.random.default_rng(5).normal(size=4)
unseen(
    "path",
    "pooling by attention: weights treated as constant",
    only(lambda x: soft(x @ QUERY) @ x),
    lambda dy, y, x: np.outer(soft(x @ QUERY), dy),
    lambda r: [n(r, 5, 4)],
)
unseen(
    "path",
    "x / max(x): maximum treated as constant",
    only(lambda x: x / x.max(-1, keepdims=True)),
    lambda dy, y, x: dy / x.max(-1, keepdims=True),
    lambda r: [r.uniform(0.5, 2, (3, 5))],
)
unseen(
    "path",
    "a b + b a of one x: half of it",
    only(lambda x: x @ x),
    lambda dy, y, x: dy @ x.T,
    square,
)
unseen(
    "path",
    "highway: x's direct path",
    only(lambda x: sigmoid(x) * np.tanh(x) + (1 - sigmoid(x)) * x),
    lambda dy, y, x: dy * (_slope(x) * np.tanh(x) + sigmoid(x) * (1 - np.tanh(x) ** 2) - _slope(x) * x),
    matrix,
)
unseen(
    "scale",
    "average pool: not divided",
    only(lambda x: x.reshape(len(x), -1, 2).mean(-1)),
    lambda dy, y, x: np.repeat(dy, 2, 1),
    halves,
)
unseen(
    "shifted",
    "average pool: one place late",
    only(lambda x: x.reshape(len(x), -1, 2).mean(-1)),
    lambda dy, y, x: np.roll(np.repeat(dy, 2, 1) / 2, 1, 1),
    halves,
)
unseen(
    "broadcast",
    "each entry twice: only the first copy",
    only(lambda x: np.stack([x, x])),
    lambda dy, y, x: dy[0],
    matrix,
)
unseen(
    "scale",
    "each entry twice: a mean",
    only(lambda x: np.stack([x, x])),
    lambda dy, y, x: dy.mean(0),
    matrix,
)
unseen(
    "broadcast",
    "table a + b: db over the columns",
    with_right(lambda a, b: a[:, None] + b, lambda dy, a, b: (dy.sum(1), dy.sum(0))),
    lambda dy, y, a, b: dy.sum(1),
    lambda r: [n(r, 4), n(r, 4)],
    1,
)
unseen(
    "broadcast",
    "table a b: not summed",
    with_right(lambda a, b: a[:, None] * b, lambda dy, a, b: (dy @ b, a @ dy)),
    lambda dy, y, a, b: dy * b,
    lambda r: [n(r, 4), n(r, 3)],
)
unseen(
    "transposed",
    "log det: inverse for its transpose",
    only(lambda x: np.array(np.log(np.abs(np.linalg.det(x))))),
    lambda dy, y, x: dy * np.linalg.inv(x),
    invertible,
)
unseen(
    "sign",
    "inverse: minus forgotten",
    only(np.linalg.inv),
    lambda dy, y, x: y.T @ dy @ y.T,
    invertible,
)
unseen(
    "transposed",
    "inverse: not transposed",
    only(np.linalg.inv),
    lambda dy, y, x: -y @ dy @ y,
    invertible,
)
unseen(
    "transposed",
    "heads to the front: reshaped back",
    only(lambda x: x.transpose(1, 0, 2)),
    lambda dy, y, x: dy.reshape(x.shape),
    cube,
)
unseen(
    "rank-one",
    "smoothed cross-entropy: softmax left out",
    only(lambda x: np.array(-(np.log(soft(x)) * 0.2).sum())),
    lambda dy, y, x: np.full(x.shape, -0.2 * dy),
    matrix,
)
unseen(
    "rank-one",
    "masked softmax: no sum",
    only(lambda x: soft(x + np.array([0.0, -1e9, 0, 0]))),
    lambda dy, y, x: dy * y,
    lambda r: [n(r, 3, 4)],
)
unseen(
    "rank-one",
    "softmax of a product: no sum",
    with_right(lambda x, w: soft(x @ w), lambda dy, x, w: (0 * x, 0 * w)),
    lambda dy, y, x, w: (dy * y) @ w.T,
    lambda r: [n(r, 3, 4), n(r, 4, 5)],
)
unseen(
    "overwritten",
    "one-hot sums: assigned",
    only(lambda x: x[np.array([2, 0, 2, 2])] * 2),
    lambda dy, y, x: np.array([2 * dy[1], 0 * dy[0], 2 * dy[3]]),
    lambda r: [n(r, 3, 4)],
)
unseen(
    "zero",
    "gated halves: the gate's half",
    only(lambda x: x[:, : x.shape[1] // 2] * sigmoid(x[:, x.shape[1] // 2 :])),
    lambda dy, y, x: np.concatenate([dy * sigmoid(x[:, x.shape[1] // 2 :]), 0 * dy], 1),
    halves,
)
unseen(
    "sign",
    "difference of two: db as da",
    with_right(lambda a, b: np.tanh(a - b), lambda dy, a, b: (dy * (1 - np.tanh(a - b) ** 2), 0 * b)),
    lambda dy, y, a, b: dy * (1 - y * y),
    two_alike,
    1,
)
unseen(
    "shape",
    "dot product: a row",
    only(lambda x: np.array((x * x).sum())),
    lambda dy, y, x: dy * 2 * x[None],
    matrix,
)
