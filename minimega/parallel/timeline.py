"""What a schedule is worth: whether it can deadlock, how long its ranks wait, what they hold; its picture.

p ranks, m micro-batches, v chunks a rank.
"""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from minimega.parallel.schedules import (
    COSTS,
    Action,
    Schedule,
    last_stage,
    neighbour,
    received,
    takes,
    times,
)

# Okabe and Ito 2008, as in show.py: a colour for each kind; chunks after the first are paler.
COLOURS = {
    "forward": "#0072B2",
    "backward": "#D55E00",
    "backward-input": "#E69F00",
    "backward-weight": "#009E73",
}


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


def bubble(schedule: Schedule, costs: dict[str, float] = COSTS) -> float:
    """The share of all ranks' time in which they wait, from the first forward to the last backward."""
    timed = times(schedule, costs)
    whole = len(schedule) * max(actions[-1][2] for actions in timed)
    return 1 - sum(end - start for actions in timed for _, start, end in actions) / whole


def held(actions: list[Action]) -> int:
    """The most micro-batches (through one chunk) whose activations a rank holds at once."""
    now = most = 0
    for a in actions:
        now += (a.kind == "forward") - (a.kind in ("backward", "backward-weight"))
        most = max(most, now)
    return most


def picture(
    path: str | Path,
    timed: list[list[tuple[Action, float, float]]],
    title: str = "",
    unit: str = "time (a forward pass takes 1)",
) -> None:
    """Draw what `times` gives, or what a run measured: a row a rank, a box an action, its micro-batch in it.

    White is waiting, and its share stands in the title.
    """
    end = max(actions[-1][2] for actions in timed)
    busy = sum(stop - start for actions in timed for _, start, stop in actions)
    kinds = dict.fromkeys(a.kind for actions in timed for a, _, _ in actions)
    chunks = 1 + max(a.chunk for actions in timed for a, _, _ in actions)
    figure = Figure(figsize=(12, 1.3 + 0.42 * len(timed)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for r, actions in enumerate(timed):
        for a, start, stop in actions:
            strength = 1 - 0.65 * a.chunk / chunks
            axes.barh(
                r,
                stop - start,
                0.9,
                start,
                color=COLOURS[a.kind],
                alpha=strength,
                edgecolor="white",
                linewidth=0.5,
            )
            if (stop - start) / end > 0.008:  # where a number has room
                axes.text((start + stop) / 2, r, a.batch, ha="center", va="center", color="white", fontsize=7)
    axes.set(xlim=(0, end), ylim=(len(timed) - 0.5, -0.5), xlabel=unit, yticks=range(len(timed)))
    axes.set_yticklabels([f"rank {r}" for r in range(len(timed))])
    axes.set_title(f"{title}: waiting {1 - busy / (len(timed) * end):.1%}".lstrip(": "), loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    shades = [Patch(color=COLOURS[kind], label=kind) for kind in kinds]
    if chunks > 1:
        shades.append(Patch(alpha=0, label="paler: later chunks"))
    axes.legend(handles=shades, frameon=False, ncols=len(shades), loc="lower right", bbox_to_anchor=(1, 1))
    figure.savefig(path)
