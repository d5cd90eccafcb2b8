"""What a schedule is worth: whether it can deadlock, how long its ranks wait, what they hold; its picture.

p ranks, m micro-batches, v chunks a rank.
"""

from typing import TYPE_CHECKING

from minimega.parallel.schedules import (
    COSTS,
    Action,
    Costs,
    Schedule,
    Timed,
    last_stage,
    neighbour,
    received,
    takes,
    times,
)

if TYPE_CHECKING:
    pass


def meet(schedule: Schedule) -> None:
    """Go through the lists where a send waits until its receive is entered, with nothing in between.

    ValueError where they stop: all that are not through wait for each other, or a message that has to be
    there for an action has not come. A schedule that passes cannot deadlock, whatever MPI does.
    """
    p, last = len(schedule), last_stage(schedule)
    todo, first = [iter(actions) for actions in schedule], {"backward-weight": "backward-input"}

    def own(a: Action) -> Action | None:
        """What the rank itself must have done before."""
        return a._replace(kind=first.get(a.kind, "forward")) if a.kind.startswith("backward") else None

    head, here, moved = [next(actions, None) for actions in todo], [set() for _ in schedule], True
    while moved:
        moved = False
        for r in range(p):
            while a := head[r]:
                if a.kind == "receive":
                    break  # the sender moves both
                if a.kind == "send":
                    other = neighbour(a, r, p)
                    if head[other] != received(a, r, p):
                        break
                    here[other].add((a.what, a.batch, head[other].chunk * p + other))
                    head[other] = next(todo[other], None)
                elif not {takes(a, r, p, last), own(a)} - {None} <= here[r]:
                    raise ValueError(
                        f"rank {r} comes to {a.kind} {a.batch} of chunk {a.chunk} before what it needs"
                    )
                else:
                    here[r].add(a)
                head[r], moved = next(todo[r], None), True
    if any(head):
        raise ValueError(f"deadlock: {_stuck(head)}")


def _stuck(head: list[Action | None]) -> str:
    """Where each rank stands, in words."""
    return "; ".join(f"rank {r} at {a.kind} {a.what} {a.batch}.{a.chunk}" for r, a in enumerate(head) if a)


def bubble(schedule: Schedule, costs: Costs = COSTS) -> float:
    """The share of all ranks' time in which they wait, from the first forward to the last backward."""
    return waiting(times(schedule, costs))


def waiting(timed: Timed) -> float:
    """The same of what `times` gives, or of what a run measured: the share in which ranks do not compute.

    >>> forward, backward = Action("forward", 0), Action("backward", 0)
    >>> waiting([[(forward, 0.0, 1.0), (backward, 2.0, 4.0)], [(forward, 1.0, 2.0)]])
    0.5
    """
    boxes = [box[1:] for actions in timed for box in actions if box[0].kind in COSTS]
    whole = max(end for _, end in boxes) - min(start for start, _ in boxes)
    return 1 - sum(end - start for start, end in boxes) / (len(timed) * whole)


def held(actions: list[Action]) -> int:
    """The most micro-batches (through one chunk) whose activations a rank holds at once."""
    now = most = 0
    for a in actions:
        now += (a.kind == "forward") - (a.kind in ("backward", "backward-weight"))
        most = max(most, now)
    return most
