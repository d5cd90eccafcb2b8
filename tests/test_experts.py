"""Experts on one rank: operations and layer against finite differences; routing; the balance loss."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from minimega import experts, ops
from minimega.autograd import Tensor, no_grad, saved_bytes
from minimega.checkpoint import checkpoint
from minimega.costs import memory
from minimega.errors import BadInput
from minimega.experts import Experts, attach, balance, from_experts, gates, grouped, route, to_experts
from minimega.gradcheck import assert_gradients
from minimega.layer import Place, place
from minimega.mlp import MLP
from minimega.model import RECOMPUTE, Config, gpt
from minimega.optim import SGD
from minimega.parallel.layout import check_cut
from minimega.parallel.tensor import SequenceParallel, TensorParallel
from minimega.ranks.group import Group
from minimega.train import Alone

B, T, D, E = 3, 5, 6, 4
IDS = np.random.default_rng(1).integers(0, 9, (B, T))


def config(**more) -> Config:
    return Config(
        **{"vocab_size": 9, "context": T, "d_model": D, "nhead": 2, "d_hidden": 7, "experts": E} | more
    )


def layer(**more) -> Experts:
    """With weights large enough for tokens to choose differently."""
    made = Experts(config(**more)).named("experts").draw(2, "float64")
    for p in made.parameters().values():
        p.data = 30 * p.data
    return made


def likely(rng, *shape):
    return ops.softmax(rng.normal(size=shape))[0]


def margin(probs, k: int) -> float:
    ranked = -np.sort(-probs, axis=-1)
    return float((ranked[..., k - 1] - ranked[..., k]).min())


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_choice_is_that_of_a_plain_loop(k, rng):
    probs = likely(rng, 20, E).round(1)  # with many ties
    for row, chosen in zip(probs, experts.top(probs, k), strict=True):
        assert chosen.tolist() == sorted(range(E), key=lambda e: (-row[e], e))[:k]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 7])
def test_gates(k, n, rng):
    probs = likely(rng, n, E)
    chosen = experts.top(probs, k)
    assert_gradients(lambda p: gates(p, chosen), probs)
    y = gates(probs, chosen)[0]
    if k > 1:  # a softmax over the chosen logits alone
        logits = np.log(np.take_along_axis(probs, chosen, 1)) + 3.0
        np.testing.assert_allclose(y, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-14)
    else:
        assert (y[:, 0] == probs.max(axis=1)).all()


@pytest.mark.parametrize("counts", [[2, 0, 3], [5], [0, 0, 4], [0, 0]], ids=str)
def test_grouped_products(counts, rng):
    rows, w = rng.normal(size=(sum(counts), 3)), rng.normal(size=(len(counts), 3, 2))
    y, back = grouped(rows, w, counts)
    of = np.repeat(np.arange(len(counts)), counts)
    np.testing.assert_allclose(y, np.einsum("mi,mio->mo", rows, w[of]), rtol=1e-13, atol=1e-14)
    if len(rows):
        assert_gradients(lambda x, w: grouped(x, w, counts), rows, w)
    assert back(y)[0].shape == rows.shape and not back(y)[1]()[np.array(counts) == 0].any()


def test_rows_to_experts_and_back_and_their_weighted_sum(rng):
    x, probs = rng.normal(size=(6, D)), likely(rng, 6, E)
    routes = route(experts.top(probs, 2), E)
    assert_gradients(lambda x: to_experts(x, routes, 2), x)
    assert_gradients(lambda r: from_experts(r, routes), rng.normal(size=(12, D)))
    assert_gradients(experts.weighted, rng.normal(size=(12, D)), probs[:, :2])
    np.testing.assert_array_equal(from_experts(to_experts(x, routes, 2)[0], routes)[0], x.repeat(2, axis=0))
    assert_gradients(lambda x: attach(x, np.zeros(1)), x)
    assert (attach(x, np.full((1, D), 2.0))[1](x) == x + 2).all()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_every_token_reaches_its_experts_whatever_their_load(k, rng):
    """Dropless: k rows per token, even if all choose the same experts."""
    for probs in (likely(rng, 9, E), np.tile(likely(rng, 1, E), (9, 1))):
        chosen = experts.top(probs, k)
        routes = route(chosen, E)
        assert (
            sum(routes.counts) == 9 * k and routes.counts == np.bincount(chosen.ravel(), minlength=E).tolist()
        )
        rows = to_experts(np.arange(9.0)[:, None], routes, k)[0][:, 0].tolist()
        wanted = [n for e in range(E) for n in range(9) if e in chosen[n]]
        assert rows == wanted


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("training", [False, True])
def test_the_layer(k, activation, training, rng):
    """Against one token at a time; all gradients against finite differences, with the choice unchanged."""
    made, x, at = (
        layer(top_k_experts=k, activation=activation, balance=0.0),
        rng.normal(size=(B, T, D)),
        place(IDS),
    )
    router, up, down = (p.data for p in made.parameters().values())
    probs = ops.softmax(x @ router)[0]
    assert k == E or margin(probs, k) > 1e-6
    y = made(Tensor(x), at).data
    for b, t in np.ndindex(B, T):
        chosen = np.argsort(-probs[b, t])[:k]
        gate = probs[b, t, chosen] / (probs[b, t, chosen].sum() if k > 1 else 1)
        inside = [getattr(ops, activation)(x[b, t] @ up[e])[0] @ down[e] for e in chosen]
        np.testing.assert_allclose(y[b, t], gate @ np.array(inside), rtol=1e-11, atol=1e-13)
    at = Place(at.samples, at.positions, training=training)
    directions = None if k == 2 and activation == "gelu" else 2  # every entry of two of the twelve
    assert_gradients(lambda x: made(x, at), x, directions=directions)
    for name in ("router", "up", "down"):
        right = getattr(made, name)

        def with_weights(w, name=name):
            setattr(made, name, w)
            return made(Tensor(x), at)

        assert_gradients(with_weights, right.data, directions=directions)
        setattr(made, name, right)


def test_one_expert_is_an_mlp_without_biases(rng):
    made, x = layer(experts=1, top_k_experts=1), Tensor(rng.normal(size=(B, T, D)))
    mlp = MLP(D, 7).named("mlp").draw(0, "float64")
    mlp.up.weight.data, mlp.down.weight.data = made.up.data[0], made.down.data[0]
    at, dy = place(IDS), rng.normal(size=(B, T, D))
    y = made(x, at)
    np.testing.assert_allclose(y.data, mlp(x, at).data, rtol=1e-14)
    y.backward(dy)
    mlp(x, at).backward(dy)
    np.testing.assert_allclose(made.up.grad[0], mlp.up.weight.grad, rtol=1e-12)
    np.testing.assert_allclose(made.down.grad[0], mlp.down.weight.grad, rtol=1e-12)
    assert abs(made.router.grad).max() < 1e-12 * abs(made.up.grad).max()  # the only choice has probability 1


# The balance loss


def test_balance_by_hand():
    """Two sequences of two tokens, three experts of which each token takes two."""
    probs = np.array([[[0.5, 0.3, 0.2], [0.6, 0.1, 0.3]], [[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]]])
    chosen = experts.top(probs, 2)
    assert chosen.tolist() == [[[0, 1], [0, 2]], [[1, 2], [1, 2]]]
    y, back = balance(probs, chosen)
    # f: (2, 1, 1)/4 and (0, 2, 2)/4; P: (0.55, 0.2, 0.25) and (0.15, 0.55, 0.3)
    np.testing.assert_allclose(y, [3 * (0.275 + 0.05 + 0.0625), 3 * (0.275 + 0.15)], rtol=1e-14)
    slopes = 3 / 2 * np.array([[0.5, 0.25, 0.25], [0, 0.5, 0.5]])
    np.testing.assert_allclose(back(np.array([1.0, 2.0])), [[slopes[0]] * 2, [2 * slopes[1]] * 2], rtol=1e-14)
    assert balance(np.full((1, 4, 4), 0.25), np.arange(4).reshape(1, 4, 1))[0] == 1.0


@pytest.mark.parametrize("k", [1, 2])
def test_balance_against_differences(k, rng):
    probs = likely(rng, B, T, E)
    chosen = experts.top(probs, k)
    assert_gradients(lambda p: balance(p, chosen), probs)


def drawn(**more):
    model = gpt(config(**{"num_layers": 2, "balance": 0.3} | more)).draw(1, "float64")
    for p in model.parameters().values():
        p.data = p.data * (6 if p.decays else 1)
    return model


def at_place(**known) -> Place:
    return place(IDS, key=3, training=True, **known)


def test_the_loss_of_a_model_and_its_gradients(rng):
    model, targets, gaps, right = drawn(dropout=0.1), np.roll(IDS, -1, axis=1), [], experts.top
    experts.top = lambda probs, k: (gaps.append(margin(probs, k)), right(probs, k))[1]
    try:
        loss = model.loss(IDS, targets, at := at_place())
    finally:
        experts.top = right
    assert len(gaps) == 4 and min(gaps) > 1e-4
    assert list(at.extra) == ["block0.mlp.branch", "block1.mlp.branch"]
    with no_grad():
        plain = model.layers["head"].cross_entropy(model.hidden(IDS, at_place()), targets)
    assert float(loss.data) == pytest.approx(float(plain.data) + sum(at.extra.values()), rel=1e-14)
    loss.backward()
    for name, p in model.parameters().items():
        right, d = p.data, rng.normal(size=p.data.shape)
        d *= 1e-5 / np.abs(d).max()
        ends = []
        for sign in (1, -1):
            p.data = right + sign * d
            ends.append(float(model.loss(IDS, targets, at_place()).data))
        p.data = right
        assert (ends[0] - ends[1]) / 2 == pytest.approx(float((p.grad * d).sum()), rel=1e-5, abs=1e-13), name


def test_evaluation_has_no_balance_loss():
    model, at = drawn(), place(IDS)
    losses = [float(model.loss(IDS, IDS, at).data), float(drawn(balance=9.0).loss(IDS, IDS).data)]
    assert losses[0] == losses[1] and not at.extra


@pytest.mark.parametrize("recompute", RECOMPUTE)
def test_recomputation_changes_nothing_and_counts_once(recompute):
    found = []
    for how in ("none", recompute):
        model = gpt(config(num_layers=2, balance=0.3, dropout=0.1), recompute=how).draw(1, "float64")
        found.append((Alone().gradients(model, IDS, IDS, 7), [p.grad for p in model.parameters().values()]))
    assert found[0][0] == found[1][0]
    assert all((a == b).all() for a, b in zip(found[0][1], found[1][1], strict=True))


def test_the_gradient_follows_the_scale_of_the_losses():
    grads = []
    for scale in (1.0, 8.0):
        model = drawn()
        model.loss(IDS, IDS, at_place(scale=scale)).backward(scale)
        grads.append({n: p.grad / scale for n, p in model.parameters().items()})
    for name in grads[0]:
        np.testing.assert_allclose(grads[1][name], grads[0][name], rtol=1e-13, atol=1e-16)


def test_parts_of_a_batch_add_up_to_its_loss():
    whole, parts = drawn(), drawn()
    loss = Alone().gradients(whole, IDS, IDS)
    assert Alone(accumulate=3).gradients(parts, IDS, IDS) == pytest.approx(loss, rel=1e-13)
    for p, q in zip(whole.parameters().values(), parts.parameters().values(), strict=True):
        np.testing.assert_allclose(q.grad, p.grad, rtol=1e-11, atol=1e-15)


# What is refused, and what it needs


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"top_k_experts": 5}, "a token cannot go to 5 of 4 experts: choose `top_k_experts` of at most"),
        ({"experts": 1}, "a token cannot go to 2 of 1 experts"),
        ({"top_k_experts": 0}, "cannot go to 0 of 4"),
        ({"experts": -1}, "experts is -1"),
        ({"balance": -0.5}, "balance -0.5; they must be 0 or more"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(more, says):
    with pytest.raises(BadInput) as error:
        config(**more)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_more_ranks_than_experts_are_refused():
    check_cut(config(), 1, 4)
    check_cut(config(experts=0), 1, 1)
    for ranks, count in ((5, 4), (2, 0), (2, 1)):
        with pytest.raises(BadInput, match=f"{count} experts cannot be cut over {ranks} ranks: choose --ep"):
            check_cut(config(experts=count, top_k_experts=1), 1, ranks)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("recompute", RECOMPUTE)
def test_the_planner_knows_what_experts_hold(k, activation, recompute):
    c = config(num_layers=2, d_model=16, top_k_experts=k, activation=activation)
    for dtype in ("float32", "float64"):
        model = gpt(c, recompute=recompute).draw(0, dtype)
        held = sum(saved_bytes(model.loss(IDS, IDS, at_place())).values())
        assert memory.activations(c, B, dtype, recompute) == pytest.approx(held, rel=0.01)
    assert memory.parameters(c) == gpt(c).count()
    assert memory.parameters(c) - memory.used(c) == 2 * (E - k) * 2 * 16 * 7
    assert memory.used(config(experts=0)) == memory.parameters(config(experts=0))


def test_float32_stays_float32():
    model = gpt(config()).draw(0)
    loss = model.loss(IDS, IDS, at_place())
    loss.backward()
    assert loss.dtype == "float32" and {p.grad.dtype.name for p in model.parameters().values()} == {"float32"}


def test_experts_start_apart_from_each_other():
    assert len({e.tobytes() for e in layer().up.data}) == E


def test_a_checkpoint_knows_its_experts_and_one_from_before_them_is_read(tmp_path):
    for c in (config(balance=0.3), config(experts=0)):
        model = gpt(c).draw(3)
        checkpoint.save(tmp_path, model, SGD(), {"step": 1})
        path = tmp_path / "step-1" / "model.safetensors"
        assert checkpoint.load_model(path).config == c
    with safe_open(path, framework="numpy") as file:
        arrays, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    older = {k: v for k, v in c.as_dict().items() if k not in ("experts", "top_k_experts", "balance")}
    save_file(arrays, path, metadata=header | {"config": json.dumps(older)})
    assert checkpoint.load_model(path).config == config(experts=0)


@pytest.mark.parametrize("kind, factor", [(TensorParallel, 3), (SequenceParallel, 2 * 3)])
def test_sums_over_the_tokens_of_a_sequence_go_over_all_ranks_that_have_some(kind, factor):
    class Times(Group):
        """Ranks that all have the same x."""

        def __init__(self, size):
            super().__init__()
            self.size = size

        def start_all_reduce(self, x, op="sum", label=""):
            return lambda: self.size * x

    shares = kind(group=Times(2), context=Times(3), experts=Times(5))
    assert shares.over_tokens(Tensor(np.ones(2)), "balance").data.tolist() == [factor] * 2
