"""Intervals: resamples are those of their draws, cover the truth, and pair two systems."""

import numpy as np
import pytest
import sacrebleu

from minimega import random
from minimega.errors import BadInput
from minimega.judging import bootstrap, scores
from minimega.judging.report import judge, versus
from tests.judging.test_scores import ONE, TWO, tales


def test_the_score_of_a_resample_is_that_of_its_texts():
    """Counts of n-grams are added up, which has to give what the library says of the drawn texts."""
    texts, answers = tales(12, 1), tales(12, 2)
    figures = scores.figures(texts, [[a] for a in answers])
    for weights, bleu, chrf in zip(
        bootstrap.weights(12, 5, seed=3),
        bootstrap.resampled(figures["bleu"], 5, seed=3),
        bootstrap.resampled(figures["chrf"], 5, seed=3),
        strict=True,
    ):
        drawn = np.repeat(np.arange(12), weights)
        assert len(drawn) == 12 and len(set(drawn)) < 12
        mine, theirs = [texts[i] for i in drawn], [answers[i] for i in drawn]
        assert bleu == pytest.approx(sacrebleu.corpus_bleu(mine, [theirs]).score, rel=1e-12)
        assert chrf == pytest.approx(sacrebleu.corpus_chrf(mine, [theirs]).score, rel=1e-12)


def test_draws_are_uniform_and_differ_by_seed_and_resample():
    many = sum(bootstrap.weights(10, 2000, seed=1))
    assert many.sum() == 20_000 and abs(many / 2000 - 1).max() < 0.1
    first, second = bootstrap.weights(50, 2, seed=0)
    (other,) = bootstrap.weights(50, 1, seed=1)
    assert (first != second).any() and (first != other).any()


def test_intervals_of_a_mean_cover_it_about_as_often_as_they_say():
    covered = 0
    for trial in range(100):
        figure = bootstrap.mean_of(random.normal(random.key(5, trial), np.arange(60)))
        low, high = bootstrap.interval(bootstrap.resampled(figure, 150, seed=trial))
        covered += low <= 0 <= high
    assert 0.88 <= covered / 100 <= 0.99


def test_a_pair_is_told_apart_where_single_intervals_overlap():
    """Both systems find the same texts hard; their difference is small and sure."""
    hard = random.uniform(random.key(1), np.arange(100))
    a, b = bootstrap.mean_of(hard + 0.02 + 0.01 * np.sin(np.arange(100))), bootstrap.mean_of(hard)
    low, high = bootstrap.interval(bootstrap.resampled(a, 500))
    assert low < b.value < high
    found = bootstrap.compare(a, b, 500)
    assert found["won"] == 1 and 0.015 < found["interval"][0] <= 0.02 <= found["interval"][1] < 0.025


def test_two_systems_that_are_equal():
    found = versus(judge(ONE, [[t] for t in TWO]), judge(ONE, [[t] for t in TWO]), resamples=50)
    assert all(row["difference"] == 0 and row.get("won", 0.5) == 0.5 for row in found.values())
    assert "won" in found["bleu"] and "won" not in found["distinct1"]
    with pytest.raises(BadInput, match="3 texts cannot be paired with 2"):
        versus(judge(ONE), judge(ONE[:2]))
