"""Skip-gram with negative sampling: its gradient, its steps pair by pair, what it draws, what it learns."""

from types import SimpleNamespace

import numpy as np
import pytest

from minimega.data import tokens
from minimega.data.corpus import GRAMMAR, open_corpus
from minimega.errors import BadInput
from minimega.gradcheck import assert_gradients
from minimega.ranks.group import SELF
from minimega.ranks.threads import on_ranks
from minimega.vectors import skipgram
from minimega.vectors.nearest import neighbours
from minimega.vectors.skipgram import Recipe, SkipGram, negative_sampling


def training(texts, path, recipe, kind="word"):
    tokenizer = tokens.train(kind, texts)
    return SkipGram(tokens.tokenize(texts, tokenizer, path / "text.npy"), tokenizer, recipe)


@pytest.fixture(scope="module")
def tales():
    return list(open_corpus("tales", tales=400).documents())


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 4), (2, 6, 1), (4, 3, 5)])
def test_the_gradient(shape, rng):
    pairs, terms, width = shape
    v, u = rng.normal(size=(pairs, width)), rng.normal(size=(pairs, terms, width))
    counts = (rng.random((pairs, terms)) < 0.7).astype(float)
    assert_gradients(negative_sampling, v, u)
    assert_gradients(lambda v, u: negative_sampling(v, u, counts), v, u)


def test_the_loss_is_that_of_the_paper_and_stays_finite():
    v, u = np.array([[1.0, 2.0]]), np.array([[[0.5, -1.0], [0.1, 0.2]]])
    loss, _ = negative_sampling(v, u)
    assert np.isclose(loss, -np.log(1 / (1 + np.exp(1.5))) - np.log(1 / (1 + np.exp(0.5))))
    for dtype in ("float32", "float64"):
        loss, back = negative_sampling(*(1000 * a.astype(dtype) for a in (v, u)))
        dv, du = back(1.0)
        assert loss.dtype == dv.dtype == du().dtype == dtype
        assert np.isfinite(loss) and np.isfinite(dv).all() and np.isfinite(du()).all()


def test_a_step_is_gradient_descent_on_every_pair(tales, tmp_path):
    t = training(tales, tmp_path, Recipe(vector_size=5, negative=3))
    t.u[:] = np.random.default_rng(0).normal(size=t.u.shape)
    v, u = t.v.astype(float), t.u.astype(float)
    near, drawn = t.pairs(1, 0)[:50], []
    kept, skipgram_op = skipgram.negative_sampling, lambda *a: drawn.append(a) or kept(*a)
    skipgram.negative_sampling = skipgram_op
    try:
        t.step(near, (1, 0, 0), np.float32(0.1))
    finally:
        skipgram.negative_sampling = kept
    rows = {tuple(row): i for i, row in enumerate(u.astype(np.float32))}
    others = np.array([[rows[tuple(row)] for row in pair] for pair in drawn[0][1]])
    dv, du = np.zeros_like(v), np.zeros_like(u)
    for (word, near_by), (first, *negatives) in zip(near, others, strict=True):
        assert first == near_by
        for other, label in ((near_by, 1), *((n, 0) for n in negatives if n != near_by)):
            slope = 1 / (1 + np.exp(-v[word] @ u[other])) - label
            dv[word] += slope * u[other]
            du[other] += slope * v[word]
    assert np.allclose(t.v, v - 0.1 * dv, atol=1e-5) and np.allclose(t.u, u - 0.1 * du, atol=1e-5)


def test_the_pairs_are_those_of_the_windows(tmp_path):
    texts = ["a b c d e f g h", "p q r s t u v w"]
    t = training(texts, tmp_path, Recipe(min_count=1, window=3, sample=0), "whitespace")
    far = {}
    for epoch in range(200):
        for word, near in t.pairs(epoch, 0):
            a, b = t.words[word], t.words[near]
            text = next(text for text in texts if a in text)
            assert b in text  # no window crosses documents
            far[d] = far.get(d := abs(text.index(a) - text.index(b)) // 2, 0) + 1
    assert far.keys() == {1, 2, 3}
    # of 2 x 7, 6 and 5 pairs: at distance 1 all, at 2 two thirds, at 3 one third
    expected = [200 * 2 * 2 * n * share for n, share in ((7, 1), (6, 2 / 3), (5, 1 / 3))]
    assert np.allclose([far[1], far[2], far[3]], expected, rtol=0.06)


def test_frequent_words_are_thinned_out_and_rare_ones_left_out(tmp_path):
    texts = ["x " * 90 + "y " * 9 + "z"] * 100
    t = training(texts, tmp_path, Recipe(min_count=200, sample=0.01, window=1), "whitespace")
    assert t.words == ["x", "y"] and t.counts.tolist() == [9000, 900]
    share = 9000 / 9900
    assert np.isclose(t.keep[0], (0.01 / share) ** 0.5 + 0.01 / share)
    seen = np.concatenate([t.pairs(n, 0)[:, 0] for n in range(20)])
    ratio = t.keep[0] * 10 / t.keep[1]
    assert np.isclose((seen == 0).sum() / (seen == 1).sum(), ratio, rtol=0.15)


def test_negatives_come_as_the_three_quarter_power_of_the_counts(tmp_path):
    t = training(["x " * 90 + "y " * 9 + "z"] * 10, tmp_path, Recipe(min_count=1), "whitespace")
    assert np.allclose(
        t.rising, np.cumsum([900**0.75, 90**0.75, 10**0.75]) / (900**0.75 + 90**0.75 + 10**0.75)
    )


def test_the_same_seed_gives_the_same_vectors(tales, tmp_path):
    made = []
    for seed in (1, 1, 2):
        t = training(tales[:50], tmp_path, Recipe(vector_size=6, epochs=1, seed=seed))
        t.epoch(1)
        made.append(t.vectors().rows)
    assert (made[0] == made[1]).all() and (made[0] != made[2]).any()


def share(vectors, kind):
    words = [word for word in GRAMMAR[kind].split("|") if word in vectors]
    return np.mean([near in words for word in words for near, _ in neighbours(vectors, [word], top=5)])


def test_people_are_near_people(tales, tmp_path):
    t = training(tales, tmp_path, Recipe(vector_size=24, epochs=4))
    losses = [t.epoch(n) for n in (1, 2, 3, 4)]
    assert losses == sorted(losses, reverse=True)
    people, looks = (share(t.vectors(), kind) for kind in ("person", "look"))
    assert people > 0.9 and looks > 0.4, (people, looks)


def test_the_loss_falls_as_in_gensim(gensims, tales, tmp_path):
    """The vectors of the same text put the same words near: three of four neighbours are gensim's."""
    from gensim.models import Word2Vec

    from minimega.vectors.table import Vectors

    t = training(tales, tmp_path, Recipe(vector_size=24, epochs=5))
    for n in range(1, 6):
        t.epoch(n)
    texts = [[word.strip() for word in tokens.SPLIT["word"](tale)] for tale in tales]
    theirs = Word2Vec(texts, vector_size=24, sg=1, negative=5, epochs=5, workers=1, seed=1).wv
    theirs, ours = Vectors(theirs.index_to_key, theirs.vectors), t.vectors()
    assert set(theirs.words) == set(ours.words)
    same = [
        len({w for w, _ in neighbours(ours, [word])} & {w for w, _ in neighbours(theirs, [word])}) / 10
        for word in ours.words
    ]
    assert np.mean(same) > 0.6, np.mean(same)


def test_bad_input(tmp_path):
    with pytest.raises(BadInput, match="1 of the text's 3 words come 5 times or more"):
        training(["x x x x x y z"], tmp_path, Recipe(), "whitespace")
    t = training(["x", "y"] * 9, tmp_path, Recipe(), "whitespace")
    with pytest.raises(BadInput, match="no word has a neighbour"):
        t.epoch(1)


def over(group, tensor, data, stream, tokenizer):
    """The loss and the vectors of one epoch with these ranks."""
    recipe = Recipe(vector_size=7, negative=3, epochs=1, alpha=0.1)
    how = {"tensor": tensor, "data": data} if group else {}
    t = SkipGram(stream, tokenizer, recipe, **how)
    return t.epoch(1), t.vectors().rows


def test_replicas_take_the_steps_of_one_rank_to_the_bit(tales, tmp_path):
    tokenizer = tokens.train("word", tales)
    stream = tokens.tokenize(tales, tokenizer, tmp_path / "text.npy")
    loss, rows = over(None, None, None, stream, tokenizer)
    with on_ranks(3) as run:
        for found, its in run(lambda group: over(group, SELF, group, stream, tokenizer)):
            np.testing.assert_array_equal(its, rows)
            assert np.isclose(found, loss, rtol=1e-6)


def test_ranks_that_split_the_numbers_of_each_vector_train_the_same(tales, tmp_path):
    """Alone, and with replicas: sums of floats in another order."""
    tokenizer = tokens.train("word", tales[:100])
    stream = tokens.tokenize(tales[:100], tokenizer, tmp_path / "text.npy")
    loss, rows = over(None, None, None, stream, tokenizer)

    def both(group):
        tensor, data = group.split(lambda r: r // 2, "tensor"), group.split(lambda r: r % 2, "data")
        return over(group, tensor, data, stream, tokenizer)

    with on_ranks(2) as run:
        pairs = run(lambda group: over(group, group, SELF, stream, tokenizer))
    with on_ranks(4) as run:
        pairs += run(both)
    for found, its in pairs:
        np.testing.assert_allclose(its, rows, atol=2e-5)
        assert np.isclose(found, loss, rtol=1e-5)
    with pytest.raises(BadInput, match="7 numbers cannot be cut over 8 ranks"):
        SkipGram(stream, tokenizer, Recipe(vector_size=7), SimpleNamespace(size=8))


def test_a_gradient_that_is_not_exchanged_would_be_noticed(tales, tmp_path, monkeypatch):
    tokenizer = tokens.train("word", tales[:100])
    stream = tokens.tokenize(tales[:100], tokenizer, tmp_path / "text.npy")
    _, rows = over(None, None, None, stream, tokenizer)

    class Deaf(type(SELF)):
        size, rank = 2, 0

        def all_gather(self, x, axis=0, length=None, label=""):
            return np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)])

    _, its = over(True, SELF, Deaf(), stream, tokenizer)
    assert not np.allclose(its, rows, atol=2e-5)
