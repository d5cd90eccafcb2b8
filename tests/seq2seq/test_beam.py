"""Beam search: exhaustive search on tiny cases, several texts at once, the cache, the end of a search."""

import itertools

import numpy as np
import pytest

from minimega import BadInput, random
from minimega.autograd import no_grad
from minimega.model import Config, gpt
from minimega.sample import generate
from minimega.seq2seq.beam import Beams, beam_search, log_probabilities, score
from minimega.seq2seq.model import EncoderDecoder

V, LENGTH = 5, 3
SHAPE = {"vocab_size": V, "context": 10, "d_model": 8, "nhead": 2}
CONFIGS = {"causal": Config(**SHAPE), "encoder-decoder": EncoderDecoder(**SHAPE, source_length=6)}


def drawn(config, seed=0):
    """Sharp distributions: each seed another language."""
    model = gpt(config).draw(seed, "float64")
    for name, p in model.parameters().items():
        noise = random.normal(random.key(seed, name), np.arange(p.size)).reshape(p.whole_shape)
        p.data = (20 if p.decays else 1) * p.data + 0.3 * noise
    return model


def exhaustive(model, prompt, penalty, length=LENGTH, banned=()):
    """Every continuation with its score, the best first."""
    found = []
    for n in range(1, length + 1):
        for tokens in itertools.product(range(V), repeat=n):
            if 0 in tokens[:-1] or (n < length and tokens[-1] != 0) or set(tokens) & set(banned):
                continue
            with no_grad():
                logits = model(np.array([[*prompt, *tokens[:-1]]])).data[0, len(prompt) - 1 :]
            log_p = log_probabilities(logits, banned)[range(n), tokens].sum()
            found.append((list(tokens), log_p / ((5 + n) / 6) ** penalty))
    return sorted(found, key=lambda one: -one[1])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_many_beams_are_an_exhaustive_search(config, penalty, seed):
    model, prompt = drawn(config, seed), config.prompt([3, 2])
    found = beam_search(model, np.array([prompt]), LENGTH, beams=V**LENGTH, penalty=penalty)[0]
    wanted = exhaustive(model, prompt, penalty)
    assert [f.tokens for f in found] == [tokens for tokens, _ in wanted]
    assert np.allclose([f.score for f in found], [s for _, s in wanted], atol=1e-12)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_few_beams_find_real_continuations_with_their_real_scores(config):
    better = 0
    for seed in range(8):
        model, prompt = drawn(config, seed), config.prompt([3, 2])
        every = {tuple(tokens): s for tokens, s in exhaustive(model, prompt, 0.6)}
        for beams in (1, 2, 3):
            found = beam_search(model, np.array([prompt]), LENGTH, beams=beams, penalty=0.6)[0]
            assert 0 < len(found) <= beams
            assert len({tuple(f.tokens) for f in found}) == len(found)
            assert all(abs(every[tuple(f.tokens)] - f.score) < 1e-12 for f in found)
        greedy = beam_search(model, np.array([prompt]), LENGTH, beams=1, penalty=0.6)[0]
        better += found[0].score > greedy[0].score + 1e-9
    assert better  # three beams find what one passes by


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_one_beam_without_penalty_takes_the_likeliest_tokens(config):
    for seed in range(5):
        model, prompt = drawn(config, seed), config.prompt([3, 2])
        greedy = [int(t[0]) for t in generate(model, prompt, LENGTH, temperature=0)]
        greedy = greedy[: greedy.index(0) + 1] if 0 in greedy else greedy
        assert beam_search(model, np.array([prompt]), LENGTH, 1, penalty=0)[0][0].tokens == greedy


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_texts_do_not_depend_on_each_other(config):
    model = drawn(config)
    prompts = np.array([config.prompt(ids) for ids in ([3, 2], [4, 4], [1, 3])])
    together = beam_search(model, prompts, 4, beams=3)
    for alone, found in zip(prompts, together, strict=True):
        (one,) = beam_search(model, alone[None], 4, beams=3)
        assert [f.tokens for f in one] == [f.tokens for f in found]
        assert np.allclose([f.score for f in one], [f.score for f in found], atol=1e-12)


def test_banned_tokens_are_never_chosen():
    config = CONFIGS["causal"]
    model, prompt = drawn(config), config.prompt([3, 2])
    found = beam_search(model, np.array([prompt]), LENGTH, V**LENGTH, banned=(1, 4))[0]
    wanted = exhaustive(model, prompt, 0.6, banned=(1, 4))
    assert [f.tokens for f in found] == [tokens for tokens, _ in wanted]


def test_a_full_window_slides_on_or_ends():
    causal, translator = CONFIGS.values()
    lengths = [
        max(len(f.tokens) for f in beam_search(drawn(c), np.array([c.prompt([3])]), 30, 2, penalty=5.0)[0])
        for c in (causal, translator)
    ]
    assert lengths[0] > 10 and lengths[1] <= translator.target_length


def test_a_search_ends_when_nothing_better_can_come():
    text = Beams(width=1, length=50, penalty=1.0, end=0)
    text.step(np.log([[0.99, 0.005, 0.005]]))
    assert text.done and text.best[0].tokens == [0]
    text = Beams(width=1, length=50, penalty=1.0, end=0)
    text.step(np.log([[0.6, 0.39, 0.01]]))
    assert not text.done  # a long continuation divides its surprise by more


def test_a_longer_penalty_prefers_longer_texts():
    assert score(-4.0, 2, 0) > score(-5.0, 6, 0) and score(-4.0, 2, 1) < score(-5.0, 6, 1)
    assert score(-3.0, 10, 0.6) == -3.0 / ((5 + 10) / 6) ** 0.6


def test_a_model_that_sees_both_sides_cannot_continue():
    with pytest.raises(BadInput, match="both sides"):
        beam_search(drawn(Config(**SHAPE, causal=False)), np.array([[0, 3]]), 3)
