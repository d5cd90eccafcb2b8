"""A Tensor behaves as an array in Python's hands: operators, methods, numbers, comparison, printing."""

import operator

import numpy as np
import pytest

from minimega import ops
from minimega.elsewhere.attributes import TENSOR
from minimega.errors import BadInput
from minimega.model import Config, gpt
from minimega.parameter import Parameter
from minimega.tensor import Tensor

TWO = ("add", "sub", "mul", "truediv", "matmul", "pow")


@pytest.mark.parametrize("name", TWO)
def test_operators_are_those_of_numpy_from_both_sides(name, rng):
    a, b, f = rng.uniform(1, 2, (3, 3)), rng.uniform(1, 2, (3, 3)), getattr(operator, name)
    for x, y in ((Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b))):
        assert isinstance(f(x, y), Tensor)
        np.testing.assert_array_equal(f(x, y).data, f(a, b))
    if name != "matmul":
        np.testing.assert_array_equal(f(2.0, Tensor(a)).data, f(2.0, a))
        np.testing.assert_array_equal(f(Tensor(a), 2.0).data, f(a, 2.0))


@pytest.mark.parametrize("name", sorted(set(Tensor.operations) - {"backward"}))
def test_each_operation_of_the_table_is_the_function_of_its_name(name):
    assert Tensor.operations[name] is getattr(ops, name)


def test_methods_learn(rng):
    def f(x):
        y = (-x.T).reshape(2, 3).softmax() + x.gelu().relu().tanh() - x[0].log_softmax()
        return (y.exp().sqrt() * 2 + 1).log().mean(axis=1, keepdims=True) / y.max()

    x = Tensor(rng.normal(size=(2, 3)))
    f(x).sum().backward()
    step, slope = 1e-6, np.zeros((2, 3))
    for at in np.ndindex(2, 3):
        moved = [
            x.data + sign * step * (np.indices((2, 3)) == np.reshape(at, (2, 1, 1))).all(0)
            for sign in (1, -1)
        ]
        slope[at] = (float(f(Tensor(moved[0])).sum()) - float(f(Tensor(moved[1])).sum())) / (2 * step)
    np.testing.assert_allclose(x.grad, slope, rtol=1e-6, atol=1e-9)


def test_numbers():
    x = Tensor(np.arange(6.0).reshape(2, 3))
    loss = x.mean()
    assert (loss.item(), float(loss), int(loss), f"{loss:.2f}") == (2.5, 2.5, 2, "2.50")
    assert type(loss.item()) is float and x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (len(x), x.size, x.T.shape, [row.shape for row in x]) == (2, 6, (3, 2), [(3,), (3,)])
    assert x.numpy() is x.data
    array = np.asarray(x)
    assert array.dtype == np.float64 and array is x.data
    assert np.asarray([x, x]).shape == (2, 2, 3) and np.asarray(x, "float32").dtype == np.float32
    with pytest.raises(ValueError, match=r"of one entry, not of shape \(2, 3\)"):
        float(x)
    with pytest.raises(TypeError, match="no length"):
        len(loss)


def test_comparison_gives_arrays_and_a_tensor_of_many_entries_has_no_truth():
    x, y = Tensor(np.array([1.0, 2.0])), Tensor(np.array([1.0, 3.0]))
    for f in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
        expected = f(x.data, y.data)
        np.testing.assert_array_equal(f(x, y), expected)
        np.testing.assert_array_equal(f(x, y.data), expected)
        assert f(x, y).dtype == bool
    assert bool(Tensor(np.array(1.0))) and not Tensor(np.array([0.0]))
    with pytest.raises(ValueError, match=r"shape \(2,\) is neither true nor false: .*\.all\(\)"):
        bool(x)
    assert len({x, y, x}) == 2  # by identity, as before


def test_printing():
    x = Tensor(np.array([[1.0, 2.0]], "float32"))
    assert repr(x) == "Tensor([[1., 2.]], dtype=float32)"
    assert repr(x.exp()).endswith("dtype=float32, made by exp)") and f"{x}" == str(x) == repr(x)
    large = repr(Tensor(np.zeros((2000, 3))))
    assert "..." in large and "shape=(2000, 3)" in large and len(large) < 300
    w = Parameter((2, 1))
    w.name = "w"
    assert repr(w) == "Parameter(shape=(2, 1), named 'w', not drawn)"
    assert repr(w.draw(0)) == "Parameter([[0.],\n           [0.]], dtype=float32, named 'w')"


@pytest.mark.parametrize("name", TENSOR)
def test_a_method_of_another_framework_is_named(name):
    with pytest.raises(AttributeError, match=rf"Tensor has no {name}: "):
        getattr(Tensor(np.ones(2)), name)
    assert not hasattr(Tensor(np.ones(2)), "nonsense")


def test_a_model_that_is_not_drawn_says_so():
    model = gpt(Config(vocab_size=9, d_model=8, nhead=2))
    with pytest.raises(BadInput, match=r"^embedding.tokens has no values yet: call draw"):
        model(np.zeros((1, 3), int))


def test_what_a_torch_user_types_has_a_hint():
    x = Tensor([[1.0, 2.0]])
    for name in ("argmax", "clone", "cuda", "to", "device", "requires_grad", "astype", "view"):
        with pytest.raises(AttributeError, match=f"^Tensor has no {name}: "):
            getattr(x, name)


def test_only_numbers_make_a_tensor():
    for data in ("text", None, [None, 1], b"x", {}):
        with pytest.raises(TypeError, match="a Tensor holds numbers, not "):
            Tensor(data)
    assert Tensor(np.ones(2, "bfloat16")).shape == (2,)


def test_transpose_is_numpys_and_says_so_where_torch_differs():
    x = Tensor(np.arange(6.0).reshape(1, 2, 3))
    assert (
        x.transpose((2, 0, 1)).shape == x.transpose(2, 0, 1).shape == x.transpose(-1, 0, 1).shape == (3, 1, 2)
    )
    with pytest.raises(ValueError, match="takes all 3 axes in their new order"):
        x.transpose(1, 2)
    with pytest.raises(ValueError, match=r"use \.T$"):
        x[0].transpose(0, 1)
    assert x[0].transpose(1, 0).shape == x[0].T.shape == (3, 2)
