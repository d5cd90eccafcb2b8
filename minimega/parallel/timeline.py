"""What a schedule is worth: whether it can deadlock, how long its ranks wait, what they hold; its picture.

p ranks, m micro-batches, v chunks a rank.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from minimega.errors import naming
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
from minimega.show import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito 2008, as in show.py: a colour for each kind; chunks after the first are paler.
COLOURS = {
    "forward": "#0072B2",
    "backward": "#D55E00",
    "backward-input": "#E69F00",
    "backward-weight": "#009E73",
    "send": "#555555",
}
UNIT = "time (a forward pass takes 1)"


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


def picture(path: str | Path, panels: Mapping[str, Timed], unit: str = UNIT) -> None:
    """`draw` on a figure of its own, and save it."""
    figure = new_figure(dpi=150)
    draw(figure, panels, unit)
    with naming(path):
        figure.savefig(path)


def draw(figure: "Figure", panels: Mapping[str, Timed], unit: str = UNIT) -> None:
    """Draw what `times` gives, or what a run measured, by its title: one above the other, on one axis.

    A row is a rank, a box an action with its micro-batch in it. White is waiting; its share ends the title.
    """
    rows = [len(timed) for timed in panels.values()]
    figure.set_size_inches(10, 0.9 + sum(0.62 + 0.36 * n for n in rows))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(rows), sharex=True, squeeze=False, height_ratios=rows)[:, 0]
    whole = max(end for timed in panels.values() for actions in timed for _, _, end in actions)
    for axis, (title, timed) in zip(axes, panels.items(), strict=True):
        _draw(axis, timed, whole)
        axis.set_title(f"{title}: waiting {waiting(timed):.1%}".lstrip(": "), loc="left", fontsize=10)
    axes[-1].set_xlabel(unit)
    drawn = [a for timed in panels.values() for actions in timed for a, _, _ in actions]
    from matplotlib.patches import Patch

    shades = [Patch(color=c, label=kind) for kind, c in COLOURS.items() if kind in {a.kind for a in drawn}]
    title = "paler: later chunks" if any(a.chunk for a in drawn) else None
    figure.legend(
        handles=shades, frameon=False, ncols=len(shades), loc="outside upper right", title=title, fontsize=9
    )


def _draw(axis, timed: Timed, whole: float) -> None:
    chunks = 1 + max(a.chunk for actions in timed for a, _, _ in actions)
    for r, actions in enumerate(timed):
        for a, start, end in (box for box in actions if box[0].kind in COLOURS):
            strength, computes = 1 - 0.65 * a.chunk / chunks, a.kind in COSTS
            edge = {"edgecolor": "white", "linewidth": 0.3 * computes}  # a message is a thin line without one
            axis.barh(r, end - start, 0.9, start, color=COLOURS[a.kind], alpha=strength, **edge)
            if computes and (end - start) / whole > 0.007 * (1 + (a.batch > 9)):  # it has room
                ink = "white" if strength > 0.8 and a.kind != "backward-input" else "black"  # amber is light
                axis.text((start + end) / 2, r, a.batch, ha="center", va="center", color=ink, fontsize=7)
    axis.set(xlim=(0, whole), ylim=(len(timed) - 0.5, -0.5), yticks=range(len(timed)))
    axis.set_yticklabels([f"rank {r}" for r in range(len(timed))])
    axis.spines[["top", "right", "left"]].set_visible(False)
