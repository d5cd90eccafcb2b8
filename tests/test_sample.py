"""Generation: the cache changes nothing, the window slides, sampling follows its options."""

import numpy as np
import pytest

from minimega import ops
from minimega.errors import BadInput
from minimega.model import Config, gpt
from minimega.sample import Cache, choose, generate, last_logits, next_logits, window_start
from minimega.writing.fill import fill


@pytest.mark.parametrize("context", [1, 2, 5, 8])
def test_the_window_never_overflows_and_ends_at_the_newest_token(context):
    starts = [window_start(n, context) for n in range(1, 60)]
    assert all(1 <= n - s <= context for n, s in enumerate(starts, 1))
    assert starts == sorted(starts)
    # it keeps half while it slides: it never drops more than the definition says
    assert all(n - s >= min(n, context // 2) for n, s in enumerate(starts, 1))


def largest_difference(config: Config, dtype: str, length: int) -> float:
    """Between cached and uncached logits, over a text of this length, relative to the largest logit."""
    model = gpt(config).draw(3, dtype)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (2, length))
    cached, plain = next_logits(model, tokens[:, :3]), next_logits(model, tokens[:, :3], cached=False)
    a, b, worst = next(cached), next(plain), 0.0
    for n in range(3, length):
        worst = max(worst, np.abs(a - b).max() / np.abs(b).max())
        a, b = cached.send(tokens[:, n]), plain.send(tokens[:, n])
    return worst


@pytest.mark.parametrize(
    "change", [{}, {"positions": "sinusoidal"}, {"norm_position": "post"}, {"attention": False}]
)
def test_cached_and_uncached_logits_agree_also_past_the_context(change):
    config = Config(vocab_size=30, context=12, d_model=16, nhead=2, **change)
    assert largest_difference(config, "float32", 40) < 1e-5
    assert largest_difference(config, "float64", 40) < 1e-12


def test_a_cache_that_forgets_a_token_is_noticed(monkeypatch):
    recall = Cache.recall

    def forgetful(self, layer, k, v):
        keys, values = recall(self, layer, k, v)
        return keys * (np.arange(keys.shape[2])[:, None] > 0), values

    monkeypatch.setattr(Cache, "recall", forgetful)
    assert largest_difference(Config(vocab_size=30, context=12, d_model=16, nhead=2), "float64", 8) > 1e-8


def test_the_cache_computes_one_token_a_step():
    model, widths = gpt(Config(vocab_size=30, context=16, d_model=16, nhead=2)).draw(0), []
    forward = model.layers["head"].forward
    model.layers["head"].forward = lambda x, at: (widths.append(x.shape[1]), forward(x, at))[1]
    list(generate(model, [0, 1, 2], 10))
    assert widths == [3] + [1] * 9


def test_a_text_does_not_depend_on_its_neighbours():
    model = gpt(Config(vocab_size=50, context=16, d_model=16, nhead=2)).draw(0)
    together = np.array(list(generate(model, [0], 30, texts=range(4), seed=5)))
    alone = np.array(list(generate(model, [0], 30, texts=range(2, 3), seed=5)))
    assert (together[:, 2] == alone[:, 0]).all()
    assert (together[:, 0] != together[:, 1]).any()
    assert (np.array(list(generate(model, [0], 30, texts=range(4), seed=6))) != together).any()


def test_banned_tokens_never_come():
    model = gpt(Config(vocab_size=4, context=16, d_model=16, nhead=2)).draw(0)
    tokens = np.array(list(generate(model, [0], 40, texts=range(5), banned=(1, 3))))
    assert set(tokens.ravel()) == {0, 2}


def test_generation_drops_nothing_out():
    config = Config(vocab_size=20, context=16, d_model=16, nhead=2)
    dropping = gpt(Config(**{**config.as_dict(), "dropout": 0.5})).draw(0)
    tokens = np.arange(10).reshape(1, -1)
    assert (last_logits(dropping, tokens) == last_logits(gpt(config).draw(0), tokens)).all()


def test_choice_follows_the_probabilities():
    logits = np.log([0.5, 0.3, 0.15, 0.05])
    uniform = (np.arange(10_000) + 0.5) / 10_000
    many = np.tile(logits, (len(uniform), 1))

    def shares(**options):
        return np.bincount(choose(many, uniform, **options), minlength=4) / len(uniform)

    np.testing.assert_allclose(shares(), [0.5, 0.3, 0.15, 0.05], atol=2e-4)
    np.testing.assert_allclose(shares(temperature=0.5), ops.softmax(2 * logits)[0], atol=2e-4)
    np.testing.assert_allclose(shares(top_k=2), [0.625, 0.375, 0, 0], atol=2e-4)
    np.testing.assert_allclose(
        shares(top_p=0.6), [0.625, 0.375, 0, 0], atol=2e-4
    )  # 0.5 alone does not reach 0.6
    np.testing.assert_allclose(shares(top_p=1e-9), [1, 0, 0, 0])
    np.testing.assert_allclose(shares(top_k=3, top_p=0.5), [1, 0, 0, 0])
    assert shares(temperature=0)[0] == 1


def test_choice_at_the_ends_of_the_line():
    logits = np.array([[0.0, -np.inf, 0.0]])
    assert choose(logits, [0.0])[0] == 0
    assert choose(logits, [np.nextafter(1, 0)])[0] == 2
    assert choose(logits * 1e3, [0.999999], temperature=1e-3)[0] == 2


def test_greedy_takes_the_likeliest_token_each_time():
    model = gpt(Config(vocab_size=30, context=8, d_model=16, nhead=2)).draw(1)
    tokens = np.array([[0]])
    for _ in range(20):
        tokens = np.concatenate((tokens, last_logits(model, tokens).argmax(-1)[:, None]), axis=1)
    assert [int(t[0]) for t in generate(model, [0], 20, temperature=0)] == tokens[0, 1:].tolist()


@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-300, 1e-30])
def test_a_tiny_temperature_is_greedy(temperature):
    logits = np.array([[-3.0, 4.0, 3.9, -np.inf], [900.0, -900.0, 899.0, -np.inf]])
    with np.errstate(all="raise", under="ignore"):
        assert choose(logits, [0.99, 0.99], temperature).tolist() == [1, 0]


@pytest.mark.parametrize("choice", [{"temperature": 1e308}, {"top_p": 5e-324}, {"top_k": 2**63 - 1}])
def test_the_ends_of_what_can_be_asked_give_a_token_that_is_allowed(choice):
    logits = np.array([[1.0, 3.0, -np.inf]])
    for uniform in (0.0, 0.5, 1 - 2**-53):
        assert choose(logits, [uniform], **choice)[0] in (0, 1)


def test_a_model_that_sees_both_sides_fills_and_does_not_continue():
    both, left = (
        gpt(Config(vocab_size=9, d_model=8, nhead=2, causal=causal)).draw(1) for causal in (False, True)
    )
    for use in (lambda: next(next_logits(both, np.array([[1, 2]]))), lambda: list(generate(both, [1], 2))):
        with pytest.raises(BadInput, match="cannot continue a text"):
            use()
    with pytest.raises(BadInput, match="cannot fill a gap"):
        fill(left, [1, 2], mask=2)
    ids, p = fill(both, [0, 2, 3, 2], mask=2, top=3, never=(0, 2))
    p_all = np.exp(both(np.array([[0, 2, 3, 2]])).data[0, [1, 3]].astype(float))
    p_all /= p_all.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(p, np.take_along_axis(p_all, ids, axis=-1), rtol=1e-5)
    assert not np.isin(ids, [0, 2]).any() and (np.diff(p, axis=-1) <= 0).all()
    p_all[:, [0, 2]] = 0
    np.testing.assert_array_equal(ids[:, 0], p_all.argmax(axis=-1))
