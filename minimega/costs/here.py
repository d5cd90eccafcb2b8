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
from minimega.parallel.bubble import taking_turns, waiting
from minimega.parallel.schedules import Action
from minimega.parallel.zero import reducer


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

    Ranks that are more than the cores take turns: each of those that are not waiting is as much slower.
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

    if cut.pp > 1:
        timed = taking_turns(cut.schedule(), cost, cores=cut.pp / rates.crowd)
        alone, share = max(end for rank in timed for _, _, end in rank), waiting(timed)
    else:
        alone, share = rates.crowd * sum(map(sum, each[0])) * cut.micro_batches, 0.0
    passed = cut.accumulate * alone
    talk = max(sent)
    if cut.tp * cut.cp > 1:
        talk += min(rates.skew * passed, rates.latest * calls(job))
    rest = rates.crowd * (max(updates) + rates.per_step)
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
        back = of("embedding back", n, width) + c.tied * of("plus", s.vocabulary * width)
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
        return there, back + more[1] + of("cross-entropy back", n, s.vocabulary)
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
    """A product of rows with a matrix: the seconds forward, and backward for both gradients.

    Square matrices were measured. One of other sides needs as much arithmetic, but moves more numbers of its
    input and output together: once forward, twice backward.
    """
    width = (into * out) ** 0.5
    moved = rates.seconds("copy", rows * max(into + out - 2 * width, 0.0))
    return rates.seconds("linear", rows, width) + moved, rates.seconds("linear back", rows, width) + 2 * moved


def attention(own: Part, rates: Rates) -> tuple[float, float]:
    """Attention between its projections: forward and backward; around the ring in blocks of half a rank's
    tokens.

    A ring of one rank, which is what was measured, has three blocks; one of cp ranks has 2 cp + 1.
    """
    c, s = own.job.config, own.piece
    width, cp = c.d_model / c.nhead, own.job.layout.cp
    name, blocks = ("attention", 1.0) if cp == 1 else ("ring", (2 * cp + 1) / 3)

    def at(end: str) -> float:
        """A straight line over the width of a head, between the two that were measured."""
        low, high = (rates.seconds(f"{name} {c}{end}", s.batch * s.heads, s.tokens) for c in WIDTHS)
        return blocks * max(low + (high - low) * (width - WIDTHS[0]) / (WIDTHS[1] - WIDTHS[0]), low / 2)

    return at(""), at(" back")


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


def calls(job: Job) -> int:
    """The messages of a step on the first rank."""
    return sum(calls for calls, _ in of_step(job).values())


def update(own: Part, rates: Rates) -> float:
    """The seconds of a core to add up parts, sum, clip and update what a rank owns, array by array."""
    job, of, zero = own.job, rates.seconds, own.job.layout.zero
    model = own.fresh()  # ZeRO 3 wraps its layers
    parameters = list(model.parameters().values())
    owned = reducer(model, own.grid).owned(parameters)
    slots = len(OPTIMIZERS[job.optimizer].slots)
    total = sum((job.layout.parts - 1) * of("plus", p.local_size) for p in parameters)
    for n in (max(p.local_size, 1) for p in owned):  # an empty shard takes calls too
        total += of("squares", n) + of("clip", n) + of("update", n) * (1 + slots) / 3
    if own.grid.copies.size > 1:  # into a message, and the new weights out of one
        total += of("copy", sum(p.local_size for p in parameters)) * (1 + (zero > 0))
    return total
