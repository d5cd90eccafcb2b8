"""Pipeline schedules as data: for each rank the list of what it does, one thing after another.

The layers are cut into v p stages: rank r of p holds the stages r, p + r, 2p + r...: its chunks 0, 1, 2...
A step's sequences are cut into m micro-batches, and each of them passes all stages forward, then backward.
The schedules differ in how long a rank waits (the bubble), and in how many micro-batches it holds at once.

p ranks, m micro-batches, v chunks a rank, r the rank.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from minimega.errors import BadInput


class Action(NamedTuple):
    """One thing that a rank does with a micro-batch and one of its chunks.

    forward, backward   the micro-batch through the chunk; its gradient back through it
    backward-input      the half of backward that the stage before waits for: the gradient of what came in
    backward-weight     the half that nobody waits for: the gradients of the chunk's parameters
    send, receive       what goes to, and comes from, a neighbour: an activation "x" or a gradient "dx"
    reduce              the chunk's next backward completes its gradients: they may be added up over ranks
    """

    kind: str
    batch: int
    chunk: int = 0
    what: str = ""

    @property
    def key(self) -> tuple[int, int]:
        """The micro-batch and the chunk."""
        return self.batch, self.chunk


Schedule = list[list[Action]]  # by rank
Timed = list[list[tuple[Action, float, float]]]  # by rank: what it does, from when to when
COSTS = {"forward": 1, "backward": 2, "backward-input": 1, "backward-weight": 1}  # messages take no time
Costs = dict[str, float] | Callable[[int, Action], float | None]  # by kind; or of a rank's action


def gpipe(p: int, m: int, v: int = 1) -> Schedule:
    """All forward, then all backward: m micro-batches are held at once (Huang et al. 2018)."""
    return _with_messages([_all("forward", m) + _all("backward", m)] * p)


def one_f_one_b(p: int, m: int, v: int = 1) -> Schedule:
    """Forward and backward in turn as soon as the pipeline is full: at most p - r micro-batches are held.

    Narayanan et al. 2020, "Memory-efficient pipeline-parallel DNN training" (there: PipeDream-flush).

    >>> [f"{a.kind} {a.batch}" for a in one_f_one_b(2, 2)[1] if not a.what]
    ['forward 0', 'backward 0', 'forward 1', 'reduce 1', 'backward 1']
    """
    orders = [_in_turn(_all("forward", m), _all("backward", m), p - r - 1) for r in range(p)]
    return _with_messages(orders)


def interleaved(p: int, m: int, v: int = 2) -> Schedule:
    """1F1B over v chunks a rank: the bubble is a v-th of 1F1B's, at v times as many messages.

    Narayanan et al. 2021, "Efficient large-scale language model training on GPU clusters", section 2.2. Each
    chunk takes p micro-batches, then the next one takes the same.
    """
    if m % p or (p == 1 and v > 1):
        raise BadInput(
            f"{m} micro-batches cannot be interleaved over {p} ranks in {v} chunks each: choose --pp of at "
            f"least 2, and --micro-batches so that --pp divides it"
        )
    turns = [(n, c) for first in range(0, m, p) for c in range(v) for n in range(first, first + p)]
    forward = [Action("forward", n, c) for n, c in turns]
    backward = [Action("backward", n, v - 1 - c) for n, c in turns]
    lead = 1 if v == 1 else 2  # chunks: a rank sends off its turn at the next one before the first comes back
    orders = [_in_turn(forward, backward, lead * (p - r - 1) + (v - 1) * p) for r in range(p)]
    return _with_messages(orders)


def zero_bubble(p: int, m: int, v: int = 1) -> Schedule:
    """1F1B with its backward in halves, of which the weight halves fill the waiting.

    ZB-H1 of Qi et al. 2023 ("Zero bubble pipeline parallelism"), section 2.1. Rank r is r weight halves
    behind, so that every rank holds up to p micro-batches, as rank 0 of 1F1B does.
    """
    orders = []
    for r in range(p):
        order = []
        for a in _in_turn(_all("forward", m), _all("backward-input", m), p - r - 1):
            order.append(a)
            if a.kind == "backward-input" and a.batch >= r:
                order.append(Action("backward-weight", a.batch - r))
        orders.append(order + _all("backward-weight", m)[max(m - r, 0) :])
    return _with_messages(orders)


def forward_only(p: int, v: int = 1) -> Schedule:
    """One batch through all stages, as evaluation and generation need it."""
    return _with_messages([[Action("forward", 0, c) for c in range(v)]] * p)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "interleaved": interleaved,
    "zero-bubble": zero_bubble,
}


def _all(kind: str, m: int) -> list[Action]:
    return [Action(kind, n) for n in range(m)]


def _in_turn(forward: list[Action], backward: list[Action], ahead: int) -> list[Action]:
    """`ahead` of the forward ones, then one of each in turn, then the backward ones that are left."""
    ahead = min(ahead, len(forward))
    turns = [a for pair in zip(forward[ahead:], backward, strict=False) for a in pair]
    return forward[:ahead] + turns + backward[len(forward) - ahead :]


def _with_messages(orders: Schedule) -> Schedule:
    """Put in the messages, and `reduce` before the last that adds to a chunk's gradients.

    All that happens is written down in one order in time, a message as one event of both ranks. Each rank's
    list is what that order says of it, so no two ranks can wait for each other.
    """
    p, last = len(orders), last_stage(orders)
    events = []
    for r, timed in enumerate(times(orders)):
        for a, start, end in timed:
            events.append((start, 1, r, a))
            for what, _, stage in gives(a, r, p):
                if 0 <= stage <= last:
                    events.append((end, 0, r, Action("send", a.batch, a.chunk, what)))
    full: Schedule = [[] for _ in orders]
    for _, _, r, a in sorted(events, key=lambda event: event[:3]):
        full[r].append(a)
        if a.kind == "send":
            full[neighbour(a, r, p)].append(received(a, r, p))
    for actions in full:
        ends = {a.chunk: i for i, a in enumerate(actions) if a.kind in ("backward", "backward-weight")}
        for chunk, i in sorted(ends.items(), key=lambda end: -end[1]):
            actions.insert(i, Action("reduce", actions[i].batch, chunk))
    return full


def neighbour(a: Action, r: int, p: int) -> int:
    """The rank that a message of rank r goes to or comes from."""
    return (r + (1 if (a.what == "x") == (a.kind == "send") else -1)) % p


def received(a: Action, r: int, p: int) -> Action:
    """What the neighbour does when rank r sends."""
    stage = a.chunk * p + r + (1 if a.what == "x" else -1)
    return Action("receive", a.batch, stage // p, a.what)


def last_stage(orders: Schedule) -> int:
    """The number of the last stage."""
    return len(orders) * (1 + max(a.chunk for actions in orders for a in actions)) - 1


def gives(a: Action, r: int, p: int) -> Iterator[tuple[str, int, int]]:
    """What an action gives, and for which stage: the names of what must be there before another starts."""
    if a.kind == "forward":
        yield "x", a.batch, a.chunk * p + r + 1
    elif a.kind in ("backward", "backward-input"):
        yield "dx", a.batch, a.chunk * p + r - 1


def takes(a: Action, r: int, p: int, last: int) -> tuple[str, int, int] | None:
    """What has to be there before an action starts, apart from what the same rank did before."""
    stage = a.chunk * p + r
    what = {"forward": "x", "backward": "dx", "backward-input": "dx"}.get(a.kind)
    begins = stage == (0 if what == "x" else last)  # this direction: nothing comes from elsewhere
    return None if what is None or begins else (what, a.batch, stage)


def times(schedule: Schedule, costs: Costs = COSTS) -> Timed:
    """When each rank begins and ends each action if it starts as soon as it can: what a picture shows.

    An action waits for those before it on its rank and for what comes from other ranks, which takes no time
    to travel; what has no cost (messages, `reduce`) is left out. ValueError where something is waited for
    that never comes.
    """
    cost = costs if callable(costs) else lambda r, a: costs.get(a.kind)
    p, last = len(schedule), last_stage(schedule)
    ready: dict[tuple[str, int, int], float] = {}
    clock, found = [0.0] * p, [[] for _ in schedule]
    todo = [iter([a for a in actions if cost(r, a) is not None]) for r, actions in enumerate(schedule)]
    head = [next(actions, None) for actions in todo]
    moved = True
    while moved:
        moved = False
        for r in range(p):
            while (a := head[r]) and ((need := takes(a, r, p, last)) is None or need in ready):
                start = max(clock[r], ready.get(need, 0.0))
                clock[r] = end = start + cost(r, a)
                found[r].append((a, start, end))
                ready |= dict.fromkeys(gives(a, r, p), end)
                head[r], moved = next(todo[r], None), True
    if any(head):
        raise ValueError(f"what they wait for never comes: {[a for a in head if a]}")
    return found
