"""A team of one rank is the serial trainer, to the bit."""

from itertools import product

import numpy as np
import pytest

from minimega.data.windows import Windows
from minimega.model import Config, gpt
from minimega.optim import SGD, AdamW
from minimega.parallel.grid import Grid
from minimega.parallel.layout import Layout
from minimega.parallel.team import Team, build
from minimega.precision import loss_scale
from minimega.train import Alone, Recipe, train_step

SHAPE = {"vocab_size": 23, "context": 8, "d_model": 16, "nhead": 4, "num_layers": 2, "dropout": 0.2}
TEXT = np.random.default_rng(0).integers(0, 23, (3, 4, 9))


def trained(team: Alone, model, dtype: str, optimizer) -> list[bytes]:
    """Loss, norm and weights after three steps, and the loss on other text, to the bit."""
    optimizer, scale, found = optimizer(), loss_scale(dtype), []
    team.draw(model, 1, dtype)
    for step, text in enumerate(TEXT, 1):
        targets = text[:, 1:].copy()
        targets[0, :3] = -1
        how = {"team": team, "scale": scale}
        record = train_step(model, optimizer, Recipe(3, 0.01, clip=0.3), step, text[:, :-1], targets, **how)
        found += [record["loss"], record["grad_norm"]]
    found.append(team.evaluate(model, Windows(TEXT.ravel(), 8), 3))
    return [float(x).hex() for x in found] + [p.data.tobytes() for p in model.parameters().values()]


@pytest.mark.parametrize(
    "more", [{}, {"experts": 4}, {"tied": False, "norm_position": "post"}], ids=lambda more: " ".join(more)
)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_team_of_one_is_the_serial_trainer(more, dtype):
    config = Config(**SHAPE, **more)
    for parts, optimizer in product((1, 2), (SGD, AdamW)):
        right = trained(Alone(parts), gpt(config), dtype, optimizer)
        for layout in (Layout(accumulate=parts), Layout(micro_batches=parts)):
            model = gpt(config)
            assert trained(Team(model, Grid(layout=layout)), model, dtype, optimizer) == right, layout


def test_one_rank_trains_alone():
    model, team = build(Config(**SHAPE), Grid(layout=Layout(accumulate=2, micro_batches=2)))
    assert type(team) is Alone and team.accumulate == 4 and type(model).__name__ == "Model"


def test_a_comparison_that_can_fail():
    config = Config(**SHAPE)
    right = trained(Alone(), gpt(config), "float32", SGD)
    for wrong in (Config(**SHAPE | {"dropout": 0.3}), Config(**SHAPE, tied=False)):
        assert trained(Alone(), gpt(wrong), "float32", SGD) != right


def test_every_step_draws_its_own_dropout():
    def loss(step: int) -> float:
        model, inputs = gpt(Config(**SHAPE)).draw(1), TEXT[0]
        return train_step(model, SGD(), Recipe(9), step, inputs[:, :-1], inputs[:, 1:])["loss"]

    assert loss(1) == loss(1) and len({loss(step) for step in range(1, 5)}) == 4
