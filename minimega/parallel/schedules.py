"""Pipeline schedules as data: each rank's list of actions, in order.

The layers are cut into v p stages. Rank r of p holds the stages r, p + r, 2p + r...: its chunks 0, 1, 2...
A step's sequences are cut into m micro-batches. Each passes all stages forward, then backward. The schedules
differ in how long ranks wait (the bubble), and in how many micro-batches a rank holds at once.

p ranks, m micro-batches, v chunks per rank, r the rank.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from minimega.errors import BadInput


class Action(NamedTuple):
    """One action of a rank, on one micro-batch and one of its chunks.

    forward, backward   the micro-batch through the chunk; its gradient back through it
    backward-input      the half of backward that the stage before waits for: the gradient of the input
    backward-weight     the half that no rank waits for: the gradients of the chunk's parameters
    send, receive       to or from a neighbour: an activation "x" or a gradient "dx"
    reduce              the chunk's next backward completes its gradients: they may be summed over ranks

    `batch` is the number of the micro-batch, `chunk` that of the chunk, `what` the kind of message.
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
Timed = list[list[tuple[Action, float, float]]]  # by rank: actions, with start and end
COSTS: dict[str, float] = {
    "forward": 1,
    "backward": 2,
    "backward-input": 1,
    "backward-weight": 1,
}  # messages take no time
Costs = dict[str, float] | Callable[[int, Action], float | None]  # by kind, or by rank and action


def gpipe(p: int, m: int, v: int = 1) -> Schedule:
    """All forward, then all backward: each rank holds m micro-batches at once (Huang et al. 2018)."""
    return _with_messages([_all("forward", m) + _all("backward", m)] * p)


def one_f_one_b(p: int, m: int, v: int = 1) -> Schedule:
    """1F1B: forward and backward in turn once the pipeline is full. Rank r holds at most p - r micro-batches.

    Narayanan et al. 2020, "Memory-efficient pipeline-parallel DNN training" (there: PipeDream-flush).

    >>> [f"{a.kind} {a.batch}" for a in one_f_one_b(2, 2)[1] if not a.what]
    ['forward 0', 'backward 0', 'forward 1', 'reduce 1', 'backward 1']
    """
    orders = [_in_turn(_all("forward", m), _all("backward", m), p - r - 1) for r in range(p)]
    return _with_messages(orders)


def interleaved(p: int, m: int, v: int = 2) -> Schedule:
    """1F1B over v chunks per rank: 1/v of the bubble of 1F1B, v times as many messages.

    Narayanan et al. 2021, "Efficient large-scale language model training on GPU clusters", section 2.2. Each
    chunk takes p micro-batches, then the next chunk takes the same p. Raises BadInput if p does not divide m.
    """
    if m % p or (p == 1 and v > 1):
        raise BadInput(
            f"{m} micro-batches cannot be interleaved over {p} ranks in {v} chunks each: choose `pp` of at "
            f"least 2, and `micro_batches` as a multiple of it"
        )
    turns = [(n, c) for first in range(0, m, p) for c in range(v) for n in range(first, first + p)]
    forward = [Action("forward", n, c) for n, c in turns]
    backward = [Action("backward", n, v - 1 - c) for n, c in turns]
    lead = 1 if v == 1 else 2  # forwards ahead for each rank after this one
    orders = [_in_turn(forward, backward, lead * (p - r - 1) + (v - 1) * p) for r in range(p)]
    return _with_messages(orders)


def zero_bubble(p: int, m: int, v: int = 1) -> Schedule:
    """1F1B with backward split in halves; the weight halves fill the bubble.

    ZB-H1 of Qi et al. 2023 ("Zero bubble pipeline parallelism"), section 2.1. Rank r delays its weight halves
    by r micro-batches, so every rank holds up to p micro-batches, as rank 0 of 1F1B does.
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
    """One batch forward through all stages, for evaluation and generation."""
    return _with_messages([[Action("forward", 0, c) for c in range(v)]] * p)


def in_order(orders: Sequence[Sequence[tuple[str, int]]]) -> Schedule:
    """The schedule of ranks that take these ("forward", n) and ("backward", n), each in its order.

    Raises ValueError if an action waits for what never comes.

    >>> in_order([[("forward", 0), ("backward", 0)]] * 2) == gpipe(2, 1)
    True
    """
    return _with_messages([[Action(kind, n) for kind, n in order] for order in orders])


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "interleaved": interleaved,
    "zero-bubble": zero_bubble,
}


def _all(kind: str, m: int) -> list[Action]:
    return [Action(kind, n) for n in range(m)]


def _in_turn(forward: list[Action], backward: list[Action], ahead: int) -> list[Action]:
    """The first `ahead` forwards, then a forward and a backward in turn, then the remaining backwards."""
    ahead = min(ahead, len(forward))
    turns = [a for pair in zip(forward[ahead:], backward, strict=False) for a in pair]
    return forward[:ahead] + turns + backward[len(forward) - ahead :]


def _with_messages(orders: Schedule) -> Schedule:
    """Insert the messages, and `reduce` before the last backward of each chunk.

    All events are sorted by time; a message is one event of both ranks. Each rank's list is its part of that
    global order, so no two ranks can wait for each other.
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
    """The rank that a send of rank r goes to, or a receive comes from."""
    return (r + (1 if (a.what == "x") == (a.kind == "send") else -1)) % p


def received(a: Action, r: int, p: int) -> Action:
    """The neighbour's receive for the send of rank r."""
    stage = a.chunk * p + r + (1 if a.what == "x" else -1)
    return Action("receive", a.batch, stage // p, a.what)


def last_stage(orders: Schedule) -> int:
    """The number of the last stage, counted from 0."""
    return len(orders) * (1 + max(a.chunk for actions in orders for a in actions)) - 1


def gives(a: Action, r: int, p: int) -> Iterator[tuple[str, int, int]]:
    """What an action provides, if anything: ("x" or "dx", micro-batch, the stage that takes it)."""
    if a.kind == "forward":
        yield "x", a.batch, a.chunk * p + r + 1
    elif a.kind in ("backward", "backward-input"):
        yield "dx", a.batch, a.chunk * p + r - 1


def takes(a: Action, r: int, p: int, last: int) -> tuple[str, int, int] | None:
    """What an action needs from another stage: ("x" or "dx", micro-batch, its own stage), or None."""
    stage = a.chunk * p + r
    what = {"forward": "x", "backward": "dx", "backward-input": "dx"}.get(a.kind)
    begins = stage == (0 if what == "x" else last)  # the first stage in this direction needs nothing
    return None if what is None or begins else (what, a.batch, stage)


def times(schedule: Schedule, costs: Costs = COSTS) -> Timed:
    """When each rank starts and ends each action, if all start as soon as they can.

    An action waits for those before it on its rank, and for what it needs from other ranks; messages take no
    time. Actions without a cost (messages, `reduce`) are left out. Raises ValueError if an action needs what
    never comes.

    >>> [[f"{a.kind} {start:g}-{end:g}" for a, start, end in rank] for rank in times(gpipe(2, 1))]
    [['forward 0-1', 'backward 4-6'], ['forward 1-2', 'backward 2-4']]
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
                start = max(clock[r], ready[need] if need else 0.0)
                clock[r] = end = start + (cost(r, a) or 0.0)
                found[r].append((a, start, end))
                ready |= dict.fromkeys(gives(a, r, p), end)
                head[r], moved = next(todo[r], None), True
    if any(head):
        raise ValueError(f"actions wait for what never comes: {[a for a in head if a]}")
    return found
