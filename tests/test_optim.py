"""Optimizers against their papers' formulas, entry by entry; schedules against tables; clipping."""

import math

import numpy as np
import pytest

from minimega.errors import BadInput
from minimega.model import Config, gpt
from minimega.optim import OPTIMIZERS, SCHEDULES, SGD, clip, gradient_norm, learning_rate
from minimega.parameter import Parameter
from minimega.train import Recipe, train_step

BETA1, BETA2, EPS = 0.8, 0.95, 1e-6


def parameter(name, data, grad=None):
    p = Parameter(np.shape(data))
    p.name, p.data, p.grad = name, np.array(data), grad
    return p


def problem(dtype="float64"):
    """A matrix and a vector, and the gradient of a function with a long narrow valley, with noise."""
    rng = np.random.default_rng(5)
    weights = [
        parameter("w", rng.normal(size=(3, 4)).astype(dtype)),
        parameter("b", rng.normal(size=4).astype(dtype)),
    ]
    curvature = [np.exp(rng.normal(size=p.data.shape)) for p in weights]
    noise = rng.normal(size=(200, 16)) * 0.1

    def gradient(i, w, step):
        return curvature[i] * np.sin(w) * 2 + noise[step, 12 * i : 12 * i + w.size].reshape(w.shape)

    return weights, gradient


# Each update for one number w, its gradient g and its state, as the papers write it; n from 1.


def sgd(w, g, lr, decay, n, old):
    return w - lr * (g + decay * w), None


def momentum(w, g, lr, decay, n, old):
    v = BETA1 * (old or 0.0) + (g + decay * w)
    return w - lr * v, v


def adagrad(w, g, lr, decay, n, old):
    g += decay * w
    total = (old or 0.0) + g**2
    return w - lr * g / (math.sqrt(total) + EPS), total


def adam(w, g, lr, decay, n, old):
    g += decay * w
    m, v = old or (0.0, 0.0)
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g**2
    m_hat, v_hat = m / (1 - BETA1**n), v / (1 - BETA2**n)
    return w - lr * m_hat / (math.sqrt(v_hat) + EPS), (m, v)


def adamw(w, g, lr, decay, n, old):
    new, state = adam(w, g, lr, 0.0, n, old)
    return new - lr * decay * w, state


REFERENCES = {"sgd": sgd, "momentum": momentum, "adagrad": adagrad, "adam": adam, "adamw": adamw}


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_hundred_steps_are_those_of_the_paper(name, decay):
    weights, gradient = problem()
    optimizer = OPTIMIZERS[name](beta1=BETA1, beta2=BETA2, eps=EPS, weight_decay=decay)
    expected = [p.data.copy() for p in weights]
    memory = [np.full(p.data.shape, None, object) for p in weights]
    for n in range(1, 101):
        lr = 0.05 / math.sqrt(n)
        for i, p in enumerate(weights):
            p.grad = gradient(i, p.data, n)
            g = gradient(i, expected[i], n)
            for at in np.ndindex(p.data.shape):
                expected[i][at], memory[i][at] = REFERENCES[name](
                    expected[i][at], g[at], lr, decay if p.data.ndim > 1 else 0.0, n, memory[i][at]
                )
        optimizer.step(weights, lr)
    for p, e in zip(weights, expected, strict=True):
        np.testing.assert_allclose(p.data, e, rtol=1e-12, atol=1e-12)
    assert optimizer.steps == 100


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_change_in_place_and_keep_their_type(name):
    weights, gradient = problem("float32")
    arrays = [p.data for p in weights]
    optimizer = OPTIMIZERS[name](weight_decay=0.1)
    for n in range(3):
        for i, p in enumerate(weights):
            p.grad = gradient(i, p.data, n).astype("float32")
        grads = [(p.grad, p.grad.copy()) for p in weights]
        before = [a.copy() for a in arrays]
        optimizer.step(weights, np.float64(0.01))  # a NumPy number as the rate does not widen the weights
        assert all((g == kept).all() for g, kept in grads)
        assert all((a != b).all() for a, b in zip(arrays, before, strict=True))
    for p, a in zip(weights, arrays, strict=True):
        assert p.data is a and a.dtype == np.float32
        assert all(s.dtype == np.float32 and s.shape == a.shape for s in optimizer.state[p.name].values())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_is_kept_by_name_and_goes_on_where_it_was(name):
    def run(optimizer, weights, gradient, steps):
        for n in steps:
            for i, p in enumerate(weights):
                p.grad = gradient(i, p.data, n)
            optimizer.step(weights, 0.02)

    weights, gradient = problem()
    optimizer = OPTIMIZERS[name](weight_decay=0.01)
    run(optimizer, weights, gradient, range(20))
    assert set(optimizer.state) == {"w", "b"}
    assert all(tuple(s) == OPTIMIZERS[name].slots for s in optimizer.state.values())
    again, resumed = problem()[0], OPTIMIZERS[name](weight_decay=0.01)
    run(resumed, again, gradient, range(8))
    second = OPTIMIZERS[name](weight_decay=0.01)
    second.steps = resumed.steps
    second.state = {n: {s: a.copy() for s, a in slots.items()} for n, slots in resumed.state.items()}
    copies = [parameter(p.name, p.data) for p in reversed(again)]  # other objects, another order
    run(second, copies[::-1], gradient, range(8, 20))
    for p, q in zip(weights, copies[::-1], strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_a_parameter_without_a_gradient_stays_and_has_no_state():
    p, q = parameter("p", np.ones((2, 2)), np.ones((2, 2))), parameter("q", np.ones((2, 2)))
    optimizer = OPTIMIZERS["adamw"](weight_decay=0.5)
    optimizer.step([p, q], 0.1)
    assert (q.data == 1).all() and (p.data < 1).all() and set(optimizer.state) == {"p"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_matrices_decay(name):
    weights = [parameter(n, np.ones(s), np.zeros(s)) for n, s in (("w", (2, 3)), ("b", (3,)), ("g", ()))]
    OPTIMIZERS[name](weight_decay=0.5).step(weights, 0.1)
    assert (weights[0].data < 1).all() and all((p.data == 1).all() for p in weights[1:])


def test_the_first_step_of_adam_is_the_sign_of_the_gradient():
    p = parameter("p", np.zeros(4), np.array([1e-3, -1.0, 50.0, -1e3]))
    OPTIMIZERS["adam"](beta1=0.9, beta2=0.99, eps=1e-12).step([p], 0.25)
    np.testing.assert_allclose(p.data, [-0.25, 0.25, -0.25, 0.25])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_eps_that_vanishes_beside_the_weights_is_refused(name, dtype):
    least = float(np.finfo("float64" if dtype == "float64" else "float32").tiny)
    for eps, fits in ((least, True), (0.9 * least, not OPTIMIZERS[name].divides)):
        p = parameter("p", np.ones(2).astype(dtype), np.zeros(2, np.float32))  # where 0/0 would be NaN
        rule = OPTIMIZERS[name](eps=eps)
        if fits:
            rule.step([p], 0.1)
            assert (p.data == 1).all()
        else:
            with pytest.raises(BadInput, match=f"eps {eps} is too small for float"):
                rule.step([p], 0.1)


# The norm and clipping


def test_the_norm_is_added_up_in_float64():
    p = [parameter("a", np.zeros(3), np.full(3, 1e30, np.float32)), parameter("b", np.zeros(1))]
    np.testing.assert_allclose(gradient_norm(p), math.sqrt(3) * 1e30, rtol=1e-7)  # 1e60 is not a float32
    many = np.full((1000, 1000), 0.1, np.float32)
    many[0, 0] = 3e3  # with it, a float32 sum of squares loses the small ones
    expected = math.sqrt((many.astype("float64") ** 2).sum())
    assert abs(gradient_norm([parameter("a", np.zeros(1), many)]) / expected - 1) < 1e-11
    assert gradient_norm(iter(p[1:])) == gradient_norm([]) == 0.0
    assert gradient_norm([parameter("a", np.zeros((2, 2)), np.array([[1.0, 2.0], [2.0, 4.0]]).T)]) == 5.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping_scales_everything_by_one_number(dtype):
    grads = [np.array([[3.0, -4.0]], dtype), np.array([12.0], dtype)]
    p = [parameter(str(i), np.zeros(g.shape), g) for i, g in enumerate(grads)]
    p.append(parameter("none", np.zeros(2)))
    clip(p, 1.0, gradient_norm(p))
    for q, g in zip(p, grads, strict=False):
        np.testing.assert_array_equal(q.grad, g * np.asarray(1 / 13, dtype))
        assert q.grad is not g and q.grad.dtype == dtype
    assert grads[0].tolist() == [[3, -4]]  # the array itself may be shared, and is left alone
    assert abs(gradient_norm(p) - 1) < 1e-6
    assert p[2].grad is None


@pytest.mark.parametrize("most, norm", [(0.0, 1e9), (5.0, 5.0), (5.0, 0.1), (5.0, 0.0), (1.0, float("nan"))])
def test_what_is_not_clipped_stays_as_it_is(most, norm):
    g = np.array([3.0, 4.0])
    p = parameter("p", np.zeros(2), g)
    clip([p], most, norm)
    assert p.grad is g and g.tolist() == [3, 4]


# Schedules


C = [(1 + math.cos(math.pi * i / 4)) / 2 for i in range(5)]


@pytest.mark.parametrize(
    "schedule, steps, warmup, min_lr, expected",
    [
        ("constant", 4, 0, 0.0, [1, 1, 1, 1]),
        ("constant", 4, 2, 0.5, [0.5, 1, 1, 1]),
        ("constant", 3, 1, 0.0, [1, 1, 1]),
        ("linear", 4, 0, 0.0, [0.75, 0.5, 0.25, 0]),
        ("linear", 6, 2, 0.0, [0.5, 1, 0.75, 0.5, 0.25, 0]),
        ("linear", 4, 0, 0.2, [0.8, 0.6, 0.4, 0.2]),
        *((s, 1, 0, 0.2, [1]) for s in SCHEDULES),  # the only step, not the last of a decay
        *((s, 1, 5, 0.0, [0.2]) for s in SCHEDULES),
        ("cosine", 4, 0, 0.0, C[1:]),
        ("cosine", 7, 3, 0.0, [1 / 3, 2 / 3, *C]),
        ("cosine", 4, 0, 0.5, [0.5 + c / 2 for c in C[1:]]),
        ("cosine", 5, 4, 0.1, [0.25, 0.5, 0.75, 1, 0.1]),
        ("step", 8, 0, 0.0, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        ("step", 10, 2, 0.0, [0.5, 1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        ("step", 8, 0, 0.05, [1, 1, 1, 1, 0.1, 0.1, 0.05, 0.05]),
        # a warm-up as long as the run, or longer: it only rises
        *((s, 4, 4, 0.1, [0.25, 0.5, 0.75, 1]) for s in SCHEDULES),
        *((s, 4, 8, 0.1, [0.125, 0.25, 0.375, 0.5]) for s in SCHEDULES),
        *((s, 1, 1, 0.1, [1]) for s in SCHEDULES),
    ],
)
def test_schedules_by_a_table(schedule, steps, warmup, min_lr, expected):
    for lr in (1.0, 3e-4):
        got = [learning_rate(schedule, n, steps, lr, warmup, min_lr * lr) for n in range(1, steps + 1)]
        np.testing.assert_allclose(got, [lr * e for e in expected], rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_past_the_end_the_rate_stays_where_it_was(schedule):
    last = learning_rate(schedule, 10, 10, 1.0, 2, 0.1)
    assert [learning_rate(schedule, n, 10, 1.0, 2, 0.1) for n in (11, 15, 1000)] == [last] * 3


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_stays_between_its_bounds(schedule):
    rates = [learning_rate(schedule, n, 100, 1.0, 10, 0.05) for n in range(1, 101)]
    assert max(rates) == 1.0 == rates[9] and all(r >= 0.05 for r in rates[10:])
    assert rates[:10] == sorted(rates[:10]) and rates[9:] == sorted(rates[9:], reverse=True)


def test_a_schedule_that_is_not_known():
    with pytest.raises(BadInput, match="schedule is 'sawtooth'; it can be constant, cosine, linear, step"):
        learning_rate("sawtooth", 1, 10, 1.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_frozen_rows_never_move_and_count_in_no_norm(name, dtype):
    """Neither weight decay nor momentum moves them, and clipping does not see them."""
    made = [gpt(Config(vocab_size=9, d_model=8, nhead=2)).draw(0, dtype) for _ in range(2)]
    table, other = (m.parameters()["embedding.tokens"] for m in made)
    table.frozen = np.arange(9) < 5
    before = table.data.copy()
    ids = np.array([[1, 2, 6, 7], [8, 1, 0, 3]])
    recipe, optimizer = Recipe(steps=3, lr=0.1, clip=0.01), OPTIMIZERS[name](weight_decay=0.5, eps=1e-3)
    norms = [train_step(made[0], optimizer, recipe, step, ids, ids[::-1])["grad_norm"] for step in (1, 2, 3)]
    assert (table.data[:5] == before[:5]).all() and (table.data[5:] != before[5:]).any(axis=1).all()
    full = train_step(made[1], SGD(), recipe, 1, ids, ids[::-1])["grad_norm"]
    assert norms[0] < full
    assert not table.decays and other.decays
