"""Pictures for the lessons, drawn with pyplot."""

from typing import Any, NamedTuple

import numpy as np

from minimega.pictures.colours import AMBER, BLUE, GREEN, GREY, ORANGE, PALE, PINK, SKY, YELLOW
from minimega.pictures.loss import load_matplotlib
from minimega.ranks.group import pieces

RANKS = SKY, AMBER, GREEN, PINK, YELLOW, ORANGE, BLUE, GREY
WHOLE = PALE


def picture(columns: int = 1, width: float = 7.0, height: float = 3.6):
    """A figure and its axes, `columns` of them in a row, sized in inches; no label is cut off."""
    load_matplotlib()
    from matplotlib import pyplot

    how: dict[str, Any] = {"figsize": (width, height), "dpi": 110, "layout": "constrained"}
    try:
        figure, axes = pyplot.subplots(1, columns, **how)
    except ImportError:  # MPLBACKEND names a backend without a display, or a missing module
        pyplot.switch_backend("agg")
        figure, axes = pyplot.subplots(1, columns, **how)
    for one in np.ravel(axes):
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


class Cut(NamedTuple):
    """A matrix as ranks hold it: its title, the matrix or only its shape, and how it is cut.

    `axis` 0 or 1: each rank has its piece of that axis. None: whole on every rank. "partial": each rank has a
    matrix of this shape, and the value is their sum. A given matrix is drawn with its numbers.
    """

    title: str
    matrix: np.ndarray | tuple[int, int]
    axis: int | str | None = None


def pieces_picture(*matrices: Cut, ranks: int, width: float = 7.0, height: float = 2.8) -> None:
    """Draw each rank's piece of each matrix, one colour per rank.

    `pieces_picture(Cut("x, whole", (6, 8)), Cut("w, by columns", (8, 12), 1), ranks=4)`
    """
    figure, axes = picture(len(matrices), width, height)
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    for one, (title, matrix, axis) in zip(np.ravel(axes), matrices, strict=True):
        shape = matrix.shape if isinstance(matrix, np.ndarray) else matrix
        for color, corner, size in _boxes(shape, axis, ranks):
            one.add_patch(pyplot.Rectangle(corner, *size, facecolor=color, edgecolor="black", linewidth=0.8))
        for (i, j), value in np.ndenumerate(matrix) if isinstance(matrix, np.ndarray) else ():
            one.text(j + 0.5, i + 0.5, f"{value:.3g}", ha="center", va="center", fontsize=8)
        one.set_title(f"{title}\n{tuple(shape)}", fontsize=10)
        one.autoscale_view()
        one.set_aspect("equal")
        one.invert_yaxis()
        one.axis("off")
    known = [Patch(facecolor=c, edgecolor="black", label=f"rank {r}") for r, c in enumerate(RANKS[:ranks])]
    known += [Patch(facecolor=WHOLE, edgecolor="black", label="all")] * any(m.axis is None for m in matrices)
    figure.legend(handles=known, loc="outside lower center", ncols=len(known), frameon=False, fontsize=9)
    pyplot.show()


def _boxes(shape: tuple[int, int], axis, ranks: int):
    """Yield a colour, a corner (x, y) and a size (width, height) per piece."""
    rows, columns = shape
    if axis is None:
        yield WHOLE, (0, 0), (columns, rows)
    elif axis == "partial":  # one card per rank, one behind the other
        for rank in reversed(range(ranks)):
            yield RANKS[rank], (0.3 * rank, -0.3 * rank), (columns, rows)
    else:
        for rank, piece in enumerate(pieces(shape[axis], ranks)):
            begin, length = piece.start, piece.stop - piece.start
            yield RANKS[rank], *(((0, begin), (columns, length)), ((begin, 0), (length, rows)))[axis]
