"""Tensor parallelism: each layer cut over all ranks, compared with the serial model.

    mpirun -n 4 python examples/train_tensor_parallel.py
    mpirun -n 4 python examples/train_tensor_parallel.py --device cuda

Each rank has some of the attention heads, of the MLPs' hidden features and of the vocabulary and, with
sequence parallelism, some of the tokens between the layers. Both models train for three steps, with dropout.
"""

import sys

import numpy as np

import minimega as mm
from minimega.backend import device
from minimega.parallel.grid import Layout, grid
from minimega.parallel.team import Team
from minimega.ranks.mpi import world

STEPS = 3


def distance(a, b) -> float:
    return float(abs(a - b).max() / abs(b).max())


def main(xp=np) -> None:
    ranks = world(xp)
    cut = grid(ranks, Layout(tp=ranks.size, sequence=True))
    config = mm.Config(vocab_size=211, context=32, d_model=64, nhead=8, dropout=0.1)
    ours = mm.gpt(config, cut.shares).draw(seed=0, dtype="float64", xp=xp)
    whole = mm.gpt(config).draw(seed=0, dtype="float64", xp=xp)
    team, recipe = Team(ours, cut), mm.Recipe(STEPS, lr=1e-3)
    adam, adam_whole = mm.AdamW(), mm.AdamW()
    text = xp.asarray(np.random.default_rng(0).integers(211, size=(STEPS, 4, 33)))  # 4 sequences per step
    for step in range(1, STEPS + 1):
        inputs, targets = text[step - 1, :, :-1], text[step - 1, :, 1:]
        a = mm.train_step(ours, adam, recipe, step, inputs, targets, team=team)
        b = mm.train_step(whole, adam_whole, recipe, step, inputs, targets)

    held = ranks.all_gather(np.array([[sum(p.data.size for p in ours.parameters().values()), a["loss"]]]))
    pairs = list(zip(ours.parameters().values(), whole.parameters().values(), strict=True))
    off = {
        "loss": distance(held[:, 1], np.array([b["loss"]])),
        "gradients": max(distance(p.whole(p.grad), q.grad) for p, q in pairs),
        "weights": max(distance(p.whole(p.data), q.data) for p, q in pairs),
    }
    if ranks.rank == 0:
        print(f"after {STEPS} steps      parameters   loss")
        print(f"the whole model{whole.count():>13,}   {b['loss']:.14f}")
        for rank, (count, loss) in enumerate(held):
            print(f"rank {rank}{int(count):>22,}   {loss:.14f}")
        print("largest difference:", ", ".join(f"{what} {x:.0e}" for what, x in off.items()))
    assert max(off.values()) < 1e-10, "the ranks differ from the serial model"


main(device("cuda" if "cuda" in sys.argv else "cpu"))
