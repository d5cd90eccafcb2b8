"""Cutting into stages, and split backward passes; cases on ranks are in mpi/cases_pipeline.py."""

from types import SimpleNamespace

import numpy as np
import pytest

from minimega.autograd import Tensor, add_up, parameters_later, recompute
from minimega.errors import BadInput
from minimega.model import Config, gpt
from minimega.parallel.layout import Layout, check_stages
from minimega.parallel.pipeline import Staged, staged
from minimega.ranks.group import SELF

CONFIG = Config(vocab_size=11, d_model=8, nhead=2, num_layers=5, context=6)
IDS = np.random.default_rng(0).integers(0, 11, (2, 6))


def rank(r, p):
    return SimpleNamespace(rank=r, size=p)


def names(config, p, v=1):
    """The layers of every stage, in the order of the stages."""
    ranks = [Staged(gpt(config), rank(r, p), v) for r in range(p)]
    return [list(ranks[s % p].chunks[s // p].layers) for s in range(p * v)]


def test_layers_are_shared_out_in_their_order_and_the_last_stage_has_fewer_blocks():
    assert names(CONFIG, 2) == [
        ["embedding", "block0", "block1", "block2"],
        ["block3", "block4", "norm", "head"],
    ]
    for p, v in ((1, 1), (2, 2), (3, 1), (5, 1)):
        assert [name for stage in names(CONFIG, p, v) for name in stage] == list(gpt(CONFIG).layers)


def test_a_rank_has_the_parameters_of_its_stages_and_knows_the_rest():
    whole = gpt(CONFIG).parameters()
    ranks = [Staged(gpt(CONFIG), rank(r, 2), 2) for r in range(2)]
    held = [set(model.parameters()) for model in ranks]
    assert held[0] | held[1] == whole.keys() and held[0] & held[1] == {"embedding.tokens"}
    for r, model in enumerate(ranks):
        assert model.count() == gpt(CONFIG).count() and list(model.entire.parameters()) == list(whole)
        assert {n for n, p in model.parameters().items() if p.at_both_ends} == {"embedding.tokens"}
        assert {n for n in whole if model.home(n) == r} == held[r] - (held[0] if r else set())


def test_stages_start_at_the_weights_of_the_whole_model():
    whole = gpt(CONFIG).draw(3).parameters()
    for r in range(3):
        for name, p in Staged(gpt(CONFIG), rank(r, 3), 1).draw(3).parameters().items():
            assert (p.data == whole[name].data).all()


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(BadInput, match="5 layers cannot be cut into 6 stages: choose --pp"):
        check_stages(CONFIG, 6)
    with pytest.raises(BadInput, match="choose --pipeline interleaved, not gpipe"):
        Layout(pp=2, micro_batches=4, pipeline="gpipe", virtual_stages=2).check()
    model = gpt(CONFIG)
    assert staged(model, SELF) is model


@pytest.mark.parametrize("wrap", [lambda f: f, recompute])
@pytest.mark.parametrize("tied", [True, False])
def test_a_backward_pass_in_halves_adds_the_same_gradients(wrap, tied):
    def losses(model):
        for name, layer in model.layers.items():
            if name.startswith("block"):
                layer.forward = wrap(layer.forward)
        return model.loss(IDS, IDS), model.parameters()

    config = Config(**{**CONFIG.as_dict(), "tied": tied, "head_bias": True})
    loss, expected = losses(gpt(config).draw(0, "float64"))
    loss.backward()
    loss, found = losses(gpt(config).draw(0, "float64"))
    complete = []
    with parameters_later() as pending:
        loss.backward()
    assert all(p.grad is None for p in found.values()) and len(pending) == len(found) + tied
    for p in found.values():
        p.complete = lambda p: complete.append(p.name)
    add_up(pending)
    assert not pending and sorted(complete) == sorted(found)
    assert all((found[n].grad == expected[n].grad).all() for n in found)


def test_the_first_half_gives_the_gradient_of_what_came_in():
    model, x = gpt(CONFIG).draw(0, "float64"), Tensor(np.ones((2, 6, 8)))
    chunk = Staged(model, rank(1, 2), 1).chunks[0]
    with parameters_later() as pending:
        chunk.layers["norm"](x, None).sum().backward()
    assert x.grad is not None and len(pending) == 2
