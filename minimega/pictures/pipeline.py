"""The picture of a pipeline: what each rank does, and when."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from minimega.errors import naming
from minimega.parallel.bubble import waiting
from minimega.parallel.schedules import COSTS, Timed
from minimega.pictures.colours import AMBER, BLUE, DARK, GREEN, ORANGE
from minimega.pictures.loss import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A colour for each kind of action; later chunks are paler.
COLOURS = {
    "forward": BLUE,
    "backward": ORANGE,
    "backward-input": AMBER,
    "backward-weight": GREEN,
    "send": DARK,
}

UNIT = "time (a forward pass takes 1)"


def picture(path: str | Path, panels: Mapping[str, Timed], unit: str = UNIT) -> None:
    """Save what `draw` draws to a file. Raises OSError if it cannot be written."""
    figure = new_figure(dpi=150)
    draw(figure, panels, unit)
    with naming(path):
        figure.savefig(path)


def draw(figure: "Figure", panels: Mapping[str, Timed], unit: str = UNIT) -> None:
    """Draw each panel (what `schedules.times` gives, or a measured run) under its title, on one time axis.

    Each row is a rank, each box an action labelled with its micro-batch. White is waiting; each title ends
    with its share.
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
            edge = {"edgecolor": "white", "linewidth": 0.3 * computes}  # a message is a thin line: no edge
            axis.barh(r, end - start, 0.9, start, color=COLOURS[a.kind], alpha=strength, **edge)
            if computes and (end - start) / whole > 0.007 * (1 + (a.batch > 9)):  # the label fits
                ink = "white" if strength > 0.8 and a.kind != "backward-input" else "black"  # amber is light
                axis.text((start + end) / 2, r, a.batch, ha="center", va="center", color=ink, fontsize=7)
    axis.set(xlim=(0, whole), ylim=(len(timed) - 0.5, -0.5), yticks=range(len(timed)))
    axis.set_yticklabels([f"rank {r}" for r in range(len(timed))])
    axis.spines[["top", "right", "left"]].set_visible(False)
