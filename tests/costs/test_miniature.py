"""A measured miniature of the 530-billion run: ranks do, action by action, what the planner's trace says."""

import numpy as np
import pytest

from minimega.costs import Job
from minimega.costs.plan import GPUS, Machine, estimate
from minimega.costs.plan.trace import trace
from minimega.costs.stopwatch import Stopwatch, departure, orders
from minimega.model import Config
from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.parallel.pipeline import Run
from minimega.parallel.team import build
from minimega.ranks.threads import on_ranks

CONFIG = Config(vocab_size=64, context=8, d_model=16, nhead=2, num_layers=8)
CUTS = {
    "1f1b": Layout(tp=2, pp=4, sequence=True, micro_batches=8),
    "interleaved": Layout(tp=2, pp=4, sequence=True, micro_batches=8, pipeline="interleaved"),
}
DOES = "forward", "backward", "send"


def planned(job: Job) -> list[list[tuple]]:
    """By pipeline rank, what its first tensor rank does by the trace: (what, batch, chunk, bytes sent)."""
    told = trace(estimate(job, Machine(GPUS["a100-80gb"], job.layout.ranks)))
    found: list[list[tuple]] = [[] for _ in range(job.layout.pp)]
    for event in told["traceEvents"]:
        if event["ph"] == "X" and event["tid"] == 0 and event["cat"] in DOES:
            what, _, batch = event["name"].rpartition(" ")
            found[event["pid"]].append(
                (what, int(batch), event["args"]["chunk"], event["args"].get("bytes", 0))
            )
    return found


def measured(job: Job) -> tuple[list[list[tuple]], str]:
    """By pipeline rank, what its first tensor rank did; and where it departed from its own schedule."""
    sizes: dict[int, list[int]] = {r: [] for r in range(job.layout.ranks)}

    def step(group):
        g = grid(group, job.layout)
        watch = Stopwatch(g.pipeline)
        timed = watch.run

        def run(*what):
            made = timed(*what)
            made.act["send"] = lambda a: (sizes[group.rank].append(_sent(made, a)), type(made).send(made, a))
            return made

        model, team = build(job.config, g, run=run)
        team.draw(model)
        ids = np.zeros((job.batch, job.config.context), int)
        team.gradients(model, ids, ids)
        return watch.gathered()

    with on_ranks(job.layout.ranks) as run:
        events = run(step)[0]
    found = []
    for r, actions in enumerate(orders(events)):
        bytes_of = iter(sizes[r * job.layout.tp])
        found.append(
            [
                (f"{a.kind} {a.what}".strip(), a.batch, a.chunk, next(bytes_of) if a.kind == "send" else 0)
                for a in actions
                if a.kind in DOES
            ]
        )
    return found, departure(job.layout.schedule(), events)


def _sent(run: Run, a) -> int:
    return (run.kept[a.key][1].data if a.what == "x" else run.dx[a.key]).nbytes


@pytest.mark.parametrize("cut", CUTS)
def test_ranks_do_what_the_trace_says(cut):
    job = Job(CONFIG, CUTS[cut], batch=8)
    did, departed = measured(job)
    v = job.layout.virtual_stages
    assert departed == ""
    assert did == planned(job)
    assert sum(len(actions) for actions in did) == 2 * 8 * 4 * v + 2 * 8 * (4 * v - 1)


def test_planted_another_order_is_noticed():
    job = Job(CONFIG, CUTS["1f1b"], batch=8)
    other = Job(CONFIG, Layout(tp=2, pp=4, sequence=True, micro_batches=8, pipeline="gpipe"), batch=8)
    assert measured(other)[0] != planned(job)
