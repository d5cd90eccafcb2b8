"""The encoder-decoder: gradients, what each half sees, the cache, every option."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from minimega import BadInput, gpt, ops, random
from minimega.attention import attention
from minimega.autograd import Tensor, no_grad
from minimega.gradcheck import assert_gradients
from minimega.layer import Place, place
from minimega.model import Config
from minimega.sample import generate, next_logits
from minimega.seq2seq.attention import cross_attention, visible
from minimega.seq2seq.model import DecoderBlock, EncoderBlock, EncoderDecoder

SHAPE = EncoderDecoder(
    vocab_size=13, context=9, d_model=8, nhead=2, num_layers=3, source_length=5, encoder_layers=1
)
TOKENS = np.array([[0, 3, 4, 0, 0, 0, 5, 6, 7], [0, 9, 8, 7, 6, 0, 3, 0, 0]])
TARGETS = np.array([[-1] * 5 + [5, 6, 7, 0], [-1] * 5 + [3, 0, -1, -1]])


def x_like(*shape):
    return random.normal(9, np.arange(np.prod(shape))).reshape(shape)


def drawn(config=SHAPE, recompute="none"):
    """A model with every parameter far from its first value, so that all of it matters."""
    model = gpt(config, recompute=recompute).draw(seed=1, dtype="float64")
    for name, p in model.parameters().items():
        noise = random.normal(random.key(2, name), np.arange(p.size)).reshape(p.whole_shape)
        p.data = (8 if p.decays else 1) * p.data + 0.2 * noise
    return model


def logits(model, tokens, **known):
    with no_grad():
        return model(tokens, place(tokens, **known)).data


# Cross-attention


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    "batch, t, s, heads, c", [(1, 1, 1, 1, 1), (2, 3, 4, 2, 3), (3, 5, 2, 1, 2), (1, 2, 7, 3, 1)]
)
def test_cross_attention_gradients(batch, t, s, heads, c, hidden, dropped):
    q, kv = x_like(batch, t, heads * c), x_like(batch, s, 2 * heads * c)
    seen = None
    if hidden:
        seen = np.arange(batch * s).reshape(batch, s) % 3 != 1
        seen[:, 0] = True
    mask = np.arange(batch * heads * t * s).reshape(batch, heads, t, s) % 4 != 2
    keep = (lambda: mask) if dropped else None
    options = {"heads": heads, "seen": seen, "keep": keep, "p": 0.25 if dropped else 0.0}
    assert_gradients(lambda q, kv: cross_attention(q, kv, **options), q, kv)


def test_cross_attention_is_the_formula():
    q, kv = x_like(2, 3, 4), x_like(2, 5, 8)
    y = cross_attention(q, kv, heads=2)[0]
    for b, h in itertools.product(range(2), range(2)):
        k, v = kv[b, :, 4 * h : 4 * h + 2], kv[b, :, 4 * h + 2 : 4 * h + 4]
        w = np.exp(q[b, :, 2 * h : 2 * h + 2] @ k.T / np.sqrt(2))
        expected = w / w.sum(axis=1, keepdims=True) @ v
        assert np.allclose(y[b, :, 2 * h : 2 * h + 2], expected, atol=1e-12)


def test_padding_might_as_well_not_be_there():
    q, kv = x_like(1, 3, 4), x_like(1, 5, 8)
    seen = np.array([[True, True, True, False, False]])
    y, back = cross_attention(q, kv, heads=2, seen=seen)
    short, short_back = cross_attention(q, kv[:, :3], heads=2)
    assert np.allclose(y, short, atol=1e-14)
    (dq, dkv), (dq_short, dkv_short) = back(np.ones_like(y)), short_back(np.ones_like(y))
    assert np.allclose(dq, dq_short) and np.allclose(dkv[:, :3], dkv_short) and not dkv[:, 3:].any()


def test_attention_that_hides_padding_has_right_gradients():
    seen = np.array([[True, False, True, True], [True, True, False, False]])
    for causal in (False, True):
        arrays = (x_like(2, 3, 4, 2) for _ in range(3))
        assert_gradients(partial(attention, causal=causal, seen=seen), *arrays)


# The model


OPTIONS = {
    "pre": SHAPE,
    "post": replace(SHAPE, norm_position="post"),
    "sinusoidal": replace(SHAPE, positions="sinusoidal"),
    "untied": replace(SHAPE, tied=False, head_bias=True, activation="relu"),
    "dropout": replace(SHAPE, dropout=0.3),
    "two encoder blocks": replace(SHAPE, encoder_layers=2),
}


@pytest.mark.parametrize("config", OPTIONS.values(), ids=OPTIONS)
def test_gradients_of_the_whole_model(config):
    model = drawn(config)
    at = place(TOKENS, key=random.key(3), training=True)
    model.loss(TOKENS, TARGETS, at).backward()
    for p in model.parameters().values():
        direction = random.normal(random.key(7, p.name), np.arange(p.size)).reshape(p.data.shape)
        kept, losses = p.data, []
        for step in (1e-5, -1e-5):
            p.data = kept + step * direction
            losses.append(float(model.loss(TOKENS, TARGETS, at).data))
        p.data = kept
        slope = (losses[0] - losses[1]) / 2e-5
        assert abs((p.grad * direction).sum() - slope) < 1e-7 * max(1, abs(slope)), p.name


@pytest.mark.parametrize(
    "block", [EncoderBlock(SHAPE, last=True), DecoderBlock(SHAPE)], ids=["encoder", "decoder"]
)
def test_gradients_of_the_blocks(block):
    block.named("block").draw(0, "float64")
    at = replace(place(TOKENS), tokens=TOKENS)
    assert_gradients(lambda x: block(x, at), x_like(2, 9, 8))


def test_a_target_sees_the_whole_source_and_its_own_past_alone():
    model, before = drawn(), logits(drawn(), TOKENS)
    for position in range(1, 9):
        if position == 5 or TOKENS[0, position] == 0:
            continue
        changed = TOKENS.copy()
        changed[0, position] = 11
        differs = np.abs(logits(model, changed) - before).max(axis=-1) > 1e-9
        assert not differs[1].any()  # another text
        if position < 5:
            assert differs[0, 5:].all()  # both ways in the source: all of the target changes,
            assert differs[0, [0, 1, 2]].all()  # and the tokens before it in the source too
        else:
            assert not differs[0, :position].any() and differs[0, position:].all()


def test_padding_changes_nothing():
    longer = replace(SHAPE, context=12, source_length=8, positions="sinusoidal")
    small, large = drawn(replace(SHAPE, positions="sinusoidal")), drawn(longer)
    wide = np.concatenate([TOKENS[:, :5], np.zeros((2, 3), int), TOKENS[:, 5:]], axis=1)
    assert np.allclose(logits(large, wide)[:, 8:], logits(small, TOKENS)[:, 5:], atol=1e-12)


def test_positions_begin_again_in_the_target():
    model = drawn(replace(SHAPE, positions="sinusoidal"))
    same = np.array([[0, 3, 4, 5, 6, 0, 3, 4, 5]])
    x = model.layers["embedding"](same, place(same)).data
    assert np.allclose(x[0, :4], x[0, 5:])


def test_a_source_without_tokens_is_no_error():
    empty = np.zeros((1, 9), int)
    assert visible(empty, 5).tolist() == [[True, False, False, False, False]]
    assert np.isfinite(logits(drawn(), empty)).all()


@pytest.mark.parametrize("config", OPTIONS.values(), ids=OPTIONS)
def test_the_cache_gives_the_same_logits_and_runs_the_encoder_once(config, monkeypatch):
    model, runs = drawn(config), []
    attend = EncoderBlock.forward

    def counted(self, x, place):
        runs.append((place.positions < 5).sum())
        return attend(self, x, place)

    with_cache, without = (next_logits(model, TOKENS[:, :6], cached) for cached in (True, False))
    monkeypatch.setattr(EncoderBlock, "forward", counted)
    cached = [next(with_cache), *(with_cache.send(TOKENS[:, n]) for n in (6, 7, 8))]
    assert sum(n > 0 for n in runs) == config.encoder_layers
    plain = [next(without), *(without.send(TOKENS[:, n]) for n in (6, 7, 8))]
    assert all(np.allclose(a, b, atol=1e-12) for a, b in zip(cached, plain, strict=True))
    assert np.allclose(cached[-1], logits(model, TOKENS)[:, -1], atol=1e-12)


def test_generation_ends_with_the_window():
    written = list(generate(drawn(), SHAPE.prompt([3, 4]), length=50, texts=range(3)))
    assert len(written) == SHAPE.target_length


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputation_changes_nothing(recompute):
    config, at = replace(SHAPE, dropout=0.3), place(TOKENS, key=random.key(3), training=True)
    plain, again = drawn(config), drawn(config, recompute)
    for model in (plain, again):
        model.loss(TOKENS, TARGETS, at).backward()
    for p, q in zip(plain.parameters().values(), again.parameters().values(), strict=True):
        assert p.name == q.name and np.allclose(p.grad, q.grad, rtol=1e-12, atol=1e-15)


def test_dropout_depends_on_the_place_alone():
    model, at = drawn(replace(SHAPE, dropout=0.3)), Place(np.arange(2), np.arange(9), 5, training=True)
    whole = model(TOKENS, at).data
    second = model(TOKENS[1:], replace(at, samples=np.array([1]))).data
    assert np.allclose(whole[1:], second, atol=1e-12)
    assert not np.allclose(whole, model(TOKENS, replace(at, key=6)).data)


def test_16_bit_numbers():
    for dtype in ("float16", "bfloat16"):
        pytest.importorskip("ml_dtypes")
        model = gpt(SHAPE).draw(0, dtype)
        loss = model.loss(TOKENS, TARGETS)
        loss.backward()
        assert loss.data.dtype == np.float32
        assert all(p.grad.dtype == np.float32 for p in model.parameters().values())


def test_the_parameters_stay_float32():
    model = gpt(SHAPE).draw(0)
    y = model.hidden(TOKENS)
    assert isinstance(y, Tensor) and y.data.dtype == np.float32
    ops.sum(y).backward()
    assert {p.grad.dtype for p in model.parameters().values()} == {np.dtype("float32")}


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"source_length": 9}, "source_length is 9 and context 9"),
        ({"source_length": -1}, "source_length is -1"),
        ({"context": 1, "source_length": 0}, "source_length is 0 and context 1"),
        ({"encoder_layers": 3}, "encoder_layers is 3 and num_layers 3"),
        ({"num_layers": 1, "encoder_layers": 0}, "encoder_layers is 0 and num_layers 1"),
        ({"attention": False}, "only attention connects"),
        ({"causal": False}, "only its source is seen from both sides"),
        ({"experts": 4}, "experts are not built"),
        ({"nhead": 3}, "cannot be split into 3 heads"),
    ],
)
def test_shapes_that_cannot_be(wrong, said):
    with pytest.raises(BadInput, match=said):
        replace(SHAPE, **wrong)


def test_a_source_that_is_too_long():
    with pytest.raises(BadInput, match="the source text has 5 tokens, and the model has room for 4"):
        SHAPE.prompt([3] * 5)


def test_a_gpt_keeps_its_parameters_and_prompts():
    assert list(gpt(Config(vocab_size=9)).layers) == ["embedding", "block0", "block1", "norm", "head"]
    assert SHAPE.as_gpt().num_layers == 5 and type(SHAPE.as_gpt()) is Config
    assert gpt(SHAPE).count() <= gpt(SHAPE.as_gpt()).count()
