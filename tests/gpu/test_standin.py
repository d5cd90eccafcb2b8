"""minimega on a strict stand-in for CuPy: what a GPU would refuse is refused here."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from minimega import Config, ops
from minimega.autograd import Tensor, saved_bytes
from minimega.backend import device, library
from minimega.model import gpt
from minimega.sample import generate
from minimega.writing.fill import fill
from tests.golden import cases
from tests.gpu import against_numpy as against
from tests.gpu import standin


@pytest.fixture
def xp():
    with standin.installed() as module:
        yield module


def within(off: dict[str, float], most: float) -> None:
    far = {name: d for name, d in off.items() if not d < most}
    assert off and not far, f"further than {most} from NumPy: {far}"


def test_the_stand_in_is_what_minimega_takes_for_cupy(xp):
    x = xp.asarray(np.ones((2, 3), "float32"))
    assert library(x) is xp is device("cuda") and type(x).__module__ == "cupy"
    assert (x.shape, x.ndim, x.dtype, x.nbytes) == ((2, 3), 2, np.float32, 24)


def test_it_refuses_what_cupy_refuses(xp):
    x, host = xp.asarray(np.arange(6.0).reshape(2, 3)), np.ones((2, 3))
    for wrong in (
        lambda: np.asarray(x),
        lambda: x + host,
        lambda: host * x,
        lambda: xp.exp(host),
        lambda: xp.concatenate([x, host]),
        lambda: x.__setitem__(0, host[0]),
        lambda: xp.exp(x, where=x > 0),
        lambda: xp.sum(x, where=x > 0),
        lambda: range(xp.asarray(3)),
        lambda: x.astype("int32").__iadd__(x),
        lambda: xp.ones((2, 2, 2), "bfloat16") @ xp.ones((2, 2, 2), "bfloat16"),
    ):
        with pytest.raises((TypeError, ValueError)):
            wrong()
    for name in ("ufunc_without_a_gpu", "testing_of_mine", "broadcast_to_all", "vdot_of"):
        with pytest.raises(AttributeError):
            getattr(xp, name)
    for name in ("tofile_of", "ctypes", "partition_of", "newbyteorder"):
        with pytest.raises(AttributeError):
            getattr(x, name)
    with pytest.raises(NotImplementedError):
        xp.ones(3, "bfloat16").argsort()


def test_it_surprises_as_cupy_does(xp):
    x = xp.asarray(np.arange(3.0))
    total = x.sum()
    same = total
    total += 1  # an array of shape (), so no new number
    assert type(total) is standin.ndarray and float(same) == 4
    assert type(x[1]) is standin.ndarray and type(np.float32(2) * x) is standin.ndarray
    x[np.array([0, 0])] = xp.asarray(np.array([7.0, 8.0]))
    assert x.tolist() == [7.0, 1.0, 2.0]  # NumPy keeps 8
    assert xp.isnan(xp.empty(3, "float32")).all()
    assert np.concatenate([x, x]).shape == (6,) and np.exp(x).dtype == np.float64  # CuPy's are called


def test_it_counts_how_often_the_host_waits(xp):
    x = xp.asarray(np.arange(3.0))
    y = x * 2 + x.sum()
    assert not standin.waits
    float(y.sum()), y[y > 3], y.get()
    assert [place.split(" at ")[0] for place in standin.waits] == ["float", "a mask", "get"]
    assert all("test_standin.py" in place for place in standin.waits)


@pytest.mark.parametrize("dtype", against.TOLERANCE)
def test_operations_on_the_stand_in(xp, dtype):
    within(against.off_operations(xp, dtype), against.TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", against.MODEL_TOLERANCE)
@pytest.mark.parametrize("name", against.CONFIGS)
def test_models_on_the_stand_in(xp, name, dtype):
    within(against.off_models(xp, dtype, (name,)), against.MODEL_TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", against.TOLERANCE)
def test_optimizers_on_the_stand_in(xp, dtype):
    within(against.off_optimizers(xp, dtype), against.TOLERANCE[dtype])


TINY = Config(vocab_size=13, context=8, d_model=12, nhead=3, num_layers=2, dropout=0.1)


@pytest.mark.parametrize("dtype", against.TOLERANCE)
def test_a_training_run_on_the_stand_in(xp, dtype):
    ours = against.losses(TINY, dtype, xp, steps=15)
    waited = sum(standin.waits.values()) / 15
    theirs = against.losses(TINY, dtype, np, steps=15)
    assert np.abs(np.subtract(ours, theirs)).max() < {"bfloat16": 1e-2, "float16": 1e-3}.get(dtype, 1e-5)
    assert theirs[-1] < theirs[0]
    assert waited < 20, f"the host waits {waited} times a step: {standin.waits}"


def test_the_host_waits_no_more_often_in_a_deeper_model(xp):
    found = []
    for layers in (1, 3):
        standin.waits.clear()
        against.losses(
            Config(vocab_size=13, context=8, d_model=12, nhead=3, num_layers=layers), "float32", xp, 2
        )
        found.append(sum(standin.waits.values()))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["pre-norm", "experts"])
def test_a_graph_keeps_as_much_as_on_the_cpu(xp, name):
    config = against.CONFIGS[name]
    kept = []
    for library_ in (xp, np):
        tokens, targets = (library_.asarray(part) for part in cases.batch(config))
        kept.append(saved_bytes(gpt(config).draw(seed=0, xp=library_).loss(tokens, targets)))
    assert kept[0] == kept[1]


def test_generation_with_its_cache(xp):
    there, here = (gpt(TINY).draw(seed=3, xp=library_) for library_ in (xp, np))
    ours, theirs = (list(generate(m, [1, 2, 3], 12, texts=range(2), seed=1)) for m in (there, here))
    assert np.array(ours).tolist() == np.array(theirs).tolist()
    filler = replace(TINY, causal=False)
    ours, theirs = (
        fill(gpt(filler).draw(seed=3, xp=library_), [1, 2, 3, 2], mask=2) for library_ in (xp, np)
    )
    assert ours[0].tolist() == theirs[0].tolist()


def test_a_model_drawn_on_the_gpu_has_the_weights_of_the_cpu(xp):
    there, here = (gpt(TINY).draw(seed=3, xp=library_).state_dict() for library_ in (xp, np))
    assert all((there[name].get() == here[name]).all() for name in here)


def test_a_tensor_beside_an_array_of_the_gpu(xp):
    x = Tensor(xp.ones(3))
    for y in (x * xp.ones(3), xp.ones(3) * x, 2.0 * x, np.float64(2) * x):
        assert type(y) is Tensor and library(y.data) is xp
    (ops.mean(x * x)).backward()
    assert x.grad.tolist() == [2 / 3] * 3 and "1." in repr(x) and x.sum().item() == 3.0


def test_nothing_of_the_stand_in_stays():
    with standin.installed():
        assert "cupy" in sys.modules
    assert sys.modules.get("cupy") is None or not isinstance(sys.modules["cupy"], standin.Module)
