"""The picture of a plan: the memory of a GPU by kind and layer, and the timeline of the pipeline."""

from pathlib import Path
from typing import TYPE_CHECKING

from minimega.errors import naming
from minimega.parallel.bubble import waiting
from minimega.parallel.schedules import Timed
from minimega.pictures.colours import AMBER, BLUE, GREEN, GREY, ORANGE, PALE, PINK, SKY, YELLOW
from minimega.pictures.loss import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GIB = 2**30
COLOURS = {
    "weights": BLUE,
    "gradients": SKY,
    "optimizer": GREEN,
    "activations": ORANGE,
    "recomputed": AMBER,
    "logits": YELLOW,
    "buffers": PINK,
    "reserved": GREY,
}
BY_LAYER = "weights", "gradients", "optimizer", "activations"
MOST_BOXES = 4000  # actions that are drawn; a longer timeline shows its beginning
Box = tuple[float, float, float, float]  # left, bottom, width, height


def picture(path: str | Path, memory: dict[str, float], has: float, layers: int, timed: Timed) -> None:
    """Save the picture of a plan to a file: `memory` of a GPU that has `has` bytes, and when ranks work.

    `layers` is the number of layers that the GPU's stage has. Raises OSError if the file cannot be written.
    """
    figure = new_figure(dpi=150)
    pipeline = len(timed) > 1
    figure.set_size_inches(11, 9 if pipeline else 5)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1 + pipeline, 1, squeeze=False)[:, 0]
    _memory(axes[0], memory, has, layers)
    if pipeline:
        _timeline(axes[1], timed)
    with naming(path):
        figure.savefig(path)


def squares(sizes: list[float], box: Box) -> list[Box]:
    """Boxes of these areas that fill a box, each near a square: a treemap (Bruls et al. 2000).

    >>> squares([3.0, 1.0], (0.0, 0.0, 2.0, 2.0))
    [(0.0, 0.0, 1.5, 2.0), (1.5, 0.0, 0.5, 2.0)]
    """
    left, bottom, width, height = box
    found, rest = [], [s for s in sizes if s > 0]
    scale = width * height / sum(rest) if rest else 0
    rest = [s * scale for s in rest]
    while rest:
        side, row = min(width, height), [rest[0]]
        while len(row) < len(rest) and _worst([*row, rest[len(row)]], side) <= _worst(row, side):
            row.append(rest[len(row)])
        thick, at = sum(row) / side, 0.0
        for area in row:
            long = area / thick
            found.append(
                (left, bottom + at, thick, long) if width >= height else (left + at, bottom, long, thick)
            )
            at += long
        if width >= height:
            left, width = left + thick, width - thick
        else:
            bottom, height = bottom + thick, height - thick
        rest = rest[len(row) :]
    return found


def _worst(row: list[float], side: float) -> float:
    """The largest ratio of a box's sides, if a row of areas lies along this side."""
    thick = sum(row) / side
    return max(max(thick * thick / area, area / (thick * thick)) for area in row)


def _memory(axis: "Axes", memory: dict[str, float], has: float, layers: int) -> None:
    """A treemap: a box for each kind of memory, cut by layer where layers hold it; empty is free."""
    from matplotlib.patches import Rectangle

    total = memory["total"]
    memory = {kind: memory[kind] for kind in COLOURS if memory[kind] > 0}
    free = max(0.0, has - total)
    kinds = sorted(memory, key=lambda kind: -memory[kind])
    sizes = [memory[kind] for kind in kinds] + [free]
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    wide = 2.2
    boxes = squares([sizes[i] for i in order], (0.0, 0.0, wide, 1.0))
    for i, box in zip(order, boxes, strict=False):
        name = kinds[i] if i < len(kinds) else "free"
        inside = [box]
        if name in BY_LAYER and layers > 1:
            inside = squares([1.0] * min(layers, 24), box)
        for left, bottom, width, height in inside:
            colour = COLOURS.get(name, PALE)
            axis.add_patch(
                Rectangle((left, bottom), width, height, facecolor=colour, edgecolor="white", lw=0.6)
            )
        left, bottom, width, height = box
        if width > 0.12 and height > 0.06:
            said = f"{name}\n{sizes[i] / GIB:.1f} GiB"
            label = {
                "facecolor": "white",
                "edgecolor": "none",
                "alpha": 0.8,
                "pad": 2,
            }  # on lines and dark fields
            middle = left + width / 2, bottom + height / 2
            axis.text(*middle, said, ha="center", va="center", fontsize=9, bbox=label)
    axis.set(xlim=(0, wide), ylim=(0, 1), xticks=[], yticks=[])
    fits = "" if total <= has else ": it does not fit"
    said = f"memory of a GPU: {total / GIB:.1f} of {has / GIB:.1f} GiB{fits}; {layers} layers of its stage"
    axis.set_title(said, loc="left", fontsize=10)


def _timeline(axis: "Axes", timed: Timed) -> None:
    """What each pipeline rank does and when; white is waiting."""
    each, whole = max(1, MOST_BOXES // len(timed)), max(rank[-1][2] for rank in timed)
    until = max(rank[:each][-1][2] for rank in timed)
    for r, actions in enumerate(timed):
        for kind, colour in (("forward", BLUE), ("backward", ORANGE)):
            spans = [(s, e - s) for a, s, e in actions if a.kind == kind and s < until]
            axis.broken_barh(spans, (r + 0.1, 0.8), color=colour, lw=0)
    axis.set(xlim=(0, until), ylim=(len(timed), 0), xlabel="seconds", ylabel="pipeline rank")
    part = "" if until >= whole else f", the first {until:.3g} of {whole:.3g} seconds"
    said = f"forward (blue), backward (orange){part}: waiting {waiting(timed):.1%}"
    axis.set_title(said, loc="left", fontsize=10)
