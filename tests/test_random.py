"""The hash behind all random numbers: its bits, its statistics, and slices equal to the whole.

Every test is deterministic (the hash has no state): no bound of 5 standard deviations is crossed by chance.
"""

import math
import warnings

import numpy as np
import pytest

from minimega import random

N = 1 << 16


def deviations(counts, expected) -> float:
    """Chi-square of counts against what is expected, in standard deviations from its mean."""
    counts = np.asarray(counts, float)
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


def joint(a, b, bins=16):
    """How far two sequences in [0, 1) are from being independent and uniform."""
    cells = np.bincount((a * bins).astype(int) * bins + (b * bins).astype(int), minlength=bins * bins)
    return deviations(cells, a.size / bins**2)


# Which bits


def plain_bits(key, *coordinates):
    """The same in Python's own integers, one entry at a time: SplitMix64's finaliser as it is published."""
    h = key
    for c in coordinates:
        h = (h + (c + 1) * 0x9E3779B97F4A7C15) % 2**64
        h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        h = (h ^ (h >> 27)) * 0x94D049BB133111EB % 2**64
        h = h ^ (h >> 31)
    return h


def test_the_bits_are_those_of_splitmix64():
    # its first outputs from the seeds 0 and 1234567, as other implementations publish them
    assert [hex(b) for b in random.bits(0, np.arange(3)).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]
    assert random.bits(1234567, np.arange(5)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_golden_numbers():
    """Recorded once: if any of them changes, the same seed draws other models, masks and batches."""
    assert random.key() == 0
    assert random.key(0) == 0xE220A8397B1DCDAF
    assert random.key(0, "step", 1) == 0x17D374C1CCC189F2
    assert random.key(42, "parameter", "block0.attention.branch.qkv.weight") == 0xD90846442D05BD98
    assert random.key("é") == 0x3FE052E148E4B692
    key = random.key(1, "dropout")
    assert key == 0x431E8E7D2E53BF60
    at = np.arange(2)
    assert random.uniform(key, np.arange(3)).tolist() == [
        float.fromhex(h) for h in ("0x1.feec46039fdf3p-1", "0x1.4e2eff7a54858p-1", "0x1.0ce12c4d19da0p-5")
    ]
    assert random.uniform(key, at[:, None], at).tolist() == [
        [0.958889794146903, 0.9731535692492526],
        [0.498317816056675, 0.2677756868365926],
    ]
    expected = [-1.1426876112561382, 0.7523286246895189, -0.20219596146674845]
    np.testing.assert_allclose(
        random.normal(key, np.arange(3)), expected, rtol=1e-14
    )  # log and cos may differ
    assert random.order(5, 10).tolist() == [3, 4, 2, 5, 0, 8, 7, 9, 1, 6]


def test_bits_equal_plain_integer_arithmetic():
    for key in (0, 1, 7, 2**63, 2**64 - 1, random.key(3, "a")):
        coordinates = [0, 1, 2, 1000, 2**31, 2**40, 2**63 - 1]
        got = random.bits(key, np.array(coordinates)[:, None], np.array([5, 0, 99]))
        want = [[plain_bits(key, a, b) for b in (5, 0, 99)] for a in coordinates]
        assert got.tolist() == want


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64"])
def test_the_type_of_a_coordinate_does_not_matter(dtype):
    np.testing.assert_array_equal(
        random.bits(5, np.arange(100).astype(dtype)), random.bits(5, np.arange(100))
    )


def test_single_numbers_are_coordinates_too():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert random.bits(7, 3, 4) == plain_bits(7, 3, 4)
        assert np.shape(random.uniform(7, 3)) == np.shape(random.normal(7, 3)) == ()
        assert random.bits(7, 3, np.arange(2)).tolist() == [plain_bits(7, 3, i) for i in (0, 1)]
        assert random.bits(7, np.arange(2), 3).tolist() == [plain_bits(7, i, 3) for i in (0, 1)]


def test_any_slicing_gives_the_same_bits(rng):
    axes = [np.arange(n) for n in (5, 7, 6, 9)]
    for f in (random.bits, random.uniform, random.normal):
        whole = f(11, *np.ix_(*axes))
        assert whole.shape == (5, 7, 6, 9)
        for _ in range(10):
            cut = [np.sort(rng.choice(a, rng.integers(1, len(a) + 1), replace=False)) for a in axes]
            np.testing.assert_array_equal(f(11, *np.ix_(*cut)), whole[np.ix_(*cut)])
        turned = f(11, *(a[::-1] for a in np.ix_(*axes)))[:, ::-1]
        assert turned.shape == whole.shape
        np.testing.assert_array_equal(
            f(11, axes[0][::-1, None], axes[1][None, ::2]), f(11, *np.ix_(*axes[:2]))[::-1, ::2]
        )


def test_coordinates_are_told_apart_by_their_order():
    a, b = np.arange(1, 50)[:, None], np.arange(1, 50)
    both = random.bits(1, a, b)
    assert np.unique(both).size == both.size  # (1, 2) is not (2, 1), and no two points share their bits
    assert (
        np.unique(np.concatenate([random.bits(1, np.arange(50)), random.bits(1, np.arange(50), 0)])).size
        == 100
    )


# Keys


def test_keys_tell_parts_and_their_order_apart():
    parts = [
        (0,),
        (1,),
        (0, 0),
        (1, 2),
        (2, 1),
        (12,),
        (1, "a"),
        ("a", 1),
        ("a",),
        ("b",),
        ("ab",),
        ("a", "b"),
        ("a" * 8,),
        ("a" * 9,),
        ("a" * 8, "a"),
        ("a\0",),
        ("é",),
        ("step", 1),
        ("step1",),
        (2**63,),
    ]
    assert len({random.key(*p) for p in parts}) == len(parts)
    assert all(0 <= random.key(*p) < 2**64 for p in parts)


def test_keys_of_neighbouring_steps_and_layers_differ_in_half_their_bits():
    for pairs in (
        [(random.key(0, "step", i), random.key(0, "step", i + 1)) for i in range(500)],
        [(random.key(i, "step", 1), random.key(i + 1, "step", 1)) for i in range(500)],
        [(random.key(0, f"block{i}"), random.key(0, f"block{i + 1}")) for i in range(500)],
    ):
        flipped = [(a ^ b).bit_count() for a, b in pairs]
        assert abs(np.mean(flipped) - 32) < 5 * 4 / np.sqrt(500)  # binomial: deviation 4


# How the numbers are distributed


@pytest.mark.parametrize("key", [0, 1, 2**64 - 1, random.key(0, "step", 1)])
def test_uniform(key):
    u = random.uniform(key, np.arange(4 * N))
    assert u.dtype == np.float64 and u.min() >= 0 and u.max() < 1
    assert abs(deviations(np.bincount((u * 256).astype(int), minlength=256), u.size / 256)) < 5
    low = random.bits(key, np.arange(4 * N)) & np.uint64(255)  # the low bits are as good
    assert abs(deviations(np.bincount(low.astype(int), minlength=256), u.size / 256)) < 5
    assert abs(u.mean() - 0.5) < 5 / np.sqrt(12 * u.size)
    assert np.abs(np.sort(u) - (np.arange(u.size) + 0.5) / u.size).max() < 2.2 / np.sqrt(u.size)  # Kolmogorov


def test_uniform_in_two_and_four_dimensions():
    for shape in ((256, 1024), (16, 16, 32, 32)):
        u = random.uniform(3, *np.ix_(*(np.arange(n) for n in shape)))
        assert abs(deviations(np.bincount((u.ravel() * 256).astype(int), minlength=256), u.size / 256)) < 5
        for axis in range(len(shape)):  # and along each coordinate: no row has a larger mean
            others = tuple(a for a in range(len(shape)) if a != axis)
            z = (u.mean(axis=others) - 0.5) * np.sqrt(12 * u.size / shape[axis])
            assert np.abs(z).max() < 5


@pytest.mark.parametrize("lag", [1, 2, 3, 16, 64])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_neighbours_along_each_coordinate_are_independent(axis, lag):
    u = np.moveaxis(random.uniform(5, *np.ix_(*[np.arange(80)] * 3)), axis, 0)
    assert abs(joint(u[:-lag].ravel(), u[lag:].ravel())) < 5


@pytest.mark.parametrize(
    "keys",
    [
        (10, 11),
        (10, 10 + random.STEP),
        (10, 10 ^ random.WORD),
        (random.key(0, "step", 1), random.key(0, "step", 2)),
        (random.key(0), random.key(1)),
        (random.key(9, "block0.mlp.dropout"), random.key(9, "block1.mlp.dropout")),
        (random.key(9, "block0.mlp.dropout"), random.key(9, "block0.attention.dropout")),
    ],
)
def test_neighbouring_keys_are_independent(keys):
    i = np.arange(512)
    a, b = (random.uniform(k, i[:, None], i) for k in keys)
    if keys[1] - keys[0] == random.STEP:  # neighbours in the sequence itself: shifted by one, by construction
        np.testing.assert_array_equal(random.bits(keys[0], i[1:]), random.bits(keys[1], i[:-1]))
    assert abs(joint(a.ravel(), b.ravel())) < 5
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / 512


def test_layers_and_steps_are_not_correlated():
    """Of 24 masks of 3 layers over 8 steps no two are alike, nor does their sum show a pattern."""
    i = np.arange(96)
    keys = [random.key(random.key(0, "step", s), f"block{n}") for s in range(8) for n in range(3)]
    masks = np.stack([random.uniform(k, i[:, None], i).ravel() < 0.5 for k in keys]).astype(float)
    correlation = np.corrcoef(masks) - np.eye(24)
    assert np.abs(correlation).max() < 5 / 96
    assert (
        abs(
            deviations(np.bincount(masks.sum(0).astype(int), minlength=25)[7:18], binomial(24, 96 * 96)[7:18])
        )
        < 5
    )


def binomial(n, size):
    return np.array([math.comb(n, k) / 2**n * size for k in range(n + 1)])


@pytest.mark.parametrize("what", ["last coordinate", "first coordinate", "key"])
def test_each_bit_that_goes_in_flips_each_bit_that_comes_out_half_the_time(what):
    c = np.arange(4096, dtype=np.uint64)
    outputs = np.arange(64, dtype=np.uint64)
    worst = 0.0
    for b in range(64):
        flip = np.uint64(1 << b)
        if what == "last coordinate":
            difference = random.bits(1, 2, c) ^ random.bits(1, 2, c ^ flip)
        elif what == "first coordinate":
            difference = random.bits(1, c, 2) ^ random.bits(1, c ^ flip, 2)
        else:
            difference = random.bits(77, c) ^ random.bits(77 ^ (1 << b), c)
        flipped = ((difference[:, None] >> outputs) & np.uint64(1)).mean(axis=0)
        worst = max(worst, np.abs(flipped - 0.5).max())
    assert worst < 5.5 * 0.5 / 64  # 64 x 64 pairs, each of 4096 trials


# Normal


def test_normal_moments_and_tails():
    z = random.normal(random.key(0, "parameter", "w"), np.arange(16 * N))
    n = z.size
    for power, moment, deviation in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((z**power).mean() - moment) < 5 * np.sqrt(deviation / n), power
    for edge in (1, 2, 3, 4):
        share = math.erfc(edge / math.sqrt(2)) / 2
        for side in (z > edge, z < -edge):
            assert abs(side.sum() - n * share) < 5 * np.sqrt(n * share)
    assert 4.3 < np.abs(z).max() < 6.5 and np.isfinite(z).all()
    at = np.linspace(-4, 4, 161)
    below = np.searchsorted(np.sort(z), at) / n
    assert np.abs(below - [(1 + math.erf(x / math.sqrt(2))) / 2 for x in at]).max() < 2.2 / np.sqrt(n)


def test_normal_neighbours_are_not_correlated():
    z = random.normal(4, np.arange(512)[:, None], np.arange(512))
    above = np.triu_indices(512, 1)
    for a, b in (
        (z[1:], z[:-1]),
        (z[:, 1:], z[:, :-1]),
        (z[:, 2:] ** 2, z[:, :-2] ** 2),
        (z[above], z.T[above]),
    ):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size)


def test_the_two_uniforms_of_a_normal_are_independent():
    i = np.arange(4 * N)
    assert abs(joint(random.uniform(6, i), random.uniform(6 ^ random.WORD, i))) < 5


# Order


def test_order_is_a_permutation():
    for count in (0, 1, 2, 17, 1000):
        assert sorted(random.order(3, count).tolist()) == list(range(count))
    assert random.order(3, 50).tolist() == random.order(3, 50).tolist() != random.order(4, 50).tolist()


def test_each_order_is_as_likely_as_another():
    seen = [tuple(random.order(random.key(0, "epoch", i), 5).tolist()) for i in range(12_000)]
    counts = np.unique(np.array([np.dot(s, 10 ** np.arange(5)) for s in seen]), return_counts=True)[1]
    assert counts.size == 120 and abs(deviations(counts, 100)) < 5


def test_each_place_gets_each_number_equally_often():
    orders = np.stack([random.order(random.key(1, "epoch", i), 40) for i in range(2000)])
    for place in (0, 1, 20, 39):
        assert abs(deviations(np.bincount(orders[:, place], minlength=40), 50)) < 5
    neighbours = (np.diff(orders, axis=1) == 1).sum()  # each of 39 pairs with probability 1/40
    assert abs(neighbours - 2000 * 39 / 40) < 5 * np.sqrt(2000)
