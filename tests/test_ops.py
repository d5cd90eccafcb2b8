"""Every operation against finite differences, over shapes of every kind; and errors that would be silent."""

import math

import ml_dtypes
import numpy as np
import pytest

from minimega import ops
from minimega.autograd import Tensor, op
from minimega.embedding import embedding
from minimega.errors import BadInput
from minimega.gradcheck import assert_gradients, check
from minimega.head import cross_entropy
from minimega.linear import linear
from minimega.norm import layer_norm


def away_from_zero(rng, shape):
    """Numbers of both signs, none near the kink or the pole at 0."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.4, 1.6, shape)


BROADCASTS = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((4,), (3, 4)),
    ((3, 1), (1, 4)),
    ((2, 1, 3), (4, 1)),
    ((1, 1), (3, 2)),
    ((2, 3), ()),
    ((), (2, 3)),
    ((), ()),
    ((1,), ()),
    ((5, 1, 2, 1), (3, 1, 4)),
]


@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
@pytest.mark.parametrize("f", [ops.add, ops.subtract, ops.multiply, ops.divide], ids=lambda f: f.__name__)
def test_arithmetic_broadcasts(f, shapes, rng):
    assert_gradients(f, *(away_from_zero(rng, s) for s in shapes))


@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
def test_power_broadcasts_and_differentiates_both(shapes, rng):
    assert_gradients(ops.power, rng.uniform(0.5, 2, shapes[0]), rng.uniform(-2, 2, shapes[1]))


@pytest.mark.parametrize("exponent", [1, 2, 3, -1, 0.5, -1.5, np.float64(2)])
def test_power_with_a_constant(exponent, rng):
    x = rng.uniform(0.5, 2, (3, 2))
    assert_gradients(lambda x: x**exponent, x)
    if exponent == int(exponent):
        assert_gradients(lambda x: x ** int(exponent), -x)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 3, 2)], ids=str)
@pytest.mark.parametrize(
    "f", [ops.negative, ops.exp, ops.tanh, ops.relu, ops.gelu, ops.log, ops.sqrt], ids=lambda f: f.__name__
)
def test_elementwise(f, shape, rng):
    x = away_from_zero(rng, shape)
    assert_gradients(f, abs(x) if f in (ops.log, ops.sqrt) else x)


@pytest.mark.parametrize(
    "a, b",
    [
        ((2, 3), (3, 4)),
        ((1, 1), (1, 1)),
        ((5, 2, 3), (5, 3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (1, 4, 3, 2)),
        ((1, 2, 3), (4, 3, 1)),
        ((2, 1, 1, 3), (4, 3, 2)),
    ],
    ids=str,
)
def test_matmul_of_any_batch_shape(a, b, rng):
    assert_gradients(ops.matmul, rng.normal(size=a), rng.normal(size=b))


def test_matmul_of_arrays_that_are_not_contiguous(rng):
    a, b = rng.normal(size=(3, 5, 2)).transpose(2, 0, 1)[:, ::2], rng.normal(size=(4, 5)).T
    assert_gradients(ops.matmul, a, b)


def test_matmul_refuses_vectors(rng):
    with pytest.raises(ValueError, match="wants matrices"):
        ops.matmul(np.ones(3), np.ones((3, 2)))


REDUCTIONS = [
    ((), None),
    ((1,), 0),
    ((4,), None),
    ((2, 3, 4), None),
    ((2, 3, 4), 1),
    ((2, 3, 4), -1),
    ((2, 3, 4), (0, 2)),
    ((2, 3, 4), (-1, -3)),
    ((2, 3, 4), (2, 0, 1)),
    ((2, 1, 3), 1),
    ((2, 3), ()),
]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape, axis", REDUCTIONS, ids=str)
@pytest.mark.parametrize("name", ["sum", "mean", "max"])
def test_reductions(name, shape, axis, keepdims, rng):
    x = rng.permutation(math.prod(shape)).reshape(shape) + 0.5  # far apart: no maximum near a tie
    y, _ = getattr(ops, name)(x, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(y, getattr(np, name)(x, axis=axis, keepdims=keepdims))
    assert_gradients(lambda x: getattr(ops, name)(x, axis=axis, keepdims=keepdims), x)


@pytest.mark.parametrize("name", ["sum", "mean", "max"])
def test_a_reduction_over_an_axis_that_is_not_there(name):
    with pytest.raises(IndexError):
        getattr(ops, name)(np.ones((2, 3, 4)), axis=3)
    with pytest.raises(ValueError, match="duplicate"):
        getattr(ops, name)(np.ones((2, 3, 4)), axis=(0, -3))


def test_max_shares_between_ties():
    _, back = ops.max(np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]), axis=1)
    np.testing.assert_allclose(back(np.array([1.0, 3.0])), [[0, 0.5, 0.5], [1, 1, 1]])


def test_arrays_without_entries():
    x = np.zeros((0, 3))
    for f in (ops.exp, ops.gelu, ops.relu, ops.negative):
        y, back = f(x)
        assert y.shape == back(x).shape == (0, 3)
    for axis, shape in ((0, (3,)), (1, (0,)), (None, ())):
        y, back = ops.sum(x, axis=axis)
        assert np.shape(y) == shape and back(np.zeros(shape)).shape == (0, 3)
    y, back = ops.mean(x, axis=1)
    assert y.shape == (0,) and back(y).shape == (0, 3)
    y, back = ops.matmul(np.ones((2, 0)), np.ones((0, 3)))
    assert [g().shape for g in back(y)] == [(2, 0), (0, 3)] and not y.any()
    y, back = ops.add(x, np.ones((1, 1)))
    assert [g().shape for g in back(y)] == [(0, 3), (1, 1)]
    y, back = linear(x, np.ones((3, 2)), np.ones(2))
    dx, dw, db = back(y)
    assert y.shape == (0, 2) and dx.shape == (0, 3) and not dw().any() and not db().any()
    y, back = embedding(np.ones((4, 3)), np.zeros((2, 0), int))
    assert y.shape == (2, 0, 3) and not back(y).any()
    y, back = ops.concatenate(x, np.ones((2, 3)))
    assert [g.shape for g in back(y)] == [(0, 3), (2, 3)]


@pytest.mark.parametrize(
    "shape, new", [((2, 6), (3, 4)), ((2, 6), (-1,)), ((4,), (2, 1, 2)), ((1,), ())], ids=str
)
def test_reshape(shape, new, rng):
    assert_gradients(lambda x: ops.reshape(x, new), rng.normal(size=shape))


def test_reshape_of_what_is_not_contiguous(rng):
    assert_gradients(
        lambda x: x.transpose().reshape(3, 4) * np.arange(12.0).reshape(3, 4), rng.normal(size=(2, 6))
    )


@pytest.mark.parametrize("axes", [(), (0, 1, 2), (2, 0, 1), (1, 2, 0), (0, -1, 1), (-1, -3, -2)], ids=str)
def test_transpose(axes, rng):
    x = rng.normal(size=(2, 3, 4))
    np.testing.assert_array_equal(ops.transpose(x, *axes)[0], x.transpose(axes or None))
    assert_gradients(lambda x: ops.transpose(x, *axes), x)


INDICES = [
    0,
    -1,
    (1, 2),
    slice(1, 3),
    slice(None, None, -1),
    slice(3, 0, -2),
    (slice(None), slice(None, None, 2)),
    (Ellipsis, 1),
    (slice(1, None), None, -1),
    None,
    np.array([0, 2, 2, 0, 0]),
    [1, 1],
    np.int64(2),
    (np.array([[0, 1], [1, 0]]), np.array([2, 2])),
    (slice(None), np.array([4, -1, 4])),
    (np.array([3, 3]), slice(None, None, -2)),
    (None, np.array([0, 0]), Ellipsis, 1),
    np.arange(20).reshape(4, 5) % 3 == 0,
    np.array([True, False, True, False]),
    (slice(None), np.array([True, False, True, True, False])),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_take_by_every_kind_of_index(index, rng):
    x = rng.normal(size=(4, 5))
    np.testing.assert_array_equal(ops.take(x, index)[0], x[index])
    assert_gradients(lambda x: ops.take(x, index), x)


def test_take_adds_up_where_an_entry_is_taken_twice():
    _, back = ops.take(np.zeros(3), np.array([1, 1, 1, -2]))
    assert back(np.array([1.0, 2.0, 4.0, 8.0])).tolist() == [0, 15, 0]


@pytest.mark.parametrize(
    "shapes, axis",
    [(((2, 3), (1, 3)), 0), (((2, 3), (2, 1), (2, 2)), -1), (((2, 3),), 1), (((1, 2, 2), (1, 1, 2)), 1)],
    ids=str,
)
def test_concatenate(shapes, axis, rng):
    assert_gradients(lambda *xs: ops.concatenate(*xs, axis=axis), *(rng.normal(size=s) for s in shapes))


@pytest.mark.parametrize(
    "shape, axis", [((4,), -1), ((2, 3), 0), ((2, 3, 4), 1), ((2, 1), -1), ((1, 1, 5), 2)], ids=str
)
@pytest.mark.parametrize("f", [ops.softmax, ops.log_softmax], ids=lambda f: f.__name__)
def test_softmax(f, shape, axis, rng):
    x = rng.normal(size=shape)
    if shape[axis] > 1:
        assert_gradients(lambda x: f(x, axis=axis), x)
    y = ops.softmax(x, axis=axis)[0]
    np.testing.assert_allclose(y.sum(axis), 1)
    np.testing.assert_allclose(np.log(y), ops.log_softmax(x, axis=axis)[0], atol=1e-14)


def test_softmax_of_huge_numbers():
    x = np.array([[1e4, -1e4, 1e4], [-1e4, -1e4, -1e4]], np.float32)
    y, back = ops.softmax(x)
    np.testing.assert_allclose(y, [[0.5, 0, 0.5], [1 / 3] * 3], rtol=1e-6)
    assert np.isfinite(back(np.ones_like(x))).all()
    y, back = ops.log_softmax(x)
    assert np.isfinite(y).all() and np.isfinite(back(np.ones_like(x))).all()


def test_relu_passes_exactly_where_x_is_positive():
    y, back = ops.relu(np.array([-1.0, -1e-9, 0.0, 1e-9, 2.0]))
    assert y.tolist() == [0, 0, 0, 1e-9, 2] and back(np.ones(5)).tolist() == [0, 0, 0, 1, 1]


def test_gelu_is_near_the_exact_one():
    x = np.linspace(-6, 6, 241)
    exact = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x]
    assert np.abs(ops.gelu(x)[0] - exact).max() < 5e-4  # the tanh formula's own distance
    np.testing.assert_allclose(ops.gelu(np.array([1.0, -2.0]))[0], [0.841192, -0.045402], atol=1e-6)


ALL_TYPES = pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])


@ALL_TYPES
def test_gelu_of_the_largest_numbers_is_the_number_and_its_slope_is_one(dtype):
    most = float(ml_dtypes.finfo(dtype).max)
    x = Tensor(np.array([most, -most, most / 4, 1e4, -1e4], dtype))
    with np.errstate(over="ignore"):  # x^3, where tanh is 1 long before
        y = ops.gelu(x)
        y.backward(np.ones(5))
    assert y.data.tolist() == [x.data[0], 0, x.data[2], x.data[3], 0]
    assert x.grad.tolist() == [1, 0, 1, 1, 0]


@ALL_TYPES
@pytest.mark.parametrize("exponent", [0, 0.0, 1, 1.0, 2, 3.0])
def test_a_power_of_zero_has_a_slope(exponent, dtype):
    for given in (exponent, np.full(3, exponent, dtype)):
        x = Tensor(np.array([0.0, -0.0, 2.0], dtype))
        (x**given).backward(np.ones(3))
        expected = exponent * 2.0 ** (exponent - 1)
        assert x.grad.tolist() == [float(exponent == 1)] * 2 + [expected]


@ALL_TYPES
def test_an_exponent_of_zero_has_a_slope(dtype):
    b = Tensor(np.array([0.0, 0.5, 2.0], dtype))
    for base in (0, 0.0, np.zeros(3, dtype)):
        b.grad = None
        (base**b).backward(np.ones(3))
        assert b.grad.tolist() == [0, 0, 0]


def test_a_slope_may_be_larger_than_16_bits_hold_before_it_meets_dy():
    x = Tensor(np.array([2.0**-9], "float16"))
    (x**-1).backward([2.0**-10])
    assert x.grad.tolist() == [-(2.0**8)]


@pytest.mark.parametrize("f", [ops.mean, ops.max], ids=lambda f: f.__name__)
def test_more_entries_than_the_largest_float16_share_a_gradient(f):
    x = Tensor(np.ones(2**17, "float16"))
    f(x).backward(1.0)
    assert (x.grad == 2.0**-17).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_of_an_entry_taken_often_are_added_up_in_float32(dtype):
    x = Tensor(np.ones(2, dtype))
    x[np.zeros(4096, int)].backward(np.ones(4096))
    assert x.grad.tolist() == [4096, 0]  # in 16 bits the sum would end at 2048, or 256


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4)], ids=str)
def test_dropout_with_a_fixed_mask(shape, rng):
    mask = rng.random(shape) < 0.7
    mask = mask | (not mask.any())
    x = rng.normal(size=shape)
    assert_gradients(lambda x: ops.dropout(x, keep=lambda: mask, p=0.3), x)
    np.testing.assert_allclose(ops.dropout(x, keep=lambda: mask, p=0.3)[0], np.where(mask, x / 0.7, 0))
    assert ops.dropout(x)[0] is x


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 3), (2, 1, 3)], ids=str)
def test_linear(batch, bias, rng):
    arrays = [rng.normal(size=(*batch, 3)), rng.normal(size=(3, 4)), *([rng.normal(size=4)] if bias else [])]
    np.testing.assert_allclose(linear(*arrays)[0], arrays[0] @ arrays[1] + (arrays[2] if bias else 0))
    assert_gradients(linear, *arrays)


def test_linear_of_arrays_that_are_not_contiguous(rng):
    assert_gradients(
        linear, rng.normal(size=(4, 2, 3)).transpose(1, 2, 0), rng.normal(size=(2, 4)).T, rng.normal(size=2)
    )


@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("width", [2, 3, 8])
def test_layer_norm(batch, width, rng):
    x = rng.normal(size=(*batch, width)) * 3 + 1
    w, b = rng.normal(size=(2, width))
    assert_gradients(layer_norm, x, w, b)
    y = layer_norm(x, np.ones(width), np.zeros(width), eps=0.0)[0]
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(-1), 1)


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.5])
def test_layer_norm_at_every_eps(eps, rng):
    assert_gradients(
        lambda x, w, b: layer_norm(x, w, b, eps=eps),
        rng.normal(size=(2, 4)),
        rng.normal(size=4),
        rng.normal(size=4),
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_layer_norm_refuses_an_eps_that_vanishes(dtype):
    x, w = np.ones((2, 3), dtype), np.ones(3, dtype)
    least = float(np.finfo("float64" if dtype == "float64" else "float32").tiny)
    y, back = layer_norm(x, w, w, eps=least)
    assert (y == 1).all() and np.isfinite(back(np.ones_like(x))[0].astype("float64")).all()
    with pytest.raises(BadInput, match="is too small for float"):
        layer_norm(x, w, w, eps=least / 2)


@pytest.mark.parametrize("ids", [[[0, 1], [2, 3]], [[2, 2, 2]], [1], [[4, 0], [0, 4]]], ids=str)
def test_embedding(ids, rng):
    table, ids = rng.normal(size=(5, 3)), np.array(ids)
    np.testing.assert_array_equal(embedding(table, ids)[0], table[ids])
    assert_gradients(lambda table: embedding(table, ids), table)


@pytest.mark.parametrize("count", [None, 1, 7])
@pytest.mark.parametrize("targets", [[[0, 3], [1, 1]], [[-1, 2], [4, -1]], [[-1, -1], [-1, 0]]], ids=str)
def test_cross_entropy(targets, count, rng):
    logits, targets = rng.normal(size=(2, 2, 5)), np.array(targets)
    assert_gradients(lambda x: cross_entropy(x, targets, count=count), logits)
    logs = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    counted = [-logs[b, t, targets[b, t]] for b in range(2) for t in range(2) if targets[b, t] >= 0]
    loss, back = cross_entropy(logits, targets, count=count)
    np.testing.assert_allclose(loss, sum(counted) / (count or len(counted)))
    assert not back(np.float64(1))[targets < 0].any()  # exactly 0, not nearly


@pytest.mark.parametrize("target", [-2, -100, 5, 1000])
@pytest.mark.parametrize("count", [None, 4])
def test_a_target_outside_of_the_vocabulary_is_an_error(target, count):
    targets = np.array([[0, -1], [target, 4]])
    for cut in (slice(0, 5), slice(0, 2), slice(2, 5)):  # of a vocabulary of 5
        with pytest.raises(BadInput, match=rf"target {target} at \(1, 0\) is outside .* 5 tokens, 0 to 4"):
            cross_entropy(np.zeros((2, 2, 5))[..., cut], targets, count, cut.start, vocabulary=5)
    with pytest.raises(BadInput, match=f"target {target} at"):
        cross_entropy(Tensor(np.zeros((2, 2, 5))), targets)


def test_targets_are_whole_numbers():
    with pytest.raises(BadInput, match="targets must be integers, but these are float64"):
        cross_entropy(np.zeros((2, 5)), np.array([1.0, 2.0]))


def test_cross_entropy_of_nothing_but_padding(rng):
    loss, back = cross_entropy(rng.normal(size=(3, 4)), np.full(3, -1))
    assert loss == 0 and not back(1.0).any()


def test_cross_entropy_of_huge_logits():
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0]], np.float32)
    loss, back = cross_entropy(logits, np.array([0, 1]))
    assert loss == 1e4 and np.isfinite(back(np.float32(1))).all()


def test_a_numpy_count_does_not_widen_the_loss(rng):
    loss, _ = cross_entropy(
        rng.normal(size=(3, 4)).astype(np.float32), np.array([0, 1, 2]), count=np.int64(3)
    )
    assert loss.dtype == np.float32


def cases():
    """(operation, positional arguments, options): one of each, for what must be true of all."""
    rng = np.random.default_rng(3)

    def n(*shape):
        return rng.normal(size=shape)

    p = abs(n(2, 3)) + 0.5
    ids = np.array([[0, 2], [2, 1]])
    mask = rng.random((2, 3)) < 0.5
    return [
        (ops.add, (n(2, 3), n(3)), {}),
        (ops.subtract, (n(2, 3), n(2, 1)), {}),
        (ops.multiply, (n(2, 3), n(3)), {}),
        (ops.divide, (n(2, 3), p), {}),
        (ops.power, (p, 3), {}),
        (ops.power, (p, n(3)), {}),
        (ops.negative, (n(2, 3),), {}),
        (ops.matmul, (n(4, 2, 3), n(3, 2)), {}),
        (ops.exp, (n(2, 3),), {}),
        (ops.log, (p,), {}),
        (ops.sqrt, (p,), {}),
        (ops.tanh, (n(2, 3),), {}),
        (ops.sum, (n(2, 3),), {"axis": 0}),
        (ops.mean, (n(2, 3),), {"axis": -1}),
        (ops.max, (n(2, 3),), {"axis": 1}),
        (ops.reshape, (n(2, 3), 3, 2), {}),
        (ops.transpose, (n(2, 3),), {}),
        (ops.take, (n(2, 3), np.array([0, 0])), {}),
        (ops.concatenate, (n(2, 3), n(2, 3)), {"axis": 1}),
        (ops.softmax, (n(2, 3),), {}),
        (ops.log_softmax, (n(2, 3),), {}),
        (ops.relu, (n(2, 3),), {}),
        (ops.gelu, (n(2, 3),), {}),
        (ops.dropout, (n(2, 3),), {"keep": lambda: mask, "p": 0.5}),
        (linear, (n(2, 2, 3), n(3, 4), n(4)), {}),
        (layer_norm, (n(2, 3), n(3), n(3)), {}),
        (embedding, (n(3, 4), ids), {}),
        (cross_entropy, (n(2, 2, 5), ids), {}),
    ]


CASES = pytest.mark.parametrize("f, args, options", cases(), ids=lambda v: getattr(v, "__name__", ""))


def as_type(args, dtype):
    return [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args]


def is_float(a):
    return isinstance(a, np.ndarray) and a.dtype.kind in "fV"  # V: bfloat16


@CASES
def test_raw_call_and_tensor_call_agree(f, args, options):
    y, back = f(*args, **options)
    dy = np.random.default_rng(1).normal(size=np.shape(y))
    dxs = back(dy)
    tensors = [Tensor(a) if is_float(a) else a for a in args]
    made = f(*tensors, **options)
    made.backward(dy)
    np.testing.assert_array_equal(made.data, y)
    for a, t, dx in zip(args, tensors, dxs if isinstance(dxs, tuple) else (dxs,), strict=False):
        if is_float(a):
            np.testing.assert_array_equal(t.grad, dx() if callable(dx) else dx)
            assert t.grad.shape == a.shape


@CASES
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_type_of_numbers_stays(f, args, options, dtype):
    tensors = [Tensor(a) if is_float(a) else a for a in as_type(args, dtype)]
    made = f(*tensors, **options)
    assert made.dtype == (dtype if f is not cross_entropy else np.float32)
    made.backward(np.ones(made.shape))
    assert [t.grad.dtype for t in tensors if isinstance(t, Tensor)] == [dtype] * sum(map(is_float, args))


@CASES
def test_nobody_writes_into_what_others_share(f, args, options):
    args = [a.copy() if is_float(a) else a for a in args]
    for a in args:
        if is_float(a):
            a.flags.writeable = False
    y, back = f(*args, **options)
    y = np.asarray(y)
    value, dy = y.copy(), np.ones(y.shape)
    y.flags.writeable = dy.flags.writeable = False
    grads = [
        [np.array(g() if callable(g) else g) for g in (d if isinstance(d, tuple) else (d,))]
        for d in (back(dy), back(dy))
    ]
    for first, second in zip(*grads, strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(y, value)


def test_operators_of_tensors(rng):
    x = rng.uniform(0.5, 2, (2, 2))
    for f in (
        lambda x: 2 - x,
        lambda x: x - 2,
        lambda x: 2 / x,
        lambda x: x / 2,
        lambda x: 2 + x * 3,
        lambda x: 3 * x + 2,
        lambda x: -x,
        lambda x: 2**x,
        lambda x: x**2,
        lambda x: np.ones((3, 2)) @ x,
        lambda x: x @ np.arange(4.0).reshape(2, 2),
        lambda x: np.arange(4.0).reshape(2, 2) - x,
        lambda x: np.float64(2) * x,
        lambda x: x[0] + x[:, 1],
        lambda x: sum(x),  # Python's own: iterates over the rows, starting from 0
    ):
        assert_gradients(f, x)


def test_a_tensor_by_keyword_is_refused():
    x = Tensor(np.ones((2, 3)))
    with pytest.raises(TypeError, match="linear takes Tensors by position"):
        linear(x, np.ones((3, 4)), b=Tensor(np.ones(4)))
    with pytest.raises(TypeError, match="linear takes Tensors by position"):
        linear(x=x, w=np.ones((3, 4)))


# Common mistakes: finite differences must notice each of them.


def forgets_to_sum(a, b):
    return a * b, lambda dy: (dy * b, (dy * a)[:1])


def norm_without_the_variance(x, w, b):
    y, back = layer_norm(x, w, b)
    r = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return y, lambda dy: (r * (dy * w - (dy * w).mean(-1, keepdims=True)), *back(dy)[1:])


def assigns_repeated_entries(x):
    def back(dy):
        dx = np.zeros_like(x)
        dx[[0, 0, 1]] = dy
        return dx

    return x[[0, 0, 1]], back


def softmax_of_its_diagonal(x):
    y = ops.softmax(x)[0]
    return y, lambda dy: y * dy * (1 - y)


def cross_entropy_of_every_row(x):
    targets = np.array([0, -1, 2])
    loss, _ = cross_entropy(x, targets)
    return loss, lambda dy: dy * (ops.softmax(x)[0] - np.eye(x.shape[-1])[targets]) / 2


@pytest.mark.parametrize(
    "f, shapes",
    [
        (forgets_to_sum, [(3, 2), (1, 2)]),
        (norm_without_the_variance, [(3, 4), (4,), (4,)]),
        (assigns_repeated_entries, [(3, 2)]),
        (softmax_of_its_diagonal, [(2, 3)]),
        (cross_entropy_of_every_row, [(3, 4)]),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_planted_mistakes_are_found(f, shapes, rng):
    arrays = [rng.normal(size=s) for s in shapes]
    assert not check(f, *arrays).ok
    assert not check(lambda *xs: op(f)(*xs), *arrays).ok
