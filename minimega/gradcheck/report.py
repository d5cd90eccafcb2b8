"""What a gradient check found: for a person to read, and as heat maps."""

from dataclasses import dataclass, field
from os import PathLike

import numpy as np

from minimega.gradcheck.causes import Finding


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
        from minimega.pictures.gradients import picture

        picture(self, path)
