"""Operations that minimega does not have, written after the detectors to see how far these generalise."""

from collections.abc import Callable

import numpy as np

from tests.wrong_backwards import kept, matrix, n, simple, size, wrong
from tests.wrong_backwards.by_hand import four_by_five


def held(cause: str, name: str, f: Callable, gradient: Callable, shapes: Callable, i: int = 0):
    simple(cause, name, f, gradient, shapes, i, "held out")


def three(rng):
    return [n(rng, 2, size(rng), size(rng))]


def two_alike(rng):
    shape = size(rng), size(rng)
    return [n(rng, *shape), n(rng, *shape)]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def soft(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def only(f: Callable) -> Callable:
    """The forward f with a back that is never called: the test supplies the gradient separately."""
    return lambda *xs: (f(*xs), lambda dy: tuple(0 * x for x in xs))


def with_right(f: Callable, rights: Callable) -> Callable:
    return lambda *xs: (f(*xs), lambda dy: rights(dy, *xs))


swish = only(lambda x: x * sigmoid(x))
held("path", "swish: the first term alone", swish, lambda dy, y, x: dy * sigmoid(x), matrix)
held(
    "path",
    "swish: the second term alone",
    swish,
    lambda dy, y, x: dy * x * sigmoid(x) * (1 - sigmoid(x)),
    matrix,
)
held("sign", "swish: minus", swish, lambda dy, y, x: -dy * sigmoid(x) * (1 + x * (1 - sigmoid(x))), matrix)
held("unknown", "sigmoid: dy * y", only(sigmoid), lambda dy, y, x: dy * y, matrix)
held("unknown", "sine: dy * sin", only(np.sin), lambda dy, y, x: dy * y, matrix)
held(
    "path",
    "SwiGLU: the gate's second term",
    with_right(lambda a, b: a * sigmoid(a) * b, lambda dy, a, b: (dy, dy * a * sigmoid(a))),
    lambda dy, y, a, b: dy * sigmoid(a) * b,
    two_alike,
)


def _rms(x):
    return np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)


rms = only(lambda x: x / _rms(x))
held("mean", "RMSNorm: dx = dy / rms", rms, lambda dy, y, x: dy / _rms(x), matrix)
held(
    "mean",
    "RMSNorm: the term added",
    rms,
    lambda dy, y, x: (dy + y * (dy * y).mean(-1, keepdims=True)) / _rms(x),
    matrix,
)
held("mean", "RMSNorm: sum for mean", rms, lambda dy, y, x: (dy - y * kept(dy * y)) / _rms(x), matrix)


def _batch(x):
    m, s = x.mean(axis=0), np.sqrt(x.var(axis=0) + 1e-5)
    return (x - m) / s, s


def _batch_dx(first, second):
    def dx(dy, y, x):
        xhat, s = _batch(x)
        return (dy - first * dy.mean(axis=0) - second * xhat * (dy * xhat).mean(axis=0)) / s

    return dx


batch_norm = only(lambda x: _batch(x)[0])


def tall(rng):
    return [n(rng, size(rng, 4, 7), size(rng))]


held("mean", "BatchNorm: without the mean of dy", batch_norm, _batch_dx(0, 1), tall)
held("mean", "BatchNorm: without the part along xhat", batch_norm, _batch_dx(1, 0), tall)
held("mean", "BatchNorm: statistics treated as constant", batch_norm, _batch_dx(0, 0), tall)


def _group(x):
    m, s = x.mean(axis=(1, 2), keepdims=True), np.sqrt(x.var(axis=(1, 2), keepdims=True) + 1e-5)
    return (x - m) / s, s


held(
    "mean",
    "norm over two axes: without the mean of dy",
    only(lambda x: _group(x)[0]),
    lambda dy, y, x: (dy - y * (dy * y).mean(axis=(1, 2), keepdims=True)) / _group(x)[1],
    three,
)
held(
    "mean",
    "unit length: without the part along x",
    only(lambda x: x / np.sqrt(kept(x * x))),
    lambda dy, y, x: dy / np.sqrt(kept(x * x)),
    matrix,
)
held(
    "mean",
    "variance: x for x - mean",
    only(lambda x: x.var(axis=1)),
    lambda dy, y, x: dy[:, None] * 2 * x / x.shape[1],
    matrix,
)
held(
    "scale",
    "variance: 2 forgotten",
    only(lambda x: x.var(axis=1)),
    lambda dy, y, x: dy[:, None] * (x - x.mean(1, keepdims=True)) / x.shape[1],
    matrix,
)
held(
    "scale",
    "variance: divided by N - 1",
    only(lambda x: x.var(axis=1)),
    lambda dy, y, x: dy[:, None] * 2 * (x - x.mean(1, keepdims=True)) / (x.shape[1] - 1),
    matrix,
)

warm = only(lambda x: soft(x / 3))
held(
    "scale", "softmax at a temperature: 1/3 forgotten", warm, lambda dy, y, x: y * (dy - kept(dy * y)), matrix
)
held("rank-one", "softmax at a temperature: no sum", warm, lambda dy, y, x: y * dy / 3, matrix)
held(
    "rank-one", "softmax over axis 1 of 3: no sum", only(lambda x: soft(x, 1)), lambda dy, y, x: y * dy, three
)
held(
    "rank-one",
    "log-softmax over axis 0: no sum",
    only(lambda x: np.log(soft(x, 0))),
    lambda dy, y, x: dy.copy(),
    matrix,
)
held(
    "unknown",
    "logsumexp: without softmax",
    only(lambda x: np.log(np.exp(x).sum(-1))),
    lambda dy, y, x: np.repeat(dy[:, None], x.shape[1], 1),
    matrix,
)
held(
    "rank-one",
    "entropy of a softmax: no sum",
    only(lambda x: -(soft(x) * np.log(soft(x))).sum(-1)),
    lambda dy, y, x: -dy[:, None] * soft(x) * np.log(soft(x)),
    matrix,
)
held(
    "transposed",
    "cumsum: cumsum of dy",
    only(lambda x: np.cumsum(x, 1)),
    lambda dy, y, x: np.cumsum(dy, 1),
    matrix,
)
held(
    "transposed",
    "outer: dy for dy.T",
    with_right(np.outer, lambda dy, a, b: (dy @ b, dy.T @ a)),
    lambda dy, y, a, b: dy @ a,
    lambda r: [n(r, 4), n(r, 4)],
    1,
)
bilinear = with_right(
    lambda x, w, z: np.einsum("bi,ij,bj->b", x, w, z),
    lambda dy, x, w, z: (dy[:, None] * (z @ w.T), np.einsum("b,bi,bj->ij", dy, x, z), dy[:, None] * (x @ w)),
)


def bi(rng):
    k = size(rng)
    return [n(rng, 5, k), n(rng, k, k), n(rng, 5, k)]


held(
    "transposed",
    "bilinear: dw transposed",
    bilinear,
    lambda dy, y, x, w, z: np.einsum("b,bi,bj->ji", dy, x, z),
    bi,
    1,
)
held("transposed", "bilinear: dx with w for w.T", bilinear, lambda dy, y, x, w, z: dy[:, None] * (z @ w), bi)
held("zero", "bilinear: dz forgotten", bilinear, lambda dy, y, x, w, z: 0 * z, bi, 2)

pool = only(lambda x: np.maximum(x[:, 0::2], x[:, 1::2]))


def even(rng):
    return [n(rng, size(rng), 6)]


held("mask", "max-pool: both of a pair", pool, lambda dy, y, x: np.repeat(dy, 2, 1), even)
held(
    "mask",
    "max-pool: always the first",
    pool,
    lambda dy, y, x: np.stack([dy, 0 * dy], -1).reshape(x.shape),
    even,
)
held(
    "shifted",
    "max-pool: the neighbouring place",
    pool,
    lambda dy, y, x: np.roll(np.repeat(dy, 2, 1) * (x == np.repeat(y, 2, 1)), 1, 1),
    even,
)
KERNEL = np.array([0.7, -1.2, 0.4])


def _conv(x, k=KERNEL):
    padded = np.pad(x, ((0, 0), (1, 1)))
    return sum(k[j] * padded[:, j : j + x.shape[1]] for j in range(3))


held("transposed", "convolution: the kernel not flipped", only(_conv), lambda dy, y, x: _conv(dy), even)
held(
    "shifted",
    "convolution: one place off",
    only(_conv),
    lambda dy, y, x: np.roll(_conv(dy, KERNEL[::-1]), 1, 1),
    even,
)
held("mask", "clip: no mask", only(lambda x: np.clip(x, -0.5, 0.5)), lambda dy, y, x: dy.copy(), matrix)
held(
    "mask",
    "maximum: a always gets dy",
    with_right(np.maximum, lambda dy, a, b: (dy * (a > b), dy * (b > a))),
    lambda dy, y, a, b: dy.copy(),
    two_alike,
)
held(
    "mask",
    "maximum: b gets a's mask",
    with_right(np.maximum, lambda dy, a, b: (dy * (a > b), dy * (b > a))),
    lambda dy, y, a, b: dy * (a > b),
    two_alike,
    1,
)
held(
    "mask",
    "leaky relu as relu",
    only(lambda x: np.where(x > 0, x, 0.1 * x)),
    lambda dy, y, x: dy * (x > 0),
    matrix,
)
held(
    "mask",
    "hinge: no mask",
    only(lambda x: np.maximum(0, 1 - x).mean()),
    lambda dy, y, x: -dy * np.ones_like(x) / x.size,
    lambda r: [1 + n(r, size(r), 4)],
)
SEEN = np.array([True, True, False, True, False])
masked_mean = only(lambda x: (x * SEEN).sum(1) / SEEN.sum())
held(
    "mask",
    "masked mean: no mask",
    masked_mean,
    lambda dy, y, x: np.repeat(dy[:, None], 5, 1) / SEEN.sum(),
    four_by_five,
)
held(
    "scale", "masked mean: divided by all", masked_mean, lambda dy, y, x: dy[:, None] * SEEN / 5, four_by_five
)
ROW, COLUMN = np.array([0, 1, 1, 2, 0]), np.array([1, 0, 0, 2, 1])


def _assign_pairs(dy, y, x):
    dx = np.zeros_like(x)
    dx[ROW, COLUMN] = dy
    return dx


held("overwritten", "x[rows, columns]: assigned", only(lambda x: x[ROW, COLUMN]), _assign_pairs, matrix)


def _along(dy, y, x):
    dx = np.zeros_like(x)
    np.put_along_axis(dx, np.repeat([[0, 1, 1]], len(x), 0), dy, 1)
    return dx


held(
    "overwritten",
    "take_along_axis: put back",
    only(lambda x: np.take_along_axis(x, np.repeat([[0, 1, 1]], len(x), 0), 1)),
    _along,
    matrix,
)
BAGS = np.array([[0, 1], [2, 1], [3, 4]])


def _bags(dy, y, x):
    dx = np.zeros_like(x)
    dx[BAGS] = dy[:, None]
    return dx


held("overwritten", "bag of rows: assigned", only(lambda x: x[BAGS].sum(1)), _bags, lambda r: [n(r, 5, 3)])


def _turn(x, way=1):
    angle = np.arange(x.shape[0])[:, None] + 0.5
    a, b = x[:, 0::2], x[:, 1::2]
    return np.stack(
        [a * np.cos(angle) - way * b * np.sin(angle), way * a * np.sin(angle) + b * np.cos(angle)], -1
    ).reshape(x.shape)


held("sign", "rotary positions: rotated the same way", only(_turn), lambda dy, y, x: _turn(dy), even)
mse = with_right(
    lambda a, b: ((a - b) ** 2).mean(),
    lambda dy, a, b: (2 * dy * (a - b) / a.size, -2 * dy * (a - b) / a.size),
)
held("scale", "squared error: 2 forgotten", mse, lambda dy, y, a, b: dy * (a - b) / a.size, two_alike)
held("scale", "squared error: not divided", mse, lambda dy, y, a, b: 2 * dy * (a - b), two_alike)
held("sign", "squared error: db as da", mse, lambda dy, y, a, b: 2 * dy * (a - b) / a.size, two_alike, 1)
held(
    "path",
    "distances: one of the two uses",
    only(lambda x: ((x[:, None] - x) ** 2).sum(-1)),
    lambda dy, y, x: 2 * (dy[:, :, None] * (x[:, None] - x)).sum(1),
    matrix,
)
gate = with_right(
    lambda a, b, c: a * b + (1 - a) * c, lambda dy, a, b, c: (dy * (b - c), dy * a, dy * (1 - a))
)
held(
    "path",
    "gate: a's second term",
    gate,
    lambda dy, y, a, b, c: dy * b,
    lambda r: [n(r, 3, 4) for _ in range(3)],
)
held(
    "sign",
    "gate: a's second term added",
    gate,
    lambda dy, y, a, b, c: dy * (c - b),
    lambda r: [n(r, 3, 4) for _ in range(3)],
)
held("path", "x^3 + x: the 1", only(lambda x: x**3 + x), lambda dy, y, x: 3 * dy * x * x, matrix)
held(
    "path", "x^2 + sin x: the cosine", only(lambda x: x * x + np.sin(x)), lambda dy, y, x: 2 * dy * x, matrix
)
held(
    "path",
    "x mean(x): the mean's own",
    only(lambda x: x * x.mean(-1, keepdims=True)),
    lambda dy, y, x: dy * x.mean(-1, keepdims=True),
    matrix,
)
M1, M2 = np.random.default_rng(8).normal(size=(2, 5, 5))
mlp = only(lambda x: x + np.tanh(x @ M1) @ M2)
held(
    "path",
    "MLP block: no residual",
    mlp,
    lambda dy, y, x: ((dy @ M2.T) * (1 - np.tanh(x @ M1) ** 2)) @ M1.T,
    four_by_five,
)
held("path", "MLP block: the residual alone", mlp, lambda dy, y, x: dy.copy(), four_by_five)
held(
    "unknown",
    "MLP block: tanh without its slope",
    mlp,
    lambda dy, y, x: dy + (dy @ M2.T) @ M1.T,
    four_by_five,
)
tied = only(lambda w: np.tanh(M1 @ w) @ w.T)
held(
    "path",
    "tied weights: only the second use",
    tied,
    lambda dy, y, w: dy.T @ np.tanh(M1 @ w),
    lambda r: [n(r, 5, 4)],
)
held(
    "path",
    "tied weights: only the first use",
    tied,
    lambda dy, y, w: M1.T @ ((dy @ w) * (1 - np.tanh(M1 @ w) ** 2)),
    lambda r: [n(r, 5, 4)],
)


def _recur(w):
    hs = [np.ones((2, 4))]
    for _ in range(3):
        hs.append(np.tanh(hs[-1] @ w))
    return hs


def _last_step(dy, y, w):
    hs = _recur(w)
    return hs[-2].T @ (dy * (1 - hs[-1] ** 2))


held(
    "path",
    "recurrence: only the last step",
    only(lambda w: _recur(w)[-1]),
    _last_step,
    lambda r: [n(r, 4, 4)],
)
held(
    "path",
    "differences: the left neighbour",
    only(lambda x: np.diff(x, axis=1)),
    lambda dy, y, x: np.pad(dy, ((0, 0), (1, 0))),
    matrix,
)
held("shifted", "roll: dx = dy", only(lambda x: np.roll(x, 1, 1)), lambda dy, y, x: dy.copy(), even)
held(
    "shifted",
    "pad: cut from the start",
    only(lambda x: np.pad(x, ((0, 0), (1, 1)))),
    lambda dy, y, x: dy[:, :-2],
    matrix,
)
shared_key = with_right(
    lambda q, k: np.einsum("htc,sc->hts", q, k),
    lambda dy, q, k: (np.einsum("hts,sc->htc", dy, k), np.einsum("hts,htc->sc", dy, q)),
)


def queries(rng):
    c = size(rng)
    return [n(rng, 3, size(rng), c), n(rng, size(rng), c)]


held(
    "broadcast",
    "shared key: not summed over heads",
    shared_key,
    lambda dy, y, q, k: np.einsum("hts,htc->hsc", dy, q),
    queries,
    1,
)
held("broadcast", "shared key: the first head's", shared_key, lambda dy, y, q, k: dy[0].T @ q[0], queries, 1)
held(
    "scale",
    "shared key: a mean over heads",
    shared_key,
    lambda dy, y, q, k: np.einsum("hts,htc->sc", dy, q) / 3,
    queries,
    1,
)
bias = with_right(np.add, lambda dy, s, b: (dy, dy.sum(0)))
held(
    "broadcast",
    "position bias: the first sample's",
    bias,
    lambda dy, y, s, b: dy[0],
    lambda r: [n(r, 3, 2, 4), n(r, 2, 4)],
    1,
)
held(
    "broadcast",
    "position bias: summed over the queries too",
    bias,
    lambda dy, y, s, b: np.repeat(dy.sum((0, 1))[None], 2, 0),
    lambda r: [n(r, 3, 2, 4), n(r, 2, 4)],
    1,
)
held("shape", "column mean: axis kept", only(lambda x: x - 2 * x), lambda dy, y, x: -dy[..., None], matrix)
held(
    "shape",
    "product with a vector: a column back",
    with_right(lambda a, v: a @ v, lambda dy, a, v: (np.outer(dy, v), a.T @ dy)),
    lambda dy, y, a, v: (a.T @ dy)[:, None],
    lambda r: [n(r, 3, 4), n(r, 4)],
    1,
)


@wrong("count", 1, "held out")
def forgotten_weight(rng):
    """a back that returns one gradient of two"""
    return lambda a, b: (np.sin(a) * b, lambda dy: dy * np.cos(a) * b), two_alike(rng)


@wrong("mutated", 0, "held out")
def clips_in_place(rng):
    """a forward that clips its input in place"""

    def f(x):
        np.clip(x, -0.5, 0.5, out=x)
        return np.exp(x), lambda dy: dy * np.exp(x)

    return f, matrix(rng)


@wrong("random", 0, "held out")
def random_features(rng):
    """a projection drawn in every forward"""
    source = np.random.default_rng(1)

    def f(x):
        w = source.normal(size=(x.shape[1], 2))
        return x @ w, lambda dy: dy @ w.T

    return f, matrix(rng)


@wrong("stateful", 0, "held out")
def momentum(rng):
    """a back that mixes in the previous gradient"""
    before = [0.0]

    def f(x):
        def back(dy):
            before[0] = 0.9 * before[0] + dy * np.cos(x)
            return before[0]

        return np.sin(x), back

    return f, matrix(rng)


@wrong("precision", 0, "held out")
def log_sum_exp_overflows(rng):
    """logsumexp without subtracting the maximum, in float32"""

    def f(x):
        e = np.exp(x)
        return np.log(kept(e)), lambda dy: dy * e / kept(e)

    return f, [(92 + 3 * n(rng, 3, 4)).astype("float32")]
