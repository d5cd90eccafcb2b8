"""The messages of a step, counted: the papers' formulas, row by row."""

from dataclasses import replace
from itertools import product

import numpy as np

from minimega.costs import Job, messages
from minimega.model import gpt
from minimega.optim import AdamW
from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.parallel.team import Team
from minimega.train import Recipe, train_step
from tests.mpi.cases_model import LAYOUTS, on
from tests.mpi.ranks import seldom, sizes

FACTORS = ("", "deep", "uneven", "untied", "no attention", "post", "sinusoidal", "head_bias", "factorised")


def counted(group, layout, case, accumulate=1, recompute="none", bucket=1 << 20) -> dict:
    """What each row of the counter grew by in one step."""
    g = grid(group, Layout(*layout))
    model = gpt(case.config, g.shares, recompute).draw(0, case.dtype)
    team = Team(model, replace(g, layout=replace(g.layout, accumulate=accumulate)), bucket)
    group.counter.traffic.clear()
    train_step(model, AdamW(), Recipe(1), 1, *case.data(), team=team)
    return {row: (t.calls, t.bytes) for row, t in group.counter.traffic.items()}


@seldom(4)
def case_a_step_sends_what_the_formulas_say(group):
    for layout, factor in product(LAYOUTS[group.size], FACTORS):
        case = on(grid(group, Layout(*layout)), frozenset({factor}), "float32")
        for accumulate, recompute, bucket in (
            (1, "none", 700),
            (2, "selective", 1 << 20),
            (2, "full", 1 << 20),
        ):
            got = counted(group, layout, case, accumulate, recompute, bucket)
            cut = Layout(*layout, accumulate=accumulate, recompute=recompute)
            job = Job(case.config, cut, case.batch, case.dtype)
            want = messages.of_layers(job, group.rank) | messages.of_norm(group.size)
            want |= messages.of_gradients(job, group.rank, bucket)
            assert got == want, (layout, factor, accumulate, recompute, got.items() ^ want.items())


@sizes(4)
def case_the_numbers_of_the_papers(group):
    """Counted by hand, of 2 layers, 2 micro-batches of 8 tokens on each of 2 replicas, and D = 24."""
    case = on(grid(group, Layout(2, 2)), frozenset({"deep"}), "float32")
    hidden = 8 * 24 * 4  # bytes of (B, T, D)

    def kinds(sequence, recompute):
        rows = counted(group, (2, 2, sequence), case, 2, recompute)
        blocks = [(kind, *t) for (_, kind, label), t in rows.items() if label.startswith("block")]
        wire = sum(t.wire for (_, _, label), t in group.counter.traffic.items() if label.startswith("block"))
        return {
            kind: np.sum([t for k, *t in blocks if k == kind], axis=0).tolist() for kind, *_ in blocks
        }, wire

    plain, wire = kinds(False, "none")
    assert plain == {"all-reduce": [4 * 2 * 2, 4 * 2 * 2 * hidden]}  # Shoeybi et al. 2019: four per layer
    assert kinds(False, "full")[0] == {"all-reduce": [6 * 2 * 2, 6 * 2 * 2 * hidden]}
    cut, wire_cut = kinds(True, "none")  # Korthikanti et al. 2022: as many bytes on the wire
    assert cut == {k: [4 * 2 * 2, 4 * 2 * 2 * hidden] for k in ("all-gather", "reduce-scatter")}
    assert wire_cut == wire == 4 * 2 * 2 * hidden * 2 * (2 - 1) / 2
    assert kinds(True, "full")[0] == {k: [6 * 2 * 2, 6 * 2 * 2 * hidden] for k in cut}
