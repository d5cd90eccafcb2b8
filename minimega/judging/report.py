"""All scores of a list of texts at once, with their intervals, and two lists compared."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from minimega.errors import BadInput, shown
from minimega.judging import bootstrap, scores, variety
from minimega.judging.bootstrap import Figure, mean_of

KEYS = "bleu", "chrf", *scores.ROUGE, "distinct1", "distinct2", "distinct3", "repetition", "self_bleu"


@dataclass(frozen=True)
class Judged:
    """The scores of N texts: `figures` can be resampled, `plain` numbers cannot.

    distinct-n and self-BLEU are plain: a resample repeats texts, which alone makes it less varied.
    """

    texts: int
    figures: dict[str, Figure]
    plain: dict[str, float]
    tokenizers: dict[str, str] = field(default_factory=dict)
    copied: str = ""  # the longest run of words from the training text, if that was searched

    @property
    def values(self) -> dict[str, float]:
        """Every score by its name."""
        return {name: figure.value for name, figure in self.figures.items()} | self.plain

    def as_dict(self, resamples: int = 1000, seed: int = 0) -> dict:
        """What `minimega score --json` prints: the scores, `texts`, `tokenizers` and the 95% `intervals`."""
        found = {"texts": self.texts, **self.values, "tokenizers": self.tokenizers}
        if self.copied:
            found["copied"] = self.copied
        if resamples:
            found["intervals"] = {
                name: bootstrap.interval(bootstrap.resampled(figure, resamples, seed))
                for name, figure in self.figures.items()
            }
        return found


def judge(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]] | None = None,
    metric: Callable | None = None,
    bleu: str = "auto",
    rouge: str = "auto",
    seed: int = 0,
) -> Judged:
    """Score texts, each with its references if there are any, by all metrics and by one of your own.

    `metric(hypotheses, references)` gets both lists (references: a list of texts for each hypothesis, empty
    ones without references) and returns one number, or one number per text, which is then averaged and gets
    an interval. Raises BadInput for lists of different lengths, or if a result is not a number.

    >>> judged = judge(["a cat sat"], [["a cat sat"]], metric=lambda texts, _: [len(t) for t in texts])
    >>> judged.values["rouge1"], judged.values["<lambda>"]
    (1.0, 9.0)
    """
    rows = [list(row) for row in references] if references is not None else [[] for _ in hypotheses]
    if len(rows) != len(hypotheses) or references is not None:
        scores.check(hypotheses, rows)
    if not hypotheses:
        raise BadInput("there are no texts to score: give at least one")
    figures: dict[str, Figure] = {}
    chosen: dict = {}
    if references is not None:
        chosen = scores.tokenizers(rows, bleu, rouge)
        figures |= scores.figures(hypotheses, rows, **chosen)
    figures["repetition"] = variety.repetition(hypotheses)
    plain = {f"distinct{n}": variety.distinct(hypotheses, n) for n in (1, 2, 3)}
    alike = variety.self_bleu(hypotheses, bleu, seed)
    plain |= {} if alike is None else {"self_bleu": alike}
    if metric is not None:
        name, found = own(metric, hypotheses, rows)
        if isinstance(found, Figure):
            figures[name] = found
        else:
            plain[name] = found
    return Judged(len(hypotheses), figures, plain, chosen)


def own(
    metric: Callable, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[str, Figure | float]:
    """The name of a user's metric, and its result: a number, or a Figure if it gives one per text."""
    name = getattr(metric, "__name__", "metric")
    if name in KEYS:
        raise BadInput(f"your metric cannot be called {name}: that is a built-in one; rename it")
    said = metric(list(hypotheses), [list(row) for row in references])
    try:
        values = np.asarray(said, np.float64)
    except (TypeError, ValueError):
        raise BadInput(f"{name} returned {shown(said)}; it must return a number, or one per text") from None
    if values.shape not in ((), (len(hypotheses),)):
        count = f"{values.size} numbers" if values.ndim == 1 else f"an array of shape {values.shape}"
        raise BadInput(
            f"{name} returned {count} for {len(hypotheses)} texts; return one number, or one per text"
        )
    if not np.isfinite(values).all():
        raise BadInput(f"{name} returned a value that is not finite: {shown(said)}")
    return name, mean_of(values) if values.ndim else float(values)


def versus(a: Judged, b: Judged, resamples: int = 1000, seed: int = 0) -> dict[str, dict]:
    """Two lists of texts on the same references, score by score: `bootstrap.compare` of a against b.

    Scores that cannot be resampled have `value` and `difference` alone.
    """
    found = {
        name: bootstrap.compare(a.figures[name], b.figures[name], resamples, seed)
        for name in a.figures
        if name in b.figures
    }
    for name in a.plain.keys() & b.plain.keys():
        found[name] = {"value": b.plain[name], "difference": a.plain[name] - b.plain[name]}
    return {name: found[name] for name in a.values if name in found}


def bits_per_byte(loss: float, tokens: int, size: int) -> float:
    """The bits per byte of a text of `size` bytes, whose `tokens` cost `loss` nats each on average.

    Unlike the loss per token, it compares models of different vocabularies. Ends of documents count among the
    tokens and have no bytes.

    >>> round(bits_per_byte(math.log(256), tokens=100, size=100), 6)  # a byte per token, all equally likely
    8.0
    """
    return loss * tokens / (math.log(2) * max(size, 1))


def rounded(value: float) -> str:
    """A score as a table shows it: four digits, more for small ones.

    >>> rounded(48.8879), rounded(0.83333), rounded(0.0)
    ('48.89', '0.8333', '0.0000')
    """
    return f"{value:.2f}" if math.fabs(value) >= 10 else f"{value:.4f}"
