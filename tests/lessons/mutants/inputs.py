"""Random inputs for each lesson's function: do two functions differ on any of them?

`lesson_NN(f, rng, group)` calls f on inputs drawn by rng, all within what its docstring promises, and returns
what came out: arrays, numbers, and the inputs afterwards, since a function must not change them. No two axes
are alike. A function on ranks is run on one to four of them.
"""

import sys
from collections.abc import Callable

import numpy as np

from minimega.autograd import Tensor, op, saved_bytes
from minimega.learn import shelf
from minimega.ops import gelu, softmax
from minimega.ranks.threads import on_ranks
from tests.lessons.mutants.same import unlike

RANKS = 4
ON_RANKS = ("15", "16", "17", "18", "21")


def difference(number: str, right: Callable, other: Callable, draws: int = 200) -> str:
    """How `other` differs from the solution on the first of `draws` inputs where it does; "" if on none."""
    outcome = getattr(sys.modules[__name__], f"lesson_{number}")
    for n in range(draws if number not in ON_RANKS else draws // 4):
        wanted, got = _outcome(outcome, right, number, n), _outcome(outcome, other, number, n)
        if problem := unlike(got, wanted):
            return f"draw {n}: {problem}"
    return ""


def _outcome(outcome, f, number: str, n: int):
    def run(group):
        return outcome(f, np.random.default_rng([int(number), n]), group)

    try:
        if number not in ON_RANKS:
            return run(None)
        with on_ranks(1 + n % RANKS, seconds=2.0) as ranks:
            return ranks(run)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def back_twice(result, dys: list, *inputs) -> list:
    """y, then the gradients for each dy and for the first once more, then the inputs."""
    y, back = result
    first = np.array(y)
    grads = []
    for dy in [*dys, dys[0]]:
        grads.append([np.array(g() if callable(g) else g) for g in _tuple(back(dy))])
    return [first, *grads, np.array(y), *dys, *inputs]


def _tuple(thing) -> tuple:
    return thing if isinstance(thing, tuple) else (thing,)


def sizes(rng, count: int, low: int = 1, high: int = 7) -> list[int]:
    """So many sizes, no two alike."""
    return [int(n) for n in rng.choice(np.arange(low, high + 1), count, replace=False)]


def lesson_01(f, rng, group):
    B, T, heads, width, V = sizes(rng, 5, 2, 12)
    return f(B, T, heads * width, heads, V)


def lesson_02(f, rng, group):
    """Whether the slope is right to eight digits: near and far, for lines and curves."""
    a, b, c = rng.normal(size=3)
    x = float(rng.choice([-1, 1]) * 10 ** rng.uniform(-3, 6))
    power = int(rng.integers(1, 4))
    scale = max(1.0, abs(x))
    slope = f(lambda t: a * (t / scale) ** power * scale + b, x)
    wanted = a * power * (x / scale) ** (power - 1)
    return [
        abs(float(slope) - wanted) < 3e-8 * (abs(a) + abs(b)),
        abs(float(f(np.sin, c)) - np.cos(c)) < 1e-8,
    ]


def lesson_03(f, rng, group):
    n, i, o = sizes(rng, 3)
    x, w, b = rng.normal(size=(n, i)), rng.normal(size=(i, o)), rng.normal(size=o)
    return back_twice(f(x, w, b), list(rng.normal(size=(2, n, o))), x, w, b)


def lesson_04(f, rng, group):
    Node = shelf.exercise("04").Node
    calls = []

    def node(k, inputs, slopes):
        def back(dy):
            if inputs:
                calls.append(k)
            return tuple(s * dy for s in slopes)

        return Node(f"n{k}", inputs, back)

    nodes = [node(0, (), ())]
    for k in range(1, int(rng.integers(2, 9))):
        inputs = tuple(nodes[i] for i in rng.integers(0, k, rng.integers(0, 4)))
        nodes.append(node(k, inputs, rng.normal(size=len(inputs))))
    several = []
    for y in (nodes[-1], nodes[len(nodes) // 2], nodes[-1]):
        calls.clear()
        got = f(y)
        several.append({n.name: float(v) for n, v in got.items()} | {"calls": sorted(calls)})
    return several


def lesson_05(f, rng, group):
    V, D, B, T = sizes(rng, 4)
    table, ids = rng.normal(size=(V, D)), rng.integers(0, V, (B, T))
    return back_twice(f(table, ids), list(rng.normal(size=(2, B, T, D))), table, ids)


def lesson_06(f, rng, group):
    N, V = sizes(rng, 2, 2, 9)
    logits, targets = rng.normal(size=(N, V)) * 10 ** rng.uniform(-1, 1.3), rng.integers(0, V, N)
    targets[rng.random(N) < 0.4] = -rng.integers(1, 9)
    targets[rng.integers(N)] = rng.integers(V)
    return back_twice(f(logits, targets), list(rng.normal(size=2)), logits, targets)


def lesson_07(f, rng, group):
    N, D = sizes(rng, 2, 2, 9)
    x, w, b = rng.normal(2, 3, (N, D)), rng.normal(size=D), rng.normal(size=D)
    eps = {} if rng.random() < 0.5 else {"eps": float(rng.uniform(0, 1))}
    return back_twice(f(x, w, b, **eps), list(rng.normal(size=(2, N, D))), x, w, b)


def lesson_08(f, rng, group):
    T, C = sizes(rng, 2, 1, 7)
    q, k, v = rng.normal(size=(3, T, C)) * 10 ** rng.uniform(-1, 0.3)
    return back_twice(f(q, k, v), list(rng.normal(size=(2, T, C))), q, k, v)


def lesson_09(f, rng, group):
    shape = tuple(sizes(rng, int(rng.integers(1, 4))))
    x = rng.normal(size=shape) * 10 ** rng.uniform(-1, 0.7)
    return back_twice(f(x), list(rng.normal(size=(2, *shape))), x)


def lesson_10(f, rng, group):
    B, T, D = sizes(rng, 3)
    x = rng.normal(size=(B, T, D))

    def branch(w):
        def g(x):
            y = np.tanh(x @ w)
            return y, lambda dy: (dy * (1 - y * y)) @ w.T

        return g

    four = [branch(w) for w in rng.normal(size=(4, D, D))]
    return back_twice(f(x, *four), list(rng.normal(size=(2, B, T, D))), x)


def lesson_11(f, rng, group):
    shape = tuple(sizes(rng, int(rng.integers(1, 4))))
    w, g, mean = rng.normal(size=(3, *shape))
    square, n = rng.uniform(0, 2, shape), int(rng.integers(1, 50))
    rates = [
        10 ** rng.uniform(-3, 0),
        rng.uniform(0, 0.99),
        rng.uniform(0, 0.999),
        rng.uniform(1e-8, 1),
        rng.random(),
    ]
    return list(f(w, g, mean, square, n, *rates))  # it may update in place


def lesson_12(f, rng, group):
    batches = []
    for k in range(int(rng.integers(1, 5))):
        B, T = sizes(rng, 2)
        targets = rng.integers(-3, 9, (B, T))
        if k == 0:
            targets[0, 0] = 4
        batches.append((float(rng.uniform(0, 4)) * bool((targets >= 0).any()), targets))
    return [f(batches), *(t for _, t in batches)]


def lesson_13(f, rng, group):
    V = int(rng.integers(2, 30))
    logits = rng.normal(size=V) * 10 ** rng.uniform(-1, 1.5)
    us, picked = rng.random(20), []
    for u in us:
        options = {"p": float(rng.uniform(0.05, 1)), "temperature": float(10 ** rng.uniform(-1, 1))}
        options = {name: value for name, value in options.items() if rng.random() < 0.7}
        token = f(logits, float(u), **options)
        picked.append(token if np.ndim(token) else int(token))
    return [picked, logits]


def lesson_14(f, rng, group):
    shape, runs = tuple(sizes(rng, 2, 2, 9)), []

    def inner(x):
        runs.append(1)
        h, back_h = gelu(x)
        y, back_y = softmax(h)
        return y, lambda dy: back_h(back_y(dy))

    x = rng.normal(size=shape)
    g = f(inner)
    out = back_twice(g(x), list(rng.normal(size=(2, *shape))), x)
    times, other = len(runs), rng.normal(size=shape)
    inner.__name__ = g.__name__ = "inner"
    held = sum(saved_bytes(op(g)(Tensor(x))).values())
    return [times, held, out, back_twice(g(other), [x], other)]


def lesson_15(f, rng, group):
    rows, D = sizes(rng, 2)
    out = []
    for alike in (True, False, True):
        x = rng.normal(size=(group.size, rows, D))[group.rank]
        dys = rng.normal(size=(2, group.size, group.size * rows, D))
        dys = [dy[0 if alike else group.rank] for dy in dys]
        out.append(back_twice(f(x, group, alike), dys, x))
    return [out, group.counter.total().wire]


def lesson_16(f, rng, group):
    N, D = sizes(rng, 2)
    F = group.size * int(rng.integers(1, 4))
    mine = group.piece(F)
    x, w1, b1 = rng.normal(size=(N, D)), rng.normal(size=(D, F))[:, mine], rng.normal(size=F)[mine]
    w2, b2 = rng.normal(size=(F, D))[mine], rng.normal(size=D)
    dys = list(rng.normal(size=(2, N, D)))
    return back_twice(f(x, w1, b1, w2, b2, group), dys, x, w1, b1, w2, b2)


def lesson_17(f, rng, group):
    N, V = sizes(rng, 2, group.size, 12)
    logits = rng.normal(size=(N, V)) * 10 ** rng.uniform(-1, 3) + rng.choice([0, 1000, -1000], (N, 1))
    targets, mine = rng.integers(0, V, N), group.piece(V)
    own = logits[:, mine].copy()
    return [f(own, targets, mine.start, group), own, targets]


def lesson_18(f, rng, group):
    counts = rng.integers(0, 6, group.size).astype(float)
    counts[rng.integers(group.size)] = 3
    shape = tuple(sizes(rng, 2))
    losses, grads = rng.uniform(0, 9, group.size) * (counts > 0), rng.normal(size=(group.size, *shape))
    grads *= (counts > 0)[:, None, None]
    own = losses[group.rank], grads[group.rank].copy(), counts[group.rank]
    return [list(f(*own, group)), own[1]]


def lesson_19(f, rng, group):
    p, m = int(rng.integers(1, 7)), int(rng.integers(1, 10))
    return [[f"{kind} {n}" for kind, n in f(r, p, m)] for r in range(p)]


def lesson_20(f, rng, group):
    t, C, n1, n2 = sizes(rng, 4)
    sides = []
    for n in (n1, n2):
        s, v = (
            rng.normal(size=(t, n)) * 3 + rng.choice([0, 0, 5, -5, 1000, -1000], (t, 1)),
            rng.normal(size=(n, C)),
        )
        top = s.max(axis=1, keepdims=True)
        w = np.exp(s - top)
        sides += [w @ v, top, w.sum(axis=1, keepdims=True)]
    if rng.random() < 0.2:
        sides[:3] = np.zeros((t, C)), np.full((t, 1), -np.inf), np.zeros((t, 1))
    return [list(f(*sides)), *sides]


def lesson_21(f, rng, group):
    count = int(rng.integers(1, 4))
    own = [(rng.normal(size=tuple(sizes(rng, 2))), group.size) for _ in range(count)]
    private = rng.normal(size=(group.size, 3, 5))[group.rank]
    own += [(private[k], 1) for k in range((group.rank + count) % 3)]  # ranks' lists differ in length
    return [f(own, group), *(g for g, _ in own)]
