"""A pipeline's run, measured: what each rank does from when to when, by clocks that agree.

`Stopwatch.run` stands in for `Run`, in `train.gradients` and elsewhere; a run that is not measured knows
nothing of it.

p ranks, r the rank.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from statistics import fmean
from typing import NamedTuple

import numpy as np

from minimega.parallel.pipeline import Run
from minimega.parallel.schedules import COSTS, Action, Schedule, Timed
from minimega.ranks.group import Group

KINDS = (*COSTS, "send", "receive", "reduce", "wait")  # wait: for what a receive has started
WHATS = ("", "x", "dx")
ROUNDS = 50  # questions to the first rank; the shortest round trip counts


class Event(NamedTuple):
    """An action as it was: `start` and `end` in seconds of the first rank's clock.

    `cost` are the seconds of processor time in it, which no other rank on the same core makes longer; on a
    GPU, which does not tell them, all of its seconds (ranks that share one make them longer). `held` is the
    number of micro-batches (through one chunk) whose activations the rank held at its end.
    """

    action: Action
    start: float
    end: float
    cost: float
    held: int


class Stopwatch:
    """Takes the time of Runs that it makes; `error` is by how much (in seconds) ranks may be apart in it.

    All ranks of the pipeline make it together. `xp` owns the model's arrays: a GPU is waited for at every
    action's end.
    """

    def __init__(self, pipeline: Group, xp=np, clock: Callable[[], float] = time.perf_counter):
        self.pipeline, self.xp, self.clock = pipeline, xp, clock
        self.offset, self.error = offset(pipeline, clock)
        self.events: list[Event] = []

    def run(self, *what) -> "TimedRun":
        """A Run whose events are kept, until the next one is made: of an accumulated step, its last part."""
        self.events = []
        return TimedRun(self, *what)

    def read(self) -> tuple[float, float]:
        """The time, and the cost of everything so far."""
        if self.xp is np:
            return self.clock() + self.offset, time.thread_time()
        self.xp.cuda.get_current_stream().synchronize()
        now = self.clock()
        return now + self.offset, now

    def gathered(self) -> list[list[Event]]:
        """The events of all ranks of the pipeline, on each of them."""
        rows = [
            (KINDS.index(a.kind), a.batch, a.chunk, WHATS.index(a.what), *figures)
            for a, *figures in self.events
        ]
        longest = int(self.pipeline.all_reduce(np.array(len(rows)), "max", label="events"))
        table = np.full((1, longest, 8), -1.0)  # a kind of -1: no event
        table[0, : len(rows)] = np.reshape(rows, (-1, 8))
        return [
            [
                Event(Action(KINDS[int(k)], int(n), int(c), WHATS[int(what)]), *when, int(held))
                for k, n, c, what, *when, held in of_rank
                if k >= 0
            ]
            for of_rank in self.pipeline.all_gather(table, label="events").tolist()
        ]


class TimedRun(Run):
    """A Run that writes down what it does: each event begins where the one before it ended."""

    def __init__(self, watch: Stopwatch, *what):
        super().__init__(*what)
        self.watch = watch

    def execute(self, actions: Iterable[Action]) -> Run:
        self.began = self.watch.read()
        return super().execute(self._noted(actions))

    def _noted(self, actions: Iterable[Action]) -> Iterable[Action]:
        for a in actions:
            yield a  # it is done before the next one is asked for
            self._note(a)

    def receive(self, a: Action) -> None:
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
    """What has to be added to this rank's clock to get the first one's; and the error of the worst rank.

    Each rank asks the first one for its time. The answer was given between question and arrival, so their
    middle is wrong by half of that at most (Cristian 1989, "Probabilistic clock synchronization", section
    3). A difference within the error is none: the ranks of one machine read one clock.
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
    """What each rank did, one thing after another, as a schedule says it."""
    return [[e.action for e in of_rank if e.action.kind != "wait"] for of_rank in events]


def departure(schedule: Schedule, events: list[list[Event]]) -> str:
    """Where a rank first did something else than the schedule says; empty where none did."""
    for r, (said, did) in enumerate(zip(schedule, orders(events), strict=True)):
        for n in range(max(len(said), len(did))):
            a, b = (actions[n] if n < len(actions) else Action("nothing", -1) for actions in (said, did))
            if a != b:
                return f"rank {r} did {' '.join(map(str, b))} where the schedule says {' '.join(map(str, a))}"
    return ""


def as_it_was(events: list[list[Event]]) -> Timed:
    """By the clock, from the first event on."""
    begin = min(of_rank[0].start for of_rank in events)
    return [[(e.action, e.start - begin, e.end - begin) for e in of_rank] for of_rank in events]


def costs(events: list[list[Event]]) -> Callable[[int, Action], float | None]:
    """What each action of each rank did cost, its messages too; for `times`."""
    each = [{e.action: e.cost for e in of_rank if e.action.kind != "wait"} for of_rank in events]
    return lambda r, a: each[r].get(a)


def mean_costs(events: list[list[Event]]) -> Callable[[int, Action], float | None]:
    """What each kind of action costs on each rank and chunk, in the mean; messages take no time."""
    found = defaultdict(list)
    for r, of_rank in enumerate(events):
        for e in of_rank:
            if e.action.kind in COSTS:
                found[r, e.action.kind, e.action.chunk].append(e.cost)
    means = {key: fmean(each) for key, each in found.items()}
    return lambda r, a: means.get((r, a.kind, a.chunk))
