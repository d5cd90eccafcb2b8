"""Layers at every option: gradients, attention's masks, dropout as a function of the place."""

import math

import numpy as np
import pytest

from minimega import ops, random
from minimega.attention import Attention, attention, attention_weights, heads_apart, self_attention
from minimega.autograd import Tensor, op
from minimega.embedding import SinusoidalEmbedding, TextEmbedding, sinusoids
from minimega.errors import BadInput
from minimega.gradcheck import assert_gradients, check
from minimega.head import Head
from minimega.layer import Dropout, Layer, Place, place
from minimega.linear import ColumnLinear, RowLinear
from minimega.mlp import MLP, gelu_erf
from minimega.model import Block, Config, PostNorm, PreNorm, gpt
from minimega.norm import LayerNorm, layer_norm
from minimega.parameter import Parameter

B, T, D = 2, 4, 6
IDS = np.array([[3, 1, 1, 0], [2, 4, 3, 3]])


def at_place(training=True):
    return place(IDS, key=random.key(5, "step", 1), training=training)


def drawn(layer, name="layer"):
    """The layer with every parameter away from its first value: gains are not 1, biases not 0."""
    layer.named(name).draw(seed=1, dtype="float64")
    for n, p in layer.parameters().items():
        p.data = p.data + 0.3 * random.normal(random.key(2, n), np.arange(p.size)).reshape(p.whole_shape)
    return layer


def x_like(shape=(B, T, D)):
    return random.normal(9, np.arange(np.prod(shape))).reshape(shape)


# Attention


def shapes(q, k, v=None):
    return [x_like(s) for s in (q, k, v or k)]


ATTENTIONS = [
    (shapes((2, 3, 4, 2), (2, 3, 4, 2)), True),
    (shapes((2, 3, 4, 2), (2, 3, 4, 2)), False),
    (shapes((1, 1, 1, 1), (1, 1, 3, 1)), False),
    (shapes((2, 2, 2, 3), (2, 2, 5, 3)), True),  # the queries are the last 2 of 5 tokens
    (shapes((2, 2, 2, 3), (2, 2, 5, 3)), False),  # cross attention to a longer text
    (shapes((2, 2, 5, 3), (2, 2, 2, 3)), False),  # and to a shorter one
    (shapes((1, 2, 3, 2), (1, 2, 3, 2), (1, 2, 3, 5)), True),  # values of another width
]


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize(
    "arrays, causal", ATTENTIONS, ids=lambda v: str(v[0].shape if isinstance(v, list) else v)
)
def test_attention(arrays, causal, dropped, rng):
    q, k, v = (a * (i + 1) for i, a in enumerate(arrays))
    t, s = q.shape[-2], k.shape[-2]
    mask = rng.random((*q.shape[:2], t, s)) < 0.6
    keep = (lambda: mask) if dropped else None
    assert_gradients(lambda q, k, v: attention(q, k, v, causal=causal, keep=keep, p=0.4), q, k, v)
    for b, h in np.ndindex(q.shape[:2]):  # the formula, token by token
        for i in range(t):
            seen = s - t + i + 1 if causal else s
            w = np.exp(k[b, h, :seen] @ q[b, h, i] / np.sqrt(q.shape[-1]))
            w = w / w.sum() * (mask[b, h, i, :seen] / 0.6 if dropped else 1)
            y = attention(q, k, v, causal=causal, keep=keep, p=0.4)[0][b, h, i]
            np.testing.assert_allclose(y, w @ v[b, h, :seen], atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_self_attention(heads, causal, rng):
    qkv = rng.normal(size=(B, T, 3 * D))
    assert_gradients(lambda x: self_attention(x, heads=heads, causal=causal), qkv)
    split = qkv.reshape(B, T, heads, 3, -1)
    y = attention(*(split[:, :, :, i].transpose(0, 2, 1, 3) for i in range(3)), causal=causal)[0]
    np.testing.assert_array_equal(
        self_attention(qkv, heads=heads, causal=causal)[0], y.transpose(0, 2, 1, 3).reshape(B, T, D)
    )


def test_self_attention_with_dropped_weights(rng):
    qkv, mask = rng.normal(size=(B, T, 3 * D)), rng.random((B, 2, T, T)) < 0.7
    assert_gradients(lambda x: self_attention(x, heads=2, keep=lambda: mask, p=0.3), qkv)


def test_a_cut_between_heads_cuts_no_head(rng):
    qkv = rng.normal(size=(B, T, 3 * D))
    whole = self_attention(qkv, heads=3)[0]
    for h in range(3):
        alone = self_attention(np.ascontiguousarray(qkv[..., 6 * h : 6 * h + 6]), heads=1)[0]
        np.testing.assert_allclose(alone, whole[..., 2 * h : 2 * h + 2], rtol=1e-14)


def test_self_attention_recalls_earlier_keys_and_values(rng):
    qkv = rng.normal(size=(B, T, 3 * D))
    kept = [
        heads_apart(qkv.reshape(B, T, 2, 3, -1)[:, :, :, i].reshape(B, T, D), 2)[:, :, :3] for i in (1, 2)
    ]

    def recall(k, v):
        return tuple(np.concatenate((a, b), axis=2) for a, b in zip(kept, (k, v), strict=True))

    last = self_attention(qkv[:, 3:], heads=2, recall=recall)[0]
    np.testing.assert_allclose(last, self_attention(qkv, heads=2)[0][:, 3:], rtol=1e-12)


@pytest.mark.parametrize(
    "t, s, causal", [(5, 5, True), (5, 5, False), (2, 6, True), (1, 1, True), (3, 2, False)]
)
def test_each_row_of_weights_adds_up_to_one(t, s, causal, rng):
    w = attention_weights(rng.normal(size=(2, 3, t, 4)), rng.normal(size=(2, 3, s, 4)), causal)
    np.testing.assert_allclose(w.sum(-1), 1, rtol=1e-14)
    assert (w >= 0).all()
    if causal:
        later = np.arange(s) > np.arange(s - t, s)[:, None]
        assert not w[..., later].any() and w[..., ~later].all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("time", [4, 33])
def test_a_later_token_never_reaches_an_earlier_one(dtype, time, rng):
    layer = drawn(Attention(8, 2)).draw(seed=0, dtype=dtype)
    x = rng.normal(size=(3, time, 8)).astype(dtype)
    at = place(np.zeros((3, time)), key=1)
    y = layer(Tensor(x), at).data
    for t in range(1, time, 5):
        changed = x.copy()
        changed[:, t:] = rng.normal(size=changed[:, t:].shape) * 100
        again = layer(Tensor(changed), at).data
        np.testing.assert_array_equal(again[:, :t], y[:, :t])  # bit for bit
        assert (again[:, t] != y[:, t]).any()
        x_ = Tensor(x)
        out = layer(x_, at)
        dy = np.zeros_like(x)
        dy[:, t - 1] = 1
        out.backward(dy)
        assert x_.grad[:, :t].any() and not x_.grad[:, t:].any()  # and no gradient flows back


def test_attention_of_huge_logits():
    q = np.array([1e4, -1e4, 1e4], np.float32).reshape(1, 1, 3, 1)
    y, back = attention(q, q / 10, q)
    np.testing.assert_array_equal(y.ravel(), [1e4, -1e4, 1e4])
    assert all(np.isfinite(d).all() for d in back(np.ones_like(y)))


def forgets_the_softmax_sum(q, k, v):
    y, back = attention(q, k, v)
    w = attention_weights(q * q.shape[-1] ** -0.5, k)

    def wrong(dy):
        ds = w * (dy @ v.swapaxes(-1, -2))
        return ds @ k * q.shape[-1] ** -0.5, ds.swapaxes(-1, -2) @ q * q.shape[-1] ** -0.5, back(dy)[2]

    return y, wrong


def forgets_the_scale(q, k, v):
    y, back = attention(q, k, v)
    return y, lambda dy: (back(dy)[0] * q.shape[-1] ** 0.5, *back(dy)[1:])


@pytest.mark.parametrize("f", [forgets_the_softmax_sum, forgets_the_scale], ids=lambda f: f.__name__)
def test_planted_mistakes_in_attention_are_found(f):
    assert not check(f, *ATTENTIONS[0][0]).ok
    assert not check(lambda *xs: op(f)(*xs), *ATTENTIONS[0][0]).ok


# Every layer, its parameters included


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: Attention(D, 2, dropout=0.3),
        lambda: Attention(D, 1),
        lambda: MLP(D, 5, "gelu"),
        lambda: MLP(D, 5, "relu"),
        lambda: MLP(D, 5, "gelu-erf"),
        lambda: LayerNorm(D),
        lambda: LayerNorm(D, eps=0.5),
        lambda: Dropout(0.4),
        lambda: PreNorm(MLP(D, 5), D, 0.3),
        lambda: PostNorm(MLP(D, 5), D, 0.3),
        lambda: PreNorm(Attention(D, 3, 0.2), D, 0.3),
        lambda: Block(Config(vocab_size=5, d_model=D, nhead=2, num_layers=1, dropout=0.3)),
        lambda: Block(Config(vocab_size=5, d_model=D, nhead=2, num_layers=1, norm_position="post")),
        lambda: Block(Config(vocab_size=5, d_model=D, nhead=2, num_layers=1, attention=False)),
    ],
)
def test_gradients_of_layers(make, training):
    layer = drawn(make())
    assert_gradients(layer, x_like(), at_place(training), directions=4)
    assert layer(Tensor(x_like()), at_place(training)).shape == (B, T, D)


def test_gradients_of_layers_without_a_place():
    assert_gradients(drawn(RowLinear(D, 3)), x_like())
    assert_gradients(drawn(ColumnLinear(D, 3)), x_like(), at_place(False))
    assert_gradients(drawn(LayerNorm(D)), x_like())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", [TextEmbedding, SinusoidalEmbedding])
def test_gradients_of_embeddings(kind, dropout):
    layer = drawn(kind(5, 4, D, dropout))
    assert_gradients(layer, IDS, at_place())
    assert list(layer.parameters()) == [
        "layer.tokens",
        *(["layer.positions"] if kind is TextEmbedding else []),
    ]


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_the_head(bias):
    layer = drawn(Head(Parameter((5, D), std=1.0), bias))
    assert_gradients(layer, x_like(), at_place())
    assert len(layer.parameters()) == 1 + bias


def test_embeddings_say_what_they_say():
    table = drawn(TextEmbedding(5, 4, D))
    at = Place(np.arange(2), np.arange(1, 4))  # positions 1 to 3 of the window
    ids = IDS[:, :3]
    np.testing.assert_array_equal(table(ids, at).data, table.tokens.data[ids] + table.positions.data[1:4])
    waves = drawn(SinusoidalEmbedding(5, 4, D))
    np.testing.assert_allclose(
        waves(ids, at).data, waves.tokens.data[ids] * D**0.5 + sinusoids(np.arange(4), D)[1:4]
    )


def test_sinusoids_are_those_of_the_paper():
    for pos in (0, 1, 77):
        for i in range(3):
            angle = pos / 10000 ** (2 * i / D)
            pair = sinusoids(np.array([pos]), D)[0, 2 * i : 2 * i + 2]
            np.testing.assert_allclose(pair, [np.sin(angle), np.cos(angle)], atol=1e-15)
    assert sinusoids(np.arange(3), 5).shape == (3, 5)  # an odd width too


@pytest.mark.parametrize("name", ["gelu", "relu"])
def test_mlp_is_two_maps_around_an_activation(name):
    layer = drawn(MLP(D, 5, name))
    x = x_like()
    hidden = x @ layer.up.weight.data + layer.up.bias.data
    f = {"gelu": ops.gelu, "relu": ops.relu}[name]
    np.testing.assert_allclose(
        layer(Tensor(x), at_place()).data, f(hidden)[0] @ layer.down.weight.data + layer.down.bias.data
    )


def test_the_exact_gelu_is_the_one_of_the_error_function():
    x = np.concatenate([np.linspace(-12, 12, 2001), [0.0, -40.0, 40.0]])
    exact = [v * math.erfc(-v / math.sqrt(2)) / 2 for v in x]
    np.testing.assert_allclose(gelu_erf(x)[0], exact, rtol=0, atol=2e-15)
    y = gelu_erf(x.astype("float32"))[0]
    assert y.dtype == "float32"
    np.testing.assert_allclose(y, exact, rtol=3e-7, atol=1e-6)
    assert np.isnan(gelu_erf(np.array([np.nan]))[0]).all()
    assert 1e-4 < abs(gelu_erf(x)[0] - ops.gelu(x)[0]).max() < 1e-3  # GPT-2's formula is another function


def test_the_epsilon_of_a_model_reaches_every_norm():
    config = Config(vocab_size=5, d_model=D, nhead=2, num_layers=2, norm_eps=0.25)
    layers = gpt(config).layers
    norms = [layers["norm"]]
    norms += [
        part.norm for i in range(2) for part in (layers[f"block{i}"].attention, layers[f"block{i}"].mlp)
    ]
    assert [norm.eps for norm in norms] == [0.25] * 5
    x = x_like()
    np.testing.assert_allclose(
        drawn(LayerNorm(D, eps=0.25))(Tensor(x)).data,
        layer_norm(x, *(p.data for p in drawn(LayerNorm(D)).parameters().values()), eps=0.25)[0],
    )
    for eps in (0.0, -1.0, 1.0, float("nan")):
        with pytest.raises(BadInput, match="norm_eps"):
            Config(vocab_size=5, norm_eps=eps)


# Dropout: a function of the place


def test_masks_of_a_part_are_parts_of_the_mask():
    samples, positions, features, heads = np.arange(6), np.arange(8), np.arange(10), np.arange(4)
    whole = Place(samples, positions, key=3, training=True)
    cut = Place(samples[2:5], positions[3:7], key=3, training=True)
    mask = whole.keep("a", 0.5, positions[:, None], features)()
    assert mask.shape == (6, 8, 10)
    part = cut.keep("a", 0.5, cut.local_positions[:, None], features[4:9])()
    np.testing.assert_array_equal(part, mask[2:5, 3:7, 4:9])
    mask = whole.keep("a", 0.5, heads[:, None, None], positions[:, None], positions)()
    assert mask.shape == (6, 4, 8, 8)
    part = cut.keep("a", 0.5, heads[1:3, None, None], positions[3:7, None], positions[:6])()
    np.testing.assert_array_equal(part, mask[2:5, 1:3, 3:7, :6])


def test_dropout_of_a_part_of_the_batch_is_that_part_of_dropout():
    layer = Dropout(0.5).named("site")
    x = np.ones((6, 8, 5))
    y = layer(Tensor(x), place(x[..., 0], key=4, training=True)).data
    cut = Place(np.arange(2, 4), np.arange(5, 8), key=4, training=True)
    np.testing.assert_array_equal(layer(Tensor(x[2:4, 5:]), cut).data, y[2:4, 5:])


def test_attention_drops_the_same_weights_in_any_part_of_the_batch():
    layer = drawn(Attention(D, 2, dropout=0.4))
    x = x_like((5, T, D))
    y = layer(Tensor(x), place(x[..., 0], key=4, training=True)).data
    cut = Place(np.arange(1, 3), np.arange(T), key=4, training=True)
    np.testing.assert_allclose(layer(Tensor(x[1:3]), cut).data, y[1:3], rtol=1e-12)


def test_attentions_dropout_is_a_mask_of_its_own_for_every_head():
    layer = drawn(Attention(D, 3, dropout=0.4))
    x, at = x_like((2, 9, D)), Place(np.array([4, 7]), np.arange(2, 11), key=4, training=True)
    mask = at.keep(
        "layer.core", 0.4, np.arange(3)[:, None, None], at.local_positions[:, None], at.local_positions
    )()
    assert mask.shape == (2, 3, 9, 9)
    assert len({mask[b, h].tobytes() for b in range(2) for h in range(3)}) == 6
    dense = [(layer.qkv.weight.data, layer.qkv.bias.data), (layer.out.weight.data, layer.out.bias.data)]
    y = self_attention(x @ dense[0][0] + dense[0][1], heads=3, keep=lambda: mask, p=0.4)[0]
    np.testing.assert_allclose(layer(Tensor(x), at).data, y @ dense[1][0] + dense[1][1], rtol=1e-10)


def test_the_norm_stands_before_the_branch_or_after_the_sum():
    x, at = x_like(), at_place()
    for kind in (PreNorm, PostNorm):
        layer = drawn(kind(MLP(D, 5), D, 0.3))
        kept = at.keep("layer.dropout", 0.3, at.local_positions[:, None], np.arange(D))() / 0.7

        def norm(x, layer=layer):
            return layer.norm(Tensor(x)).data

        def branch(x, layer=layer, kept=kept):
            return layer.branch(Tensor(x), at).data * kept

        expected = x + branch(norm(x)) if kind is PreNorm else norm(x + branch(x))
        np.testing.assert_allclose(layer(Tensor(x), at).data, expected, rtol=1e-12)


def test_dropout_is_off_unless_training():
    x = x_like()
    layer = Dropout(0.9).named("site")
    np.testing.assert_array_equal(layer(Tensor(x), at_place(training=False)).data, x)
    np.testing.assert_array_equal(Dropout(0.0).named("site")(Tensor(x), at_place()).data, x)
    assert (layer(Tensor(x), at_place()).data != x).any()
    attend = drawn(Attention(D, 2, dropout=0.5))
    plain = drawn(Attention(D, 2))
    np.testing.assert_array_equal(
        attend(Tensor(x), at_place(training=False)).data, plain(Tensor(x), at_place(training=False)).data
    )
    assert (attend(Tensor(x), at_place()).data != plain(Tensor(x), at_place()).data).any()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_keeps_the_share_and_the_mean(p):
    layer, x = Dropout(p).named("site"), np.ones((40, 50, 60))
    y = layer(Tensor(x), place(x[..., 0], key=1, training=True)).data
    assert set(np.unique(y).round(9)) == {0.0, round(1 / (1 - p), 9)}
    deviation = np.sqrt(p * (1 - p) / x.size)
    assert abs((y > 0).mean() - (1 - p)) < 4 * deviation
    assert abs(y.mean() - 1) < 4 * deviation / (1 - p)


def test_masks_differ_between_layers_steps_and_seeds():
    def mask(layer, key):
        return Place(np.arange(8), np.arange(32), key, training=True).keep(
            layer, 0.5, np.arange(32)[:, None], np.arange(32)
        )()

    first = mask("block0.attention.dropout", random.key(0, "step", 1))
    for layer in ("block1.attention.dropout", "block0.mlp.dropout", "embedding.dropout"):
        assert abs((first == mask(layer, random.key(0, "step", 1))).mean() - 0.5) < 4 * 0.5 / np.sqrt(
            first.size
        )
    for key in (random.key(0, "step", 2), random.key(1, "step", 1)):
        same = (first == mask("block0.attention.dropout", key)).mean()
        assert abs(same - 0.5) < 4 * 0.5 / np.sqrt(first.size)


# Layer: names and order


class Two(Layer):
    def __init__(self):
        self.last = Parameter((2, 2), std=1.0)
        self.first = RowLinear(2, 2)
        self.many = [RowLinear(2, 2), RowLinear(2, 2)]
        self.shared = self.first.weight
        self.note = "no part"

    def forward(self, x):
        return self.many[1](self.many[0](self.first(x)))


def test_parameters_stand_in_the_order_of_their_making_each_once():
    two = Two().named()
    assert list(two.parameters()) == [
        "last",
        "first.weight",
        "first.bias",
        "many0.weight",
        "many0.bias",
        "many1.weight",
        "many1.bias",
    ]
    assert two.many[1].name == "many1" and two.shared.name == "first.weight"
    assert list(Two().named("top").parameters())[:2] == ["top.last", "top.first.weight"]


def test_parameters_without_names_get_those_of_their_paths():
    assert list(Two().parameters()) == list(Two().named().parameters())


def test_a_place_of_a_whole_batch():
    at = place(np.zeros((3, 5)), start=2, key=9, training=True)
    assert (at.samples.tolist(), at.local_positions.tolist()) == ([0, 1, 2], [2, 3, 4, 5, 6])
    assert (at.key, at.training, at.recall("x", 1, 2)) == (9, True, (1, 2))


def test_the_methods_of_a_tensor_are_methods_of_a_parameter_too():
    scale = Parameter((2, 3), mean=2.0).draw(0)
    assert scale.mean().item() == 2.0 and scale.size == 6 and scale.max().shape == ()
