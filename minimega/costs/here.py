"""The time of a training step of this very implementation on this machine, from measured rates.

Each operation that a rank runs is looked up by its size; the pipeline's list of actions says who waits for
whom.

N tokens of a micro-batch, D width, F hidden width, V vocabulary.
"""

from dataclasses import dataclass

from minimega.costs import Job
from minimega.costs.messages import of_step
from minimega.costs.part import Part, part
from minimega.costs.rates import Rates
from minimega.optim import OPTIMIZERS
from minimega.parallel.bubble import waiting
from minimega.parallel.schedules import Action, times


@dataclass(frozen=True)
class Step:
    """The predicted time of a step, in seconds, and what it consists of on the busiest rank."""

    seconds: float
    compute: float  # of forward and backward passes
    messages: float
    update: float  # norm, clipping, optimizer
    waiting: float  # the share of the pipeline's time in which ranks wait


def step(job: Job, rates: Rates) -> Step:
    """The time of one training step of this job over `rates.ranks` ranks.

    Ranks that are more than the cores take turns: their time is at least that of all work on the cores.
    """
    cut = job.layout
    stage = cut.tp * cut.cp * cut.dp
    parts = [part(job, r * stage) for r in range(cut.pp)]
    each = [passes(own, rates) for own in parts]
    sent = [messages(own, rates) for own in parts]
    updates = [update(own, rates) for own in parts]

    def cost(r: int, a: Action) -> float | None:
        forward, backward = each[r][a.chunk]
        return {
            "forward": forward,
            "backward": backward,
            "backward-input": backward / 2,
            "backward-weight": backward / 2,
        }.get(a.kind)

    timed = times(cut.schedule(), cost)
    alone = (
        max(end for rank in timed for _, _, end in rank)
        if cut.pp > 1
        else sum(map(sum, each[0])) * cut.micro_batches
    )
    work = [sum(map(sum, chunks)) * cut.micro_batches for chunks in each]
    # all ranks at once on the cores that there are; or the longest chain
    passed = cut.accumulate * max(alone, rates.crowd * sum(work) / len(work))
    talk = max(sent)
    rest = rates.crowd * (max(updates) + rates.per_step)
    share = waiting(timed) if cut.pp > 1 else 0.0
    return Step(passed + talk + rest, passed, talk, rest, share)


def passes(own: Part, rates: Rates) -> list[tuple[float, float]]:
    """The seconds of a core for one micro-batch forward and backward through each chunk of a rank."""
    found = []
    for names in own.chunks:
        forward = backward = rates.per_part / len(own.chunks) / 2
        for name in names:
            there, back = layer(own, name, rates)
            forward, backward = forward + there, backward + back
        found.append((forward, backward))
    return found


def layer(own: Part, name: str, rates: Rates) -> tuple[float, float]:
    """The seconds of a core for one micro-batch forward and backward through a layer of the model."""
    c, s, of = own.job.config, own.piece, rates.seconds
    n, between = s.n, s.batch * s.own
    if name == "embedding":
        width = c.d_embedding or c.d_model
        more = linear(rates, between, c.d_embedding, c.d_model) if c.d_embedding else (0.0, 0.0)
        there = of("embedding", n, width) + of("add", between, c.d_model)
        back = of("embedding back", n, width) + of("copy", s.vocabulary * width)
        if c.positions == "learned":
            there, back = there + of("embedding", s.own, c.d_model), back + of("sum", between, c.d_model)
            back += of("embedding back", s.own, c.d_model)
        return there + more[0], back + more[1]
    if name == "norm":
        return of("norm", between, c.d_model), of("norm back", between, c.d_model)
    if name == "head":
        width = (c.tied and c.d_embedding) or c.d_model
        more = linear(rates, between, c.d_model, width) if c.tied and c.d_embedding else (0.0, 0.0)
        there, back = linear(rates, n, width, s.vocabulary)
        there += more[0] + of("cross-entropy", n, s.vocabulary)
        return there, back + more[1] + of("cross-entropy back", n, s.vocabulary) + of(
            "copy", s.vocabulary * width
        )
    return _block(own, rates)


def _block(own: Part, rates: Rates) -> tuple[float, float]:
    c, s, of = own.job.config, own.piece, rates.seconds
    n, between = s.n, s.batch * s.own
    recompute = own.job.layout.recompute
    heads = c.d_model * s.heads / c.nhead
    there, back = rates.per_block / 3, 2 * rates.per_block / 3
    core = (0.0, 0.0)
    if c.attention:
        core = attention(own, rates)
        for products in (linear(rates, n, c.d_model, 3 * heads), linear(rates, n, heads, c.d_model), core):
            there, back = there + products[0], back + products[1]
    k = c.top_k_experts if c.experts else 1
    for sizes in ((c.d_model, s.hidden), (s.hidden, c.d_model)):
        products = linear(rates, n * k, *sizes)
        there, back = there + products[0], back + products[1]
    there += of(c.activation, n * k, s.hidden)
    back += of(f"{c.activation} back", n * k, s.hidden)
    branches = 1 + c.attention
    there += branches * (of("norm", between, c.d_model) + 2 * of("add", between, c.d_model))
    back += branches * (
        of("norm back", between, c.d_model) + of("sum", between, c.d_model) + of("add", between, c.d_model)
    )
    if c.dropout:
        there += branches * of("dropout", between, c.d_model)
        back += branches * of("dropout", between, c.d_model)
    again = {"none": 0.0, "selective": core[0], "full": there}[recompute]
    return there, back + again


def linear(rates: Rates, rows: float, into: float, out: float) -> tuple[float, float]:
    """A product of rows with a matrix: the seconds forward, and backward for both gradients."""
    width = (into * out) ** 0.5
    return rates.seconds("linear", rows, width), rates.seconds("linear back", rows, width)


def attention(own: Part, rates: Rates) -> tuple[float, float]:
    """Attention between its projections: forward and backward; for the ring, block by block."""
    c, s = own.job.config, own.piece
    width, cp = c.d_model / c.nhead, own.job.layout.cp
    count, side, blocks = s.batch * s.heads, s.tokens, 1
    if cp > 1:  # blocks of half of a rank's tokens each; backward computes the weights again
        side, blocks = s.tokens / 2, 2 * cp + 1

    def at(end: str) -> float:
        """A straight line over the width of a head, between the two that were measured."""
        low, high = (rates.seconds(f"attention {c}{end}", count, side) for c in WIDTHS)
        return blocks * max(low + (high - low) * (width - WIDTHS[0]) / (WIDTHS[1] - WIDTHS[0]), low / 2)

    there, back = at(""), at(" back")
    return (there, back) if cp == 1 else (there, back + there)


WIDTHS = 16, 64  # of a head, at which attention is measured


def messages(own: Part, rates: Rates) -> float:
    """The seconds of all messages of a step on one rank. None is hidden behind computation."""
    total, job = 0.0, own.job
    sizes = {"tensor": job.layout.tp, "context": job.layout.cp, "pipeline": 2, "ends": 2}
    g = own.grid
    groups = {
        group.name: group.size
        for group in (g.tensor, g.context, g.data, g.copies, g.ends, g.both, g.stage, g.world)
    }
    for (group, kind, _), (calls, nbytes) in of_step(job, own.rank).items():
        ranks = 2 if kind == "send" else groups.get(group, sizes.get(group, job.layout.ranks))
        kind = "all-reduce" if kind == "all-to-all" else kind
        total += calls * rates.message(kind, max(ranks, 2), nbytes / calls)
    return total


def update(own: Part, rates: Rates) -> float:
    """The seconds of a core to add up parts, sum, clip and update what a rank owns."""
    job, of = own.job, rates.seconds
    numbers = sum(p.local_size for p in own.model.parameters().values())
    holders = own.grid.copies.size
    mine = numbers / holders if job.layout.zero else numbers
    added = (job.layout.parts - 1) * of("add", 1, numbers)
    copied = of("copy", numbers) if holders > 1 else 0.0
    written = of("copy", numbers) if job.layout.zero and holders > 1 else 0.0
    slots = len(OPTIMIZERS[job.optimizer].slots)
    return (
        added
        + copied
        + written
        + of("squares", mine)
        + of("add", 1, mine)
        + of("update", mine) * (1 + slots) / 3
    )
