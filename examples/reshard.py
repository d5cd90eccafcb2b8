"""One run under three layouts, checkpoint by checkpoint: equal to an uninterrupted run on one rank.

    mpirun -n 4 python examples/reshard.py
    mpirun -n 4 python examples/reshard.py --device cuda

For a run's folder: minimega reshard RUN --tp 1 --dp 2 --save-dir OUT
"""

import sys

import numpy as np

import minimega as mm
from minimega.backend import device
from minimega.checkpoint import checkpoint, run_folder
from minimega.commands.texts import workspace
from minimega.parallel.grid import Grid, Layout, grid
from minimega.parallel.team import team_of
from minimega.ranks.group import SELF
from minimega.ranks.mpi import world

CONFIG, STEPS = mm.Config(vocab_size=211, context=32, d_model=64, nhead=8, dropout=0.1), 6
TEXT = np.random.default_rng(0).integers(211, size=(STEPS, 8, 33))  # 8 sequences per step


def train(cut: Grid, newest, steps: range, xp) -> tuple[mm.Model, mm.AdamW, list[float]]:
    """Resume from the checkpoint, if there is one, and train; returns the losses too."""
    model, adam, recipe = mm.gpt(CONFIG, cut.shares).draw(0, "float64", xp), mm.AdamW(), mm.Recipe(STEPS)
    if newest:
        checkpoint.resume(newest, model, adam)
    team, text = team_of(model, cut), xp.asarray(TEXT)
    batches = [(step, text[step - 1, :, :-1], text[step - 1, :, 1:]) for step in steps]
    return model, adam, [mm.train_step(model, adam, recipe, *batch, team=team)["loss"] for batch in batches]


def main(xp=np) -> None:
    ranks = world(xp)
    tp, dp, furthest = max(ranks.size // 2, 1), min(ranks.size, 2), 0.0
    layouts = {
        f"--tp {ranks.size} --sequence-parallel": grid(ranks, Layout(tp=ranks.size, sequence=True)),
        f"--tp {tp} --dp {dp}": grid(ranks, Layout(tp, dp)),
        "one rank": grid(SELF),
    }
    alone, _, right = train(grid(SELF), None, range(1, STEPS + 1), xp)
    with workspace(None, ranks) as folder:
        for n, (name, cut) in enumerate(layouts.items()):
            newest, begin = run_folder.newest(folder) if n else None, 2 * n + 1
            model, adam, losses = train(cut, newest, range(begin, begin + 2), xp)
            checkpoint.save(folder, model, adam, {"step": begin + 1}, world=ranks)
            for step, loss in enumerate(losses, begin):
                furthest = max(furthest, abs(loss / right[step - 1] - 1))
                if ranks.rank == 0:
                    print(f"step {step}   {loss:.14f}   uninterrupted {right[step - 1]:.14f}   {name}")
    pairs = zip(model.parameters().values(), alone.parameters().values(), strict=True)
    furthest = max(furthest, *(float(abs(p.data - q.data).max() / abs(q.data).max()) for p, q in pairs))
    if ranks.rank == 0:
        print(f"largest difference of losses and weights: {furthest:.0e}")
    assert furthest < 1e-10, "the ranks differ from the serial model"


main(device("cuda" if "cuda" in sys.argv else "cpu"))
