"""BERT's objective: what is chosen, what the model sees there, and that each token may be chosen once."""

from collections import defaultdict
from itertools import chain, repeat

import numpy as np
import pytest

from minimega import random
from minimega.data.corpus import ENGLISH, Tales
from minimega.data.grammar import Grammar
from minimega.data.masked import MASK, Masking, around_gaps, masking_for, with_gaps
from minimega.data.tokens import KINDS, START, WORD, train
from minimega.data.windows import Batches, Changed, Windows
from minimega.errors import BadInput

MASKING = Masking(mask=2, ordinary=np.arange(3, 53))


def stream_of(lengths, rng) -> np.ndarray:
    return np.concatenate([[0, *rng.integers(3, 53, n)] for n in lengths] + [[0]])


@pytest.fixture
def taken(rng):
    windows = Windows(stream_of(rng.integers(1, 400, 300), rng), 64)
    which = np.arange(len(windows))
    return *windows.take(which), which


@pytest.mark.parametrize("spans", [False, True])
def test_15_percent_are_chosen_and_of_them_80_hidden_10_replaced_10_kept(taken, spans):
    inputs, targets, which = taken
    masking = Masking(2, np.arange(3, 53), spans=spans)
    seen, chosen = masking(inputs, targets, 5, which)
    counted = ((inputs != START) & (targets >= 0)).sum()
    at = chosen >= 0
    np.testing.assert_array_equal(chosen[at], inputs[at])
    np.testing.assert_array_equal(seen[~at], inputs[~at])
    shares = [
        (seen[at] == 2).mean(),
        ((seen != 2) & (seen != inputs))[at].mean(),
        (seen == inputs)[at].mean(),
    ]
    np.testing.assert_allclose(shares, [0.8, 0.1 * 49 / 50, 0.1 + 0.1 / 50], atol=0.01)
    assert at.sum() / counted == pytest.approx(0.15, abs=0.01)
    assert seen.min() >= 0 and set(np.unique(seen)) <= {0, *range(2, 53)}
    assert (inputs[at] != START).all()


def test_each_token_of_a_text_may_be_chosen_in_exactly_one_window(rng):
    for lengths in ([200], [1, 2, 3, 30], [64, 63, 65, 128, 127, 129], rng.integers(1, 200, 50)):
        stream = stream_of(lengths, rng)
        for windows in (Windows(stream, 64), Windows(stream, 64).moved(9)):
            which = np.arange(len(windows))
            chosen = Masking(2, np.arange(3, 53), share=1.0)(*windows.take(which), 5, which)[1]
            times = np.zeros(len(stream), int)
            for k, row in enumerate(chosen):
                times[windows.edges[k] + np.flatnonzero(row >= 0)] += 1
            np.testing.assert_array_equal(times, stream != START)


def test_each_window_has_a_target(rng):
    windows = Windows(stream_of([1] * 40, rng), 2)
    which = np.arange(len(windows))
    assert (
        (Masking(2, np.arange(3, 53), 0.01)(*windows.take(which), 5, which)[1] >= 0).sum(axis=1) == 1
    ).all()


def test_a_mask_is_a_function_of_the_key_the_window_and_the_place(taken):
    inputs, targets, which = taken
    whole = MASKING(inputs, targets, 5, which)
    some = np.array([30, 2, 17])
    for a, b in zip(MASKING(inputs[some], targets[some], 5, some), whole, strict=True):
        np.testing.assert_array_equal(a, b[some])
    other = MASKING(inputs, targets, 6, which)
    assert ((other[1] >= 0) != (whole[1] >= 0)).mean() > 0.15


def test_each_step_masks_anew_and_evaluation_does_not(rng):
    windows = Windows(stream_of([30] * 20, rng), 40)
    batches = Batches(windows, 20, seed=3, change=MASKING)
    once, again, later = batches(1), Batches(windows, 20, 3, MASKING)(1), batches(2)
    np.testing.assert_array_equal(once[1], again[1])
    assert (np.sort(once[1].sum(axis=1)) != np.sort(later[1].sum(axis=1))).any()
    fixed = Changed(windows, MASKING, random.key("evaluation"))
    a, b = fixed.take([3, 1]), fixed.take([1, 3])
    assert len(fixed) == len(windows)
    np.testing.assert_array_equal(a[0], b[0][::-1])
    np.testing.assert_array_equal(a[1], b[1][::-1])


@pytest.mark.parametrize("kind", KINDS)
def test_no_special_token_is_put_in_by_chance(kind):
    for t in (
        train(kind, ["to be or not"], specials=["<user>", MASK]),
        train(kind, ["to be or not"]).grown(["<user>", MASK]),
    ):
        masking = masking_for(t)
        assert masking.mask == t.special(MASK)
        special = {0, 1, t.special("<user>"), t.special(MASK)}
        assert set(masking.ordinary.tolist()) == set(range(t.size)) - special
    with pytest.raises(BadInput, match="no special token <mask>"):
        masking_for(train(kind, ["to be"]))


@pytest.mark.parametrize(
    ("kind", "text", "parts"),
    [
        ("word", "Long ago [MASK] found", ["Long ago", " found"]),
        ("word", "[MASK] [MASK], no", ["", "", ", no"]),
        ("word", "a[MASK]", ["a", ""]),
        ("bpe", "the [MASK]", ["the", ""]),
        ("char", "the c[MASK]t [MASK]", ["the c", "t ", ""]),
        ("whitespace", "a [MASK] b", ["a", " b"]),
    ],
)
def test_a_gap_takes_the_space_before_it_if_tokens_have_one(kind, text, parts):
    t = train(kind, ["the cat found Long ago, no a b"], specials=[MASK])
    assert around_gaps(text, t) == parts
    ids = with_gaps(text, t)
    assert (ids == t.special(MASK)).sum() == text.count("[MASK]") and ids.dtype == np.int64


def test_a_text_without_a_gap_or_with_the_token_s_name_has_none():
    t = train("word", ["the cat <mask>"], specials=[MASK])
    with pytest.raises(BadInput, match=r"write \[MASK\] where a word is missing"):
        with_gaps("the <mask> [mask] cat", t)
    assert (with_gaps("the <mask> [MASK]", t) == t.special(MASK)).sum() == 1


DEMO = Grammar(
    "demo",
    {
        "tale": "{who=person} had a {look=look} {thing=$look}. {other=person} {took}.",
        "person": "Ann|Bob|Cid",
        "look": "red|old",
        "red": "hat|bag",
        "old": "hat|map|red map",
        "took": "took the {thing}|saw {her:who}|ran",
    },
    {"her": ("her", "him")},
    ["Bob", "Cid"],
)


def all_tales(numbers=()) -> list[tuple[str, float]]:
    """Each tale of the demo grammar, with its probability."""
    choices = DEMO.tell(chain(numbers, repeat(0.0)))[1]
    if len(numbers) == len(choices):
        return [(DEMO.tell(iter(numbers))[0], 1 / np.prod([options for _, options in choices]))]
    options = choices[len(numbers)][1]
    return [tale for i in range(options) for tale in all_tales((*numbers, (i + 0.5) / options))]


def test_the_fillings_of_a_gap_are_those_of_all_tales_by_their_probability():
    tales = all_tales()
    assert sum(p for _, p in tales) == pytest.approx(1) and len(tales) == 6 * 5 * 3
    gaps = defaultdict(lambda: defaultdict(float))
    for text, p in tales:
        for word in WORD.finditer(text):
            gaps[text[: word.start()], text[word.end() :]][word[0]] += p
    for (before, after), words in gaps.items():
        right = {word: p / sum(words.values()) for word, p in words.items()}
        assert DEMO.fillings(before, after) == pytest.approx(right)
    assert DEMO.fillings("Ann had", " blue hat.") == {}


def test_the_fillings_of_a_real_tale_are_the_word_or_what_the_grammar_draws():
    text, _ = next(iter(Tales(1, seed=4).told()))
    for word in WORD.finditer(text):
        found = ENGLISH.fillings(text[: word.start()], text[word.end() :])
        assert word[0] in found and sum(found.values()) == pytest.approx(1)
        if text.count(word[0]) > 1 and word[0][1:].istitle():
            assert found == {word[0]: 1.0}  # a name that comes again
