"""The profile: it adds up to the step, nothing is counted twice, and nothing is left behind."""

import json

import numpy as np
import pytest

from minimega import Config, gpt, ops
from minimega.attention import self_attention
from minimega.autograd import in_layer
from minimega.commands import bench, bench_profile, cli
from minimega.commands.bench_probe import KINDS, Key, Probe, Sum, Timed, probing, waited
from minimega.kernels import chosen
from minimega.linear import linear
from minimega.optim import AdamW, sum_of_squares
from minimega.precision import product
from minimega.ranks.threads import on_ranks
from minimega.tensor import Tensor
from minimega.train import Recipe, train_step

SHAPE = (
    "--kernels none --d-model 16 --nhead 2 --num-layers 2 --context 8 --vocab-size 30 --train-batch-size 4"
)
WORDS = f"bench --profile {SHAPE} --num-steps 2".split()


class Clock:
    """A clock that goes on by one second whenever it is read."""

    now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


def test_nothing_is_counted_twice():
    probe = Probe(Clock())
    with probe.timed("step", "", "optimizer"):  # from 1 to 8
        with probe.timed("a", "", "elementwise"), probe.timed("b", "", "products"):  # from 2 to 5, 3 to 4
            pass
        with probe.timed("a", "", "elementwise"):  # from 6 to 7
            pass
    sums = {key.name: (sum_.seconds, sum_.calls) for key, sum_ in probe.take()[0].items()}
    assert sums == {"step": (3.0, 1), "a": (3.0, 2), "b": (1.0, 1)}
    assert probe.take() == ({}, [])


def test_a_product_is_told_apart_from_the_rest_of_its_operation():
    probe, x, w, b = Probe(), np.ones((6, 3), "f"), Tensor(np.ones((3, 5), "f")), np.ones(5, "f")
    with probing(probe), in_layer("here"):
        y = linear(Tensor(x), w, b)
        y.sum().backward()
    sums, _ = probe.take()
    forward = sums[Key("here", "linear", "forward", "products")]
    assert (forward.calls, forward.operations, forward.nbytes) == (1, 2 * 6 * 3 * 5, 4 * (18 + 15 + 30))
    backward = sums[Key("here", "linear", "backward", "products")]
    assert backward.operations == 2 * 2 * 6 * 3 * 5  # of x, whose gradient nobody needs, and of w
    bias = sums[Key("here", "linear", "forward", "elementwise")]
    assert (bias.calls, bias.operations, bias.nbytes) == (1, 30, 2 * 4 * 30)  # a pass over the product
    assert sums[Key("here", "sum", "backward", "elementwise")].calls == 1


def test_it_leaves_everything_as_it_was():
    before, probe, a = chosen.get(), Probe(), np.ones((2, 2))
    with pytest.raises(ZeroDivisionError), probing(probe):
        product(a, a)
        raise ZeroDivisionError
    product(a, a)
    assert chosen.get() is before and [sum_.calls for sum_ in probe.take()[0].values()] == [1]


def test_a_probed_step_gives_the_same_numbers():
    def step() -> tuple[float, list]:
        model, ids = gpt(Config(vocab_size=9, d_model=8, nhead=2)).draw(0), np.arange(8).reshape(2, 4)
        loss = train_step(model, AdamW(), Recipe(1), 1, ids, ids + 1)["loss"]
        return loss, [p.data.tolist() for p in model.parameters().values()]

    expected = step()
    with probing(Probe()):
        assert step() == expected


def test_compiled_versions_are_timed_as_what_they_are():
    def version(x, w, b=None, transposed=False):
        return (x @ w, lambda dy: (dy @ w.T, x.T @ dy)) if len(x) > 1 else NotImplemented

    versions = {"minimega.linear.linear": version, "minimega.ops.gelu": lambda x: NotImplemented}
    versions["minimega.attention.self_attention"] = lambda qkv, *how, **more: (qkv[..., :4], lambda dy: qkv)
    versions["minimega.optim.sum_of_squares"] = lambda p: 7.0
    token = chosen.set(versions)
    probe = Probe()
    try:
        with probing(probe):
            for rows in (2, 1):
                linear(np.ones((rows, 3)), np.ones((3, 3)))[1](np.ones((rows, 3)))
            ops.gelu(np.ones(3))
            self_attention(np.ones((1, 2, 12)), 2)
            assert sum_of_squares(None) == 7.0
    finally:
        chosen.reset(token)
    sums = probe.take()[0]
    assert all(not sum_.operations for key, sum_ in sums.items() if key.kind == "fused")
    kinds = {(key.name, key.way, key.kind): sum_.calls for key, sum_ in sums.items()}
    assert kinds["linear", "forward", "fused"] == kinds["linear", "backward", "fused"] == 1
    assert kinds["linear", "forward", "products"] == 1  # the readable one, of one row
    assert kinds["gelu", "forward", "elementwise"] == 1
    assert kinds["self_attention", "forward", "fused"] == 1
    assert not any(name == "sum_of_squares" for name, *_ in kinds)  # no operation: the optimizer's time


def test_waiting_is_for_the_last_rank():
    # rank 1 enters a second after rank 0 has begun to wait; of the second message rank 0 is late itself
    meetings = np.array([[[0.0, 1.0, 3.0], [9.0, 9.0, 9.5]], [[2.0, 2.0, 3.0], [5.0, 6.0, 9.5]]])
    assert waited(meetings).tolist() == [1.0, 3.0]
    sums = {
        Key("", "all-reduce", "wait", "messages"): Sum(2.5),
        Key("", "x", "forward", "products"): Sum(1.0),
    }
    kinds = bench_profile.by_kind(sums, 1.0)
    assert kinds == dict.fromkeys(KINDS, 0.0) | {"messages": 1.5, "waiting": 1.0, "products": 1.0}
    assert bench_profile.by_kind(sums, 4.0)["messages"] == 0.0  # clocks of two ranks may differ a little


def test_messages_of_a_group():
    def program(group):
        probe = Probe()
        timed = Timed(group, probe)
        pair = timed.split(lambda r: 0, "pair")
        assert pair.all_reduce(np.ones(3)).tolist() == [2, 2, 2] and timed.size == pair.size == 2
        assert timed.all_gather(np.ones((1, 2))).shape == (2, 2)
        assert timed.reduce_scatter(np.ones(2)).tolist() == [2]
        assert timed.broadcast(np.array(group.rank + 3)) == 3
        wait = timed.start_all_reduce(np.ones(1))
        assert wait() is wait()
        sums, meetings = probe.take()
        assert all(a <= b <= c for a, b, c in meetings) and len(meetings) == 5
        return {(key.name, key.way): sum_.calls for key, sum_ in sums.items()}

    with on_ranks(2) as run:
        one, other = run(program)
    assert one == other
    assert one["all-reduce", "start"] == 2 and one["all-reduce", "wait"] == 3


@pytest.mark.parametrize("cut", ["", "--tp 2 --launch threads", "--dp 2 --launch threads"])
def test_it_adds_up_to_the_step(cut, capsys, tmp_path):
    picture = tmp_path / "profile.png"
    assert cli.main([*WORDS, "--json", "--picture", str(picture), *cut.split()]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["ranks"]) == 1 + bool(cut)
    whole = [sum(rank.values()) for rank in found["ranks"]]
    assert max(whole) <= found["step_s"] * 1.001 and min(whole) > 0.5 * found["step_s"]
    by_layer = sum(sum(row.values()) for row in found["parts"].values())
    assert by_layer == pytest.approx(whole[0])
    assert found["parts"].keys() >= {"embedding", "attention", "mlp", "norm", "head", "loss", "optimizer"}
    for kind in set(KINDS) - {"messages", "waiting"}:
        assert sum(row.get(kind, 0) for row in found["parts"].values()) == pytest.approx(
            found["ranks"][0][kind]
        )
    products = sum(one["operations"] for one in found["operations"] if one["kind"] == "products")
    tokens, parameters = 4 * 8, 2 * 12 * 16**2 + 30 * 16  # the matrices, without biases and norms
    expected = tokens * (6 * parameters + 12 * 2 * 8 * 16)
    share = {"": 1, "--tp": 2, "--dp": 2}[cut[:4]]
    assert products == expected / share
    assert (cut != "") == (found["ranks"][0]["messages"] > 0)
    assert found["memory_bytes"] > 1e6 and picture.stat().st_size > 10_000


def test_as_text(capsys):
    assert cli.main(WORDS) == 0
    out = capsys.readouterr().out
    assert out.startswith("a step of 4 x 8 tokens, float32, one rank: ")
    for word in (
        "ms by kind",
        "ms by layer",
        "operation (rank 0)",
        "interpreter",
        "linear backward, products",
    ):
        assert word in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--tp 2", "use --profile"),
        ("--profile --tp 3 --nhead 4 --train-batch-size 4", "tp"),
        ("--profile --dp 3", "16"),
        ("--profile --picture absent/p.png", "name a .png file in a folder that exists"),
        ("--picture p.jpg", "name a .png file in a folder that exists"),
    ],
)
def test_bad_options(words, said, capsys):
    assert cli.main(["bench", *words.split()]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) <= 3


def test_the_roofline(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "torch_is_missing", lambda o: "not compared; why")
    monkeypatch.setattr(bench, "peak_memory", lambda *what: 10)
    picture = tmp_path / "roof.png"
    assert cli.main(["bench", *SHAPE.split(), "--num-steps", "2", "--picture", str(picture)]) == 0
    assert f"the picture: {picture}" in capsys.readouterr().out and picture.stat().st_size > 20_000
