"""The picture of a gradient check: heat maps of `back`'s gradient, of finite differences, and of the gap."""

from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from minimega.errors import BadInput
from minimega.pictures.loss import new_figure

if TYPE_CHECKING:
    from minimega.gradcheck import Argument, Report


def picture(report: "Report", path: str | PathLike) -> None:
    """Draw each argument's gradient by `back`, by finite differences, and back minus differences.

    Raises BadInput if the file cannot be written.
    """
    both = [(a, a.analytic, a.numerical) for a in report.arguments]
    shown = [(a, g, n) for a, g, n in both if g is not None and n is not None and g.size]
    heights = [min(2 + 0.25 * (g.size // max(g.shape[-1:] or (1,))), 5) for _, g, _ in shown] or [2]
    figure = new_figure(figsize=(11, 0.6 + sum(heights)), layout="constrained")
    figure.suptitle(f"{report.name}: the backward pass is {'right' if report.ok else 'wrong'}")
    axes = figure.subplots(len(heights), 3, squeeze=False, height_ratios=heights)
    for row, (a, analytic, numerical) in zip(axes, shown, strict=False):
        _draw(figure, row, a, analytic, numerical)
    if not shown:
        for axis in axes[0]:
            axis.axis("off")
        axes[0, 1].text(0.5, 0.5, "checked along random directions: no entries to show", ha="center")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise BadInput(f"the picture cannot be written to {path}: {error}") from None


def _draw(figure, row, a: "Argument", analytic: np.ndarray, numerical: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator, NullLocator

    back, truth = (np.atleast_2d(g.reshape(-1, g.shape[-1]) if g.ndim else g) for g in (analytic, numerical))
    finite = [g[np.isfinite(g)] for g in (back, truth)]
    limit = max(np.max(np.abs(np.concatenate(finite)), initial=0), 1e-300)
    off = back - truth
    verdict = "right" if a.ok else a.cause
    titles = (f"{a.name} {a.shape}\nback gives", "\ndifferences give", f"{verdict}\nback - differences")
    # one scale for both gradients; the difference has its own, unless it is only rounding
    own = np.max(np.abs(off[np.isfinite(off)]), initial=0)
    limits = (limit, limit, own if own > 1e-6 * limit else limit)
    for axis, values, title, top in zip(row, (back, truth, off), titles, limits, strict=True):
        image = axis.imshow(
            values, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto", interpolation="nearest"
        )
        axis.set_title(title, fontsize=10)
        for side, length in ((axis.yaxis, len(values)), (axis.xaxis, values.shape[1])):
            side.set_major_locator(MaxNLocator(integer=True, nbins=8) if length > 1 else NullLocator())
        figure.colorbar(image, ax=axis)
        if values.shape[1] <= 8 and values.size <= 64:
            for (i, j), v in np.ndenumerate(values):
                color = "white" if abs(v) > 0.6 * top else "black"
                axis.text(j, i, f"{round(v, 2) + 0:.2f}", ha="center", va="center", fontsize=6.5, color=color)
