"""The checker: right backwards pass, wrong ones fail, and what cannot be judged is an error."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from minimega import ops
from minimega.attention import Attention, attention
from minimega.autograd import op
from minimega.commands.cli import main
from minimega.commands.gradcheck import run
from minimega.embedding import TextEmbedding
from minimega.errors import BadInput
from minimega.gradcheck import CannotJudge, assert_gradients, check, check_adjoint
from minimega.gradcheck.differences import slope
from minimega.head import cross_entropy
from minimega.layer import place
from minimega.linear import RowLinear, linear
from minimega.mlp import MLP
from minimega.model import Block, Config, gpt
from minimega.norm import LayerNorm
from tests.wrong_backwards.operations import RIGHT


def options(target: str, shapes: str, picture: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(target=target, shapes=shapes, seed=0, picture=picture)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def short_softmax(x):
    y, _ = ops.softmax(x)
    return y, lambda dy: dy * y


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_right_operations_raise_no_alarm(name, dtype):
    for seed in range(7):  # the command checks 75 seeds of each
        f, arrays = RIGHT[name](np.random.default_rng((seed, 5)))
        assert_gradients(f, *(a.astype(dtype) for a in arrays), seed=seed)


def test_all_forms_of_a_function():
    x = normal(3, 4)
    assert check(ops.softmax, x).ok  # raw: (y, back)
    assert check(lambda x: (ops.exp(x) * x).sum(axis=0), x).ok  # Tensors
    assert check(lambda x: (2 * x, lambda dy: lambda: 2 * dy), x).ok  # a gradient given as a function
    report = check(LayerNorm(4).named("norm").draw(), x)  # a layer, its parameters too
    assert report.ok
    assert [a.name for a in report.arguments[1:]] == ["norm.weight", "norm.bias"]


def layers():
    at = place(np.zeros((2, 3), int))
    x = normal(2, 3, 4)
    yield RowLinear(4, 5), (x,)
    yield LayerNorm(4), (x,)
    yield MLP(4, 6), (x, at)
    yield Attention(4, 2), (x, at)
    yield TextEmbedding(7, 3, 4), (np.array([[1, 6, 1], [0, 2, 2]]), at)
    for attention_too in (True, False):
        yield Block(Config(vocab_size=7, d_model=4, nhead=2, attention=attention_too)), (x, at)


@pytest.mark.parametrize("layer, inputs", list(layers()), ids=lambda v: type(v).__name__)
def test_layers(layer, inputs):
    layer.named().draw(0, "float64")
    rng = np.random.default_rng(1)
    for p in layer.parameters().values():
        p.data = rng.normal(size=p.whole_shape)
    kept = {name: p.data for name, p in layer.parameters().items()}
    assert_gradients(layer, *inputs)
    assert all(p.data is kept[name] for name, p in layer.parameters().items())


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_models(norm, tied, positions):
    """Along random directions, in which no wrong entry hides; two of the eight at every entry too."""
    shape = {"norm_position": norm, "tied": tied, "positions": positions, "head_bias": not tied}
    tokens = np.array([[1, 2, 3, 3], [8, 0, 1, 4]])
    for layers, directions in ((2, 2), (1, None)):
        if directions or (norm == "pre") == tied == (positions == "learned"):
            model = gpt(Config(9, 6, d_model=4, nhead=2, num_layers=layers, **shape)).draw(0, "float64")
            assert_gradients(model, tokens, np.roll(tokens, -1, 1), directions=directions)
            assert_gradients(model.loss, tokens, np.roll(tokens, -1, 1), directions=1)


def test_the_cost_of_a_model_does_not_grow_with_its_entries():
    tokens = np.random.default_rng(0).integers(0, 30, (2, 16))
    evaluations = []
    for width in (32, 64):
        model = gpt(Config(30, 16, d_model=width, nhead=4)).draw()
        report = check(model, tokens, np.roll(tokens, -1, 1))
        assert report.ok
        evaluations.append(report.evaluations)
    assert model.count() > 100_000
    assert max(evaluations) < 30 * len(report.arguments)


def test_one_wrong_entry_of_a_large_array_is_found():
    def f(x):
        def back(dy):
            dx = 2 * dy * x
            dx[77, 31] *= 1.01
            return dx

        return x * x, back

    report = check(f, normal(100, 100))
    assert not report.ok
    assert report.arguments[0].entries[0][0] == (77, 31)


def test_a_report_reads_well():
    text = str(check(short_softmax, normal(3, 4)))
    assert "short_softmax: the backward pass is WRONG" in text
    assert "x (3, 4): WRONG" in text
    assert "Cause: rank-one." in text
    assert "the term y * sum(dy * y) over axis 1 is missing" in text
    assert text.count("back gives") == 4
    right = str(check(ops.softmax, normal(3, 4)))
    assert "x (3, 4): right, every entry" in right
    assert "by complex steps" in right
    with pytest.raises(AssertionError, match="rank-one"):
        assert_gradients(short_softmax, normal(3, 4))


def test_picture(tmp_path):
    for x in (normal(3, 4), normal(5), normal(2, 3, 4), np.array(0.3), normal(40, 40)):
        f = short_softmax if x.ndim else ops.exp
        check(f, x).picture(tmp_path / "p.png")
        assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    check(ops.exp, normal(40, 40)).picture(tmp_path / "p.png")  # only directions were looked at
    with pytest.raises(BadInput, match="cannot be written"):
        check(ops.exp, normal(3)).picture(tmp_path / "none" / "p.png")


# ---------------------------------------------------------------- what cannot be judged


@pytest.mark.parametrize(
    "f, arrays, says",
    [
        (lambda: (np.ones(2), lambda dy: ()), (), "no arguments"),
        (ops.exp, (np.zeros((0, 3)),), "no arguments"),
        (ops.exp, (np.arange(3),), "int64, which has no gradient"),
        (lambda x, ids: ops.take(x, ids), (normal(3), np.array([1])), "lambda"),
        (ops.exp, (np.array([True]),), "bool"),
        (ops.exp, (None,), "no numbers"),
        (gpt(Config(vocab_size=5, d_model=4, nhead=1)), (np.array([[1]]), np.array([[2]])), "draw"),
        (ops.exp, (np.array([1.0, np.nan]),), "not finite"),
        (ops.exp, (np.array([1e3]),), "not finite"),
        (ops.log, (np.array([1e-12, 1.0]),), "not finite, however small the step"),
        (lambda x: (np.sin(1e12 * x), lambda dy: 1e12 * dy * np.cos(1e12 * x)), (normal(3),), "settle"),
        (lambda x: (x.astype("f4") * x.astype("f4"), lambda dy: 2 * dy * x), (normal(3),), "settle"),
        (lambda x: (np.tanh(x), lambda dy: dy * (1 - np.tanh(x) ** 2)), (np.full(3, 50.0),), "too flat"),
        (lambda x: (1e20 + x, lambda dy: dy), (normal(3),), "too flat"),
        (lambda x: ops.softmax(x).sum(), (normal(3),), "too flat"),
        (ops.relu, (np.zeros(3),), "differ at every entry"),
        (lambda x: (np.argsort(x), lambda dy: dy), (normal(3),), "only floats"),
        (lambda x: 2.0, (normal(3),), "must return"),
    ],
)
def test_what_cannot_be_judged_is_an_error(f, arrays, says):
    with pytest.raises(CannotJudge, match=says) as error:
        check(f, *arrays)
    assert len(str(error.value)) < 330


def test_an_error_inside_f_is_not_swallowed():
    with pytest.raises(ValueError, match="matmul"):
        check(ops.matmul, normal(3, 4), normal(3, 4))


def test_a_gradient_that_is_not_finite_is_wrong():
    report = check(lambda x: (x * x, lambda dy: dy / 0.0 * x), normal(3))
    assert not report.ok
    assert "not finite" in report.arguments[0].detail


def test_kinks_are_noted_and_not_judged():
    x = np.array([0.0, 1.0, -2.0])
    report = check(ops.relu, x)
    assert report.ok
    assert report.arguments[0].kinks == [(0,)]
    assert report.arguments[0].cause == "kink"
    assert "kink" in str(report)
    wrong = check(lambda x: (np.maximum(x, 0), lambda dy: dy), x)
    assert not wrong.ok
    assert wrong.arguments[0].cause == "mask"
    # a kink nearby does not count, not even within a large step
    assert not check(ops.relu, np.array([1e-5, 1.0])).arguments[0].kinks


def test_a_gradient_that_is_zero_in_theory():
    # softmax does not see what is added to all its inputs: the gradient of the key bias is rounding alone
    q, k, v, b = normal(1, 1, 3, 4), normal(1, 1, 3, 4), normal(1, 1, 3, 4), normal(4)

    def biased(q, k, v, b):
        y, inner = attention(q, k + b, v, causal=False)

        def back(dy):
            dq, dk, dv = (g() if callable(g) else g for g in inner(dy))
            return dq, dk, dv, dk.sum(axis=(0, 1, 2))

        return y, back

    for dtype in ("float64", "float32"):
        arrays = [a.astype(dtype) for a in (q, k, v, b)]
        assert_gradients(biased, *arrays)


def test_inputs_are_left_as_they_were():
    x = normal(3, 4)
    before = x.copy()
    check(lambda x: (np.multiply(x, 2, out=x), lambda dy: 2 * dy), x)
    assert np.array_equal(x, before)


def test_a_gradient_of_the_wrong_shape_inside_tensors():
    @op
    def bad(x):
        return 2 * x, lambda dy: (2 * dy)[None]

    report = check(lambda x: bad(x).sum(), normal(3))
    assert report.arguments[0].cause == "shape"


def test_values_far_from_one():
    for size in (1e-6, 1e6):
        assert_gradients(lambda x: (x * x, lambda dy: 2 * dy * x), size * normal(3, 4))
        assert_gradients(LayerNorm(6).named().draw(0, "float64"), size + 1e-2 * size * normal(3, 6))


# ---------------------------------------------------------------- differences


def test_slopes_are_sharp():
    for f, df in ((np.exp, np.exp), (np.sin, np.cos), (np.tanh, lambda x: 1 - np.tanh(x) ** 2)):
        s = slope(lambda t, f=f: np.array([f(0.7 + t)]), np.array([f(0.7)]))
        assert abs(s.value[0] - df(0.7)) < 1e-12


def test_complex_steps_are_not_trusted_where_they_are_wrong():
    for f, slope_of_f in ((np.abs, np.sign), (lambda x: x.real * x, lambda x: 2 * x)):
        report = check(lambda x, f=f, d=slope_of_f: (f(x), lambda dy: dy * d(x)), normal(3))
        assert report.ok
        assert report.arguments[0].sharp is None
    assert check(ops.exp, normal(3)).arguments[0].sharp < 1e-14


# ---------------------------------------------------------------- the adjoint identity


class Ranks:
    """Ranks as threads that meet at a barrier."""

    def __init__(self, size):
        self.size, self.barrier, self.slots = size, threading.Barrier(size), [None] * size

    def run(self, check_on_rank):
        results = [None] * self.size

        def work(rank):
            results[rank] = check_on_rank(Rank(self, rank))

        threads = [threading.Thread(target=work, args=(r,)) for r in range(self.size)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return results


class Rank:
    def __init__(self, ranks, rank):
        self.ranks, self.rank, self.size = ranks, rank, ranks.size

    def all_reduce(self, array):
        self.ranks.slots[self.rank] = array
        self.ranks.barrier.wait()
        total = sum(self.ranks.slots)
        self.ranks.barrier.wait()
        return total


def same(x):
    return x


REGIONS = {
    # Megatron-LM's f and g, gather and scatter along axis 0: A, At, shapes, kinds, for a group of size 3
    "f": lambda g: (same, g.all_reduce, ((4,), (4,)), ("whole", ("whole", "partial"))),
    "g": lambda g: (g.all_reduce, same, ((4,), (4,)), ("partial", "whole")),
    "a matrix cut by columns": lambda g: (
        lambda x: x @ normal(4, 2, seed=g.rank),
        lambda dy: dy @ normal(4, 2, seed=g.rank).T,
        ((3, 4), (3, 2)),
        (("whole", "partial"), "cut"),
    ),
    "a matrix cut by rows": lambda g: (
        lambda x: x @ normal(2, 4, seed=g.rank),
        lambda dy: dy @ normal(2, 4, seed=g.rank).T,
        ((3, 2), (3, 4)),
        ("cut", "partial"),
    ),
    "scatter": lambda g: (
        lambda x: x[2 * g.rank : 2 * g.rank + 2],
        lambda dy: g.all_reduce(np.pad(dy, (2 * g.rank, 4 - 2 * g.rank))),
        ((6,), (2,)),
        ("whole", "cut"),
    ),
}


@pytest.mark.parametrize("name", REGIONS)
def test_adjoints_over_ranks(name):
    def on_rank(g):
        A, At, shapes, kinds = REGIONS[name](g)
        return check_adjoint(A, At, shapes, kinds, g)

    results = Ranks(3).run(on_rank)
    assert all(r.ok for r in results), str(results[0])
    assert len({r.left for r in results}) == 1


def test_wrong_adjoints_over_ranks():
    def f_without_its_sum(g):
        return check_adjoint(same, same, ((4,), (4,)), ("whole", ("whole", "partial")), g)

    def g_with_a_sum_too_many(g):
        return check_adjoint(g.all_reduce, g.all_reduce, ((4,), (4,)), ("partial", "whole"), g)

    def said_to_be_whole(g):
        return check_adjoint(lambda x: x + g.rank * x, same, ((4,), (4,)), ("whole", "whole"), g)

    for wrong, says in (
        (f_without_its_sum, "differs between ranks"),
        (g_with_a_sum_too_many, "3 times the left side: the number of ranks"),
        (said_to_be_whole, "differs between ranks"),
    ):
        results = Ranks(3).run(wrong)
        assert not any(r.ok for r in results)
        assert all(says in r.detail for r in results)
        assert says in str(results[0])


def test_adjoint_of_one_rank():
    w = normal(4, 3)
    assert check_adjoint(lambda x: x @ w, lambda y: y @ w.T, ((2, 4), (2, 3))).ok
    assert not check_adjoint(lambda x: x @ w, lambda y: y @ w.T * 2, ((2, 4), (2, 3))).ok
    assert "not linear" in check_adjoint(lambda x: x @ w + 1, lambda y: y @ w.T, ((2, 4), (2, 3))).detail
    for kinds, says in ((("cut", "none"), "not a kind"), ((("cut", "whole"), "cut"), "no inner product")):
        with pytest.raises(BadInput, match=says):
            check_adjoint(same, same, ((2,), (2,)), kinds)
    with pytest.raises(BadInput, match="shape"):
        check_adjoint(lambda x: x[:1], same, ((2,), (2,)))


# ---------------------------------------------------------------- the command


MINE = """
import sys
import numpy as np
import minimega as mm
import minimega.ops

def right(x, w):
    return x @ w, lambda dy: (dy @ w.T, x.T @ dy)

def wrong(x, w):
    return x @ w, lambda dy: (dy @ w.T, 2 * x.T @ dy)

number = 3

def leaves(x):
    sys.exit()

def leaves_in_back(x):
    return 2 * x, lambda dy: sys.exit(0)

class Stop(BaseException):
    pass

def stops(x):
    raise Stop()

def plain(x):
    return x * x

plain_op = mm.op(plain)
plain_rows = mm.op(plain)

def nothing(x):
    y = x * x

def three(x):
    return x * x, lambda dy: 2 * dy * x, 3

def as_list(x):
    return [x * x, lambda dy: 2 * dy * x]

def word(x):
    return "y"

def few(x, w):
    return x * w, lambda dy: dy * w

def many(x, w):
    return x * w, lambda dy: (dy * w, dy * x, dy)

def listed(x, w):
    return x * w, lambda dy: [dy * w, dy * x]

def list_of_one(x, w=1.0):
    return 2 * x, lambda dy: [2 * dy]

def made_of_tensors(x):
    return (mm.ops.exp(x) * x).sum()
"""


def test_command(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    assert run(options(f"{file}:right", "3x4,4x5")) == 0
    assert "the backward pass is right" in capsys.readouterr().out
    assert run(options(f"{file}:wrong", "3x4,4x5", str(tmp_path / "p.png"))) == 1
    assert "Cause: scale." in capsys.readouterr().out
    assert (tmp_path / "p.png").exists()


@pytest.mark.parametrize(
    "target, shapes, says",
    [
        ("none.py:f", "3", "no such file"),
        ("mine.py", "3", "FILE.py:function"),
        ("mine.py:", "3", "FILE.py:function"),
        ("mine.py:other", "3", "it has right, wrong"),
        ("mine.py:number", "3", "no function 'number'"),
        ("mine.py:right", "3x4,5x5", "fails on arrays of shapes 3x4,5x5: ValueError"),
        ("mine.py:right", "3x4", "TypeError"),
        ("mine.py:right", "3x4,,2", "is not a shape"),
        ("mine.py:right", "3xa", "is not a shape"),
        ("mine.py:right", "0x3,3x2", "is not a shape"),
        ("broken.py:f", "3", "cannot be run: SyntaxError"),
        ("leaves.py:f", "3", "cannot be run: it calls sys.exit()"),
        ("mine.py:leaves", "3", "fails on arrays of shapes 3: it calls sys.exit()"),
        ("mine.py:leaves_in_back", "3", "fails on arrays of shapes 3: it calls sys.exit()"),
        ("mine.py:stops", "3", "fails on arrays of shapes 3: Stop"),
        ("mine.py:plain", "3", "returned an array of shape"),
        ("mine.py:plain_op", "3", "returned an array of shape"),
        ("mine.py:plain_rows", "2x3", "returned an array of shape"),
        ("mine.py:nothing", "3", "returned None"),
        ("mine.py:three", "3", r"returned \(an array of shape"),
        ("mine.py:as_list", "3", "returned a list"),
        ("mine.py:word", "3", "returned a str"),
    ],
)
def test_command_speaks_to_a_person(tmp_path, monkeypatch, target, shapes, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit()\n")
    with pytest.raises(BadInput, match=says) as error:
        run(options(target, shapes))
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize(
    "name, says",
    [
        ("few", "the back of few gave 1 gradient for 2 arguments"),
        ("many", "the back of many gave 3 gradients for 2 arguments"),
        ("list_of_one", "the back of list_of_one gave a list for a gradient"),
        ("listed", "the back of listed gave 1 gradient for 2 arguments"),
    ],
)
def test_another_number_of_gradients_is_wrong_and_named(tmp_path, capsys, name, says):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    shapes = "3x4" if name == "list_of_one" else "3x4,3x4"
    assert main(["gradcheck", f"{file}:{name}", "--shapes", shapes]) == 1
    said = capsys.readouterr().out
    assert "Cause: count." in said and says in said


def test_a_file_that_leaves_and_a_function_without_backward_end_with_status_2(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    for name in ("leaves", "leaves_in_back", "stops", "plain", "plain_op"):
        assert main(["gradcheck", f"{file}:{name}", "--shapes", "3"]) == 2
        said = capsys.readouterr()
        assert not said.out and len(said.err.splitlines()) <= 3
    assert "must return (y, back)" in said.err  # what to do
    # constants that a lambda binds, and functions of Tensors, are as right as ever
    assert check(lambda x: ops.power(x, 2.0), normal(3) ** 2).ok
    assert check(lambda x: (ops.exp(x) * x).sum(), normal(3)).own
    assert main(["gradcheck", f"{file}:made_of_tensors", "--shapes", "3"]) == 0


def test_integers_of_the_forward_are_bound_by_the_caller():
    targets = np.array([0, 2, -1])
    assert_gradients(lambda logits: cross_entropy(logits, targets), normal(3, 4))
    assert_gradients(lambda x, w: linear(x, w), normal(3, 4), normal(4, 2))


def test_kinks_in_a_large_array_leave_its_other_entries_to_be_judged():
    x = normal(40, 40)
    x[:, ::4] = 0
    report = check(ops.relu, x)
    assert report.ok
    assert "64 random entries" in report.arguments[0].how
    wrong = check(lambda x: (np.maximum(x, 0), lambda dy: 2 * dy * (x > 0)), x)
    assert not wrong.ok
