"""minimega on a real GPU; skipped without one. `bash tests/gpu/run` runs them, and more."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from minimega import Config, load, save
from minimega.embedding import sum_rows
from minimega.model import gpt
from minimega.random import bits, normal, uniform
from minimega.sample import generate
from tests.gpu import against_numpy as against
from tests.gpu import names, session, standin, test_standin

pytestmark = pytest.mark.gpu


@pytest.fixture
def xp():
    if session.gpu():
        pytest.skip(f"no GPU: {session.gpu()}")
    import cupy

    return cupy


def test_the_list_of_names_is_this_cupys(xp):
    told = json.loads((Path(names.__file__).parent / "cupy_names.json").read_text())
    here = names.offered()
    if here["version"] != told["version"]:
        pytest.skip(f"the list is of CuPy {told['version']}, here is {here['version']}")
    assert here == told


def test_cupy_refuses_what_the_stand_in_refuses(xp):
    test_standin.test_it_refuses_what_cupy_refuses(xp)


def test_cupy_surprises_as_the_stand_in_does(xp):
    x = xp.asarray(np.arange(3.0))
    total = same = x.sum()
    total += 1
    assert float(same) == 4 and type(x[1]) is xp.ndarray and type(np.float32(2) * x) is xp.ndarray
    assert np.concatenate([x, x]).shape == (6,) and type(np.exp(x)) is xp.ndarray
    assert x.reshape(3, 1).base is not None and x.T.base is not None


def test_the_hash_has_the_same_bits(xp):
    at = np.arange(50)[:, None], np.arange(40)
    there = [xp.asarray(part) for part in at]
    assert (bits(7, *there).get() == bits(7, *at)).all() and (
        uniform(7, *there).get() == uniform(7, *at)
    ).all()
    assert np.abs(normal(7, *there).get() - normal(7, *at)).max() < 1e-14


@pytest.mark.parametrize("count", [7, 5000])
def test_sums_of_rows_are_the_same_on_every_run(xp, count):
    rng = np.random.default_rng(0)
    rows, ids = rng.standard_normal((3000, 16)).astype("float32"), rng.integers(0, count, 3000)
    sums = [sum_rows(xp.asarray(rows), xp.asarray(ids), count).get() for _ in range(3)]
    assert (sums[0] == sums[1]).all() and (sums[0] == sums[2]).all()
    assert against.cases.distance(sums[0], sum_rows(rows, ids, count)) < 1e-5


def test_a_run_is_the_same_twice(xp):
    first, again = (against.losses(test_standin.TINY, "float32", xp, steps=20) for _ in range(2))
    assert first == again


def test_generation(xp):
    texts = []
    for library in (xp, np):
        model = gpt(test_standin.TINY).draw(seed=3, dtype="float64", xp=library)
        texts.append(np.array(list(generate(model, [1, 2, 3], 12, texts=range(2), seed=1))))
    assert (texts[0] == texts[1]).all()


def test_a_model_is_saved_and_loaded(xp, tmp_path):
    model = gpt(Config(vocab_size=13, context=8, d_model=12, nhead=3)).draw(seed=3, xp=xp)
    save(tmp_path / "model", model)
    for device in ("cuda", "cpu"):
        there = load(tmp_path / "model", device=device)[0].state_dict()
        for name, array in model.state_dict().items():
            assert (array.get() == (there[name].get() if device == "cuda" else there[name])).all()


def test_the_stand_in_is_not_installed(xp):
    assert not isinstance(sys.modules["cupy"], standin.Module)
