"""Measures a pipeline: what each rank does and when, by synchronized clocks.

Pass `Stopwatch.run` to a Team in place of `Run`; a run that is not measured knows nothing of it.

p ranks, r the rank.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from statistics import fmean
from typing import NamedTuple, Self

import numpy as np

from minimega.parallel.pipeline import Run
from minimega.parallel.schedules import COSTS, Action, Schedule, Timed
from minimega.ranks.group import Group

KINDS = (*COSTS, "send", "receive", "reduce", "wait")  # wait: for the message of a receive
WHATS = ("", "x", "dx")
ROUNDS = 50  # questions to the first rank; the shortest round trip counts


class Event(NamedTuple):
    """A measured action: `start` and `end` in seconds of the first rank's clock.

    `cost` is its CPU time in seconds, unaffected by other ranks on the same core. On a GPU it is wall time
    (ranks that share a GPU slow each other). `held` is the number of micro-batches (through one chunk) whose
    activations the rank held at its end.
    """

    action: Action
    start: float
    end: float
    cost: float
    held: int


class Stopwatch:
    """Makes Runs and times them; the ranks' clocks agree within `error` seconds.

    All ranks of the pipeline must create it together. `xp` owns the model's arrays: with CuPy it waits for
    the GPU at the end of every action.
    """

    def __init__(self, pipeline: Group, xp=np, clock: Callable[[], float] = time.perf_counter):
        self.pipeline, self.xp, self.clock = pipeline, xp, clock
        self.offset, self.error = offset(pipeline, clock)
        self.events: list[Event] = []

    def run(self, *what) -> "TimedRun":
        """A Run whose events are kept until the next one: of an accumulated step, the last part's."""
        self.events = []
        return TimedRun(self, *what)

    def read(self) -> tuple[float, float]:
        """The time on the first rank's clock, and the cost of everything so far, in seconds."""
        if self.xp is np:
            return self.clock() + self.offset, time.thread_time()
        self.xp.cuda.get_current_stream().synchronize()
        now = self.clock()
        return now + self.offset, now

    def gathered(self) -> list[list[Event]]:
        """The events of all ranks of the pipeline, by rank. A collective: every rank calls it."""
        rows = [
            (KINDS.index(a.kind), a.batch, a.chunk, WHATS.index(a.what), *figures)
            for a, *figures in self.events
        ]
        longest = int(self.pipeline.all_reduce(np.array(len(rows)), "max", label="events"))
        table = np.full((1, longest, 8), -1.0)  # a kind of -1: no event
        table[0, : len(rows)] = np.reshape(rows, (-1, 8))
        return [
            [
                Event._make((Action(KINDS[int(k)], int(n), int(c), WHATS[int(what)]), *when, int(held)))
                for k, n, c, what, *when, held in of_rank
                if k >= 0
            ]
            for of_rank in self.pipeline.all_gather(table, label="events").tolist()
        ]


class TimedRun(Run):
    """A Run that records its events: each begins when the one before it ends."""

    def __init__(self, watch: Stopwatch, *what):
        super().__init__(*what)
        self.watch = watch

    def execute(self, actions: Iterable[Action]) -> Self:
        """`Run.execute`, timed."""
        self.began = self.watch.read()
        return super().execute(self._noted(actions))

    def _noted(self, actions: Iterable[Action]) -> Iterable[Action]:
        for a in actions:
            yield a  # it is done when the next one is asked for
            self._note(a)

    def receive(self, a: Action) -> None:
        """`Run.receive`; waiting for its message becomes a separate event."""
        super().receive(a)
        wait = self.coming[a.what, *a.key]

        def timed():
            x = wait()
            self._note(a._replace(kind="wait"))
            return x

        self.coming[a.what, *a.key] = timed

    def _note(self, a: Action) -> None:
        now, held = self.watch.read(), len(self.kept) + len(self.halves)
        self.watch.events.append(Event(a, self.began[0], now[0], now[1] - self.began[1], held))
        self.began = now


def offset(group: Group, clock: Callable[[], float] = time.perf_counter) -> tuple[float, float]:
    """The seconds to add to this rank's clock to get the first rank's, and the largest error of any rank.

    Each rank asks the first one for its time. The answer was given between the question and its arrival, so
    their midpoint is off by at most half of that interval (Cristian 1989, "Probabilistic clock
    synchronization", section 3). An offset within the error counts as zero: ranks on one machine share a
    clock.
    """
    trip, found, box = 0.0 if group.rank == 0 else np.inf, 0.0, np.zeros(1)
    for r in range(1, group.size):
        for _ in range(ROUNDS):
            if group.rank == 0:
                group.start_receive(box, r)()
                group.start_send(np.array([clock()]), r, label="clock")()
            elif group.rank == r:
                asked = clock()
                group.start_send(box, 0, label="clock")()
                group.start_receive(box, 0)()
                came = clock()
                if came - asked < trip:
                    trip, found = came - asked, float(box[0]) - (asked + came) / 2
    error = float(group.all_reduce(np.array(trip / 2), "max", label="clock"))
    return (found if abs(found) > trip / 2 else 0.0), error


def orders(events: list[list[Event]]) -> Schedule:
    """The actions of each rank in the order it did them, as a schedule lists them."""
    return [[e.action for e in of_rank if e.action.kind != "wait"] for of_rank in events]


def departure(schedule: Schedule, events: list[list[Event]]) -> str:
    """The first place where a rank departed from the schedule; empty if none did."""
    for r, (said, did) in enumerate(zip(schedule, orders(events), strict=True)):
        for n in range(max(len(said), len(did))):
            a, b = (actions[n] if n < len(actions) else Action("nothing", -1) for actions in (said, did))
            if a != b:
                return f"rank {r} did {' '.join(map(str, b))} where the schedule says {' '.join(map(str, a))}"
    return ""


def as_it_was(events: list[list[Event]]) -> Timed:
    """The measured times, in seconds from the first event."""
    begin = min(of_rank[0].start for of_rank in events)
    return [[(e.action, e.start - begin, e.end - begin) for e in of_rank] for of_rank in events]


def costs(events: list[list[Event]]) -> Callable[[int, Action], float | None]:
    """The measured cost of each action, messages included, for `schedules.times`."""
    each = [{e.action: e.cost for e in of_rank if e.action.kind != "wait"} for of_rank in events]
    return lambda r, a: each[r].get(a)


def mean_costs(events: list[list[Event]]) -> Callable[[int, Action], float | None]:
    """The mean cost of each kind of action per rank and chunk, for `schedules.times`; messages are free."""
    found = defaultdict(list)
    for r, of_rank in enumerate(events):
        for e in of_rank:
            if e.action.kind in COSTS:
                found[r, e.action.kind, e.action.chunk].append(e.cost)
    means = {key: fmean(each) for key, each in found.items()}
    return lambda r, a: means.get((r, a.kind, a.chunk))
