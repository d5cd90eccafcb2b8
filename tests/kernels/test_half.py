"""The float16 kernel equals NumPy's conversion, to the bit."""

import numpy as np
import pytest

from minimega.kernels import half

ALL = np.arange(1 << 16, dtype="uint16").view("float16")
FINITE = ALL[np.isfinite(ALL)]


def same_bits(a, b) -> bool:
    """NaN may be any NaN."""
    word = f"uint{8 * a.itemsize}"
    return bool(((a.view(word) == b.view(word)) | (np.isnan(a) & np.isnan(b))).all())


def near_every_float16() -> np.ndarray:
    """All float16 numbers, the points halfway between neighbours, and the float32 on both sides of each."""
    values = np.sort(FINITE.astype("float32"))
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2])
    return np.concatenate([points, np.nextafter(points, np.float32(1e9)), np.nextafter(points, -points)])


@pytest.mark.parametrize("x", [FINITE, ALL, FINITE.reshape(62, -1).T, ALL[::3]], ids=str)
def test_to_float32(x):
    y = half.to_float32(x)
    assert y.dtype == np.float32 and same_bits(y, x.astype("float32"))


def test_to_float16_near_every_float16_and_every_tie():
    x = near_every_float16()
    assert same_bits(half.to_float16(x), x.astype("float16"))


@np.errstate(all="ignore")
def test_to_float16_of_any_bits(rng):
    bits = rng.integers(0, 1 << 32, 1 << 20, dtype="uint32").view("float32")
    for x in (bits, bits[np.abs(bits) < 65520], bits[np.abs(bits) < 1e-4]):
        before = x.copy()
        assert same_bits(half.to_float16(x), x.astype("float16"))
        assert same_bits(x, before)
    turned = bits[np.abs(bits) < 9][:9000].reshape(90, 100).T
    assert same_bits(half.to_float16(turned), turned.astype("float16"))
    assert np.isposinf(half.to_float16(np.full(9999, 65520, "float32"))).all()
    assert (half.to_float16(np.full(9999, 65519, "float32")) == 65504).all()


@pytest.mark.parametrize("x", [np.float16(1.5), np.ones(()), np.ones((0, 3)), np.ones(3)], ids=str)
def test_few_numbers_keep_their_shape(x):
    x = x.astype("float16")
    assert half.to_float32(x).shape == x.shape == half.to_float16(half.to_float32(x)).shape


def test_cutting_digits_off_instead_of_rounding_would_be_noticed():
    x = near_every_float16()
    cut = (x.view("uint32") & 0xFFFFE000).view("float32")
    assert not same_bits(half.to_float16(cut), x.astype("float16"))
