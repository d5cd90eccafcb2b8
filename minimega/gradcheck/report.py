"""The results of a gradient check, as text and as heat maps."""

from dataclasses import dataclass, field
from os import PathLike

import numpy as np

from minimega.gradcheck.causes import Finding


@dataclass(eq=False, repr=False)
class Argument:
    """The result for the gradient of one argument.

    `error` is the largest difference, relative to the largest true entry. `cause` is the first of the
    `candidates`, or None; `detail` explains it in a sentence. `entries` are the first that differ: (index,
    analytic, numerical). `kinks` are entries where the function has no derivative; they are not judged.
    `sharp` is the error by complex steps, or None if these cannot be trusted. `analytic` and `numerical` are
    the gradients for one random dy, on the entries checked one by one (None if only directions were).
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

    @property
    def cause(self) -> str | None:
        """The most likely cause, None if there is none."""
        return self.candidates[0] if self.candidates else None

    def blame(self, findings: list[Finding]) -> None:
        """Mark this gradient as wrong and add the causes, most likely first."""
        self.ok = False
        new = [f for f in findings if f.cause not in self.candidates]
        self.detail = self.detail or (new[0].detail if new else "")
        self.candidates += [f.cause for f in new]

    def __str__(self) -> str:
        head = f"  {self.name} {self.shape}: "
        if self.ok:
            count, note = len(self.kinks), ""
            if count:
                note = f"; {count} kink{'s' * (count > 1)} not judged, the first at {self.kinks[0]}"
            sharp = f" (by complex steps {self.sharp:.0e})" if self.sharp is not None else ""
            return f"{head}right, {self.how}, error {self.error:.1e}{sharp}{note}"
        others = f" (or {', '.join(self.candidates[1:])})" if len(self.candidates) > 1 else ""
        error = f", error {self.error:.2g}" if np.isfinite(self.error) else ""
        lines = [f"{head}WRONG{error}. Cause: {self.cause}{others}.", f"      {self.detail}"]
        lines += [
            f"      at {i}: back gives {a}, finite differences give {n}"
            for i, a, n in map(_digits, self.entries)
        ]
        return "\n".join(lines)

    __repr__ = __str__  # what a prompt and a notebook show


def _digits(entry: tuple) -> tuple:
    """The two numbers of an entry, with enough digits to tell them apart.

    >>> _digits(((0,), 1.5, 1.5 + 3e-8))
    ((0,), '1.5', '1.50000003')
    """
    at, a, b = entry
    for digits in range(6, 18):
        texts = f"{a:.{digits}g}", f"{b:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return at, *texts


@dataclass(repr=False)
class Report:
    """The result of one check: its arguments in order, the inputs first, then a layer's parameters.

    `ok` is True if every gradient is right; `evaluations` counts forward passes.
    """

    name: str
    arguments: list[Argument]
    evaluations: int
    own: bool = True  # False if the function has no backward and the engine's was checked

    @property
    def ok(self) -> bool:
        """Whether every gradient is right."""
        return all(a.ok for a in self.arguments)

    def __str__(self) -> str:
        verdict = "the backward pass is right" if self.ok else "the backward pass is WRONG"
        if not self.own:
            verdict += f", but it is the engine's: {self.name} returns no (y, back)"
        lines = [f"{self.name}: {verdict} ({self.evaluations} evaluations of the forward)"]
        return "\n".join(lines + [str(a) for a in self.arguments])

    __repr__ = __str__

    def picture(self, path: str | PathLike) -> None:
        """Draw each gradient from `back`, the one from finite differences, and the difference, to a PNG.

        Raises BadInput if the file cannot be written.
        """
        from minimega.pictures.gradients import picture

        picture(self, path)
