"""The picture of a run: loss and perplexity against steps.

All pictures are drawn without pyplot, which needs a backend and keeps global state. matplotlib is imported
only when a picture is drawn: it takes longer to load than the rest of a rank.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minimega.errors import naming
from minimega.pictures.colours import BLACK, BLUE, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROUND = [1, 1.5, 2, 3, 5, 7] + [m * 10**e for e in range(1, 10) for m in (1, 2, 5)]  # perplexities to mark


def new_figure(**how) -> "Figure":
    """An empty matplotlib Figure(**how). It needs no backend: savefig picks one by the file's type."""
    load_matplotlib()
    from matplotlib.figure import Figure

    return Figure(**how)


def load_matplotlib() -> None:
    """Import matplotlib even if MPLBACKEND names no backend, where a plain import raises ValueError."""
    if "matplotlib" in sys.modules or not (chosen := os.environ.pop("MPLBACKEND", "")):
        return
    try:
        import matplotlib
    finally:
        os.environ["MPLBACKEND"] = chosen
    try:
        matplotlib.rcParams["backend"] = chosen  # as a plain import does, for pyplot in a notebook
    except ValueError:
        matplotlib.rcParams["backend"] = "agg"


def smooth(values: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
    """The moving mean of each value over the `window` values around it, fewer at both ends.

    Near the start a window takes as many values after a point as before it, so a steep beginning stays steep.

    >>> smooth([0.0, 3.0, 6.0, 3.0], 3).tolist()
    [0.0, 3.0, 4.0, 4.5]
    """
    sums = np.concatenate(([0.0], np.cumsum(values)))
    places, half = np.arange(len(values)), window // 2
    low, high = np.maximum(places - half, 0), np.minimum(places + np.minimum(half, places) + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def loss_picture(
    path: str | Path,
    steps: Sequence[int] | np.ndarray,
    losses: Sequence[float] | np.ndarray,
    evals: Sequence[tuple[int, float]] = (),
    lines: Mapping[str, float] | None = None,
    bits: float | None = None,
) -> None:
    """Write a picture of a run: loss against steps, with reference lines.

    `losses`, `evals` (step, loss) and the named horizontal `lines` are in nats per token; `bits` is the last
    evaluation in bits per byte, if known. Values that are not finite are left out; there may be no points at
    all. Raises OSError if the file cannot be written.
    """
    figure = new_figure(figsize=(8, 5), dpi=150, layout="constrained")
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    axes.set_xlabel("steps")
    axes.set_ylabel("loss (nats per token)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    axes.spines[["top", "right"]].set_visible(False)
    steps, losses = _finite(zip(steps, losses, strict=True))
    at, held_out = _finite(evals)
    lines = {name: value for name, value in (lines or {}).items() if np.isfinite(value)}

    window = max(len(losses) // 40, 1)
    if window > 1:
        axes.plot(steps, losses, color=BLUE, alpha=0.35, linewidth=0.8)
    if len(losses):
        said = f"training (mean of {window // 2 * 2 + 1} steps)" if window > 1 else "training"
        axes.plot(
            steps, smooth(losses, window), color=BLUE, marker="" if len(losses) > 1 else ".", label=said
        )
    if len(held_out):
        beside = "" if bits is None else f" (at the end {bits:.3f} bits per byte)"
        axes.plot(at, held_out, "o", color=ORANGE, markersize=4.5, label=f"held-out text{beside}")
    if len(losses) or len(held_out):
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0)

    ends = [float(curve[-1]) for curve in (held_out, losses) if len(curve)] or [0.0]
    for (name, value), dashes in zip(lines.items(), cycle(("--", ":", "-.")), strict=False):
        axes.axhline(value, color=BLACK, linewidth=1, linestyle=dashes)
        above = value > ends[0]  # put the label on the side away from the curves
        axes.annotate(
            f"{name}: {value:.3f}",
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3 if above else -4),
            textcoords="offset points",
            ha="right",
            va="bottom" if above else "top",
            fontsize=9,
        )
    _limits(axes, [*losses, *held_out, *lines.values()])
    _perplexity(axes)
    with naming(path):
        figure.savefig(path)


def run_picture(
    path: str | Path, records: Sequence[Mapping], lines: Mapping[str, float] | None = None
) -> None:
    """`loss_picture` of the records of a run's log.jsonl; records without a loss are skipped."""
    trained = [(r["step"], r["loss"]) for r in records if r.get("loss") is not None]
    evals = [(r["step"], r["eval_loss"]) for r in records if r.get("eval_loss") is not None]
    bits = next((r["bits_per_byte"] for r in reversed(records) if r.get("bits_per_byte") is not None), None)
    loss_picture(path, [step for step, _ in trained], [loss for _, loss in trained], evals, lines, bits)


def _finite(points) -> tuple[np.ndarray, np.ndarray]:
    table = np.array([p for p in points if np.isfinite(p[1])], float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _limits(axes, values: list[float]) -> None:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = (high - low) or 1.0
    axes.set_ylim(low - 0.1 * room, high + 0.06 * room)  # room below for a line's label


def _perplexity(axes) -> None:
    """A right axis with the same heights as perplexity, exp(loss)."""
    low, high = axes.get_ylim()
    marks = [p for p in ROUND if low <= np.log(p) <= high]
    right = axes.twinx()
    right.set_ylim(low, high)
    right.set_yticks(np.log(marks), [f"{p:,g}" for p in marks])
    right.set_ylabel("perplexity")
    right.spines["top"].set_visible(False)
