"""The best way to cut a job over a number of GPUs: all cuts, the fastest of each that fits, best first.

Letters as in work.py.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product

from minimega.costs import Job
from minimega.costs.plan.estimate import Plan, estimate
from minimega.costs.plan.machine import Machine
from minimega.costs.plan.state import worst
from minimega.errors import BadInput
from minimega.model import Config
from minimega.parallel.layout import REFUSED, Layout

TOKENS_OF_A_RANK = 4096  # of a sequence, at the least, where a search cuts sequences
MOST = 64  # sequences of a micro-batch, and chunks of a rank


@dataclass(frozen=True)
class Fixed:
    """What a search must not choose; None is left to it."""

    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    cp: int | None = 1
    ep: int | None = None
    virtual_stages: int | None = None
    micro_batches: int | None = None
    micro_batch_size: int | None = None
    recompute: str | None = None
    sequence: bool | None = None
    zero: int | None = None


@dataclass(frozen=True)
class Found:
    """The result of a search: plans that fit, best first, one of each cut, and what did not fit."""

    plans: list[Plan]
    too_large: dict[tuple[int, ...], Plan] = field(
        repr=False
    )  # the smallest plan of each cut that fits in no way

    def joined(self, plan: Plan) -> "Found":
        """With one more plan, in its place, unless it is slower than the same cut's."""
        others = {cut_of(p): p for p in self.plans}
        if not plan.fits or _order(others.get(cut_of(plan), plan)) < _order(plan):
            return self
        return Found(sorted((others | {cut_of(plan): plan}).values(), key=_order), self.too_large)

    def reasons(self) -> list[str]:
        """Why each plan but the first loses to the first, in the order of `plans`."""
        return ["", *(reason(self.plans[0], other) for other in self.plans[1:])]


def cut_of(plan: Plan) -> tuple[int, ...]:
    """What tells one cut from another: the sizes of the groups."""
    cut = plan.job.layout
    return cut.tp, cut.pp, cut.dp, cut.cp, cut.ep


def search(
    config: Config, machine: Machine, batch: int, dtype: str = "float16", fixed: Fixed = Fixed()
) -> Found:
    """All cuts of a job over the machine's GPUs. Raises BadInput if none is possible.

    Of the ways to run a cut (micro-batch, virtual stages, recomputation, ZeRO) the fastest that fits counts.
    Plans that are equally fast are ordered by memory.

    >>> from minimega.costs.plan.gpus import GPUS
    >>> found = search(Config(51200, 2048, 6144, 64, 48), Machine(GPUS["a100-80gb"], 8), batch=4)
    >>> str(found.plans[0].job.layout)
    '--tp 4 --dp 1 --pp 2 --sequence-parallel'
    """
    best: dict[tuple[int, ...], Plan] = {}
    least: dict[tuple[int, ...], tuple[float, Job]] = {}
    tried = 0
    for cut in cuts(config, machine, batch, fixed):
        for layout in ways(config, cut, batch, fixed):
            tried += 1
            job = Job(config, layout, batch, dtype)
            memory = worst(job, machine.gpu)[1]
            total = memory["total"]
            key = layout.tp, layout.pp, layout.dp, layout.cp, layout.ep
            if total > machine.gpu.memory:
                if key not in best and (key not in least or total < least[key][0]):
                    least[key] = total, job
                continue
            plan = estimate(job, machine, memory)
            if key not in best or _order(plan) < _order(best[key]):
                best[key] = plan
    if not tried:
        raise BadInput(_impossible(config, machine, batch, fixed))
    large = {key: estimate(job, machine) for key, (_, job) in least.items() if key not in best}
    return Found(sorted(best.values(), key=_order), large)


def fewest(config: Config, machine: Machine, batch: int, dtype: str) -> int | None:
    """The first of twice, four times, ... as many GPUs on which some cut fits; None if none does.

    The batch is that of `machine`, and grows if there are more GPUs than sequences.
    """
    for gpus in (machine.gpus * 2**n for n in range(1, 14)):
        sequences = batch if batch % gpus == 0 or gpus < batch else gpus
        try:
            if search(config, replace(machine, gpus=gpus), sequences, dtype).plans:
                return gpus
        except BadInput:
            continue
    return None


def _order(plan: Plan) -> tuple[float, float]:
    return plan.iteration_seconds, plan.memory["total"]


def divisors(n: int) -> list[int]:
    """The whole numbers that divide n, smallest first.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    small = [i for i in range(1, int(n**0.5) + 1) if n % i == 0]
    return small + [n // i for i in reversed(small) if i * i != n]


def _either(value: int | None, choices: list[int]) -> list[int]:
    return choices if value is None else [value]


def cuts(config: Config, machine: Machine, batch: int, fixed: Fixed) -> Iterator[Layout]:
    """The sizes of the groups that use all GPUs and divide what they cut."""
    gpus = machine.gpus
    most = max(machine.gpu.per_node, 1)
    rings = [c for c in divisors(gpus) if c <= max(1, config.context // TOKENS_OF_A_RANK)]
    heads = config.nhead if config.attention else config.d_hidden
    for tp in _either(fixed.tp, [t for t in divisors(gpus) if most % t == 0]):
        if heads % tp or gpus % tp:
            continue
        for pp, cp in product(_either(fixed.pp, divisors(gpus // tp)), _either(fixed.cp, rings)):
            if gpus % (tp * pp * cp) or pp > config.num_layers or cp > config.context // 2 + 1:
                continue
            dp = gpus // (tp * pp * cp)
            if batch % dp or fixed.dp not in (None, dp):
                continue
            experts = [e for e in divisors(dp) if config.experts and config.experts % e == 0] or [1]
            for ep in _either(fixed.ep, experts):
                if dp % ep == 0 and ep <= max(config.experts, 1):
                    yield Layout(tp=tp, dp=dp, pp=pp, cp=cp, ep=ep)


def ways(config: Config, cut: Layout, batch: int, fixed: Fixed) -> Iterator[Layout]:
    """The ways to run one cut: micro-batches, virtual stages, recomputation, sequence parallelism and
    ZeRO.
    """
    share = batch // cut.dp
    sizes = [b for b in range(1, MOST + 1) if share % b == 0]
    if fixed.micro_batch_size:
        sizes = [b for b in [fixed.micro_batch_size] if share % b == 0]
    elif fixed.micro_batches:
        sizes = [share // fixed.micro_batches] if share % fixed.micro_batches == 0 else []
    sequences = [cut.tp > 1] if fixed.sequence is None else [fixed.sequence]
    zeros = [0, 1, 2, 3] if cut.pp == 1 else [0, 1]
    zeros = [0] if cut.dp * cut.cp == 1 and fixed.zero is None else _either(fixed.zero, zeros)
    recomputes = ["none", "selective", "full"] if fixed.recompute is None else [fixed.recompute]
    for b in sizes:
        m = share // b
        for v in _stages(config, cut, m, fixed):
            for recompute, sequence, zero in product(recomputes, sequences, zeros):
                if cut.pp > 1 and zero > 1:
                    continue
                yield replace(
                    cut,
                    accumulate=1 if cut.pp > 1 else m,
                    micro_batches=m if cut.pp > 1 else 1,
                    virtual_stages=v,
                    pipeline="interleaved" if v > 1 else "1f1b",
                    recompute=recompute,
                    sequence=sequence,
                    zero=zero,
                )


def _stages(config: Config, cut: Layout, m: int, fixed: Fixed) -> list[int]:
    """The chunks of a pipeline rank: an equal number of blocks each, and m a multiple of p if there are
    several.
    """
    possible = [1]
    if cut.pp > 1 and config.num_layers % cut.pp == 0 and m % cut.pp == 0:
        each = config.num_layers // cut.pp
        possible = [v for v in range(1, min(each, MOST) + 1) if each % v == 0]
    wanted = fixed.virtual_stages
    return possible if wanted is None else [v for v in possible if v == wanted]


def _impossible(config: Config, machine: Machine, batch: int, fixed: Fixed) -> str:
    """Why no cut is possible, in a sentence."""
    gpus, sizes = machine.gpus, [getattr(fixed, name) or 1 for name in ("tp", "pp", "dp", "cp")]
    for name in ("tp", "pp", "dp", "cp"):
        size = getattr(fixed, name)
        if size and gpus % size:
            return f"{gpus} GPUs cannot be cut into groups of {size}: choose a `{name}` that divides `gpus`"
    if gpus % (whole := math.prod(sizes)):
        return f"`tp` x `pp` x `dp` x `cp` is {whole}, which does not divide {gpus} GPUs"
    if fixed.tp and config.nhead % fixed.tp:
        why = "choose a `tp` that divides `nhead`"
        return f"{config.nhead} heads cannot be cut over {fixed.tp} GPUs: {why}"
    if fixed.pp and fixed.pp > config.num_layers:
        return f"{config.num_layers} layers cannot be cut into {fixed.pp} stages: choose a smaller `pp`"
    if fixed.dp and batch % fixed.dp:
        why = "choose a `dp` that divides it"
        return f"`train_batch_size` {batch} cannot be split over {fixed.dp} replicas: {why}"
    if (fixed.pp or 1) > 1 and (fixed.zero or 0) > 1:
        why = next(why for (a, b), why in REFUSED.items() if a.endswith("pp") and b.endswith(f"{fixed.zero}"))
        return f"`pp` and `zero` {fixed.zero} do not combine: {why}"
    if (fixed.ep or 1) > max(config.experts, 1) or config.experts % (fixed.ep or 1):
        return f"{config.experts} experts cannot be cut over {fixed.ep} GPUs: `ep` must divide `experts`"
    m = fixed.micro_batches or (batch // fixed.micro_batch_size if fixed.micro_batch_size else 0)
    dp = gpus // whole if not fixed.dp and all((fixed.tp, fixed.pp)) else fixed.dp or 1
    m = m if fixed.micro_batches else m // dp
    if (fixed.virtual_stages or 1) > 1 and fixed.pp and m % fixed.pp:
        why = "their number must be a multiple of `pp`"
        return f"{m} micro-batches cannot be interleaved over {fixed.pp} ranks: {why}"
    stages = (fixed.pp or 1) * (fixed.virtual_stages or 1)
    if fixed.virtual_stages and fixed.pp and config.num_layers % stages:
        why = "`pp` times `virtual_stages` must divide `num_layers`"
        return f"{config.num_layers} layers cannot be cut into {stages} equal stages: {why}"
    given = {name: value for name, value in vars(fixed).items() if value not in (None, 1, False)}
    said = " with " * bool(given) + ", ".join(f"`{name}` {value}" for name, value in given.items())
    why = "no cut divides both the batch and the model; change `train_batch_size` or `gpus`"
    return f"{batch} sequences over {gpus} GPUs{said}: {why}"


def reason(best: Plan, other: Plan) -> str:
    """Why another plan is slower than the best, in a sentence: the kinds of time that grow most."""
    longer = other.iteration_seconds / best.iteration_seconds - 1
    kinds = {*best.seconds, *other.seconds}
    more = {k: other.seconds.get(k, 0.0) - best.seconds.get(k, 0.0) for k in kinds}
    worst_kinds = [k for k in sorted(more, key=lambda k: -more[k]) if more[k] > 0.2 * max(more.values())][:2]
    if longer < 5e-4:
        return "as fast, but needs more memory"
    named = WORDS | ({"products": "stages of unequal size"} if _uneven(other) else {})
    words = " and ".join(f"{named[k]} (+{100 * more[k] / best.iteration_seconds:.1f}%)" for k in worst_kinds)
    return f"{100 * longer:.1f}% slower: {words}"


def _uneven(plan: Plan) -> bool:
    return plan.job.config.num_layers % plan.job.layout.pp > 0


WORDS = {
    "products": "smaller or more products",
    "memory": "more memory traffic",
    "tensor": "messages of tensor parallelism",
    "expert": "rows to experts",
    "context": "keys and values round the ring",
    "recomputation": "recomputation",
    "ends": "the head on one rank",
    "pipeline": "messages between stages",
    "bubble": "the bubble",
    "data": "gradients between replicas",
    "optimizer": "the optimizer's step",
}
