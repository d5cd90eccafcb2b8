"""Every compiled version equals the readable function, forward and backward, of odd arrays too."""

import importlib
import json
import os
import subprocess
import sys
from contextvars import copy_context

import numpy as np
import pytest

pytest.importorskip("numba", reason="needs numba: pip install numba")

from minimega.autograd import op
from minimega.commands.cli import main
from minimega.kernels import choose, chosen
from minimega.kernels.compiled import cache
from minimega.optim import AdamW, gradient_norm
from minimega.parameter import Parameter


def targets(n: int, d: int) -> np.ndarray:
    """Token ids (N,) of a vocabulary of d, every third not counted."""
    return np.where(np.arange(n) % 3 == 2, -1, np.arange(n) * 7 % d)


# The full name of each version, and its arguments for a shape (N, D): x makes an array.
CASES = {
    "minimega.ops.gelu": lambda x, n, d: ([x(n, d)], {}),
    "minimega.attention.attention": lambda x, n, d: ([x(2, 3, n, d)] * 3, {}),
    "minimega.attention.self_attention": lambda x, n, d: ([x(2, n, 6 * d)], {"heads": 2}),
    "minimega.head.cross_entropy": lambda x, n, d: ([x(n, d), targets(n, d)], {}),
    "minimega.norm.layer_norm": lambda x, n, d: ([x(n, d), x(d), x(d)], {}),
}
UPDATES = {"minimega.optim.AdamW.update", "minimega.optim.sum_of_squares"}  # these have no backward
SHAPES = [(1, 1), (3, 5), (2, 17), (33, 64), (7, 129), (150, 6)]
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def readable(name: str):
    module, function = name.rsplit(".", 1)
    return getattr(importlib.import_module(module), function)


def called(name: str, versions, arguments, options, dy):
    """What the function gives with this set of versions: y and each gradient."""

    def run():
        chosen.set(versions)
        y, back = readable(name)(*arguments, **options)
        dxs = back(dy.astype(y.dtype) if np.ndim(y) else y.dtype.type(1.5))
        dxs = dxs if isinstance(dxs, tuple) else (dxs,)
        return [np.asarray(d() if callable(d) else d) for d in (y, *dxs) if d is not None]

    return copy_context().run(run)


def both(name: str, arguments, options, rng):
    """What both versions give, and to which numbers their rounding errors are to be compared."""
    versions = choose.load("numba", str(arguments[0].dtype))
    shape = copy_context().run(lambda: readable(name)(*arguments, **options)[0].shape)
    dy = rng.normal(size=shape)
    slow, fast = (called(name, v, arguments, options, dy) for v in ({}, versions))
    return zip(
        slow,
        fast,
        [largest(*(x for x in arguments if x.dtype.kind == "f"))] + [largest(dy)] * (len(slow) - 1),
        strict=True,
    )


def largest(*arrays) -> float:
    return max(float(np.abs(x[np.isfinite(x)]).max(initial=0)) for x in arrays)


def apart(fast, slow, scale: float) -> float:
    """The distance over the largest number, of what is finite; what is not has to be the same."""
    assert fast.dtype == slow.dtype and fast.shape == slow.shape
    finite = np.isfinite(slow)
    assert np.array_equal(fast[~finite], slow[~finite], equal_nan=True), (fast, slow)
    assert np.isfinite(fast[finite]).all()
    return largest(fast[finite] - slow[finite]) / max(largest(slow), scale)


def test_every_version_is_held_to_its_readable_function():
    assert choose.load("numba").keys() == CASES.keys() | UPDATES


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_steps_of_adamw_and_the_norm(dtype, rng):
    """Matrices decay, others do not; an array with gaps takes the readable way; norms are in float64."""

    def trained(versions) -> list:
        chosen.set(versions)
        draws = np.random.default_rng(1)
        weights = [Parameter(shape, std=1.0).draw(0, dtype) for shape in ((3,), (17, 5), (4, 33), (1,))]
        weights[2].data = np.asfortranarray(weights[2].data)
        rule, norms = AdamW(weights, weight_decay=0.1), []
        for _ in range(5):
            for w in weights:
                w.grad = draws.normal(size=w.shape).astype(dtype)
            weights[3].grad = None
            norms.append(gradient_norm(weights))
            rule.step(weights, lr=0.05)
        kept = [array for state in rule.state.values() for array in state.values()]
        return [*(w.data for w in weights), *kept, np.array(norms)]

    slow, fast = (copy_context().run(trained, v) for v in ({}, choose.load("numba", dtype)))
    assert len(slow) == len(fast) == 11
    for a, b in zip(slow, fast, strict=True):
        assert a.dtype == b.dtype and apart(b, a, 0.0) < TOLERANCE[dtype] / 10


def strided(rng, dtype, scale=1.0):
    """Makes arrays whose entries do not lie side by side."""
    every = slice(None, None, 2)
    return lambda *shape: (scale * rng.normal(size=[2 * n for n in shape])).astype(dtype)[
        (every,) * len(shape)
    ]


def dense(rng, dtype, scale=1.0):
    return lambda *shape: (scale * rng.normal(size=shape)).astype(dtype)


@pytest.mark.parametrize("make", [dense, strided])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_same_numbers(name, dtype, make, rng):
    for shape in SHAPES:
        for scale in (1e-3, 1.0, 9.0):
            arguments, options = CASES[name](make(rng, dtype, scale), *shape)
            for slow, fast, size in both(name, arguments, options, rng):
                assert apart(fast, slow, size) < TOLERANCE[dtype], (shape, scale)


ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-30, -1e-30, 88.0, -88.0, 5.0])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_nan_and_infinity(name, dtype, rng):
    """Each odd number alone in a row of usual ones."""

    # the attention of scores of 1e30 subtracts numbers of 1e30: there every rounding shows
    odd = ODD[np.abs(ODD) != 1e30] if "attention" in name else ODD

    def make(*shape):
        x = rng.normal(size=shape).astype(dtype)
        if len(shape) > 1:
            x.reshape(-1)[:: x.size // len(odd)][: len(odd)] = odd
        return x

    arguments, options = CASES[name](make, 12, 5)
    if "attention" in name:  # causal: see the next test
        options |= {"causal": False}
    for slow, fast, size in both(name, arguments, options, rng):
        assert apart(fast, slow, size) < 10 * TOLERANCE[dtype]


def test_a_nan_does_not_reach_earlier_tokens(rng):
    """The readable version adds -inf to its score, which gives NaN: there tokens tell of later ones."""
    qkv = rng.normal(size=(1, 70, 6))
    qkv[0, 66] = np.nan

    def run():
        chosen.set(choose.load("numba", "float64"))
        return readable("minimega.attention.self_attention")(qkv, 1)[0]

    y = copy_context().run(run)
    assert np.isfinite(y[0, :35]).all() and np.isnan(y[0, 66:]).all()


@pytest.mark.parametrize(("dtype", "whole"), [("float32", "int32"), ("float64", "int64")])
def test_exp_to_two_units_in_the_last_place(dtype, whole, rng):
    from numba import njit

    from minimega.kernels.compiled.scalar import exp

    @njit(error_model="numpy")
    def fill(x, y):
        for i in range(x.size):
            y[i] = exp(x[i])

    most = 86.5 if dtype == "float32" else 707.0
    x = np.concatenate(
        [rng.uniform(-most, most, 300_000), rng.normal(size=100_000), np.linspace(-1, 1, 10_001)]
    )
    x = x.astype(dtype)
    y = np.empty_like(x)
    fill(x, y)
    exact = np.exp(x.astype("longdouble"))
    assert (np.abs(y - exact) / np.spacing(exact.astype(dtype))).max() <= 2
    odd = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, 88.7, 709.7], dtype)
    y = np.empty_like(odd)
    fill(odd, y)
    with np.errstate(over="ignore"):
        assert np.allclose(y, np.exp(odd), rtol=1e-6, atol=1e-36, equal_nan=True)


@pytest.mark.parametrize(
    "x", [np.ones((2, 3), "float16"), np.ones((2, 3), int), np.ones((0, 3)), np.float32(2)]
)
def test_other_arrays_are_left_to_the_readable_function(x):
    versions = choose.load("numba")
    assert versions["minimega.ops.gelu"](x) is NotImplemented
    if x.dtype.kind == "i":  # refused by the readable one
        return
    slow, fast = ((called("minimega.ops.gelu", v, [x], {}, np.ones(x.shape))) for v in ({}, versions))
    assert all(np.array_equal(a, b) for a, b in zip(slow, fast, strict=True))


def test_an_operation_of_the_same_name_is_not_replaced():
    @op
    def gelu(x):
        return x + 1, lambda dy: dy

    def run():
        chosen.set(choose.load("numba"))
        assert gelu(np.zeros(2))[0].tolist() == [1, 1]

    copy_context().run(run)


def test_code_is_kept_only_where_nobody_else_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mine = cache.folder.__wrapped__()
    assert mine.parent == tmp_path / "minimega" and cache.private(mine)
    mine.chmod(0o777)
    elsewhere = cache.folder.__wrapped__()
    assert elsewhere != mine and cache.private(elsewhere)
    mine.rmdir()
    mine.symlink_to(tmp_path)
    assert not cache.private(mine) and cache.folder.__wrapped__() == elsewhere


START = """
from minimega.kernels import choose
choose.load("numba")
from minimega.kernels.compiled import cache
from minimega.optim import AdamW, gradient_norm
from minimega.parameter import Parameter
print(sorted(map(str, cache.folder().rglob("*.nbc"))))
"""


def test_ranks_that_start_together_compile_once(tmp_path):
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    line = [sys.executable, "-c", START]
    ranks = [subprocess.Popen(line, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {rank.communicate(timeout=300)[0] for rank in ranks}
    assert [rank.returncode for rank in ranks] == [0, 0] and len(said) == 1
    kept = list(tmp_path.rglob("*.nbc"))
    assert kept and subprocess.run(line, env=env, capture_output=True, text=True).stdout in said
    assert kept == list(tmp_path.rglob("*.nbc"))


TRAIN = (
    "train --tales 40 --num-steps 4 --num-layers 1 --d-model 16 --context 16 --train-batch-size 4 --kernels"
)


def test_a_run_with_kernels(tmp_path, capsys):
    """Its losses are those of the readable functions, also with ranks, and it remembers the set."""
    losses = {}
    for kernels in ("none", "numba", "numba --dp 2 --launch threads"):
        folder = tmp_path / kernels.replace(" ", "")
        assert main([*f"{TRAIN} {kernels} --save-dir".split(), str(folder)]) == 0
        assert ("kernels: numba" in capsys.readouterr().out) == ("numba" in kernels)
        assert f'kernels = "{kernels.split()[0]}"' in (folder / "config.toml").read_text()
        records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
        losses[kernels] = [record["loss"] for record in records if "loss" in record]
    first, *others = losses.values()
    assert others[0] != first  # other bits, so other functions
    for other in others:
        assert np.allclose(other, first, rtol=1e-4)


def test_without_the_compiler_auto_means_none(monkeypatch, capsys):
    monkeypatch.setattr(choose, "available", lambda: False)
    assert main([*f"{TRAIN} auto".split()]) == 0
    assert main([*f"{TRAIN} numba".split()]) == 2
    said = capsys.readouterr().err
    assert "--kernels numba needs numba, which is not installed: " in said
