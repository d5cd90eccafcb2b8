"""What ranks send between blocks: activations to the next stage, gradients and weights; the update.

Letters as in work.py.
"""

from dataclasses import dataclass

from minimega.costs import Job
from minimega.costs.plan import state
from minimega.costs.plan.machine import Machine
from minimega.costs.plan.work import Work, collective


@dataclass(frozen=True)
class Messages:
    """The messages of one kind that one GPU takes part in during a step; `wire` is what it sends."""

    calls: int
    nbytes: float
    wire: float


def hop(job: Job, machine: Machine) -> float:
    """One activation to the next pipeline rank: each tensor rank sends its share, and then all gather it.

    Narayanan et al. 2021, section 4.1; with sequence parallelism each needs its own share alone.
    """
    cut, gpu = job.layout, machine.gpu
    if cut.pp == 1:
        return 0.0
    whole = width(job)
    far = cut.tp * cut.cp * cut.dp >= gpu.per_node or machine.gpus > gpu.per_node
    link = gpu.between if far else gpu.inside
    gathered = 0.0 if cut.sequence else collective(machine, "all-gather", whole, cut.tp)
    return link.seconds(whole / cut.tp) + gathered


def width(job: Job) -> float:
    """The bytes of a micro-batch's hidden states."""
    item = state.bytes_per_parameter(job.dtype, job.optimizer)[0]
    return item * job.micro_batch * -(-job.config.context // job.layout.cp) * job.config.d_model


def gradients(job: Job, machine: Machine) -> tuple[float, dict[str, Messages]]:
    """The seconds in which replicas add up gradients and send weights, and the messages."""
    config, cut = job.config, job.layout
    weight, gradient, _ = state.bytes_per_parameter(job.dtype, job.optimizer)
    gradient = weight if cut.zero > 1 else gradient  # as DeepSpeed's stages 2 and 3 send them
    holders, seconds, found = cut.dp * cut.cp, 0.0, {}
    calls, nbytes, wire = 0, 0.0, 0.0
    experts, other = state.held(config, cut, 0)
    for count, ranks, stride in ((other, holders, cut.tp), (experts, holders // cut.ep, cut.tp * cut.ep)):
        if ranks == 1 or not count:
            continue
        ring = (ranks - 1) / ranks
        if cut.zero < 3:
            rounds = cut.parts if cut.zero == 2 else 1
            sizes = [
                ("reduce-scatter", gradient * count, rounds),
                ("all-gather", weight * count if cut.zero else gradient * count, 1),
            ]
            seconds += sum(
                times * collective(machine, kind, size, ranks, stride) for kind, size, times in sizes
            )
        else:
            gathers = 2 * cut.parts  # forward, and backward, which recomputes
            sizes = [("reduce-scatter", gradient * count, cut.parts), ("all-gather", weight * count, gathers)]
            rate, step, _ = machine.ring(ranks, stride)
            if ranks * stride > machine.gpu.per_node:
                rate *= machine.gpu.zero3 / machine.gpu.between.rate(1e9) * machine.gpu.between.bandwidth
            each = 12 * state.layers(config, cut) + 4  # a block's parameters, gathered one by one
            seconds += sum(
                times * ring * size / rate + times * each * (ranks - 1) * step for _, size, times in sizes
            )
        calls += sum(times for *_, times in sizes)
        nbytes += sum(size * times for _, size, times in sizes)
        wire += sum(size * times * ring for _, size, times in sizes)
    if calls:
        found["data"] = Messages(calls, nbytes, wire)
    if cut.pp > 1 and config.tied:  # the table is at both ends
        table = gradient * state.of_ends(config)[0] / cut.tp
        found["embedding"] = Messages(1, table, table)
        seconds += machine.gpu.between.seconds(table)
    return seconds, found


def inside(job: Job, works: tuple[tuple[Work, ...], ...]) -> dict[str, Messages]:
    """The messages inside the blocks of a rank's micro-batches, and between the pipeline's ranks."""
    cut, found = job.layout, {}
    times = cut.parts * state.layers(job.config, cut)
    for kind, ranks in (("tensor", cut.tp), ("expert", cut.ep), ("context", cut.cp)):
        sent = [w for part in works for w in part if w.kind == kind]
        if sent:
            calls = sum(w.times for w in sent)
            nbytes = sum(w.times * w.amount for w in sent)
            passed = sum(w.times * w.amount * (1 + w.name.startswith("all-reduce")) for w in sent)
            wire = passed * (ranks - 1) / ranks
            found[kind] = Messages(times * calls, times * nbytes, times * wire)
    if cut.pp > 1:
        sends = 2 * cut.parts * cut.virtual_stages
        found["pipeline"] = Messages(sends, sends * width(job) / cut.tp, sends * width(job) / cut.tp)
    return found


def optimizer(job: Job, machine: Machine) -> float:
    """AdamW reads and writes its state, the gradients and the weights; the norm reads the gradients again."""
    cut = job.layout
    weight, gradient, kept = state.bytes_per_parameter(job.dtype, job.optimizer)
    experts, other = state.held(job.config, cut, 0)
    mine = (other + experts * cut.ep) / (cut.dp * cut.cp) if cut.zero else other + experts
    each = 2 * kept + weight + 3 * gradient + (12 if job.dtype == "float16" else 4)
    return machine.gpu.move(each * mine) + machine.gpu.launch * 20
