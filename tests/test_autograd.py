"""The engine: what it adds up, what it keeps, when it calls a backward, and what it frees."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from minimega import ops
from minimega.attention import self_attention
from minimega.autograd import (
    Operation,
    Tensor,
    first_not_finite,
    in_layer,
    no_grad,
    op,
    recompute,
    saved_bytes,
)
from minimega.contract import WrongOperation, WrongShape
from minimega.gradcheck import assert_gradients
from minimega.head import cross_entropy
from minimega.layer import Dropout, place
from minimega.linear import linear
from minimega.model import Config, gpt
from minimega.norm import layer_norm
from minimega.parameter import Parameter


def drawn(name, shape, std=1.0, dtype="float64"):
    p = Parameter(shape, std=std)
    p.name = name
    return p.draw(seed=0, dtype=dtype)


def test_a_tensor_used_in_several_places(rng):
    assert_gradients(lambda x: x * x + x.exp() * x.sum() + x.transpose() @ x, rng.normal(size=(3, 3)))
    x = Tensor(np.array(3.0))
    y = x * x  # dy/dx = 2x
    (y + y * y + y).backward()  # dz/dy = 2 + 2y
    assert x.grad == 6 * (2 + 18)


def test_gradients_add_up_over_calls():
    x = Tensor(np.array([1.0, 2.0]))
    for times in (1, 2, 3):
        (x * x).sum().backward()
        assert x.grad.tolist() == [2 * times, 4 * times]
    x.grad = None
    (x * x).sum().backward()
    assert x.grad.tolist() == [2, 4]


def test_backward_twice_is_an_error():
    x = Tensor(np.array([1.0, 2.0]))
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="sum: an earlier backward released it; pass keep_graph=True"):
        y.backward()
    assert x.grad.tolist() == [2, 4]


def test_backward_through_a_part_that_is_used_up():
    x = Tensor(np.array([1.0, 2.0]))
    shared = x * x
    one, two = shared.sum(), shared.mean()
    one.backward()
    with pytest.raises(RuntimeError, match="multiply: an earlier backward"):
        two.backward()


def test_backward_twice_with_the_graph_kept_doubles_the_gradients(rng):
    x, w = Tensor(rng.normal(size=(2, 3))), drawn("w", (3, 3))
    y = ops.gelu(linear(x, w)).sum()
    y.backward(keep_graph=True)
    first = x.grad.copy(), w.grad.copy()
    y.backward(keep_graph=True)
    np.testing.assert_array_equal(x.grad, 2 * first[0])
    np.testing.assert_array_equal(w.grad, 2 * first[1])
    y.backward()
    with pytest.raises(RuntimeError):
        y.backward()


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3), (1, 1, 1), (2, 0, 3)], ids=str)
def test_seeds_of_any_shape(shape, rng):
    x = Tensor(rng.normal(size=shape))
    dy = rng.normal(size=shape)
    (x * 3).backward(dy)
    np.testing.assert_array_equal(x.grad, 3 * dy)
    assert x.grad.shape == shape


def test_a_seed_may_be_numbers_and_takes_the_type_of_the_tensor():
    x = Tensor(np.ones(2, np.float32))
    x.exp().backward([1, 2])
    assert x.grad.dtype == np.float32
    x = Tensor(np.float32(1))
    (x * 3).backward(2)
    assert x.grad == 6 and x.grad.dtype == np.float32


def test_seeds_that_do_not_fit():
    y = Tensor(np.ones((2, 3))).exp()
    with pytest.raises(ValueError, match=r"shape \(2, 3\) needs its gradient"):
        y.backward()
    for shape in ((3,), (2, 1), (1, 2, 3), ()):
        with pytest.raises(ValueError, match="the gradient given to backward has shape"):
            y.backward(np.ones(shape))


def test_the_leaf_itself_as_the_output():
    x = Tensor(np.array([1.0, 2.0]))
    x.backward([3.0, 4.0])
    x.backward([3.0, 4.0])
    assert x.grad.tolist() == [6, 8]


def test_raw_arrays_are_constants():
    x, c = Tensor(np.ones(2)), np.full(2, 3.0)
    y = x * c + c
    assert y.maker.inputs[1] is None
    y.backward(np.ones(2))
    assert x.grad.tolist() == [3, 3]
    assert isinstance(ops.add(c, c), tuple)  # raw: no Tensor, no engine


def long_chain(length):
    x = Tensor(np.ones(2))
    y = x
    for i in range(length):
        y = y + x if i % 2 else y * 1.0
    return x, y


def test_a_graph_of_ten_thousand_operations():
    x, y = long_chain(10_000)
    y.backward(np.ones(2))
    assert x.grad.tolist() == [5001, 5001]


def test_a_long_graph_is_let_go_of_without_recursion():
    _, y = long_chain(100_000)
    del y  # the interpreter's own stack would overflow here if freeing one node freed the next recursively
    held = Tensor(np.ones(2))
    for _ in range(20_000):
        held = recompute(lambda x: x * 1.0)(held)
    del held


def test_a_graph_that_branches_at_each_step_is_walked_once():
    x = y = Tensor(np.array(1.0))
    for _ in range(60):  # 2^60 paths
        y = (y + y) * 0.5
    y.backward()
    assert x.grad == 1


def test_no_grad_remembers_nothing():
    x = Tensor(np.ones(3))
    with no_grad():
        y = (x * x).exp()
        assert y.maker is None and saved_bytes(y) == {}
        with no_grad():
            pass
        assert (x * x).maker is None  # the inner one's end does not end the outer one
    assert (x * x).maker is not None
    z = (y * x).sum()  # y is a constant outside now
    z.backward()
    np.testing.assert_array_equal(x.grad, y.data)


def test_no_grad_ends_with_an_error():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (Tensor(np.ones(1)) * 2).maker is not None


def test_tied_weights_get_the_sum_of_both_uses(rng):
    x, w = rng.normal(size=(2, 3)), drawn("w", (3, 3))
    tied = linear(ops.tanh(linear(x, w)), w.transpose()).sum()
    tied.backward()
    first, second = Tensor(w.data), Tensor(w.data)
    linear(ops.tanh(linear(x, first)), second.transpose()).sum().backward()
    np.testing.assert_allclose(w.grad, first.grad + second.grad, rtol=1e-14)


# When the gradients are computed


def spy(name, events, late=True):
    """An operation x w that records when its gradients are computed."""

    def f(x, w):
        def back(dy):
            events.append(f"back of {name}")

            def dx():
                events.append(f"dx of {name}")
                return dy * w

            def dw():
                events.append(f"dw of {name}")
                return dy * x

            return (dx if late else dy * w), dw

        return x * w, back

    return op(f)


def test_weights_gradients_wait_for_the_next_operations_back():
    events, w = [], [Tensor(np.array(float(i))) for i in (2, 3, 5)]
    y = Tensor(np.array(1.0))
    x = y
    for i, name in enumerate("abc"):
        y = spy(name, events)(y, w[i])
    y.backward()
    assert events == [
        "back of c",
        "dx of c",
        "back of b",
        "dw of c",
        "dx of b",
        "back of a",
        "dw of b",
        "dx of a",
        "dw of a",
    ]
    assert (x.grad, [float(t.grad) for t in w]) == (30, [15, 10, 6])


def test_a_gradient_for_another_operation_is_computed_when_its_turn_comes():
    events, leaf = [], Tensor(np.array(2.0))
    left, right = spy("left", events)(leaf, np.array(1.0)), spy("right", events)(leaf, np.array(1.0))
    spy("last", events)(left, right).backward()
    assert events[0] == "back of last"
    assert events.index("dx of last") == events.index("back of left") - 1
    assert events.index("dw of last") == events.index("back of right") - 1
    assert leaf.grad == 4


def test_gradients_are_computed_once_and_only_where_they_are_wanted():
    events = []
    x, c = Tensor(np.array(2.0)), np.array(3.0)
    spy("b", events)(spy("a", events)(x, c), c).backward()
    assert events == ["back of b", "dx of b", "back of a", "dx of a"]
    events.clear()
    spy("b", events)(c, spy("a", events)(c, x)).backward()
    assert events == ["back of b", "dw of b", "back of a", "dw of a"]


def test_a_back_is_called_once_with_the_sum_of_its_users():
    events, x = [], Tensor(np.array(2.0))
    y = spy("a", events)(x, np.array(1.0))
    (y * y + y * 3).backward()
    assert events == ["back of a", "dx of a"] and x.grad == 7


def test_none_and_gradients_left_out_pass_nothing_on():
    @op
    def first_only(a, b, c):
        return a * 2, lambda dy: (None, None, dy)

    @op
    def shorter(a, b, c=1):
        return a * 2, lambda dy: dy * 2

    @op
    def longer(a, b=1):
        return a * 2, lambda dy: (dy * 2, None)

    a, b, c = (Tensor(np.array(1.0)) for _ in range(3))
    first_only(a * 1, b, c).backward()
    assert (a.grad, b.grad, c.grad) == (None, None, 1)
    for made in (shorter(a, 3.0), longer(a), longer(a, 3.0)):
        a.grad = None
        made.backward()
        assert a.grad == 2


RETURN = r"An operation must return \(y, back\)"
ROWS = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "returned, described",
    [
        (2.0, "a float"),
        (ROWS, r"an array of shape \(2, 3\)"),  # two rows are not y and back
        (None, "None"),
        (lambda dy: dy, "a function"),
        ((ROWS, ROWS), r"\(an array of shape \(2, 3\), an array of shape \(2, 3\)\)"),
        ((ROWS,), r"\(an array of shape \(2, 3\)\)"),
        ((ROWS, len, len), r"\(an array of shape \(2, 3\), a builtin_function_or_method, a built"),
        ([ROWS, len], "a list"),
        ((None, len), r"\(None, a builtin_function_or_method\)"),
        ((Tensor(ROWS), len), r"\(a Tensor of shape \(2, 3\), a builtin_function_or_method\)"),
    ],
)
def test_an_operation_must_return_its_value_and_its_backward(returned, described):
    @op
    def plain(x):
        return returned

    for x in (ROWS, Tensor(ROWS)):
        with pytest.raises(WrongOperation, match=rf"^plain returned {described}.*\. {RETURN}"):
            plain(x)
    with pytest.raises(WrongOperation, match="plain returned"), no_grad():
        plain(Tensor(ROWS))


@pytest.mark.parametrize(
    "gradients, found",
    [
        (lambda dy: dy, "1 gradient for 2 arguments"),
        (lambda dy: (dy,), "1 gradient for 2 arguments"),
        (lambda dy: (), "0 gradients for 2 arguments"),
        (lambda dy: (dy, dy, dy, dy), "4 gradients for 3 arguments"),
        (lambda dy: (dy, dy, dy, None), "4 gradients for 3 arguments"),
    ],
)
def test_back_must_give_a_gradient_for_each_tensor(gradients, found):
    @op
    def off(a, b, c=None):
        return a * b, gradients

    @op
    def counted(*xs):
        return xs[0] * xs[1], gradients

    a, b = Tensor(np.ones(2)), Tensor(np.ones(2))
    for made in (off(a, b), off(a * 1, b * 1), counted(a, b, 1)):
        with pytest.raises(WrongOperation, match=f"the back of (off|counted) gave {found}"):
            made.backward(np.ones(2))
    assert a.grad is None and b.grad is None


def named(name, f):
    f.__name__ = name
    return f


def test_a_back_that_returns_nothing_or_a_tensor_is_told_so():
    def forgets(x):
        def back(dy):
            2 * dy

        return 2 * x, back

    x = Tensor(np.ones(2))
    with pytest.raises(WrongOperation, match="back of forgets returned nothing; "):
        op(forgets)(x).sum().backward()
    with pytest.raises(WrongOperation, match=r"back of double gave a Tensor of shape \(2,\) for a gradient"):
        op(named("double", lambda x: (2 * x, lambda dy: Tensor(2 * dy))))(x).sum().backward()
    op(named("none", lambda x: (2 * x, lambda dy: (None,))))(x).sum().backward()
    assert x.grad is None


@pytest.mark.parametrize("late", [False, True])
def test_an_error_inside_a_back_names_the_operation(late):
    def wrong(dy):
        return dy @ np.ones((3, 3))

    f = named("sums", lambda x: (x.sum(axis=0), lambda dy: (lambda: wrong(dy)) if late else wrong(dy)))
    with pytest.raises(ValueError, match="mismatch") as error:
        op(f)(Tensor(np.ones((2, 2)))).backward(np.ones(2))
    assert error.value.__notes__ == ["in the backward of sums"]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_gradients_of_a_wrong_shape_or_kind_are_refused_by_the_name_of_the_operation(late, learned):
    def wrong(dx):
        def f(x):
            return x * 2, lambda dy: (lambda: dx(dy)) if late else dx(dy)

        f.__name__ = "wrong"
        return op(f)

    for x in (drawn("x", (2, 3)) if learned else Tensor(np.ones((2, 3))), Tensor(np.ones((2, 3))) * 1):
        with pytest.raises(WrongShape, match=r"the back of wrong gave .* \(1, 3\) for .* \(2, 3\)$"):
            wrong(lambda dy: dy[:1])(x).backward(np.ones((2, 3)))
        with pytest.raises(WrongOperation, match="the back of wrong gave a float for a gradient"):
            wrong(lambda dy: 2.0)(x).backward(np.ones((2, 3)))
        with pytest.raises(WrongOperation, match="the back of wrong gave a list for a gradient"):
            wrong(lambda dy: [dy])(x).backward(np.ones((2, 3)))


def test_gradients_that_share_memory_stay_apart():
    a, b = Tensor(np.ones(2)), Tensor(np.ones(2))
    (a + b).backward([1.0, 1.0])  # both get dy itself
    (a * 5).sum().backward()
    assert a.grad.tolist() == [6, 6] and b.grad.tolist() == [1, 1]


# What is kept


def test_closures_are_released_as_backward_goes():
    x = Tensor(np.ones(1000))
    y = x.exp()
    kept = weakref.ref(y.data)
    z = (y * 2).sum()
    del y
    assert kept() is not None  # exp holds its output
    z.backward(keep_graph=True)
    assert kept() is not None
    z.backward()
    assert kept() is None
    assert x.grad is not None


def test_an_operations_arrays_are_free_before_the_one_that_made_its_input_runs():
    alive = []

    @op
    def watch(x):
        def back(dy):
            gc.collect()
            alive.append(kept() is not None)
            return dy

        return x * 1, back

    y = watch(watch(Tensor(np.ones(10))))
    z = y.exp()
    kept = weakref.ref(z.data)
    z = z.sum()
    z.backward()
    assert alive == [False, False]


def test_values_that_no_closure_needs_are_freed_at_once():
    x = Tensor(np.ones(10))
    y = x + 1
    freed = weakref.ref(y.data)
    z = y + 1
    del y
    assert freed() is None
    z.backward(np.ones(10))
    assert x.grad.tolist() == [1] * 10


B, T, D, H = 2, 5, 8, 2  # batch, time, width, heads


@pytest.mark.parametrize(
    "f, expected",
    [
        (lambda x, w, b: x + x, 0),
        (lambda x, w, b: x * x, B * T * D),
        (lambda x, w, b: x.sum(), 0),
        (lambda x, w, b: x.reshape(B, -1).transpose()[1:], 0),
        (lambda x, w, b: x.exp(), B * T * D),
        (lambda x, w, b: x / 2.0, B * T * D),  # y, for the gradient of b, which could be wanted
        (lambda x, w, b: linear(x, drawn("v", (D, 3))), B * T * D),  # x; w is a parameter
        (lambda x, w, b: layer_norm(x, w, b), B * T * D + B * T),  # xhat, r
        (lambda x, w, b: ops.gelu(x), 2 * B * T * D),  # x, tanh
        (lambda x, w, b: ops.relu(x), B * T * D),
        (lambda x, w, b: ops.softmax(x), B * T * D),
        (lambda x, w, b: ops.dropout(x, keep=lambda: np.ones((B, T, D), bool), p=0.5), 0),  # keeps no mask
        # the three of qkv, the scaled queries, y, and the weights
        (
            lambda x, w, b: self_attention(Tensor(np.ones((B, T, 3 * D))), heads=H),
            5 * B * T * D + B * H * T * T,
        ),
        (lambda x, w, b: cross_entropy(x, np.ones((B, T), int)), B * T * D),
    ],
)
def test_saved_bytes_of_one_operation(f, expected, rng):
    x = Tensor(rng.normal(size=(B, T, D)))
    held = saved_bytes(f(x, drawn("w", (D,)), drawn("b", (D,))))
    small = 3 * 8 * B * T if f(x, drawn("w", (D,)), drawn("b", (D,))).ndim == 0 else 0  # targets and places
    assert 8 * expected <= sum(held.values()) <= 8 * expected + small


def test_saved_bytes_by_layer(rng):
    x, w = Tensor(rng.normal(size=(4, 8))), drawn("w", (8, 8))
    with in_layer("first"):
        y = linear(x, w)
    with in_layer("second"):
        y = y.exp()
        with in_layer("inner"):
            y = linear(y, w)  # holds the output of exp, which is counted already
        y = y.tanh()
    assert saved_bytes(y) == {"first": 256, "second": 512}


def small_model(**options):
    config = Config(
        **{"vocab_size": 50, "context": 16, "d_model": 16, "nhead": 2, "num_layers": 3, **options}
    )
    return gpt(config).draw(seed=0)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("wrap", [False, True])
def test_saved_bytes_are_what_the_graph_holds(wrap, dropout, rng):
    """Measured by the allocator: it holds what saved_bytes counts, no more and no less."""
    model = small_model(dropout=dropout, d_model=32)
    ids = rng.integers(0, 50, (8, 16))
    if wrap:
        for i in range(3):
            model.layers[f"block{i}"] = recompute(model.layers[f"block{i}"])
        model.parts = list  # its names are not needed here

    def loss():
        return model.loss(ids, ids, place(ids, key=1, training=True))

    loss()  # whatever is made only once
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = loss()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    reported = sum(saved_bytes(made).values())
    assert reported <= held <= 1.02 * reported + 40_000  # the graph's own objects


def test_saved_bytes_of_a_model_name_its_layers(rng):
    ids = rng.integers(0, 50, (4, 16))
    held = saved_bytes(small_model().loss(ids, ids))
    rows = 4 * 16 * 4  # bytes of a number for each token
    assert held["block1.mlp.branch.up"] == rows * 16
    assert held["block1.mlp.branch"] == rows * 2 * 64
    assert held["block1.mlp.branch.down"] == rows * 64
    assert held["block1.mlp.norm"] == rows * 17
    assert held["block1.attention.branch.core"] == rows * (5 * 16 + 2 * 16)
    assert "block1.mlp" not in held  # the sum around the branch holds nothing


# Recomputation


def model_gradients(model, ids, at, wrap):
    """The loss and all gradients, each block plain, or recomputed, or in nested recomputation."""
    blocks = [model.layers[f"block{i}"] for i in range(3)]
    for p in model.parameters().values():
        p.grad = None
    x = model.layers["embedding"](ids, at)
    if wrap == "nested":

        def both(x, at):
            return recompute(blocks[1])(recompute(blocks[0])(x, at), at)

        x = blocks[2](recompute(both)(x, at), at)
    else:
        for block in blocks:
            x = (recompute(block) if wrap == "each" else block)(x, at)
    for name in ("norm", "head"):
        if name in model.layers:
            x = model.layers[name](x, at)
    loss = cross_entropy(x, ids)
    held = sum(saved_bytes(loss).values())
    loss.backward()
    return loss.data, {n: p.grad for n, p in model.parameters().items()}, held


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_recompute_gives_the_same_bits_and_keeps_only_inputs(norm_position, rng):
    model = small_model(dropout=0.3, norm_position=norm_position)
    ids = rng.integers(0, 50, (4, 16))
    at = place(ids, key=7, training=True)
    loss, expected, plain = model_gradients(model, ids, at, "none")
    for wrap in ("each", "nested"):
        again, grads, held = model_gradients(model, ids, at, wrap)
        assert again == loss
        for name, g in grads.items():
            np.testing.assert_array_equal(g, expected[name], err_msg=name)
        if wrap == "each":
            block = 4 * 16 * 16 * 4  # bytes of (B, T, D)
            ends = 4 * 16 * 4 * (50 + 16) + (block + 4 * 16 * 4 if norm_position == "pre" else 0)
            assert held <= 3 * block + ends + 5000
        assert held < plain / 2


def test_recompute_computes_again_only_in_backward():
    calls = []

    def f(x):
        calls.append(len(calls))
        return x.exp() * x

    x = Tensor(np.array([1.0, 2.0]))
    y = recompute(f)(x)
    assert len(calls) == 1 and sum(saved_bytes(y).values()) == 16  # its input alone
    y.backward(np.ones(2))
    assert len(calls) == 2
    np.testing.assert_allclose(x.grad, (1 + x.data) * np.exp(x.data))


def test_recompute_takes_part_in_the_graph_around_it(rng):
    w = drawn("w", (3, 3))

    def f(x):
        inner = recompute(lambda a, b: ops.tanh(linear(a, w)) * b)
        h = x * 2
        return inner(h, h + 1).sum() + h.sum()

    x = rng.normal(size=(2, 3))
    assert_gradients(f, x)
    w.grad = None
    f(Tensor(x)).backward()
    with_recompute, w.grad = w.grad, None
    h = Tensor(x) * 2
    (ops.tanh(linear(h, w)) * (h + 1)).sum().backward()
    np.testing.assert_array_equal(w.grad, with_recompute)


def test_recompute_under_no_grad():
    x = Tensor(np.array([2.0]))
    with no_grad():
        assert recompute(lambda x: x * x)(x).maker is None
    y = recompute(lambda x: x * x)(x)
    with no_grad():
        y.backward()  # computes f again, and must record it
    assert x.grad.tolist() == [4]


def test_recompute_is_for_what_comes_in_as_an_argument():
    """What f takes from around it, made by an operation, is used up by the inner backward: an error."""
    x = Tensor(np.array([2.0]))
    outside = x * 3
    y = recompute(lambda a: a * outside)(x) + outside
    with pytest.raises(RuntimeError, match="multiply: an earlier backward"):
        y.backward()


def test_recompute_with_the_graph_kept():
    x = Tensor(np.array([2.0]))
    y = recompute(lambda x: x * x)(x)
    y.backward(keep_graph=True)
    y.backward()
    assert x.grad.tolist() == [8]
    with pytest.raises(RuntimeError, match="recompute: an earlier backward"):
        y.backward()


def test_recompute_passes_on_what_is_no_tensor_and_keeps_the_layers_name(rng):
    seen = []

    def f(x, factor, place):
        seen.append(Operation("any", (), None, ()).layer)
        return dropout(x * factor, place)

    dropout = Dropout(0.5).named("dropout")
    ids = np.zeros((2, 3), int)
    x = Tensor(rng.normal(size=(2, 3, 4)))
    with in_layer("here"):
        y = recompute(f)(x, 3.0, place(ids, key=2, training=True))
    y.backward(np.ones(y.shape))
    assert seen == ["here", "here"]
    np.testing.assert_array_equal(x.grad != 0, y.data != 0)  # the same mask in both passes


# Where a run went wrong


def test_first_not_finite_names_the_first_layer(rng):
    model = small_model()
    ids = rng.integers(0, 50, (2, 16))
    assert first_not_finite(lambda: model.loss(ids, ids)) is None
    blocks = model.layers["block1"], model.layers["block2"]
    blocks[1].mlp.branch.up.weight.data[0, 0] = np.nan
    blocks[0].mlp.branch.down.bias.data[0] = np.inf
    with np.errstate(invalid="ignore"):
        assert first_not_finite(lambda: model.loss(ids, ids)) == "block1.mlp.branch.down"
        blocks[0].mlp.branch.down.bias.data[0] = 0
        assert first_not_finite(lambda: model.loss(ids, ids)) == "block2.mlp.branch.up"
        model.layers["block2"] = recompute(blocks[1])
        assert first_not_finite(lambda: model.loss(ids, ids)) == "block2.mlp.branch.up"
