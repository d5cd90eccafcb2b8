"""Subtler mistakes, each written out.

B batch, T time, D width, H heads, C head width, V vocabulary.
"""

from collections.abc import Callable

import numpy as np

from minimega import ops
from minimega.attention import self_attention
from minimega.embedding import embedding
from minimega.head import cross_entropy
from minimega.linear import linear
from minimega.norm import layer_norm
from tests.wrong_backwards import (
    Wrong,
    add,
    gradients,
    kept,
    matrix,
    n,
    replaced,
    simple,
    size,
    square,
    wrong,
)

simple("rank-one", "softmax: dx = dy * y", ops.softmax, lambda dy, y, x: dy * y, matrix)
simple("rank-one", "softmax: the sum is added", ops.softmax, lambda dy, y, x: y * (dy + kept(dy * y)), matrix)
simple(
    "rank-one", "softmax: the sum of dy without y", ops.softmax, lambda dy, y, x: y * (dy - kept(dy)), matrix
)
simple(
    "rank-one",
    "softmax: a mean for the sum",
    ops.softmax,
    lambda dy, y, x: y * (dy - kept(dy * y) / 2),
    matrix,
)
simple("rank-one", "log-softmax: dx = dy", ops.log_softmax, lambda dy, y, x: dy.copy(), matrix)
simple("rank-one", "log-softmax: plus", ops.log_softmax, lambda dy, y, x: dy + np.exp(y) * kept(dy), matrix)
simple("path", "gelu: only the first term", ops.gelu, lambda dy, y, x: dy * y / x, matrix)
simple(
    "path",
    "gelu: only the second term",
    ops.gelu,
    lambda dy, y, x: gradients(ops.gelu(x)[1], dy, 1)[0] - dy * y / x,
    matrix,
)
simple("mask", "relu: no mask", ops.relu, lambda dy, y, x: dy.copy(), matrix)
simple("mask", "relu: the mask of dy", ops.relu, lambda dy, y, x: dy * (dy > 0), matrix)
simple("mask", "relu: wrong threshold", ops.relu, lambda dy, y, x: dy * (x > 0.5), matrix)
simple(
    "sign",
    "abs: dx = dy",
    lambda x: (np.abs(x), lambda dy: dy * np.sign(x)),
    lambda dy, y, x: dy.copy(),
    matrix,
)
simple(
    "scale",
    "sqrt: 1/2 forgotten",
    ops.sqrt,
    lambda dy, y, x: dy / y,
    lambda rng: [rng.uniform(0.5, 2, (3, 4))],
)
simple(
    "scale", "power: the exponent forgotten", lambda x: ops.power(x, 3.0), lambda dy, y, x: dy * x**2, matrix
)
simple("unknown", "tanh: 1 - y", ops.tanh, lambda dy, y, x: dy * (1 - y), matrix)
simple("unknown", "log: dy * x", ops.log, lambda dy, y, x: dy * x, lambda rng: [rng.uniform(0.5, 2, (3, 4))])
simple(
    "sign",
    "subtract: db = +dy",
    ops.subtract,
    lambda dy, y, a, b: dy.copy(),
    lambda r: [n(r, 3, 4), n(r, 3, 4)],
    1,
)
simple(
    "sign",
    "divide: db without minus",
    ops.divide,
    lambda dy, y, a, b: dy * y / b,
    lambda r: [n(r, 3, 4), n(r, 3, 4)],
    1,
)
simple(
    "scale", "square: dx = dy * x", lambda x: (x * x, lambda dy: 2 * dy * x), lambda dy, y, x: dy * x, matrix
)
simple(
    "path",
    "x @ x.T: one of the two uses",
    lambda x: (x @ x.T, lambda dy: (dy + dy.T) @ x),
    lambda dy, y, x: dy @ x,
    matrix,
)
simple(
    "path",
    "x * sum(x): the factor x alone",
    lambda x: (x * kept(x), lambda dy: dy * kept(x) + kept(dy * x)),
    lambda dy, y, x: dy * kept(x),
    matrix,
)
simple(
    "path",
    "x + tanh x: no residual",
    lambda x: (x + np.tanh(x), lambda dy: dy * (2 - np.tanh(x) ** 2)),
    lambda dy, y, x: dy * (1 - np.tanh(x) ** 2),
    matrix,
)
simple(
    "path",
    "x + tanh x: only the residual",
    lambda x: (x + np.tanh(x), lambda dy: dy * (2 - np.tanh(x) ** 2)),
    lambda dy, y, x: dy.copy(),
    matrix,
)
simple(
    "path",
    "a b + a: a's second term",
    lambda a, b: (a * b + a, lambda dy: (dy * b + dy, dy * a)),
    lambda dy, y, a, b: dy * b,
    lambda r: [n(r, 3, 4), n(r, 3, 4)],
)
simple(
    "broadcast",
    "sum over axis 0: repeated along axis 1",
    lambda x: ops.sum(x, axis=0),
    lambda dy, y, x: np.repeat(dy[:, None], len(dy), 1),
    square,
)
simple(
    "scale",
    "mean: not divided",
    lambda x: ops.mean(x, axis=0),
    lambda dy, y, x: np.broadcast_to(dy, x.shape).copy(),
    matrix,
)
simple(
    "scale",
    "mean: divided by the other axis",
    lambda x: ops.mean(x, axis=0),
    lambda dy, y, x: np.broadcast_to(dy, x.shape) / x.shape[1],
    lambda r: [n(r, 3, 5)],
)
simple(
    "mask",
    "max: every entry gets dy",
    lambda x: ops.max(x, axis=1),
    lambda dy, y, x: np.repeat(dy[:, None], x.shape[1], 1),
    matrix,
)
simple("transposed", "transpose: dx = dy on a square", ops.transpose, lambda dy, y, x: dy.copy(), square)
simple(
    "transposed",
    "transpose 1 2 0: the same order twice",
    lambda x: ops.transpose(x, 1, 2, 0),
    lambda dy, y, x: dy.transpose(1, 2, 0),
    lambda r: [n(r, 3, 3, 3)],
)
simple(
    "transposed",
    "transpose: read row by row",
    ops.transpose,
    lambda dy, y, x: dy.reshape(x.shape),
    lambda r: [n(r, 3, 5)],
)
simple(
    "transposed",
    "matmul: dy @ w on a square",
    ops.matmul,
    lambda dy, y, a, b: dy @ b,
    lambda r: [n(r, 4, 3), n(r, 3, 3)],
)
simple(
    "transposed",
    "matmul: db transposed on a square",
    ops.matmul,
    lambda dy, y, a, b: dy.T @ a,
    lambda r: [n(r, 4, 3), n(r, 3, 3)],
    1,
)
simple(
    "transposed",
    "matmul: db transposed, not square",
    ops.matmul,
    lambda dy, y, a, b: dy.T @ a,
    lambda r: [n(r, 4, 3), n(r, 3, 5)],
    1,
)
simple(
    "broadcast",
    "matmul stacked: db not summed",
    ops.matmul,
    lambda dy, y, a, b: a.swapaxes(1, 2) @ dy,
    lambda r: [n(r, 2, 4, 3), n(r, 3, 5)],
    1,
)

ROWS = np.array([0, 2, 2, 1, 0])


def _assigned(dy, y, x):
    dx = np.zeros_like(x)
    dx[ROWS] = dy
    return dx


def _buffered(dy, y, x):
    dx = np.zeros_like(x)
    dx[ROWS] += dy
    return dx


def _into(rows, x, dy):
    dx = np.zeros_like(x)
    dx[rows] = dy
    return dx


simple("overwritten", "take: assigned", lambda x: ops.take(x, ROWS), _assigned, matrix)
simple("overwritten", "take: += with repeated indices", lambda x: ops.take(x, ROWS), _buffered, matrix)
simple(
    "shape", "take a slice: dx = dy", lambda x: ops.take(x, slice(1, 3)), lambda dy, y, x: dy.copy(), matrix
)
simple(
    "shifted",
    "take a slice: one row too early",
    lambda x: ops.take(x, slice(1, 3)),
    lambda dy, y, x: _into(slice(0, 2), x, dy),
    matrix,
)


def biased(rng):
    return [n(rng, 4, 4), n(rng, 4)]


def lin(rng):
    i, o = size(rng), size(rng)
    return [n(rng, 2, size(rng), i), n(rng, i, o), n(rng, o)]


def lin_square(rng):
    k = size(rng)
    return [n(rng, 2, k, k), n(rng, k, k), n(rng, k)]


simple(
    "broadcast", "add: db summed over the other axis", ops.add, lambda dy, y, a, b: dy.sum(axis=1), biased, 1
)
simple("broadcast", "add: db not summed", ops.add, lambda dy, y, a, b: dy.copy(), biased, 1)
simple(
    "broadcast",
    "multiply: db summed over the other axis",
    ops.multiply,
    lambda dy, y, a, b: (dy * a).sum(axis=1),
    biased,
    1,
)
simple("broadcast", "multiply: db not summed", ops.multiply, lambda dy, y, a, b: dy * a, biased, 1)
simple("unknown", "multiply: db without a", ops.multiply, lambda dy, y, a, b: dy.sum(axis=0), biased, 1)
simple("broadcast", "linear: db not summed", linear, lambda dy, y, x, w, b: dy.copy(), lin, 2)
simple(
    "broadcast", "linear: db of the first sample", linear, lambda dy, y, x, w, b: dy[0].sum(axis=0), lin, 2
)
simple(
    "broadcast",
    "linear: db summed over everything",
    linear,
    lambda dy, y, x, w, b: np.full_like(b, dy.sum()),
    lin,
    2,
)
simple("broadcast", "linear: dw of the last sample", linear, lambda dy, y, x, w, b: x[-1].T @ dy[-1], lin, 1)
simple("scale", "linear: db a mean", linear, lambda dy, y, x, w, b: dy.mean(axis=(0, 1)), lin, 2)
simple(
    "scale",
    "linear: dw divided by the batch",
    linear,
    lambda dy, y, x, w, b: np.einsum("bti,bto->io", x, dy) / 2,
    lin,
    1,
)
simple("transposed", "linear: w not transposed", linear, lambda dy, y, x, w, b: dy @ w, lin_square)
simple(
    "transposed",
    "linear: dw = dy.T x",
    linear,
    lambda dy, y, x, w, b: np.einsum("bti,bto->oi", x, dy),
    lin_square,
    1,
)
simple(
    "shape",
    "linear: dx without the batch axes",
    linear,
    lambda dy, y, x, w, b: (dy @ w.T).reshape(-1, len(w)),
    lin,
)


def norm(rng):
    d = size(rng, 4, 6)
    return [n(rng, size(rng), d), rng.uniform(0.5, 2, d), n(rng, d)]


def _ln(x):
    r = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    return (x - x.mean(axis=-1, keepdims=True)) * r, r


def _ln_dx(first: float, second: float) -> Callable:
    """LayerNorm's dx with these factors on its two mean terms (1 and 1 are right)."""

    def dx(dy, y, x, w, b):
        xhat, r = _ln(x)
        g = dy * w
        m = x.shape[-1]
        return r * (g - first * kept(g) / m - second * xhat * kept(g * xhat) / m)

    return dx


simple("mean", "layer norm: without the mean of dxhat", layer_norm, _ln_dx(0, 1), norm)
simple("mean", "layer norm: without the part along xhat", layer_norm, _ln_dx(1, 0), norm)
simple("mean", "layer norm: without both means", layer_norm, _ln_dx(0, 0), norm)
simple("mean", "layer norm: the second term added", layer_norm, _ln_dx(1, -1), norm)
simple("mean", "layer norm: sums for means", layer_norm, _ln_dx(4, 4), norm)
simple(
    "unknown",
    "layer norm: w forgotten in dx",
    layer_norm,
    lambda dy, y, x, w, b: _ln_dx(1, 1)(dy, y, x, 1.0, b),
    norm,
)
simple(
    "unknown",
    "layer norm: 1/std forgotten",
    layer_norm,
    lambda dy, y, x, w, b: _ln_dx(1, 1)(dy, y, x, w, b) / _ln(x)[1],
    norm,
)
simple("broadcast", "layer norm: dw not summed", layer_norm, lambda dy, y, x, w, b: dy * _ln(x)[0], norm, 1)
simple("scale", "layer norm: db a mean", layer_norm, lambda dy, y, x, w, b: dy.mean(axis=0), norm, 2)
simple(
    "mean",
    "centring: dx = dy",
    lambda x: (x - x.mean(-1, keepdims=True), lambda dy: dy - dy.mean(-1, keepdims=True)),
    lambda dy, y, x: dy.copy(),
    matrix,
)
TARGETS = np.array([1, 0, 2, -1, 2])


def logits(rng):
    return [n(rng, 5, size(rng, 4, 6))]


def _ce(dy, x, onehot=1.0, p=1.0, shift=0, count=4, ignored=0.0):
    g = p * np.exp(x) / kept(np.exp(x))
    rows = np.arange(len(x))
    g[rows, TARGETS + shift] -= onehot
    g[TARGETS < 0] *= ignored
    return g * dy / count


def entropy(x):
    return cross_entropy(x, TARGETS)


simple(
    "scale", "cross-entropy: not divided by the count", entropy, lambda dy, y, x: _ce(dy, x, count=1), logits
)
simple("scale", "cross-entropy: divided by all rows", entropy, lambda dy, y, x: _ce(dy, x, count=5), logits)
simple("scale", "cross-entropy: dy missing", entropy, lambda dy, y, x: _ce(1.0, x), logits)
simple("path", "cross-entropy: the softmax alone", entropy, lambda dy, y, x: _ce(dy, x, onehot=0.0), logits)
simple("rank-one", "cross-entropy: the one-hot alone", entropy, lambda dy, y, x: _ce(dy, x, p=0.0), logits)
simple(
    "mask", "cross-entropy: ignored targets count", entropy, lambda dy, y, x: _ce(dy, x, ignored=1.0), logits
)
simple("shifted", "cross-entropy: the target after", entropy, lambda dy, y, x: _ce(dy, x, shift=1), logits)
simple("sign", "cross-entropy: target - softmax", entropy, lambda dy, y, x: -_ce(dy, x), logits)

KEEP = np.random.default_rng(3).random((4, 5)) < 0.6
OTHER = np.random.default_rng(4).random((4, 5)) < 0.6


def dropped(x):
    return ops.dropout(x, keep=lambda: KEEP, p=0.4)


def four_by_five(rng):
    return [n(rng, 4, 5)]


simple("scale", "dropout: not scaled", dropped, lambda dy, y, x: dy * KEEP, four_by_five)
simple("scale", "dropout: scaled twice", dropped, lambda dy, y, x: dy * KEEP / 0.36, four_by_five)
simple("mask", "dropout: no mask", dropped, lambda dy, y, x: dy / 0.6, four_by_five)
simple("mask", "dropout: wrong mask", dropped, lambda dy, y, x: dy * OTHER / 0.6, four_by_five)
IDS = np.array([[0, 1, 1, 3], [3, 1, 2, 0]])


def table(rng):
    return [n(rng, 5, size(rng))]


def _scatter(dy, table, rows):
    dx = np.zeros_like(table)
    np.add.at(dx, rows, dy)
    return dx


def look_up(x):
    return embedding(x, IDS)


simple("overwritten", "embedding: assigned", look_up, lambda dy, y, x: _into(IDS, x, dy), table)
simple("shifted", "embedding: the row after", look_up, lambda dy, y, x: _scatter(dy, x, IDS + 1), table)
simple(
    "scale",
    "embedding: divided by sqrt(D)",
    look_up,
    lambda dy, y, x: _scatter(dy, x, IDS) / x.shape[1] ** 0.5,
    table,
)
simple(
    "zero",
    "embedding: row 0 treated as padding",
    look_up,
    lambda dy, y, x: _scatter(dy * (IDS > 0)[..., None], x, IDS),
    table,
)
simple(
    "shape", "embedding: one gradient per token", look_up, lambda dy, y, x: dy.reshape(-1, x.shape[1]), table
)
simple(
    "mask", "embedding: only the first sample", look_up, lambda dy, y, x: _scatter(dy[:1], x, IDS[:1]), table
)


def _attend(spoil: str, causal=True) -> Callable:
    """Attention with one mistake in its backward; the forward is right."""

    def f(q, k, v):
        c = q.shape[-1] ** -0.5
        t = q.shape[2]
        bias = np.where(np.tri(t, dtype=bool), 0.0, -np.inf) if causal else 0.0
        s = q @ k.swapaxes(-1, -2) * c
        w = np.exp(s + bias) / kept(np.exp(s + bias))
        y = w @ v

        def back(dy):
            u = np.exp(s) / kept(np.exp(s)) if spoil == "no mask" else w.copy()
            u = np.tril(w, -1) if spoil == "mask off by one" else u
            dv = (u if spoil == "w not transposed" else u.swapaxes(-1, -2)) @ dy
            dw = dy @ v.swapaxes(-1, -2)
            ds = u * dw if spoil == "no sum" else u * (dw - kept(u * dw))
            if spoil == "wrong sum":
                ds = u * (dw - (u * dw).sum(axis=-2, keepdims=True))
            dq = ds @ k * (1 if spoil == "no scale in dq" else c)
            dk = (ds if spoil == "ds not transposed" else ds.swapaxes(-1, -2)) @ q
            dk = dk * (1 if spoil == "no scale in dk" else c * c if spoil == "scale twice in dk" else c)
            if spoil == "in place":
                w[...] *= dw
            return dq, dk, dv

        return y, back

    return f


def heads(rng):
    t, c = size(rng, 3, 4), size(rng, 2, 4)
    return [n(rng, 1, 2, t, c) for _ in range(3)]


for cause, spoil, i in (
    ("scale", "no scale in dq", 0),
    ("scale", "no scale in dk", 1),
    ("scale", "scale twice in dk", 1),
    ("rank-one", "no sum", 0),
    ("rank-one", "no sum", 1),
    ("mask", "no mask", 0),
    ("mask", "no mask", 1),
    ("mask", "no mask", 2),
    ("mask", "mask off by one", 2),
    ("transposed", "w not transposed", 2),
    ("transposed", "ds not transposed", 1),
    ("stateful", "in place", 0),
):
    add(Wrong(f"attention, argument {i}: {spoil}", cause, lambda rng, s=spoil: (_attend(s), heads(rng)), i))
for i in (0, 1):
    add(
        Wrong(
            f"bidirectional attention, argument {i}: no sum",
            "rank-one",
            lambda rng: (_attend("no sum", False), heads(rng)),
            i,
        )
    )


def fused(qkv):
    return self_attention(qkv, heads=2)


def packed(rng):
    return [n(rng, 1, size(rng, 3, 4), 12)]


def _repack(change: Callable) -> Callable:
    def gradient(dy, y, qkv):
        g = gradients(fused(qkv)[1], dy, 1)[0]
        return change(g.reshape(*g.shape[:2], 2, 3, 2)).reshape(g.shape)  # (B, T, H, 3, C)

    return gradient


def _without(slot):
    def change(g):
        g[:, :, :, slot] = 0
        return g

    return change


simple(
    "transposed",
    "self-attention: q, k, v packed before the heads",
    fused,
    _repack(lambda g: g.swapaxes(2, 3)),
    packed,
)
simple(
    "transposed",
    "self-attention: feature before head",
    fused,
    _repack(lambda g: g.transpose(0, 1, 4, 3, 2)),
    packed,
)
simple("zero", "self-attention: k's place never filled", fused, _repack(_without(1)), packed)
simple("zero", "self-attention: v's place never filled", fused, _repack(_without(2)), packed)


# ---------------------------------------------------------------- backs that misbehave


@wrong("stateful")
def adds_up(rng):
    """a back that adds to its previous result"""
    total = np.zeros((3, 4))

    def f(x):
        def back(dy):
            total[...] += dy * 2 * x
            return total

        return x * x, back

    return f, [n(rng, 3, 4)]


@wrong("stateful")
def draws_again(rng):
    """dropout that draws a new mask in every back"""
    source = np.random.default_rng(1)
    return replaced(dropped, 0, lambda dy, y, x: dy * (source.random(x.shape) < 0.6) / 0.6), [n(rng, 4, 5)]


@wrong("stateful")
def uses_up(rng):
    """exp whose back overwrites its saved array"""

    def f(x):
        y = np.exp(x)
        kept_for_later = y.copy()
        return y, lambda dy: np.multiply(kept_for_later, dy, out=kept_for_later)

    return f, [n(rng, 3, 4)]


@wrong("mutated")
def softmax_in_place(rng):
    """dy -= sum(dy * y) before it is multiplied"""

    def f(x):
        y, _ = ops.softmax(x)

        def back(dy):
            dy -= kept(dy * y)
            return dy * y

        return y, back

    return f, matrix(rng)


@wrong("mutated")
def tanh_in_place(rng):
    """y is squared in place"""

    def f(x):
        y = np.tanh(x)

        def back(dy):
            np.multiply(y, y, out=y)
            return dy * (1 - y)

        return y, back

    return f, matrix(rng)


@wrong("mutated")
def shifts_its_input(rng):
    """the forward subtracts the maximum from x in place"""

    def f(x):
        x -= x.max(axis=-1, keepdims=True)
        return ops.softmax(x)

    return f, matrix(rng)


@wrong("mutated", 1)
def second_input(rng):
    """multiply whose back negates b in place"""

    def f(a, b):
        def back(dy):
            da = dy * b
            np.negative(b, out=b)
            return da, dy * a

        return a * b, back

    return f, [n(rng, 3, 4), n(rng, 3, 4)]


@wrong("random")
def fresh_dropout(rng):
    """dropout that draws its mask in the forward"""
    source = np.random.default_rng(1)

    def f(x):
        keep = source.random(x.shape) < 0.6
        return x * keep, lambda dy: dy * keep

    return f, matrix(rng)


@wrong("random")
def noisy(rng):
    """noise on every output"""
    source = np.random.default_rng(1)
    return lambda x: (x + 1e-3 * source.normal(size=x.shape), lambda dy: dy), matrix(rng)


# ---------------------------------------------------------------- right in float64 only


@wrong("precision")
def half_precision(rng):
    """dx computed in float16 though x is float32"""

    def f(x):
        low = np.float64 if x.dtype == np.float64 else np.float16
        return np.exp(x), lambda dy: (dy.astype(low) * np.exp(x.astype(low))).astype(x.dtype)

    return f, [n(rng, 3, 4).astype("float32")]


@wrong("precision")
def variance_by_squares(rng):
    """LayerNorm with mean(x^2) - mean(x)^2, of inputs far from 0"""

    def f(x):
        m = x.mean(axis=-1, keepdims=True)
        r = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) - m * m + x.dtype.type(1e-5))
        xhat = (x - m) * r
        k = x.shape[-1]
        return xhat, lambda dy: r * (dy - kept(dy) / k - xhat * kept(dy * xhat) / k)

    return f, [(300 + n(rng, 3, 6)).astype("float32")]


@wrong("precision")
def softmax_overflows(rng):
    """softmax without subtracting the maximum"""

    def f(x):
        y = np.exp(x) / kept(np.exp(x))
        return y, lambda dy: y * (dy - kept(dy * y))

    return f, [(95 * np.sign(n(rng, 3, 4)) + n(rng, 3, 4)).astype("float32")]


@wrong("count")
def matmul_gives_one_gradient(rng):
    """dw is left out"""
    return lambda x, w: (x @ w, lambda dy: dy @ w.T), [n(rng, 3, 4), n(rng, 4, 5)]


@wrong("count", 1)
def product_gives_a_list(rng):
    """a list of gradients, not a tuple"""
    return lambda x, w: (x * w, lambda dy: [dy * w, dy * x]), [n(rng, 3, 4), n(rng, 3, 4)]
