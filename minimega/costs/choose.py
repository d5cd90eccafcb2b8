"""The fastest way to train a model over the ranks of this machine, among all that fit; and why.

The times are those of `here.step`, from the rates that were measured on this machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from minimega.costs import Job
from minimega.costs.here import Step, step
from minimega.costs.kept import of
from minimega.costs.memory import needs
from minimega.costs.rates import Rates
from minimega.errors import BadInput
from minimega.model import RECOMPUTE
from minimega.parallel.layout import Layout

SIMPLER = 0.03  # a way with fewer features may be slower by this share and still be chosen


@dataclass(frozen=True)
class Way:
    """One way to train: its layout, the predicted step, and the bytes that its ranks need together."""

    layout: Layout
    step: Step
    need: int

    @property
    def features(self) -> int:
        """How many features it uses: what is simpler wins if it is about as fast."""
        cut = self.layout
        sizes = sum(n > 1 for n in (cut.tp, cut.dp, cut.pp, cut.cp))
        return sizes + cut.sequence + cut.zero + (cut.recompute != "none") + (cut.accumulate > 1)


def cuts(job: Job, ranks: int, fixed: frozenset[str] = frozenset()) -> Iterator[Layout]:
    """All layouts of a job over so many ranks that the framework allows, with the `fixed` fields as they are.

    >>> from minimega.costs import Config
    >>> found = [str(cut) for cut in cuts(Job(Config(64, num_layers=2), batch=4), 2)]
    >>> sorted(set(found))[:3]
    ['--tp 1 --dp 1 --cp 2', '--tp 1 --dp 1 --cp 2 --zero 1', '--tp 1 --dp 1 --cp 2 --zero 2']
    """
    mine = job.layout

    def choices(name: str, *values) -> tuple:
        return (getattr(mine, name),) if name in fixed else values

    sizes = [n for n in range(1, ranks + 1) if ranks % n == 0]
    groups = product(*(choices(name, *sizes) for name in ("tp", "cp", "dp", "pp")))
    for tp, cp, dp, pp in groups:
        if tp * cp * dp * pp != ranks or job.batch % dp:
            continue
        share = job.batch // dp
        micro = choices("micro_batches", *((pp, 2 * pp, 4 * pp) if pp > 1 else (1,)))
        for m, parts, zero, sequence, recompute in product(
            micro,
            choices("accumulate", *(n for n in (1, 2, 4, 8, 16) if share % n == 0)),
            choices("zero", 0, *((1, 2, 3) if dp * cp > 1 else ())),
            choices("sequence", False, *([True] if tp > 1 else [])),
            choices("recompute", *RECOMPUTE),
        ):
            way = replace(
                mine, tp=tp, cp=cp, dp=dp, pp=pp, micro_batches=m, accumulate=parts, zero=zero,
                sequence=sequence, recompute=recompute,
            )  # fmt: skip
            try:
                way.check(job.config, job.batch, job.dtype)
                way.check(job.config, dtype=job.dtype)
            except BadInput:
                continue
            yield way


def ways(job: Job, ranks: int, rates: list[Rates], has: int | None, fixed: frozenset[str]) -> list[Way]:
    """The ways that fit in `has` bytes.

    Fewer sequences at a time, ZeRO 2 and 3, and recomputation are tried in this order, only if nothing fits
    without them.
    """
    tiers: dict[tuple, list[Layout]] = {}
    for cut in cuts(job, ranks, fixed):
        tier = RECOMPUTE.index(cut.recompute), cut.accumulate, cut.zero > 1
        tiers.setdefault(tier, []).append(cut)
    for _, some in sorted(tiers.items()):
        needed = {cut: needs(replace(job, layout=cut), ranks) for cut in some}
        fits = [cut for cut in some if has is None or needed[cut] <= has]
        if fits:
            return [Way(cut, step(replace(job, layout=cut), of(rates, ranks)), needed[cut]) for cut in fits]
    return []


def choose(
    job: Job, ranks: list[int], rates: list[Rates], has: int | None, fixed: frozenset[str] = frozenset()
) -> list[Way]:
    """All ways over any of these numbers of ranks, the chosen one first, then the fastest of each other cut.

    Raises BadInput if none fits, or none is possible.
    """
    found = [way for n in ranks for way in ways(job, n, rates, has, fixed)]
    if not found:
        raise BadInput(
            f"no layout of {' or '.join(map(str, ranks))} ranks fits this model, batch and memory: "
            "choose another `train_batch_size` or a smaller model"
        )
    fastest = min(way.step.seconds for way in found)
    near = [way for way in found if way.step.seconds <= (1 + SIMPLER) * fastest]
    chosen = min(near, key=lambda way: (way.features, way.step.seconds))
    others: dict[tuple, Way] = {}
    for way in sorted(found, key=lambda way: way.step.seconds):
        others.setdefault(_cut(way), way)
    others.pop(_cut(chosen))
    return [chosen, *others.values()]


def _cut(way: Way) -> tuple[int, ...]:
    cut = way.layout
    return cut.tp, cut.cp, cut.dp, cut.pp


def reason(best: Way, other: Way) -> str:
    """Why another way is slower.

    >>> fast, slow = Step(1.0, 0.9, 0.0, 0.1, 0.0), Step(1.5, 1.4, 0.0, 0.1, 0.4)
    >>> reason(Way(Layout(dp=2), fast, 1), Way(Layout(pp=2), slow, 1))
    'since its ranks wait for each other 40% of the time'
    """
    a, b = best.step, other.step
    if b.seconds <= a.seconds * (1 + SIMPLER):
        return "about as fast, but less simple"
    if other.layout.ranks < best.layout.ranks:
        return f"since it uses {other.layout.ranks} of the {best.layout.ranks} ranks"
    more = {
        "its ranks wait for each other": (b.waiting * b.compute - a.waiting * a.compute, ""),
        "its messages take": (b.messages - a.messages, f" {b.messages / b.seconds:.0%} of the time"),
        "its ranks compute more, or in smaller pieces": (
            (1 - b.waiting) * b.compute - (1 - a.waiting) * a.compute,
            "",
        ),
        "its ranks update more weights": (b.update - a.update, ""),
    }
    name, (_, tail) = max(more.items(), key=lambda each: each[1][0])
    if name == "its ranks wait for each other":
        tail = f" {b.waiting:.0%} of the time"
    return f"since {name}{tail}"
