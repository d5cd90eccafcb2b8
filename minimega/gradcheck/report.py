"""What a gradient check found: for a person to read, and as heat maps."""

from dataclasses import dataclass, field
from os import PathLike

import numpy as np

from minimega.errors import BadInput
from minimega.gradcheck.causes import Finding
from minimega.show import new_figure


@dataclass(eq=False)
class Argument:
    """What was found about the gradient of one argument.

    `error` is the largest difference, relative to the largest true entry. `cause` is the first of the
    `candidates`, or None; `detail` says it in a sentence. `entries` are the first that differ: (index,
    analytic, numerical). `kinks` are entries at which the function has no derivative; they are not judged.
    `sharp` is the error by complex steps, where these can be trusted. `analytic` and `numerical` are the
    gradients for one random dy, on the entries that were looked at one by one (None where only directions
    were).
    """

    name: str
    shape: tuple[int, ...]
    ok: bool = True
    error: float = 0.0
    candidates: list[str] = field(default_factory=list)
    detail: str = ""
    entries: list[tuple] = field(default_factory=list)
    kinks: list[tuple[int, ...]] = field(default_factory=list)
    sharp: float | None = None
    analytic: np.ndarray | None = None
    numerical: np.ndarray | None = None
    how: str = ""

    cause = property(lambda self: self.candidates[0] if self.candidates else None)

    def blame(self, findings: list[Finding]) -> None:
        """Take over why this gradient is wrong, the likeliest first."""
        self.ok = False
        new = [f for f in findings if f.cause not in self.candidates]
        self.detail = self.detail or (new[0].detail if new else "")
        self.candidates += [f.cause for f in new]

    def __str__(self) -> str:
        head = f"  {self.name} {self.shape}: "
        if self.ok:
            note = (
                f"; not judged at {len(self.kinks)} kink(s), first at {self.kinks[0]}" if self.kinks else ""
            )
            sharp = f" (by complex steps {self.sharp:.0e})" if self.sharp is not None else ""
            return f"{head}right, {self.how}, error {self.error:.1e}{sharp}{note}"
        others = f" (or {', '.join(self.candidates[1:])})" if len(self.candidates) > 1 else ""
        error = f", error {self.error:.2g}" if np.isfinite(self.error) else ""
        lines = [f"{head}WRONG{error}. Cause: {self.cause}{others}.", f"      {self.detail}"]
        lines += [f"      at {i}: back gives {a}, differences {n}" for i, a, n in map(_digits, self.entries)]
        return "\n".join(lines)


def _digits(entry: tuple) -> tuple:
    """The two numbers of an entry with as many digits as tell them apart.

    >>> _digits(((0,), 1.5, 1.5 + 3e-8))
    ((0,), '1.5', '1.50000003')
    """
    at, a, b = entry
    for digits in range(6, 18):
        texts = f"{a:.{digits}g}", f"{b:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return at, *texts


@dataclass
class Report:
    """All arguments of one check, in their order: the inputs, then a layer's parameters."""

    name: str
    arguments: list[Argument]
    evaluations: int
    own: bool = True  # whether it is the function's own backward, and not the engine's of a plain function

    ok = property(lambda self: all(a.ok for a in self.arguments))

    def __str__(self) -> str:
        verdict = "the backward pass is right" if self.ok else "the backward pass is WRONG"
        if not self.own:
            verdict += f", but it is the engine's: {self.name} returns no (y, back) and has none of its own"
        lines = [f"{self.name}: {verdict} ({self.evaluations} evaluations of the forward)"]
        return "\n".join(lines + [str(a) for a in self.arguments])

    def picture(self, path: str | PathLike) -> None:
        """Draw each gradient as `back` gives it, as differences give it, and the difference of both.

        Raises BadInput if the file cannot be written.
        """
        shown = [a for a in self.arguments if a.analytic is not None and a.analytic.size]
        heights = [
            min(2 + 0.25 * (a.analytic.size // max(a.analytic.shape[-1:] or (1,))), 5) for a in shown
        ] or [2]
        figure = new_figure(figsize=(11, 0.6 + sum(heights)), layout="constrained")
        figure.suptitle(f"{self.name}: the backward pass is {'right' if self.ok else 'wrong'}")
        axes = figure.subplots(len(heights), 3, squeeze=False, height_ratios=heights)
        for row, a in zip(axes, shown, strict=False):
            _draw(figure, row, a)
        if not shown:
            for axis in axes[0]:
                axis.axis("off")
            axes[0, 1].text(0.5, 0.5, "checked along random directions: no entries to show", ha="center")
        try:
            figure.savefig(path, dpi=120)
        except (OSError, ValueError) as error:
            raise BadInput(f"the picture cannot be written to {path}: {error}") from None


def _draw(figure, row, a: Argument) -> None:
    from matplotlib.ticker import MaxNLocator, NullLocator

    back, truth = (
        np.atleast_2d(g.reshape(-1, g.shape[-1]) if g.ndim else g) for g in (a.analytic, a.numerical)
    )
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
