"""Data parallelism: a replica per rank, each with its part of the batch, compared with one rank.

    mpirun -n 4 python examples/train_data_parallel.py
    mpirun -n 4 python examples/train_data_parallel.py --device cuda

The gradients of all replicas are added up in buckets. A bucket is sent once its gradients are complete, while
the backward pass continues. Both train for three steps, with dropout.
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
    copies = grid(ranks, Layout(dp=ranks.size))
    config = mm.Config(vocab_size=211, context=32, d_model=64, nhead=8, dropout=0.1)
    ours = mm.gpt(config).draw(seed=0, dtype="float64", xp=xp)
    alone = mm.gpt(config).draw(seed=0, dtype="float64", xp=xp)
    team, recipe = Team(ours, copies, bucket=30_000), mm.Recipe(STEPS, lr=1e-3)
    adam, adam_alone = mm.AdamW(), mm.AdamW()
    text = xp.asarray(np.random.default_rng(0).integers(211, size=(STEPS, 8, 33)))  # 8 sequences per step
    for step in range(1, STEPS + 1):
        inputs, targets = text[step - 1, :, :-1], text[step - 1, :, 1:]
        a = mm.train_step(ours, adam, recipe, step, inputs, targets, team=team)
        b = mm.train_step(alone, adam_alone, recipe, step, inputs, targets)

    mine = copies.rows(8)
    held = ranks.all_gather(np.array([[mine.start, mine.stop - 1, a["loss"]]]))
    pairs = list(zip(ours.parameters().values(), alone.parameters().values(), strict=True))
    off = {
        "loss": distance(held[:, 2], np.array([b["loss"]])),
        "gradients": max(distance(p.grad, q.grad) for p, q in pairs),
        "weights": max(distance(p.data, q.data) for p, q in pairs),
    }
    same = all((ranks.broadcast(p.data) == p.data).all() for p, _ in pairs)
    if ranks.rank == 0:
        print(f"after {STEPS} steps   sequences   loss")
        print(f"one rank        0 to 7      {b['loss']:.14f}")
        for rank, (first, last, loss) in enumerate(held):
            print(f"rank {rank:<11}{first:.0f} to {last:.0f}      {loss:.14f}")
        print(f"{len(team.reducer.buckets)} gradient buckets per step; the replicas are equal bit for bit")
        print("largest difference:", ", ".join(f"{what} {x:.0e}" for what, x in off.items()))
    assert same and max(off.values()) < 1e-10, "the ranks differ from the serial model"


main(device("cuda" if "cuda" in sys.argv else "cpu"))
