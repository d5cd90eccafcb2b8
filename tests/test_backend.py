"""The few things in which array libraries differ."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest

from minimega.backend import device, keep_memory, library, normal_axis, to_numpy
from minimega.embedding import sum_rows
from minimega.errors import BadInput


class FakeCuPy:
    """An array whose class says that it belongs to CuPy."""


FakeCuPy.__module__ = "cupy._core.core"


def test_the_library_of_an_array(monkeypatch):
    assert library() is library(np.ones(2)) is library(1.0) is library(None, [1, 2]) is np
    fake = object()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    assert library(np.ones(2), FakeCuPy()) is fake
    assert library(type("array", (), {"__module__": "cupyx_of_another_kind"})()) is np


def test_nothing_touches_cupy_when_it_is_imported():
    code = """
import sys
sys.modules["cupy"] = None  # importing it is an error from here on
import minimega.model, minimega.optim, minimega.gradcheck, minimega.train, minimega.sample
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_device_that_is_not_there(monkeypatch):
    assert device("cpu") is np
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(
        BadInput, match=r"`device` cuda needs CuPy, which is not installed: .* -m pip install cupy-"
    ):
        device("cuda")
    monkeypatch.setitem(sys.modules, "cupy", type("cupy", (), {"is_available": staticmethod(lambda: False)}))
    with pytest.raises(BadInput, match="CuPy finds no usable GPU"):
        device("cuda")


def test_to_numpy():
    x = np.ones(2)
    assert to_numpy(x) is x
    assert isinstance(to_numpy(1.5), np.ndarray)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count, n", [(1, 1), (5, 0), (5, 3), (7, 200), (1000, 50)])
def test_sum_rows(count, n, dtype, rng):
    rows, ids = rng.normal(size=(n, 3)).astype(dtype), rng.integers(0, count, n)
    expected = np.zeros((count, 3))
    np.add.at(expected, ids, rows.astype("float64"))
    sums = sum_rows(rows, ids, count)
    assert sums.dtype == dtype and sums.shape == (count, 3)
    np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(sum_rows(rows, ids, count), sums)


@pytest.mark.parametrize(
    "axis, ndim, expected",
    [
        (None, 0, ()),
        (None, 3, (0, 1, 2)),
        (-1, 3, (2,)),
        (0, 1, (0,)),
        ((2, 0), 3, (0, 2)),
        ([-1, -3], 3, (0, 2)),
        ((), 3, ()),
    ],
)
def test_normal_axis(axis, ndim, expected):
    assert normal_axis(axis, ndim) == expected


@pytest.mark.parametrize("axis, ndim", [(3, 3), (-4, 3), (0, 0), ((0, 5), 2)])
def test_an_axis_that_is_not_there(axis, ndim):
    with pytest.raises(IndexError):
        normal_axis(axis, ndim)


def test_keep_memory_asks_the_c_library_where_it_can(monkeypatch):
    asked = []

    def library_with(mallopt):
        loaded = type("library", (), {} if mallopt is None else {"mallopt": staticmethod(mallopt)})
        monkeypatch.setattr(ctypes, "CDLL", lambda name: loaded)

    library_with(lambda *option: asked.append(option) or 1)
    assert keep_memory() and {option for option, _ in asked} == {-1, -3}
    library_with(lambda *option: 0)
    assert not keep_memory()
    library_with(None)  # macOS, musl
    assert not keep_memory()

    def no_library(name):
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert not keep_memory()
