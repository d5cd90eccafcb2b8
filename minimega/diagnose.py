"""Why is a backward pass wrong? The causes, in the order in which they are tried."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A cause by its word, and a sentence with what was seen."""

    cause: str
    detail: str


def explain(subject, x, i, rng) -> list[Finding]:
    """The causes that fit the wrong gradient of argument i, the likeliest first."""
    return [Finding("unknown", "the entries differ")]


def explain_shape(gradient, shape, fits) -> list[Finding]:
    """Why a gradient has another shape than its argument."""
    return [Finding("shape", f"the gradient has the shape {gradient.shape}, the argument {shape}")]
