"""The pictures of `minimega bench`: the roofline of a step, its profile, and how its cost grows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minimega.errors import naming
from minimega.pictures.colours import AMBER, BLUE, DARK, GREEN, GREY, ORANGE, PALE, PINK, SKY
from minimega.pictures.loss import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "products": BLUE,
    "fused": GREEN,
    "elementwise": ORANGE,
    "messages": SKY,
    "waiting": GREY,
    "optimizer": AMBER,
    "interpreter": PINK,
}
DRAWN = 0.004  # the share of a step from which on an operation is drawn: the others are mostly views


def profile_picture(path: str | Path, found: Mapping) -> None:
    """Save the picture of a profile, `bench_profile.figures`: each rank by kind, and the layers of rank 0.

    Raises OSError if the file cannot be written.
    """
    figure = new_figure(dpi=150, layout="constrained")
    ranks = {f"rank {n}": rank for n, rank in enumerate(found["ranks"])}
    parts = dict(sorted(found["parts"].items(), key=lambda item: -sum(item[1].values())))
    parts = {name: row for name, row in parts.items() if sum(row.values()) > 1e-3 * found["step_s"]}
    rows = [len(ranks), len(parts)]
    figure.set_size_inches(10, 1.7 + 0.42 * sum(rows))
    above, below = figure.subplots(2, height_ratios=rows)
    title = f"a step: {1e3 * found['step_s']:.1f} ms"
    _bars(above, ranks, f"{title}, on {found['layout']}" if len(ranks) > 1 else title)
    both = " (messages with waiting)" if len(ranks) > 1 else ""
    _bars(below, parts, f"by layer, all blocks together{', rank 0' * (len(ranks) > 1)}{both}")
    below.set_xlabel("ms")
    used = [k for k in COLOURS if any(row.get(k) for row in (*ranks.values(), *parts.values()))]
    from matplotlib.patches import Patch

    handles = [Patch(color=COLOURS[kind], label=kind) for kind in used]
    figure.legend(handles=handles, frameon=False, ncols=len(used), loc="outside upper center", fontsize=9)
    with naming(path):
        figure.savefig(path)


def _bars(axis: "Axes", rows: Mapping[str, Mapping[str, float]], title: str) -> None:
    whole = max(sum(row.values()) for row in rows.values())
    for n, row in enumerate(rows.values()):
        left = 0.0
        for kind, colour in COLOURS.items():
            if not (seconds := row.get(kind, 0.0)):
                continue
            axis.barh(n, 1e3 * seconds, 0.75, 1e3 * left, color=colour, edgecolor="white", linewidth=0.5)
            if seconds > 0.05 * whole:
                ink = "white" if colour in (BLUE, GREEN, ORANGE) else "black"
                middle = 1e3 * (left + seconds / 2)
                axis.text(
                    middle,
                    n,
                    f"{seconds / sum(row.values()):.0%}",
                    ha="center",
                    va="center",
                    color=ink,
                    fontsize=8,
                )
            left += seconds
        axis.text(1e3 * left + 6 * whole, n, f"{1e3 * left:.1f} ms", va="center", fontsize=8, color=DARK)
    axis.set(xlim=(0, 1120 * whole), ylim=(len(rows) - 0.5, -0.5))
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set_title(title, loc="left", fontsize=10)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)


def roofline_picture(path: str | Path, operations: Sequence[Mapping], peak: float, bandwidth: float) -> None:
    """Save a roofline (Williams et al. 2009) of a step's operations, `bench_profile.figures`.

    An operation does at most `peak` operations per second, and at most `bandwidth` bytes per second times the
    operations that it does on each byte. Raises OSError if the file cannot be written.
    """
    from matplotlib.lines import Line2D

    whole = sum(one["seconds"] for one in operations)
    points = [
        (one["operations"] / one["nbytes"], one["operations"] / one["seconds"], one)
        for one in operations
        if one["operations"] and one["nbytes"] and one["seconds"] > DRAWN * whole
    ]
    figure = new_figure(dpi=150, figsize=(9.5, 6), layout="constrained")
    axis = figure.add_subplot()
    ridge = peak / bandwidth
    low = min([x for x, *_ in points] + [ridge / 30]) / 2
    high = max([x for x, *_ in points] + [ridge * 8]) * 8
    edge = np.array([low, ridge, high])
    roof = np.minimum(peak, bandwidth * edge)
    axis.fill_between(edge, roof, roof.max() * 20, color=PALE, lw=0)
    axis.plot(edge, roof, color=DARK, lw=1.5)
    axis.text(ridge, peak * 1.15, f"products: {peak / 1e9:,.0f} Gflop/s", fontsize=9)
    for x, y, one in points:
        share = one["seconds"] / whole
        back = one["way"] == "backward"
        axis.scatter(
            x, y, 40 + 2500 * share, COLOURS[one["kind"]], marker="s" if back else "o", alpha=0.75, lw=0
        )
    axis.set(xscale="log", yscale="log", xlim=(low, high))
    lowest = min([y for _, y, _ in points] + [bandwidth * low]) / 2
    axis.set_ylim(lowest, peak * 4)
    _label(axis, points, whole)
    at = max(low * 1.3, ridge / 6)
    ends = axis.transData.transform([(at, bandwidth * at), (2 * at, 2 * bandwidth * at)])
    said = f"memory: {bandwidth / 1e9:,.0f} GB/s"
    axis.annotate(
        said,
        (at, bandwidth * at),
        (0, 6),
        textcoords="offset points",
        fontsize=9,
        rotation=np.degrees(np.arctan2(*(ends[1] - ends[0])[::-1])),
        rotation_mode="anchor",
    )
    axis.set_xlabel("arithmetic intensity: operations per byte that goes in or out")
    axis.set_ylabel("operations per second")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(
        "the operations of a step below the roof of this machine; area: share of the time", loc="left"
    )
    kinds = [kind for kind in COLOURS if any(one["kind"] == kind for *_, one in points)]
    handles = [Line2D([], [], marker="o", ls="", color=COLOURS[kind], label=kind) for kind in kinds]
    handles += [
        Line2D([], [], marker=m, ls="", color=DARK, label=w) for m, w in (("o", "forward"), ("s", "backward"))
    ]
    axis.legend(handles=handles, frameon=False, loc="lower right", fontsize=9)
    with naming(path):
        figure.savefig(path)


def _label(axis: "Axes", points: Sequence[tuple[float, float, Mapping]], whole: float) -> None:
    """Names beside the points, moved up or down where two would overlap."""
    taken: list[tuple[float, float]] = []
    for x, y, one in sorted(points, key=lambda p: -p[2]["seconds"]):
        at = axis.transData.transform((x, y))
        shift = 0.0
        while any(abs(at[0] - a) < 190 and abs(at[1] + shift - b) < 19 for a, b in taken):
            shift = -shift + 20 if shift <= 0 else -shift
        taken.append((at[0], at[1] + shift))
        side = np.sqrt(40 + 2500 * one["seconds"] / whole) / 2 + 3
        back = ", back" * (one["way"] == "backward")
        said = f"{one['name'].replace('_', ' ')}{back} {one['seconds'] / whole:.1%}"
        axis.annotate(
            said, (x, y), (side, shift * 0.48), textcoords="offset points", fontsize=8, va="center",
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": GREY} if shift else None,
        )  # fmt: skip


def scaling_picture(path: str | Path, axes: Mapping[str, Mapping]) -> None:
    """Save how a step grows along each axis, `bench_scaling.grown`: measured, and the slopes of theory.

    Raises OSError if the file cannot be written.
    """
    from matplotlib.ticker import NullLocator

    figure = new_figure(dpi=150, figsize=(2.5 * len(axes) + 0.6, 3.6), layout="constrained")
    panels = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    for panel, (axis, one) in zip(panels, axes.items(), strict=True):
        sizes, took, theory = np.array(one["points"], float).T
        panel.plot(sizes, 1e3 * theory, color=DARK, lw=1.2, ls="--", label="theory")
        panel.plot(sizes, 1e3 * took, "o-", color=BLUE, ms=5, lw=1.2, label="measured")
        panel.set(xscale="log", yscale="log", xlim=(sizes[0] / 1.4, max(sizes[-1], 2 * sizes[0]) * 1.4))
        panel.set_xticks(sizes, [f"{size:,.0f}" for size in sizes], fontsize=8, rotation=40)
        panel.xaxis.set_minor_locator(NullLocator())
        said = axis
        if one["slopes"]:
            measured, by_theory = one["slopes"][-1]
            said += f"\nslope {measured:.2f}, theory {by_theory:.2f}"
        panel.set_title(said, fontsize=10)
        panel.set_xlabel(f"ends at: {one['ended']}", fontsize=8, color=DARK)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color=PALE, lw=0.8)
    panels[0].set_ylabel("ms per step")
    panels[0].legend(frameon=False, fontsize=9)
    with naming(path):
        figure.savefig(path)
