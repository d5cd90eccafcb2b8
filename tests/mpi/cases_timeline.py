"""A Stopwatch records what happened, on clocks that agree, and changes nothing."""

import time
from itertools import pairwise, product

import numpy as np

from minimega.costs import messages
from minimega.costs.stopwatch import Stopwatch, TimedRun, departure
from minimega.parallel import schedules
from minimega.parallel.bubble import held
from minimega.parallel.schedules import neighbour, received
from tests.mpi.cases_pipeline import SCHEDULES, layouts, on
from tests.mpi.ranks import seldom, sizes


def through(case, g, run=None):
    """The loss and the gradients of one step."""
    model = case.model(g)
    loss = case.team(model, g, run=run).gradients(model, *case.data(), 7)
    return loss, {name: p.grad for name, p in model.parameters().items()}


@sizes(2, 3, 4)
@seldom(4)
def case_measuring_changes_no_bit_and_shows_the_schedule(group):
    for g, (name, v) in product(layouts(group), SCHEDULES):
        case, watch = on(g, name, v, frozenset({"dropout", "accumulate"})), Stopwatch(g.pipeline)
        (loss, plain), (timed_loss, timed) = through(case, g), through(case, g, watch.run)
        assert loss == timed_loss and all((plain[n] == timed[n]).all() for n in plain)
        events, p = watch.gathered(), g.pipeline.size
        schedule = schedules.SCHEDULES[name](p, case.micro_batches, v)
        assert departure(schedule, events) == ""
        assert [max(e.held for e in of_rank) for of_rank in events] == [held(s) for s in schedule]
        sent = {}
        for r, of_rank in enumerate(events):
            assert all(a.end == b.start for a, b in pairwise(of_rank))
            assert all(e.start <= e.end and e.cost >= 0 for e in of_rank)
            sends = [(e.action, e.start) for e in of_rank if e.action.kind == "send"]
            sent |= {(neighbour(a, r, p), *received(a, r, p)[1:]): start for a, start in sends}
        came = {
            (r, *e.action[1:]): e.end for r, of in enumerate(events) for e in of if e.action.kind == "wait"
        }
        assert came.keys() == sent.keys()
        assert all(came[key] > sent[key] - 2 * watch.error for key in sent)  # nothing comes before it is sent


@sizes(2, 4)
def case_measuring_sends_what_the_formula_says(group):
    g, found = layouts(group)[0], []
    for measured in (False, True):
        group.counter.traffic.clear()
        watch = Stopwatch(g.pipeline) if measured else None
        through(on(g), g, watch and watch.run)
        events = watch.gathered() if watch else []
        found.append({row: (t.calls, t.bytes) for row, t in group.counter.traffic.items()})
    plain, timed = found
    more = messages.of_stopwatch(g.pipeline.size, g.pipeline.rank, max(map(len, events)))
    assert timed == plain | more, timed.items() ^ (plain | more).items()


@sizes(2, 3, 4)
def case_clocks_that_differ_are_aligned(group):
    ahead = 5.0 * group.rank
    watch = Stopwatch(group, clock=lambda: time.perf_counter() + ahead)
    assert abs(watch.offset + ahead) <= watch.error < 1
    assert Stopwatch(group).offset == 0  # of one machine: one clock
    group.barrier()
    times = group.all_gather(np.array([watch.read()[0]]))
    assert np.ptp(times) < 1


@sizes(2, 3)
def case_another_order_is_noticed(group):
    (g,) = layouts(group)
    p, watch = group.size, Stopwatch(g.pipeline)

    class Swapped(TimedRun):
        """The last rank takes two micro-batches in turn: no message notices, since both have one shape."""

        def execute(self, actions):
            swap = {0: 1, 1: 0} if self.group.rank == p - 1 else {}
            return super().execute([a._replace(batch=swap.get(a.batch, a.batch)) for a in actions])

    for name, other, run in (("gpipe", "1f1b", watch.run), ("gpipe", "gpipe", lambda *w: Swapped(watch, *w))):
        through(on(g, name), g, run)
        events = watch.gathered()
        assert departure(schedules.SCHEDULES[other](p, p, 1), events)
        watch.events = []
