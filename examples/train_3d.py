"""3D parallelism: one model cut in three ways at once over eight ranks, compared with the serial model.

    mpirun -n 8 python examples/train_3d.py
    mpirun -n 8 python examples/train_3d.py --device cuda

--tp 2 --pp 2 --dp 2 --zero 1 --sequence-parallel --recompute selective: each layer, and the tokens between
layers, are cut over two ranks. Two such pairs are the stages of a pipeline. Two pipelines split the batch and
shard Adam's state. Attention keeps only its inputs. Both models train for three steps, with dropout.
"""

import sys

import numpy as np

import minimega as mm
from minimega.backend import device
from minimega.parallel.grid import Layout, grid
from minimega.parallel.team import build
from minimega.ranks.mpi import world

STEPS, MICRO_BATCHES = 3, 4


def distance(a, b) -> float:
    return float(abs(a - b).max() / abs(b).max())


def main(xp=np) -> None:
    ranks = world(xp)
    tp, dp, pp = {8: (2, 2, 2), 1: (1, 1, 1)}[ranks.size]
    how = {"zero": 1, "micro_batches": MICRO_BATCHES, "recompute": "selective"}
    cut = grid(ranks, Layout(tp, dp, sequence=True, pp=pp, **how))
    config = mm.Config(vocab_size=211, context=32, d_model=64, nhead=8, num_layers=3, dropout=0.1)
    ours, team = build(config, cut)
    team.draw(ours, 0, "float64", xp)
    whole = mm.gpt(config).draw(0, "float64", xp)
    recipe = mm.Recipe(STEPS, lr=1e-3)
    adam, adam_whole = mm.AdamW(), mm.AdamW()
    text = xp.asarray(np.random.default_rng(0).integers(211, size=(STEPS, 8, 33)))  # 8 sequences per step
    for step in range(1, STEPS + 1):
        inputs, targets = text[step - 1, :, :-1], text[step - 1, :, 1:]
        a = mm.train_step(ours, adam, recipe, step, inputs, targets, team=team)
        b = mm.train_step(whole, adam_whole, recipe, step, inputs, targets)

    right, owned = whole.parameters(), team.owned(ours)
    grads = team.joined({p.name: p.grad for p in owned})  # of the shards that this rank owns
    off = {
        "loss": abs(a["loss"] / b["loss"] - 1),
        "norm": abs(a["grad_norm"] / b["grad_norm"] - 1),
        "gradients": max(distance(p.whole(grads[n]), right[n].grad) for n, p in ours.parameters().items()),
        "weights": max(distance(p.whole(p.data), right[n].data) for n, p in ours.parameters().items()),
    }
    off = dict(zip(off, ranks.all_reduce(np.array(list(off.values())), "max").tolist(), strict=True))
    sizes = [sum(p.data.size for p in ours.parameters().values())]
    sizes += [sum(p.data.size for p in owned), sum(s.nbytes for k in adam.state.values() for s in k.values())]
    held = ranks.all_gather(np.array([[cut.tensor.rank, cut.data.rank, cut.pipeline.rank, *sizes]]))
    if ranks.rank == 0:
        print(f"the whole model: {whole.count():,} parameters, loss {b['loss']:.14f}")
        print(f"{'':8}tensor  data  pipeline   parameters   owned by ZeRO   Adam's bytes")
        for rank, (t, d, p, has, owns, remembers) in enumerate(held):
            print(f"rank {rank}  {t:5}  {d:5}  {p:8}  {has:10,}  {owns:14,}  {remembers:12,}")
        print(f"on {ranks.size} ranks:  loss {a['loss']:.14f}")
        print("largest difference:", ", ".join(f"{what} {x:.0e}" for what, x in off.items()))
    assert max(off.values()) < 1e-10, "the ranks differ from the serial model"


main(device("cuda" if "cuda" in sys.argv else "cpu"))
