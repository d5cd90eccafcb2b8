"""The causes: every wrong backward is caught, and almost every one is named."""

import re

import numpy as np
import pytest

from minimega.gradcheck import check
from minimega.gradcheck.causes import CAUSES
from minimega.gradcheck.causes.entries import name_factor
from tests.wrong_backwards import suite
from tests.wrong_backwards.__main__ import END, PAGE, meanings, tally

SUITE = suite()


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def rates(wrongs, seeds) -> np.ndarray:
    with np.errstate(all="ignore"):
        counts, _ = tally(wrongs, seeds)
    total = sum(counts.values())
    return total[1:] / total[0]


@pytest.mark.parametrize(
    "group, first, among",
    # unseen: as it was when first run, see docs/gradcheck.md
    [("generated", 0.95, 0.99), ("by hand", 0.95, 0.99), ("held out", 0.95, 0.95), ("unseen", 0.85, 0.85)],
)
def test_caught_and_named(group, first, among):
    """One seed here; `python -m tests.wrong_backwards` takes five."""
    wrongs = SUITE[group][:: 4 if group == "generated" else 1]
    caught, named, listed = rates(wrongs, range(1))
    assert caught == 1
    assert named >= first
    assert listed >= among


def test_the_suite_is_large_and_covers_every_cause():
    by_hand = SUITE["by hand"]
    assert len(by_hand) >= 80
    assert {w.cause for w in by_hand} == set(CAUSES) - {"kink"}


def test_the_page_is_current():
    page = PAGE.read_text()
    assert meanings() in page
    for group, wrongs in SUITE.items():
        found = re.search(rf"\*\*{group}\*\*: {len(wrongs)} wrong backwards, (\d+) checks", page)
        assert found, f"run python -m tests.wrong_backwards: docs/gradcheck.md has other figures for {group}"
        lines = page[found.start() :].split("| **all** | ")[1].splitlines()[0]
        checks, caught, first, among = (int(n) for n in re.findall(r"(?:^|\| )(\d+)", lines))
        assert int(found[1]) == checks == caught
        if group in ("generated", "by hand"):
            assert first >= 0.95 * checks
            assert among >= 0.99 * checks
    assert re.findall(r"in (float\d+): \d+ checks at random shapes, 0 false alarms", page) == [
        "float64",
        "float32",
    ]
    assert page.count(END) == 3


def cause_of(f, *arrays, argument=0):
    found = check(f, *arrays).arguments[argument]
    return found.cause, found.detail


@pytest.mark.parametrize(
    "factor, says",
    [
        (lambda d, n: 2, "times 2$"),
        (lambda d, n: 1 / 2, "times 1/2$"),
        (lambda d, n: 1 / n, "1/7, where 7 is the length of axis 0 of x"),
        (lambda d, n: d**0.5, r"sqrt\(5\), where 5 is the length of axis 1 of x"),
        (lambda d, n: -1 / d, "-1/5, where 5"),
        (lambda d, n: 1 / (n * d), "1/35, where 35 is the number of entries"),
        (lambda d, n: 0.123456, "0.123456$"),
    ],
)
def test_factors_are_named(factor, says):
    c = factor(5, 7)
    cause, detail = cause_of(lambda x: (np.sin(x), lambda dy: c * dy * np.cos(x)), normal(7, 5))
    assert cause == "scale"
    assert re.search(says, detail), detail


def test_a_missing_residual_is_dy_without_a_factor():
    cause, detail = cause_of(lambda x: (x + np.tanh(x), lambda dy: dy * (1 - np.tanh(x) ** 2)), normal(3, 4))
    assert cause == "path" and detail.startswith("the term dy is missing")


def test_name_factor_prefers_a_length_to_a_root():
    assert name_factor(0.125, [("the length of a", 64), ("the length of b", 8)]).endswith("the length of b")


def test_special_values_do_not_mislead():
    def symmetric(x):  # if x is symmetric, a transposed dx shows only through dy
        return x * x, lambda dy: (2 * dy * x).T

    def square_path(x):  # x + x^2, only the residual: looks like a factor if all entries are equal
        return x + x * x, lambda dy: dy.copy()

    def short_cube(x):  # 2 x for 3 x^2: the factor 1/3 if every x is 2
        return x * x * x, lambda dy: 2 * dy * x

    assert cause_of(symmetric, np.ones((3, 3)))[0] == "transposed"
    assert cause_of(square_path, np.full((2, 3), 0.5))[0] == "path"
    assert cause_of(short_cube, np.full((2, 3), 2.0))[0] == "unknown"


def test_twins_are_both_listed():
    half = check(lambda x: (x * x, lambda dy: dy * x), normal(3, 4)).arguments[0]
    assert half.candidates == ["scale", "path"]
    slice_or_mask = check(lambda x: (2 * x, lambda dy: 2 * dy * np.array([[1], [0], [1]])), normal(3, 4))
    assert slice_or_mask.arguments[0].candidates == ["zero", "mask"]
    unsummed = check(lambda a, b: (a + b, lambda dy: (dy, dy)), normal(3, 4), normal(4)).arguments[1]
    assert unsummed.candidates == ["broadcast", "shape"]


def test_one_mistake_in_several_arguments():
    def f(q, k):  # causal scores whose backward forgets the mask
        return np.tri(3) * (q @ k.T), lambda dy: (dy @ k, dy.T @ q)

    report = check(f, normal(3, 4), normal(3, 4, seed=1))
    assert [a.cause for a in report.arguments] == ["mask", "mask"]


def test_only_the_wrong_argument_is_blamed():
    report = check(lambda a, b: (a * b, lambda dy: (dy * b, -dy * a)), normal(3), normal(3, seed=1))
    assert [a.ok for a in report.arguments] == [True, False]
    assert [a.cause for a in report.arguments] == [None, "sign"]


def test_unknown_says_what_was_seen():
    w = np.array([0.5, 2.0, 3.0])
    _, detail = cause_of(lambda x, w: (x * w, lambda dy: (dy, (dy * x).sum(0))), normal(4, 3), w)
    assert detail  # dx = dy: an entry's own factor, 1 / w
    assert "1 / w" in detail
    cause, detail = cause_of(lambda x: (np.tanh(x), lambda dy: dy * np.array([[1], [1], [9]])), normal(3, 2))
    assert cause == "unknown"
    assert "correlation" in detail


def test_dy_left_out():
    cause, detail = cause_of(lambda x: (np.array((x * x).sum()), lambda dy: 2 * x), normal(3))
    assert cause == "scale"
    assert "dy is missing" in detail
    cause, detail = cause_of(lambda x: (np.exp(x), lambda dy: np.exp(x)), normal(3))
    assert cause == "unknown"
    assert "dy is missing" in detail


def large():
    """Arrays that are checked along directions first, then examined on a box."""
    x, w = normal(8, 16, 64), normal(64, 64, seed=1)
    ids = np.arange(40).reshape(2, 20) % 17

    def embedding(t):
        def back(dy):
            dt = np.zeros_like(t)
            dt[ids] = dy
            return dt

        return t[ids], back

    def matmul(dx=lambda dy, x, w: dy @ w.T, dw=lambda dy, x, w: np.einsum("bti,bto->io", x, dy)):
        return lambda x, w: (x @ w, lambda dy: (dx(dy, x, w), dw(dy, x, w)))

    def softmax(x):
        y = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
        return y, lambda dy: dy * y

    def late(x):
        return np.sin(x), lambda dy: np.roll(dy * np.cos(x), 1, 1)

    def partly(x):
        return np.sin(x), lambda dy: dy * np.cos(x) * (np.arange(len(x)) < 90)[:, None]

    yield "rank-one", softmax, (normal(64, 100),), 0
    yield "transposed", matmul(dx=lambda dy, x, w: dy @ w), (x, w), 0
    yield "transposed", matmul(dw=lambda dy, x, w: np.einsum("bti,bto->oi", x, dy)), (x, w), 1
    yield "scale", matmul(dw=lambda dy, x, w: np.einsum("bti,bto->io", x, dy) / 8), (x, w), 1
    yield "broadcast", matmul(dw=lambda dy, x, w: x[0].T @ dy[0]), (x, w), 1
    yield "overwritten", embedding, (normal(50, 30),), 0
    yield "shifted", late, (normal(100, 100),), 0
    yield "zero", partly, (normal(100, 100),), 0
    yield "mask", lambda x: (np.maximum(x, 0), lambda dy: dy), (normal(100, 100),), 0


@pytest.mark.parametrize("cause, f, arrays, argument", list(large()))
def test_large_arrays(cause, f, arrays, argument):
    report = check(f, *arrays)
    assert report.arguments[argument].cause == cause, str(report)
    assert report.evaluations < 6000
    assert report.arguments[argument].entries


# ---------------------------------------------------------------- the numbers in a report


def test_a_gradient_that_back_rounds_is_not_called_a_sign():
    x = normal(3, 4)
    report = check(lambda x: (np.sin(x), lambda dy: (dy * np.cos(x)).astype("f4")), x)
    assert report.ok and "to the rounding of float32, which back gives" in str(report)
    inside = check(lambda x: (np.sin(x), lambda dy: np.float64((dy * np.cos(x)).astype("f4"))), x)
    assert inside.arguments[0].candidates == ["precision"]
    assert "right except for the last digits" in inside.arguments[0].detail
    for line in str(inside).splitlines()[3:]:  # no two numbers print alike
        given, truth = line.split("back gives ")[1].split(", finite differences give ")
        assert given != truth
    wrong = check(lambda x: (np.sin(x), lambda dy: (dy * np.cos(x) * 1.01).astype("f4")), x)
    assert wrong.arguments[0].cause == "scale"


@pytest.mark.parametrize("off", [1e-6, -1e-6, 3e-5, 2e-7])
def test_a_factor_near_one_is_written_out(off):
    cause, detail = cause_of(lambda x: (np.sin(x), lambda dy: (1 + off) * dy * np.cos(x)), normal(3, 4))
    sign = "+" if off > 0 else "-"
    assert cause == "scale" and detail.endswith(f"times (1 {sign} {abs(off):.1e})")


def test_a_mistake_below_the_resolution_is_not_any_form_that_happens_to_fit():
    x = normal(3, 4)
    one_row = check(
        lambda x: (np.sin(x), lambda dy: dy * np.cos(x) * np.array([[1], [1 + 5e-7], [1]])), x
    ).arguments[0]
    assert (
        one_row.cause not in ("sign", "scale") and "differs only at index 1 of axis 0." in one_row.detail
    ) or (one_row.cause == "precision")


def test_a_missing_two_is_a_two_before_it_is_a_length():
    cause, detail = cause_of(lambda x: (x * x, lambda dy: dy * x), normal(2, 2))
    assert cause == "scale" and "times 1/2 (2 is also the length of axis 0 of x or" in detail
    assert detail.count("the length of") <= 2 and detail.count("the number of") == 0


def test_places_of_a_large_array_are_its_own():
    """Only a box of its entries is examined, but the report's indices are those of the array."""

    def empty(x):
        def back(dy):
            dx = 2 * dy * x
            dx[70:80] = 0
            dx[85:, 50:] = 0
            return dx

        return x * x, back

    def not_finite(x):
        return np.sin(x), lambda dy: dy * np.cos(x) * np.where(np.arange(100) == 77, np.nan, 1)

    def flipped(x):
        def back(dy):
            dx = 2 * dy * x
            dx[77, 31] *= -1
            return dx

        return x * x, back

    def column(x):
        return np.sin(x), lambda dy: dy * np.cos(x) * np.where(np.arange(400) == 391, 0, 1)

    report = check(flipped, normal(100, 100))
    detail = report.arguments[0].detail
    assert "1 of " in detail and "examined entries" in detail
    report = check(column, normal(3, 400))
    a = report.arguments[0]
    assert all(place[1] == 391 for place, *_ in a.entries), str(report)
    assert "391" in a.detail or a.cause == "mask", str(report)
    for f in (empty, not_finite):
        text = check(f, normal(100, 100)).arguments[0].detail
        assert "indices 0" not in text and "index 0 " not in text


def test_shown_points_are_gradients_for_the_same_dy():
    """For a large array too, "back gives" is what back gave, not a mixture from the diagnosis."""
    seen = []

    def f(x):
        def back(dy):
            dx = 2.5 * dy * x
            seen.append(dx.copy())
            return dx

        return x * x, back

    a = check(f, normal(40, 40)).arguments[0]
    for place, given, truth in a.entries:
        assert given == seen[0][place] and truth == pytest.approx(given * 2 / 2.5, rel=1e-6)
