"""Properties of a schedule: whether it can deadlock, how long ranks wait (the bubble), and what they hold.

p ranks, r one of them.
"""

from collections.abc import Callable

from minimega.parallel.schedules import (
    COSTS,
    Action,
    Costs,
    Schedule,
    Timed,
    gives,
    last_stage,
    neighbour,
    received,
    takes,
    times,
)


def meet(schedule: Schedule) -> None:
    """Execute a schedule in which each send blocks until its receive starts (no buffering).

    Raises ValueError if ranks deadlock, or an action runs before what it needs. A schedule that passes cannot
    deadlock, whatever MPI does.
    """
    p, last = len(schedule), last_stage(schedule)
    todo, first = [iter(actions) for actions in schedule], {"backward-weight": "backward-input"}

    def own(a: Action) -> Action | None:
        """The rank's own action that must come before this one."""
        return a._replace(kind=first.get(a.kind, "forward")) if a.kind.startswith("backward") else None

    head, here, moved = [next(actions, None) for actions in todo], [set() for _ in schedule], True
    while moved:
        moved = False
        for r in range(p):
            while a := head[r]:
                if a.kind == "receive":
                    break  # the sender advances both
                if a.kind == "send":
                    other = neighbour(a, r, p)
                    taker = head[other]
                    if taker is None or taker != received(a, r, p):
                        break
                    here[other].add((a.what, a.batch, taker.chunk * p + other))
                    head[other] = next(todo[other], None)
                elif not {takes(a, r, p, last), own(a)} - {None} <= here[r]:
                    raise ValueError(
                        f"rank {r} runs {a.kind} {a.batch} of chunk {a.chunk} before what it needs"
                    )
                else:
                    here[r].add(a)
                head[r], moved = next(todo[r], None), True
    if any(head):
        raise ValueError(f"deadlock: {_stuck(head)}")


def _stuck(head: list[Action | None]) -> str:
    """The action at which each rank is stuck."""
    return "; ".join(f"rank {r} at {a.kind} {a.what} {a.batch}.{a.chunk}" for r, a in enumerate(head) if a)


def bubble(schedule: Schedule, costs: Costs = COSTS) -> float:
    """The fraction of all ranks' time spent waiting, from the first forward to the last backward.

    >>> from minimega.parallel.schedules import one_f_one_b
    >>> round(bubble(one_f_one_b(4, 12)), 6)  # (p - 1) / (m + p - 1)
    0.2
    """
    return waiting(times(schedule, costs))


def taking_turns(schedule: Schedule, costs: Callable[[int, Action], float | None], cores: float) -> Timed:
    """As `times`, where ranks share `cores`: all that do not wait advance equally, each at most on one core.

    >>> first, second = Action("forward", 0), Action("forward", 1)
    >>> timed = taking_turns([[first, second], [first]], lambda r, a: 1.0, cores=1)
    >>> [[when for _, *when in rank] for rank in timed]
    [[[0.0, 1.0], [1.0, 3.0]], [[1.0, 3.0]]]
    """
    p, last, now = len(schedule), last_stage(schedule), 0.0
    todo = [[a for a in actions if costs(r, a) is not None] for r, actions in enumerate(schedule)]
    left = [[costs(r, a) or 0.0 for a in actions] for r, actions in enumerate(todo)]
    ready: set[tuple[str, int, int] | None] = {None}
    begun, found = {}, [[] for _ in schedule]
    while heads := {r: todo[r][len(found[r])] for r in range(p) if len(found[r]) < len(todo[r])}:
        running = [r for r, a in heads.items() if takes(a, r, p, last) in ready]
        if not running:
            raise ValueError(f"actions wait for what never comes: {list(heads.values())}")
        for r in running:
            begun.setdefault(r, now)
        passed = min(left[r][len(found[r])] for r in running)
        now += passed * max(1.0, len(running) / cores)
        for r in running:
            n, a = len(found[r]), heads[r]
            left[r][n] -= passed
            if left[r][n] <= 1e-12:
                found[r].append((a, begun.pop(r), now))
                ready.update(gives(a, r, p))
    return found


def waiting(timed: Timed) -> float:
    """The bubble of a timed schedule, from `times` or measured in a run.

    >>> forward, backward = Action("forward", 0), Action("backward", 0)
    >>> waiting([[(forward, 0.0, 1.0), (backward, 2.0, 4.0)], [(forward, 1.0, 2.0)]])
    0.5
    """
    boxes = [box[1:] for actions in timed for box in actions if box[0].kind in COSTS]
    whole = max(end for _, end in boxes) - min(start for start, _ in boxes)
    return 1 - sum(end - start for start, end in boxes) / (len(timed) * whole)


def held(actions: list[Action]) -> int:
    """The most activations that a rank holds at once: micro-batches, each through one chunk.

    >>> from minimega.parallel.schedules import one_f_one_b
    >>> [held(actions) for actions in one_f_one_b(3, 8)]
    [3, 2, 1]
    """
    now = most = 0
    for a in actions:
        now += (a.kind == "forward") - (a.kind in ("backward", "backward-weight"))
        most = max(most, now)
    return most
