"""Four experts per block, spread over ranks: equal to one rank that holds them all.

    mpirun -n 4 python examples/experts.py
    mpirun -n 4 python examples/experts.py --device cuda

Four ranks are four replicas, which split the batch. Two neighbours hold two experts each; the other two hold
copies of these. Each token's row travels to its two experts and back, and no row is dropped. A balance loss
keeps the experts evenly used: a third model trains without it, and uses half of them.
"""

import sys
from dataclasses import replace

import numpy as np

import minimega as mm
from minimega.backend import device, to_numpy
from minimega.costs import memory
from minimega.experts import top
from minimega.linear import linear
from minimega.ops import softmax
from minimega.parallel.grid import Layout, grid
from minimega.parallel.team import team_of
from minimega.ranks.group import SELF, pieces
from minimega.ranks.mpi import world

SHAPE = {"vocab_size": 61, "context": 16, "d_model": 32, "nhead": 4, "dropout": 0.1}
CONFIG, STEPS = mm.Config(**SHAPE, experts=4, top_k_experts=2, balance=0.1), 60


def load(model: mm.Model, tokens) -> np.ndarray:
    """How many rows each expert of each block gets: (layers, E)."""
    at, rows = mm.place(tokens), []
    with mm.no_grad():
        x = model.layers["embedding"](tokens, at)
        for block in (model.layers[f"block{i}"] for i in range(CONFIG.num_layers)):
            x = block.attention(x, at)
            probs = softmax(linear(block.mlp.norm(x), block.mlp.branch.router)).data
            ids = to_numpy(top(probs, CONFIG.top_k_experts)).ravel()
            rows.append(np.bincount(ids, minlength=CONFIG.experts))
            x = block.mlp(x, at)
    return np.array(rows)


def main(xp=np) -> None:
    ranks = world(xp)
    cut = grid(ranks, Layout(dp=ranks.size, ep=2 if ranks.size % 2 == 0 else 1))
    ours = mm.gpt(CONFIG, cut.shares).draw(seed=0, dtype="float64", xp=xp)
    alone = mm.gpt(CONFIG).draw(seed=0, dtype="float64", xp=xp)
    careless = mm.gpt(replace(CONFIG, balance=0.0)).draw(seed=0, dtype="float64", xp=xp)
    # 8 sequences per step, with some words more frequent than others
    text = xp.asarray((61 * np.random.default_rng(0).random((STEPS, 8, 17)) ** 4).astype(int))
    first, recipe, losses = load(ours, text[0, :, :-1]), mm.Recipe(STEPS, lr=1e-3), []
    for model, where in ((ours, cut), (alone, grid(SELF)), (careless, grid(SELF))):
        adam, team = mm.AdamW(), team_of(model, where)
        for step, batch in enumerate(text, 1):
            record = mm.train_step(model, adam, recipe, step, batch[:, :-1], batch[:, 1:], team=team)
        losses.append(record["loss"])

    off = {"loss": abs(losses[0] / losses[1] - 1), "gradients": 0.0, "weights": 0.0}
    for p, q in zip(ours.parameters().values(), alone.parameters().values(), strict=True):
        for what, a, b in (("gradients", p.whole(p.grad), q.grad), ("weights", p.whole(p.data), q.data)):
            off[what] = max(off[what], float(abs(a - b).max() / abs(b).max()))
    held = ranks.all_gather(np.array([sum(p.data.size for p in ours.parameters().values())]))
    last, without = load(ours, text[-1, :, :-1]), load(careless, text[-1, :, :-1])
    if ranks.rank == 0:
        print(
            f"the whole model: {alone.count():,} parameters, {memory.used(CONFIG):,} of them used per token"
        )
        for rank, count in enumerate(held):
            own = np.arange(4)[pieces(4, cut.experts.size)[rank % cut.experts.size]]
            print(f"rank {rank}: {count:,} parameters, experts {', '.join(map(str, own))} of each block")
        for when, rows in (("step 1", first), (f"step {STEPS}", last), ("without balance", without)):
            said = [f"block {i}: {' '.join(f'{n:4}' for n in of)}" for i, of in enumerate(rows)]
            print(f"rows per expert, {when:15}   {'   '.join(said)}")
        print(f"loss after {STEPS} steps: {losses[0]:.12f}, on one rank {losses[1]:.12f}")
        print("largest difference:", ", ".join(f"{what} {x:.0e}" for what, x in off.items()))
    assert (first.sum(axis=1) == 8 * 16 * 2).all(), "a row was dropped"
    assert without.min() < 8 < last.min(), "the experts are not evenly used"
    assert max(off.values()) < 1e-9, "the ranks differ from the serial model"


main(device("cuda" if "cuda" in sys.argv else "cpu"))
