"""The versions for generation give the numbers and the tokens of the readable functions."""

import numpy as np
import pytest

import minimega as mm
from minimega import Config, gpt, sample
from minimega.kernels import chosen, generation
from minimega.linear import linear
from minimega.sample import choose, generate
from minimega.seq2seq.beam import beam_search
from minimega.writing.answers import answers

HOW = [
    {},
    {"temperature": 0.3},
    {"temperature": 1e-4},
    {"temperature": 1e6},
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": 10**6},
    {"top_p": 0.90007},
    {"top_p": 1e-9},
    {"top_k": 100, "top_p": 0.50003, "temperature": 0.7},
]


def logits_of(kind: str, dtype, texts: int = 4, vocabulary: int = 5000):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(texts, vocabulary))
    if kind == "peaked":
        x = 12 * x
    if kind == "ties":
        x = x.round(1)
    if kind == "banned":
        x[:, ::3] = -np.inf
    if kind == "equal":
        x[:] = 0.5
    if kind == "one":
        x[:], x[:, 17] = -np.inf, 3.0
    return x.astype(dtype)


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("kind", ["flat", "peaked", "ties", "banned", "equal", "one"])
def test_the_same_tokens(kind, how):
    for dtype in ("float32", "float64", "bfloat16"):
        logits = logits_of(kind, dtype)
        for uniform in ([0.0, 0.20001, 0.50001, 0.90001], [0.99901, 0.61013, 1e-9, 0.37013]):
            expected = choose(logits, uniform, **how)
            with generation.quick():
                assert choose(logits, uniform, **how).tolist() == expected.tolist(), (dtype, uniform)
            found = generation.choose(
                logits, uniform, **{"temperature": 1.0, "top_k": 0, "top_p": 1.0, **how}
            )
            assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_it_does_not_do(bad):
    logits = logits_of("flat", "float32")
    assert generation.choose(logits, [0.5] * 4, temperature=0) is NotImplemented
    assert generation.choose(logits[:, :100], [0.5] * 4) is NotImplemented
    logits[1, 3] = bad
    assert generation.choose(logits, [0.5] * 4) is NotImplemented


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [(2,), (8, 1), (3, 5), (16,)])
@pytest.mark.parametrize("columns", [1, 63, 64, 65, 1000])
def test_a_product_of_few_rows(dtype, rows, columns):
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=s).astype(dtype) for s in ((*rows, 24), (columns, 24), (columns,)))
    dy = rng.normal(size=(*rows, columns)).astype(dtype)
    y, back = linear(x, w, b, transposed=True)
    assert generation.linear(x, w, b, transposed=True) is not NotImplemented
    with generation.quick():
        ours, our_back = linear(x, w, b, transposed=True)
    assert ours.dtype == y.dtype and ours.shape == y.shape
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(ours, y, **close)
    for ours, theirs in zip(our_back(dy), back(dy), strict=True):
        a, b = (g() if callable(g) else g for g in (ours, theirs))
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, **close)


def test_products_that_it_does_not_do():
    def asked(rows: int, inner: int = 8, dtype="float32", **how):
        return generation.linear(np.ones((rows, inner), dtype), np.ones((9, inner), dtype), **how)

    assert asked(2) is NotImplemented  # not transposed
    for rows in (0, 1, generation.FEW + 1):
        assert asked(rows, transposed=True) is NotImplemented
    assert asked(16, inner=1_000_000, transposed=True) is NotImplemented
    assert asked(2, dtype="float16", transposed=True) is NotImplemented


@pytest.fixture
def calls(monkeypatch):
    """The arguments of each call of a version of `linear`."""
    calls = []
    monkeypatch.setitem(
        generation.VERSIONS,
        "minimega.linear.linear",
        lambda *args, **options: calls.append(args) or NotImplemented,
    )
    return calls


@pytest.mark.parametrize("use", ["write", "answers", "beam"])
def test_all_that_write_use_them_and_nothing_remembers_them(calls, use):
    tokenizer = mm.train_tokenizer("word", ["one two three"])
    model = gpt(Config(tokenizer.size, d_model=8, nhead=2)).draw(seed=0)
    before = chosen.get()
    if use == "write":
        mm.write(model, tokenizer, "one", length=3)
    elif use == "answers":
        answers(model, tokenizer, ["one", "two"], length=3)
    else:
        beam_search(model, np.array([[0, 3]]), length=3)
    assert calls and chosen.get() is before


def test_each_step_uses_them_and_nothing_remembers_them(calls):
    model = gpt(Config(vocab_size=9, d_model=8, nhead=2)).draw(seed=0)
    before = chosen.get()
    for tokens in generation.quickly(generate(model, [0, 3], 3, texts=range(2))):
        assert tokens.shape == (2,) and chosen.get() is before  # between two tokens the caller has its own
    assert len(calls) == 3 * (2 * 4 + 1)
    assert "minimega.sample.choose" in generation.VERSIONS and sample.choose.__name__ == "choose"
