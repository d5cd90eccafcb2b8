"""What each rank holds in training, measured in every mode, beside the papers' formulas.

    mpirun -n 4 python examples/memory_report.py
    mpirun -n 4 python examples/memory_report.py --device cuda

Activations of one block under tensor and sequence parallelism with every recomputation (Korthikanti et al.
2022), and the model's state under every stage of ZeRO (Rajbhandari et al. 2019). `minimega memory` prints the
same for any shape, without starting ranks.
"""

import sys
from itertools import product

import numpy as np

import minimega as mm
from minimega.backend import device
from minimega.costs import activations
from minimega.costs.measured import measured_block, measured_state
from minimega.model import RECOMPUTE
from minimega.parallel import zero
from minimega.parallel.grid import Layout, grid
from minimega.ranks.mpi import world

CONFIG = mm.Config(vocab_size=500, context=64, d_model=64, nhead=8, num_layers=4, dropout=0.1)
BATCH = 4


def main(xp=np) -> None:
    ranks, rows = world(xp), []
    for sequence, recompute in product((False, True), RECOMPUTE):
        shares = grid(ranks, Layout(ranks.size, sequence=sequence)).shares
        kept = activations.block(CONFIG, BATCH, recompute, ranks.size, sequence)
        found = measured_block(CONFIG, BATCH, recompute, shares, "float32", xp)
        name = f"--tp {ranks.size}{' --sequence-parallel' * sequence} --recompute {recompute}"
        formula = sum(item.bytes("float32") for item in kept)
        rows.append((name, sum(item.paper_bytes for item in kept), formula, found))
    count, n = mm.gpt(CONFIG).count(), ranks.size
    table = CONFIG.vocab_size * CONFIG.d_model
    for stage, each in enumerate((16, 4 + 12 / n, 2 + 14 / n, 16 / n)):  # section 5: bytes per parameter
        state = measured_state(CONFIG, grid(ranks, Layout(dp=n)), stage, 50_000, xp)
        more = (state.at_once, table) if stage and n > 1 else ()
        formula = sum(zero.state_bytes(stage if n > 1 else 0, count, n, *more).values())
        rows.append((f"--dp {n} --zero {stage}", each * count, formula, sum(state.most.values())))
    most = ranks.all_reduce(np.array([found for *_, found in rows]), "max").tolist()
    if ranks.rank == 0:
        print(f"{'the most that a rank holds, in kB':<52}paper, 16 bit   formula   measured   error")
        for (name, paper, formula, _), found in zip(rows, most, strict=True):
            off = found / formula - 1
            print(f"{name:<52}{paper / 1e3:13,.1f}{formula / 1e3:10,.1f}{found / 1e3:11,.1f}{off:+8.1%}")
    worst = max(abs(found / row[2] - 1) for row, found in zip(rows, most, strict=True))
    assert worst < 0.05, "the formulas differ from the measurement"


main(device("cuda" if "cuda" in sys.argv else "cpu"))
