"""The whole model at every option: gradients, dtypes, causality, counts, accumulation, initial values."""

import itertools
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from minimega import ops, random, train
from minimega.autograd import Operation, Tensor, no_grad, saved_bytes
from minimega.errors import BadInput
from minimega.gradcheck import assert_gradients
from minimega.head import cross_entropy
from minimega.layer import Place, place
from minimega.model import SHAPES, Config, gpt
from minimega.optim import gradient_norm
from minimega.parameter import Parameter

IDS = np.array([[3, 1, 1, 0], [2, 4, 3, 3]])
TARGETS = np.array([[1, 1, 0, -1], [4, 3, 3, 2]])
SMALL = {"vocab_size": 5, "context": 4, "d_model": 4, "nhead": 2, "num_layers": 1, "d_hidden": 6}


def model(dtype="float64", spread=0.3, **options):
    """A small model, every parameter away from its first value."""
    made = gpt(Config(**{**SMALL, **options})).draw(seed=1, dtype=dtype)
    for n, p in made.parameters().items():
        p.data += (
            (spread * random.normal(random.key(2, n), np.arange(p.size))).reshape(p.whole_shape).astype(dtype)
        )
    return made


def training_place(ids=IDS):
    return place(ids, key=random.key(0, "step", 3), training=True)


OPTIONS = [
    {},
    {"num_layers": 2, "dropout": 0.3},
    {"norm_position": "post"},
    {"norm_position": "post", "dropout": 0.2, "tied": False, "head_bias": True, "positions": "sinusoidal"},
    {"positions": "sinusoidal", "dropout": 0.2},
    {"tied": False},
    {"head_bias": True},
    {"tied": False, "head_bias": True, "activation": "relu"},
    {"attention": False, "dropout": 0.2},
    {"attention": False, "norm_position": "post", "positions": "sinusoidal"},
    {"activation": "relu", "d_hidden": 0},
    {"causal": False},
    {"causal": False, "num_layers": 2, "dropout": 0.2, "norm_position": "post", "positions": "sinusoidal"},
    {"activation": "gelu-erf", "norm_eps": 0.1},
    {"nhead": 4},
    {"nhead": 1, "d_model": 3},
    {"d_embedding": 7},
    {"d_embedding": 2, "tied": False, "norm_position": "post", "dropout": 0.2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_of_the_whole_model(options):
    made = model(**options)
    assert_gradients(made, IDS, TARGETS, training_place(), directions=2)


def test_every_pair_of_options_gives_a_gradient_to_every_parameter():
    for norm, positions, tied, bias, attention, activation, dropout in itertools.product(
        ("pre", "post"),
        ("learned", "sinusoidal"),
        (True, False),
        (True, False),
        (True, False),
        ("gelu", "relu"),
        (0.0, 0.2),
    ):
        made = model(
            norm_position=norm,
            positions=positions,
            tied=tied,
            head_bias=bias,
            attention=attention,
            activation=activation,
            dropout=dropout,
        )
        made.loss(IDS, TARGETS, training_place()).backward()
        names = set(made.parameters())
        for name, p in made.parameters().items():
            assert p.grad is not None and p.grad.shape == p.whole_shape, name
            assert p.grad.any(), name
        assert ("embedding.positions" in names) == (positions == "learned")
        assert ("head.weight" in names) == (not tied)
        assert ("head.bias" in names) == bias
        assert ("norm.weight" in names) == (norm == "pre")
        assert any("attention" in n for n in names) == attention


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_float32_stays_float32_everywhere(options, monkeypatch):
    """Every value and gradient on the way: a single float64 would slow down everything after it."""
    seen = []
    remember = Operation.__init__

    def watched(self, name, args, back, shape, most):
        def watched_back(dy):
            seen.append(("dy of " + name, dy.dtype))
            dxs = back(dy)
            dxs = dxs if isinstance(dxs, tuple) else (dxs,)
            dxs = tuple(d() if callable(d) else d for d in dxs)
            seen.extend(("gradient from " + name, d.dtype) for d in dxs if d is not None)
            return dxs

        seen.extend(("input of " + name, a.dtype) for a in args if isinstance(a, Tensor))
        remember(self, name, args, watched_back, shape, most)

    monkeypatch.setattr(Operation, "__init__", watched)
    made = model("float32", **options)
    loss = made.loss(IDS, TARGETS, training_place(), count=np.int64(6))
    loss.backward()
    seen += [("the loss", loss.dtype)]
    seen += [(name, p.grad.dtype) for name, p in made.parameters().items()]
    seen += [(name, p.data.dtype) for name, p in made.parameters().items()]
    assert len(seen) > 50
    assert [(what, str(dtype)) for what, dtype in seen if dtype != np.float32] == []


@pytest.mark.parametrize("options", [o for o in OPTIONS if o.get("causal", True)], ids=str)
def test_a_later_token_never_reaches_an_earlier_one(options):
    made = model("float32", **options)
    at = training_place()
    logits = made(IDS, at).data
    for t in range(1, 4):
        changed = IDS.copy()
        changed[:, t:] = (changed[:, t:] + 1) % 5
        again = made(changed, at).data
        np.testing.assert_array_equal(again[:, :t], logits[:, :t])
        assert (again[:, t] != logits[:, t]).any()


@pytest.mark.parametrize("options", [o for o in OPTIONS if not o.get("causal", True)], ids=str)
def test_without_the_causal_mask_each_token_reaches_all_others(options):
    made = model("float32", **options)
    at = training_place()
    logits = made(IDS, at).data
    for t in range(4):
        changed = IDS.copy()
        changed[:, t] = (changed[:, t] + 1) % 5
        assert (made(changed, at).data != logits).any(axis=-1).all()


def test_without_attention_no_token_sees_another():
    made = model(attention=False)
    logits = made(IDS).data
    changed = IDS.copy()
    changed[:, 0] = (changed[:, 0] + 1) % 5
    np.testing.assert_array_equal(made(changed).data[:, 1:], logits[:, 1:])
    assert (model()(changed).data[:, 1:] != model()(IDS).data[:, 1:]).any()


def test_the_model_is_the_composition_that_its_docstrings_say():
    made = model(num_layers=2, head_bias=True)
    p = {n: t.data for n, t in made.parameters().items()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]

    def dense(x, name):
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    x = p["embedding.tokens"][IDS] + p["embedding.positions"]
    for i in range(2):
        qkv = dense(norm(x, f"block{i}.attention.norm"), f"block{i}.attention.branch.qkv").reshape(
            2, 4, 2, 3, 2
        )
        q, k, v = (qkv[:, :, :, j].transpose(0, 2, 1, 3) for j in range(3))
        w = np.where(np.tri(4, dtype=bool), np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(2)), 0)
        y = (w / w.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(2, 4, 4)
        x = x + dense(y, f"block{i}.attention.branch.out")
        h = ops.gelu(dense(norm(x, f"block{i}.mlp.norm"), f"block{i}.mlp.branch.up"))[0]
        x = x + dense(h, f"block{i}.mlp.branch.down")
    logits = norm(x, "norm") @ p["embedding.tokens"].T + p["head.bias"]
    np.testing.assert_allclose(made(IDS).data, logits, rtol=1e-10)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    rows = [-logs[b, t, TARGETS[b, t]] for b in range(2) for t in range(4) if TARGETS[b, t] >= 0]
    np.testing.assert_allclose(made.loss(IDS, TARGETS).data, np.mean(rows))


def gradients(made):
    found = {n: p.grad for n, p in made.parameters().items()}
    for p in made.parameters().values():
        p.grad = None
    return found


@pytest.mark.parametrize("parts", [2, 3, 6])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_accumulation_with_the_global_count_is_the_whole_batch(parts, dropout, rng):
    made = model(dropout=dropout, context=7)
    ids, targets = rng.integers(0, 5, (2, 6, 7))
    targets[rng.random(targets.shape) < 0.4] = -1  # the parts count different numbers of tokens
    targets[:2] = -1  # one of them none at all
    count = int((targets >= 0).sum())
    key = random.key(0, "step", 1)
    whole = made.loss(ids, targets, place(ids, key=key, training=True))
    whole.backward()
    expected, total = gradients(made), 0.0
    for rows in np.arange(6).reshape(parts, -1):
        at = Place(rows, np.arange(7), key, training=True)
        part = made.loss(ids[rows], targets[rows], at, count=count)
        part.backward()
        total += part.data
    np.testing.assert_allclose(total, whole.data, rtol=1e-13)
    for name, g in gradients(made).items():
        np.testing.assert_allclose(g, expected[name], rtol=1e-10, atol=1e-14, err_msg=name)


def test_the_mean_of_the_parts_means_would_be_something_else(rng):
    """The planted mistake: each part divides by its own count."""
    made = model()
    whole = made.loss(IDS, TARGETS).data
    parts = [made.loss(IDS[i : i + 1], TARGETS[i : i + 1]).data for i in range(2)]
    assert abs(np.mean(parts) - whole) > 1e-4


def test_targets_that_are_not_counted_change_nothing(rng):
    made = model(num_layers=2)
    targets = TARGETS.copy()
    targets[:, 2:] = -1
    made.loss(IDS, targets).backward()
    expected = gradients(made)
    changed = IDS.copy()
    changed[:, 2:] = 0  # later tokens, which no counted token sees
    made.loss(changed, targets).backward()
    for name, g in gradients(made).items():
        np.testing.assert_allclose(g, expected[name], atol=1e-15, err_msg=name)
    assert not expected["embedding.positions"][2:].any()  # exactly 0
    logits = Tensor(made(IDS).data)
    cross_entropy(logits, targets).backward()
    assert not logits.grad[targets < 0].any() and logits.grad[targets >= 0].all()


def test_tied_weights_are_one_parameter_with_the_gradient_of_both_uses():
    tied, untied = model(), model(tied=False)
    assert tied.layers["head"].weight is tied.layers["embedding"].tokens
    for name, p in untied.parameters().items():
        p.data = tied.parameters()["embedding.tokens" if name == "head.weight" else name].data
    for made in (tied, untied):
        made.loss(IDS, TARGETS).backward()
    grads = gradients(untied)
    both = grads["embedding.tokens"] + grads["head.weight"]
    np.testing.assert_allclose(gradients(tied)["embedding.tokens"], both, rtol=1e-13)
    assert tied.count() == untied.count() - 5 * 4


def test_dropout_is_off_in_evaluation():
    plain, dropped = model(), model(dropout=0.5)
    np.testing.assert_array_equal(dropped(IDS).data, plain(IDS).data)
    assert (dropped(IDS, training_place()).data != plain(IDS).data).any()
    np.testing.assert_array_equal(dropped(IDS, training_place()).data, dropped(IDS, training_place()).data)


def test_evaluation_holds_nothing():
    with no_grad():
        loss = model().loss(IDS, TARGETS)
    assert saved_bytes(loss) == {} and loss.maker is None


# First values


def test_first_values_are_a_function_of_seed_and_name_alone():
    small, deep = (
        gpt(Config(**SMALL)).draw(3),
        gpt(Config(**{**SMALL, "num_layers": 4, "head_bias": True})).draw(3),
    )
    for name, p in small.parameters().items():
        same = deep.parameters()[name].data
        scale = 2 if name.endswith(("attention.branch.out.weight", "mlp.branch.down.weight")) else 1
        np.testing.assert_allclose(p.data, same * scale, rtol=1e-6, err_msg=name)
    again, other = gpt(Config(**SMALL)).draw(3), gpt(Config(**SMALL)).draw(4)
    for name, p in small.parameters().items():
        np.testing.assert_array_equal(p.data, again.parameters()[name].data)
        assert p.whole_shape[1:] == () or (p.data != other.parameters()[name].data).all()


def test_a_rank_could_draw_its_piece_alone():
    p = Parameter((6, 8), std=0.5, mean=1.0)
    p.name = "w"
    places = np.arange(48).reshape(6, 8)[2:4, 3:7]
    piece = 1.0 + 0.5 * random.normal(random.key(7, "parameter", "w"), places)
    np.testing.assert_array_equal(p.draw(7, "float64").data[2:4, 3:7], piece)


@pytest.mark.parametrize("layers", [1, 2, 8])
def test_sizes_of_first_values(layers):
    made = gpt(
        Config(vocab_size=300, context=64, d_model=64, nhead=4, num_layers=layers, tied=False, head_bias=True)
    )
    for name, p in made.draw(0).parameters().items():
        if name.endswith("bias"):
            assert not p.data.any()
        elif "norm" in name:
            assert (p.data == 1).all()
        else:
            residual = name.endswith(("attention.branch.out.weight", "mlp.branch.down.weight"))
            std = 0.02 / (2 * layers) ** 0.5 if residual else 0.02
            assert abs(p.data.std() / std - 1) < 4 / np.sqrt(2 * p.size), name
            assert abs(p.data.mean()) < 4 * std / np.sqrt(p.size), name
        assert p.data.dtype == np.float32


def test_what_decays():
    made = gpt(Config(**SMALL, head_bias=True, tied=False))
    decays = {n for n, p in made.parameters().items() if p.decays}
    assert {n for n in made.parameters() if n.endswith("bias") or "norm" in n}.isdisjoint(decays)
    assert {
        n for n in made.parameters() if n.endswith(("tokens", "positions", "weight")) and "norm" not in n
    } == decays


def test_the_gradient_norm_of_first_values_is_moderate(rng):
    made = gpt(Config(vocab_size=50, context=16, d_model=32, nhead=4)).draw(0)
    ids, targets = rng.integers(0, 50, (2, 4, 16))
    loss = made.loss(ids, targets)
    loss.backward()
    assert abs(loss.data - np.log(50)) < 0.1
    assert 0.01 < gradient_norm(made.parameters().values()) < 10


# Counts and bad configurations


# Radford et al. 2019's released checkpoints (the sizes of their weights); the others' papers round theirs:
# 175 billion (Brown et al. 2020), 8.3 billion (Shoeybi et al. 2019), 530 billion (Smith et al. 2022).
@pytest.mark.parametrize(
    "name, low, high",
    [
        ("gpt2", 124_439_808, 124_439_808),
        ("gpt2-medium", 354_823_168, 354_823_168),
        ("gpt2-large", 774_030_080, 774_030_080),
        ("gpt2-xl", 1_557_611_200, 1_557_611_200),
        ("megatron-8.3b", 8.25e9, 8.35e9),
        ("gpt3-175b", 174.5e9, 175.5e9),
        ("megatron-turing-nlg", 529.5e9, 530.5e9),
    ],
)
def test_counts_are_the_published_ones_and_take_no_memory(name, low, high):
    tracemalloc.start()
    count = gpt(Config(**SHAPES[name])).count()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert low <= count <= high
    assert peak < 5e6


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_count_is_what_is_drawn(options):
    made = gpt(Config(**{**SMALL, **options}))
    before = made.count()
    assert before == sum(p.data.size for p in made.draw(0).parameters().values())


@pytest.mark.parametrize(
    "options, says",
    [
        ({"vocab_size": 0}, "vocab_size is 0; it must be at least 1"),
        ({"context": 0}, "context is 0"),
        ({"d_model": -4}, "d_model is -4"),
        ({"nhead": 0}, "nhead is 0"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"d_hidden": -1}, "d_hidden is -1"),
        ({"d_model": 10, "nhead": 3}, "d_model 10 cannot be split into 3 heads.*choose an nhead"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must lie in \[0, 1\)"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"activation": "swish"}, "activation is 'swish'; it can be gelu or relu"),
        ({"norm_position": "middle"}, "norm_position is 'middle'; it can be pre or post"),
        ({"positions": "rotary"}, "positions is 'rotary'; it can be learned or sinusoidal"),
    ],
    ids=str,
)
def test_bad_configurations_say_what_is_wrong(options, says):
    with pytest.raises(BadInput, match=says) as caught:
        Config(**{**SMALL, **options})
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("recompute", ["selective", "full"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputation_changes_no_bit_and_holds_less(recompute, dropout):
    config = Config(vocab_size=11, context=16, d_model=8, nhead=2, num_layers=2, dropout=dropout)
    tokens = np.arange(32).reshape(2, 16) % 11
    at = place(tokens, training=True, key=3)
    plain, again = gpt(config).draw(0), gpt(config, recompute=recompute).draw(0)
    losses = [model.loss(tokens, tokens, at) for model in (plain, again)]
    assert losses[0].data == losses[1].data
    held = [sum(saved_bytes(loss).values()) for loss in losses]
    assert held[1] < (0.9 if recompute == "selective" else 0.4) * held[0]
    for loss in losses:
        loss.backward()
    for name, p in plain.parameters().items():
        assert (p.grad == again.parameters()[name].grad).all(), name
    assert list(plain.parameters()) == list(again.parameters())


# What a model cannot take

VARIANTS = [{}, {"positions": "sinusoidal"}, {"tied": False}, {"attention": False}, {"experts": 2}]


@pytest.mark.parametrize("token", [5, 1000, -1, -5])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_token_outside_of_the_vocabulary_is_an_error(options, token):
    made, ids = model(**options), IDS.copy()
    ids[1, 2] = token
    said = rf"token id {token} at position 2 of sequence 1 is outside .*\n5 tokens, 0 to 4"
    for use in (made, made.hidden, lambda ids: made.loss(ids, TARGETS)):
        with pytest.raises(BadInput, match=said):
            use(ids)
    moved = Place(np.array([7, 9]), np.arange(4), training=True)  # rows of a larger batch
    with pytest.raises(BadInput, match="at position 2 of sequence 9 "):
        made.loss(ids, TARGETS, moved)
    with pytest.raises(BadInput, match="token ids must be integers, but these are float64"):
        made(IDS + 0.0)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_window_longer_than_the_context_is_an_error(options):
    made, ids = model(**options), np.zeros((2, 5), int)
    for use in (made, lambda ids: made.loss(ids, ids)):
        with pytest.raises(BadInput, match="a window of 5 tokens is longer than the context of 4"):
            use(ids)
    with no_grad(), pytest.raises(BadInput, match="a window of 6 tokens"):
        made(ids[:, :1], place(ids[:, :1], start=5))  # as a cache goes on behind the others
    with pytest.raises(BadInput, match="a window of 9 tokens"):  # of which this rank has few
        made(IDS, replace(place(IDS), length=9))


@pytest.mark.parametrize("target", [5, -2, -100])
def test_a_models_target_outside_of_the_vocabulary_is_an_error(target):
    targets = TARGETS.copy()
    targets[0, 1] = target
    with pytest.raises(BadInput, match=rf"target {target} at \(0, 1\) is outside"):
        model().loss(IDS, targets)
    with pytest.raises(BadInput, match=f"target {target} at"):
        train.Alone().gradients(model(), IDS, targets)


def test_a_factorised_model_is_that_of_the_product_of_its_two_tables():
    shape = {**SMALL, "num_layers": 2}
    made, whole = (
        gpt(Config(**shape, d_embedding=3)).draw(0, "float64"),
        gpt(Config(**shape)).draw(0, "float64"),
    )
    other = made.parameters()
    for name, p in whole.parameters().items():
        tables = name == "embedding.tokens"
        p.data = other[name].data @ other["embedding.projection"].data if tables else other[name].data
    assert np.allclose(made(IDS).data, whole(IDS).data, atol=1e-12)
    # it starts as large as one without a projection
    large = gpt(Config(vocab_size=900, d_model=64, nhead=4, d_embedding=32)).draw(0).parameters()
    product = large["embedding.tokens"].data @ large["embedding.projection"].data
    assert np.isclose(product.std(), 0.02, rtol=0.05)


@pytest.mark.parametrize(
    "options", [{}, {"positions": "sinusoidal", "head_bias": True}, {"tied": False}], ids=str
)
def test_a_factorised_table_and_its_projection_get_gradients_from_both_ends(options):
    made = model(d_embedding=3, **options)
    assert_gradients(made, IDS, TARGETS, training_place(), directions=2)
