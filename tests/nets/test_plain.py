"""Plain layers: called on arrays without a place, drawn at first use, trained by their own optimizer."""

import copy
import pickle

import numpy as np
import pytest

import minimega as mm
from minimega.gradcheck import assert_gradients, check
from minimega.linear import ColumnLinear, RowLinear, linear
from minimega.optim import OPTIMIZERS
from minimega.ranks.threads import on_ranks


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


class Net(mm.Layer):
    """As a user writes it: attributes, a list, a parameter of its own, a tied one."""

    def __init__(self):
        self.up = mm.Linear(3, 4)
        self.many = [mm.Linear(4, 4), mm.Linear(4, 4)]
        self.gain = mm.Parameter((4,), mean=1.0)
        self.again = self.up.weight

    def forward(self, x):
        x = self.up(x).relu()
        for layer in self.many:
            x = mm.tanh(layer(x))
        return (x * self.gain) @ self.again.T


PLAIN = [
    (lambda: mm.Linear(3, 5), (4, 3), (4, 5)),
    (lambda: mm.Linear(3, 5, bias=False), (3,), (5,)),
    (lambda: RowLinear(3, 5, bias=False), (2, 3), (2, 5)),
    (lambda: ColumnLinear(3, 5), (2, 3), (2, 5)),
    (lambda: mm.LayerNorm(6), (4, 6), (4, 6)),
    (lambda: mm.Attention(6, 2), (2, 3, 6), (2, 3, 6)),
    (lambda: mm.Attention(6, 2, causal=False), (1, 4, 6), (1, 4, 6)),
    (lambda: mm.MLP(4, 7), (2, 4), (2, 4)),
    (lambda: mm.MLP(4, 7, "relu"), (2, 3, 4), (2, 3, 4)),
    (lambda: mm.Dropout(0.5), (4, 3), (4, 3)),
    (mm.ReLU, (4, 3), (4, 3)),
    (mm.GELU, (4, 3), (4, 3)),
    (mm.Tanh, (5,), (5,)),
    (lambda: mm.Sequential(mm.Linear(3, 8), mm.gelu, mm.LayerNorm(8), mm.Linear(8, 2)), (5, 3), (5, 2)),
    (lambda: mm.Sequential(mm.Sequential(mm.Linear(3, 4), mm.Tanh()), mm.Linear(4, 2)), (5, 3), (5, 2)),
    (Net, (2, 3), (2, 3)),
]


@pytest.mark.parametrize("make, given, returned", PLAIN, ids=lambda v: str(v) if isinstance(v, tuple) else "")
def test_gradients_and_shapes(make, given, returned):
    layer = make().draw(seed=1, dtype="float64")
    assert_gradients(layer, normal(*given))
    for x in (normal(*given), mm.Tensor(normal(*given)), normal(*given).astype("float32")):
        assert make()(x).shape == returned and isinstance(make()(x), mm.Tensor)


def test_gradients_of_a_table_of_vectors():
    ids = np.array([[3, 0, 3], [1, 1, 4]])
    assert_gradients(mm.Embedding(5, 2).draw(dtype="float64"), ids)
    net = mm.Sequential(mm.Embedding(5, 4), mm.Attention(4, 2), mm.Linear(4, 1))
    assert net(ids).shape == net(mm.Tensor(ids)).shape == net(ids.tolist()).shape == (2, 3, 1)
    mm.cross_entropy(net(ids), np.zeros_like(ids)).backward()


def test_dropout_in_a_net_needs_a_place():
    net, x = mm.Sequential(mm.Linear(4, 64), mm.Dropout(0.5), mm.Dropout(0.5)), normal(8, 4)
    whole = net(x).data
    assert (whole != 0).all()

    def at(key):
        return net(x, mm.place(x, key=key, training=True)).data

    assert abs((at(1) == 0).mean() - 0.75) < 0.05  # the two drop other entries: their names differ
    assert (at(1) == at(1)).all() and (at(1) != at(2)).any()
    np.testing.assert_allclose(at(1)[at(1) != 0], 4 * whole[at(1) != 0], rtol=1e-6)
    two = mm.Sequential(mm.Dropout(0.5), mm.Dropout(0.5))
    ones = np.ones((40, 50))
    assert abs((two(ones, mm.place(ones, training=True)).data == 0).mean() - 0.75) < 0.05
    images = normal(2, 3, 4, 5)
    assert_gradients(mm.Dropout(0.5).named("d"), images, mm.place(images, key=1, training=True))


# Drawn at first use


def test_the_first_use_draws_as_draw_does():
    net, drawn = Net(), Net().named().draw(seed=0)
    net(normal(2, 3))
    assert list(net.parameters()) == [
        *("up.weight", "up.bias", "many0.weight", "many0.bias", "many1.weight", "many1.bias", "gain")
    ]
    for name, p in drawn.parameters().items():
        np.testing.assert_array_equal(net.parameters()[name].data, p.data)
        assert net.parameters()[name].dtype == "float32"


def test_what_was_drawn_is_not_drawn_again():
    net = mm.Sequential(mm.Linear(3, 2).draw(seed=7), mm.Linear(2, 2))
    first = net[0].weight.data.copy()
    net(normal(1, 3))
    np.testing.assert_array_equal(net[0].weight.data, first)
    net.draw(seed=5)
    assert (net[0].weight.data != first).any()


def test_a_part_that_comes_later_is_named_and_drawn():
    net, x = Net(), normal(2, 3)
    net(x)
    before = {name: p.data for name, p in net.parameters().items()}
    net.later = mm.Linear(3, 3)
    net.shift = mm.Parameter((3,))
    net.forward = lambda x: net.later(x) + net.shift
    net(x)
    assert list(net.parameters())[7:] == ["later.weight", "later.bias", "shift"]
    assert all(net.parameters()[name].data is data for name, data in before.items())
    net.many.append(mm.Linear(4, 4))  # a list that grows after the first use
    net.many[2](normal(2, 4))
    assert len(net.parameters()) == 12 and net.many[2].weight in set(net.parameters().values())


def test_layers_used_alone_keep_all_their_parameters_together():
    a, b = mm.Linear(3, 3), mm.Linear(3, 3)
    x = normal(2, 3)
    kept = a(x).data, b(x).data
    net = mm.Sequential(a, b)
    assert list(net.parameters()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    np.testing.assert_array_equal(a(x).data, kept[0])
    assert [p.name for p in a.parameters().values()] == ["0.weight", "0.bias"]


def test_a_wrapped_layer_and_recomputation_draw_the_same():
    from minimega.layer import Recomputed

    class Wrapped(mm.Layer):
        def __init__(self, kind):
            self.inner = kind(mm.MLP(4, 8))

        def forward(self, x):
            return self.inner(x)

    x, gradients = mm.Tensor(normal(2, 4)), []
    for kind in (Recomputed, lambda layer: layer):
        net = Wrapped(kind)
        net(x).sum().backward()
        gradients.append({name: p.grad for name, p in net.parameters().items()})
    assert list(gradients[0]) == list(gradients[1])
    for name in gradients[0]:
        np.testing.assert_array_equal(gradients[0][name], gradients[1][name])
    net = Wrapped(Recomputed)
    with mm.no_grad():
        assert net(x).maker is None and net.inner.layer.up.weight.drawn


def test_every_rank_draws_the_same():
    with on_ranks(3) as run:
        first, *others = run(lambda group: mm.Sequential(mm.Linear(3, 4), mm.tanh)(normal(2, 3)).data)
    assert all((first == other).all() for other in others)


def test_a_model_says_to_draw_it():
    model = mm.gpt(mm.Config(vocab_size=9, d_model=8, nhead=2))
    ids = np.array([[1, 2]])
    for use in (lambda: model(ids), lambda: model.loss(ids, ids), lambda: model.layers["embedding"](ids)):
        with pytest.raises(mm.BadInput, match="has no values yet: call draw"):
            use()
    assert not any(p.drawn for p in model.parameters().values())


def test_the_checker_draws_a_plain_layer():
    assert check(mm.MLP(3, 4), normal(2, 3)).ok


# Initial weights


@pytest.mark.parametrize("wide", [16, 400])
def test_a_linear_layer_keeps_the_size_of_what_passes_through(wide):
    y = mm.Linear(wide, 500)(normal(20, wide)).data
    assert abs(y.std() - 1) < 0.1
    deep = mm.Sequential(*[mm.Linear(wide, wide) for _ in range(10)])(normal(20, wide)).data
    assert 0.3 < deep.std() < 3
    assert abs(mm.Linear(wide, 500, std=0.02).draw().weight.data.std() - 0.02) < 0.002


# Training


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_of_its_own_parameters(name):
    x, y = normal(64, 2), (normal(64, 2)[:, 0] > 0).astype(int)
    net = mm.Sequential(mm.Linear(2, 16), mm.relu, mm.Linear(16, 2))
    optimizer = OPTIMIZERS[name](net.parameters(), lr=0.05)  # before the first use
    losses = []
    for _ in range(60):
        loss = mm.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert set(optimizer.state) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_the_two_ways_to_give_parameters_are_one():
    def trained(bound):
        net, x = mm.MLP(3, 5), normal(4, 3)
        net(x)
        own = net.parameters()
        optimizer = mm.AdamW(own, lr=0.1, weight_decay=0.1) if bound else mm.AdamW(weight_decay=0.1)
        for _ in range(5):
            for p in own.values():
                p.grad = None
            (net(x) * net(x)).sum().backward()
            optimizer.step() if bound else optimizer.step(own.values(), 0.1)
        return [p.data for p in own.values()]

    assert all((a == b).all() for a, b in zip(trained(True), trained(False), strict=True))


def test_weights_step_along_the_last_gradient_alone():
    w = mm.Parameter((2,), std=1.0)
    optimizer = mm.SGD([w], lr=0.5)
    w.draw(seed=0)
    for _ in range(2):
        before = w.data.copy()
        optimizer.zero_grad()
        (w * np.array([1.0, 2.0])).sum().backward()
        optimizer.step()
        np.testing.assert_allclose(w.data - before, [-0.5, -1.0], rtol=1e-6)


def test_an_optimizer_takes_lists_and_joined_dicts_and_single_parameters():
    a, b = mm.Linear(2, 2).named("a"), mm.Linear(2, 2).named("b")
    for given in (
        a.parameters() | b.parameters(),
        [*a.parameters().values(), *b.parameters().values()],
        (p for layer in (a, b) for p in layer.parameters().values()),
    ):
        assert [p.name for p in mm.SGD(given).parameters] == ["a.weight", "a.bias", "b.weight", "b.bias"]
    w, v = mm.Parameter((2,)), mm.Parameter((2,))
    assert [p.name for p in mm.Adam([w, v]).parameters] == ["parameter0", "parameter1"]
    assert mm.Adam(w).parameters == [w]


def test_an_optimizer_keeps_frozen_rows():
    table = mm.Embedding(3, 2)
    ids, optimizer = np.array([0, 1, 2]), mm.SGD(table.parameters(), lr=1.0)
    table(ids).sum().backward()
    table.weight.frozen = np.array([True, False, True])
    before = table.weight.data.copy()
    optimizer.step()
    assert (table.weight.data != before).any(axis=1).tolist() == [False, True, False]


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: mm.AdamW().step(), r"this AdamW has no parameters: AdamW\(layer.parameters\(\), lr=0.001\)"),
        (lambda: mm.SGD(mm.Linear(2, 2)), "SGD takes parameters, such as layer.parameters.., not .*Linear"),
        (lambda: mm.SGD(0.9), "SGD takes parameters, such as layer.parameters.., not 0.9"),
        (lambda: mm.SGD(list(mm.Linear(2, 2).parameters())), "not 'weight'"),
        (lambda: mm.SGD([mm.Tensor(np.ones(2))]), "not .*Tensor"),
        (
            lambda: mm.SGD([p for _ in range(2) for p in mm.Linear(2, 2).parameters().values()]),
            r'two parameters are named weight: .*named\("b"\)',
        ),
        (
            lambda: mm.Linear(2, 2).parameters() | mm.Linear(2, 2).parameters(),
            "two parameters are named (weight|bias)",
        ),
    ],
)
def test_what_an_optimizer_refuses(make, says):
    with pytest.raises(mm.BadInput, match=says):
        make()


# Errors


WRONG = [
    (lambda: mm.Linear(2, 3)(normal(4, 8)), r"^Linear: expected \(..., 2\), got \(4, 8\)$"),
    (lambda: mm.Linear(2, 3)([[1.0, 2.0]]), r"^Linear: expected \(..., 2\), got a list, no array$"),
    (lambda: mm.Linear(2, 3)(np.float64(3.0)), r"^Linear: expected \(..., 2\), got \(\)$"),
    (lambda: mm.LayerNorm(2)(normal(4, 8)), r"^LayerNorm: expected \(..., 2\), got \(4, 8\)$"),
    (lambda: mm.MLP(16, 4).named("mlp")(normal(4, 8)), r"^mlp.up: expected \(..., 16\), got \(4, 8\)$"),
    (lambda: mm.Attention(4, 2)(normal(4, 8)), r"^Attention: expected \(B, T, 4\), got \(4, 8\)$"),
    (lambda: mm.Attention(4, 2)(normal(3, 4)), r"^Attention: expected \(B, T, 4\), got \(3, 4\)$"),
    (lambda: mm.Attention(4, 3), "d_model 4 cannot be split into 3 heads"),
    (lambda: mm.Attention(4, 0), "d_model 4 cannot be split into 0 heads"),
    (lambda: mm.MLP(4, 8, "swish"), "activation is 'swish'; it can be gelu or relu or gelu-erf"),
    (
        lambda: mm.Sequential(mm.Linear(2, 3), mm.Linear(4, 1))(normal(5, 2)),
        r"^Linear 1: expected \(..., 4\), got \(5, 3\)$",
    ),
    (lambda: mm.Sequential([mm.Linear(2, 3)]), "part 0 is a list, no layer"),
    (
        lambda: mm.Sequential(mm.Linear(2, 3), mm.ReLU),
        r"part 1 is the class ReLU, no layer: write ReLU",
    ),
    (
        lambda: mm.Embedding(10, 2)(np.array([[1, 12]])),
        r"^Embedding: id 12 at \(0, 1\) is outside .*: it has 10",
    ),
    (lambda: mm.Embedding(10, 2)(np.array([-1])), r"^Embedding: id -1 at \(0,\) is outside the table"),
    (lambda: mm.Embedding(10, 2)(np.array([1.0])), "^Embedding: ids must be integers, but these are float64"),
    (lambda: mm.Dropout(1.0), r"^Dropout: p is 1.0; it must lie in \[0, 1\)"),
    (lambda: mm.Dropout(0.5)(np.ones(3), mm.place(np.ones(3), training=True)), "^Dropout: expected"),
    (lambda: mm.Linear(2.5, 3), r"a parameter cannot have the shape \(2.5, 3\)"),
    (lambda: mm.Linear(0, 3), r"a parameter cannot have the shape \(0, 3\)"),
    (
        lambda: mm.Tensor(normal(2, 3)) @ normal(4, 5),
        r"^matmul: \(2, 3\) @ \(4, 5\): 3 columns on the left, 4 rows on the right",
    ),
    (
        lambda: mm.gpt(mm.Config(vocab_size=5, d_model=8, nhead=2)).draw().layers["head"](normal(1, 2, 6)),
        r"^head: expected \(..., 8\), got \(1, 2, 6\)$",
    ),
]


@pytest.mark.parametrize("wrong, says", WRONG, ids=[says for _, says in WRONG])
def test_errors_name_the_layer_and_both_shapes(wrong, says):
    with pytest.raises(mm.BadInput, match=says):
        wrong()


def test_a_wrong_width_is_named_under_tensor_parallelism():
    from minimega.parallel.tensor import SequenceParallel, TensorParallel

    def wrong(group, kind):
        mlp = mm.MLP(8, 12).named("mlp").cut(kind(group)).draw()
        with pytest.raises(mm.BadInput, match=r"^mlp.up: expected \(..., 8\), got \(1, 2, 6\)$"):
            mlp(normal(1, 2, 6), mm.place(np.ones((1, 2))))
        with pytest.raises(mm.BadInput, match=r"^mlp.down: expected \(..., 6\), got \(1, 2, 12\)$"):
            mlp.down(normal(1, 2, 12))

    for kind in (TensorParallel, SequenceParallel):
        with on_ranks(2) as run:
            run(lambda group, kind=kind: wrong(group, kind))


# Planted: what the tests above must notice


class Forgets(mm.Linear):
    def forward(self, x, place=None):
        return linear(x, mm.Tensor(self.weight.data), self.bias)


def test_a_layer_that_hides_its_weight_is_found():
    assert not check(Forgets(3, 2), normal(4, 3)).ok


def test_a_part_appended_after_the_first_use_is_named_by_its_place():
    net = mm.Sequential(mm.Linear(2, 3), mm.relu)
    net(normal(1, 2))
    net.append(mm.Linear(3, 3)).append(mm.Linear(3, 3))
    net(normal(1, 2))
    assert list(net.parameters())[::2] == ["0.weight", "2.weight", "3.weight"]
    assert not np.array_equal(net[2].weight.data, net[3].weight.data)
    outer = mm.Sequential(net)
    outer(normal(1, 2))
    net.append(mm.Linear(3, 1))
    assert outer(normal(1, 2)).shape == (1, 1) and "0.4.weight" in outer.parameters()
    with pytest.raises(mm.BadInput, match=r"part 5 is a list, no layer: write Sequential\(\*layers\)"):
        net.append([mm.relu])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("make", [Net, lambda: mm.gpt(mm.Config(vocab_size=9, d_model=8, nhead=2))])
def test_a_layer_can_be_copied_before_and_after_it_is_drawn(make, drawn, again):
    layer = make().draw(seed=3) if drawn else make()
    twin = again(layer)
    for one in (layer, twin):
        one if drawn else one.draw(seed=3)
    mine, other = layer.parameters(), twin.parameters()
    assert list(mine) == list(other) and all(np.array_equal(mine[n].data, other[n].data) for n in mine)
    assert not any(mine[n] is other[n] for n in mine) and len(twin.leaves()) == len(layer.leaves())


@pytest.mark.parametrize("wrong", [None, [], "weight", 3, np.ones(3)])
def test_a_state_that_is_no_dict_is_refused(wrong):
    with pytest.raises(mm.BadInput, match="load_state_dict takes arrays by name, not a"):
        mm.Linear(2, 3).load_state_dict(wrong)
