"""A plan: what a job costs on a machine, in memory, messages and time, before anything runs.

Letters as in work.py.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from minimega.costs import Job
from minimega.costs.plan import exchange, state, work
from minimega.costs.plan.exchange import Messages
from minimega.costs.plan.machine import Machine
from minimega.costs.plan.work import Work
from minimega.model import Config
from minimega.parallel.layout import Layout

MODEL_PASSES = 3  # a backward pass has two products for each of the forward pass


@dataclass(frozen=True)
class Plan:
    """What `estimate` finds. Bytes and seconds are those of one GPU: memory of the fullest, time of the
    slowest.
    """

    job: Job
    machine: Machine
    parameters: int
    memory: dict[str, float]  # bytes by kind, with `total`
    messages: dict[str, Messages]  # of a step, by the group that exchanges them
    seconds: dict[str, float]  # of a step, by kind; they add up to the step
    stage: "Stage" = field(repr=False)

    gpus = property(lambda self: self.job.layout.ranks)
    fits = property(lambda self: self.memory["total"] <= self.machine.gpu.memory)
    iteration_seconds = property(lambda self: sum(self.seconds.values()))
    bubble = property(lambda self: self.seconds["bubble"] / self.iteration_seconds)

    @property
    def mfu(self) -> float:
        """Model FLOPs utilization: the share of the peak that the model's own products take (Chowdhery et al.
        2022).
        """
        return (
            model_flops(self.job)
            / self.iteration_seconds
            / self.gpus
            / self.machine.gpu.flops(self.job.dtype)
        )

    @property
    def tflops(self) -> float:
        """TFLOP/s of one GPU, recomputation counted, as the Megatron papers print them."""
        return hardware_flops(self.job) / self.iteration_seconds / self.gpus / 1e12

    def days(self, tokens: float) -> float:
        """The days that training on so many tokens takes."""
        return tokens / (self.job.batch * self.job.config.context) * self.iteration_seconds / 86400


@dataclass(frozen=True)
class Stage:
    """One micro-batch on the pipeline's ranks, in seconds: on an inner one, and what the ends have more."""

    forward: float  # all blocks of a rank
    backward: float  # with recomputation, and adding to the gradients
    message: float  # one activation or gradient to the next rank
    first: tuple[float, float]  # forward, backward of the embedding
    last: tuple[float, float]  # and of the head
    works: tuple[tuple[Work, ...], ...]  # of one block: forward, backward, again

    @property
    def inner(self) -> float:
        """Forward and backward of a rank that has blocks alone."""
        return self.forward + self.backward


def model_flops(job: Job) -> float:
    """The floating-point operations of a step's products: equation 7 of Korthikanti et al. 2022.

    >>> nlg = Config(51200, 2048, 20480, 128, 105)
    >>> round(model_flops(Job(nlg, batch=280)) / (37.83 * 280 * 312e12), 3)     # table 5: 56.0 %
    0.56
    """
    c, tokens = job.config, job.batch * job.config.context
    return MODEL_PASSES * tokens * (c.num_layers * _forward(c) + 2 * c.d_model * c.vocab_size)


def _forward(c: Config) -> float:
    """Of one token in one block."""
    mlp = 4 * c.d_model * c.d_hidden * (c.top_k_experts if c.experts else 1) + 2 * c.d_model * c.experts
    return mlp + c.attention * (8 * c.d_model**2 + 4 * c.context * c.d_model)


def hardware_flops(job: Job) -> float:
    """With recomputation: equation 3 of Narayanan et al. 2021 (full), equation 8 of Korthikanti et al. 2022
    (selective).

    Equation 8 counts the recomputed attention like a forward and a backward pass of it; only the forward is
    recomputed. We keep the paper's count, so that figures compare.
    """
    c, tokens = job.config, job.batch * job.config.context
    again = {
        "none": 0.0,
        "selective": MODEL_PASSES * 4 * c.context * c.d_model * c.attention,
        "full": _forward(c),
    }[job.layout.recompute]
    return model_flops(job) + tokens * c.num_layers * again


def estimate(job: Job, machine: Machine, memory: dict[str, float] | None = None) -> Plan:
    """The plan of a job on a machine. `memory`, if it is known, is that of the fullest GPU.

    >>> from minimega.costs.plan.gpus import GPUS
    >>> chunks = {"pipeline": "interleaved", "virtual_stages": 3}
    >>> cut = Layout(tp=8, pp=35, micro_batches=280, recompute="full", **chunks)
    >>> nlg = Config(51200, 2048, 20480, 128, 105)
    >>> plan = estimate(Job(nlg, cut, 280, "float16"), Machine(GPUS["a100-80gb"], 280))
    >>> plan.fits, 45 < plan.iteration_seconds < 55     # measured: 49.05 (Korthikanti et al. 2022, table 5)
    (True, True)
    """
    cut, config = job.layout, job.config
    one = stage(job, machine)
    m, p, v = cut.parts, cut.pp, cut.virtual_stages
    ends = sorted((sum(one.first), sum(one.last)))
    hop = 2 * v * one.message  # there and back, of each chunk
    exchanged, messages = exchange.gradients(job, machine)
    seconds = {kind: m * each for kind, each in _by_kind(job, machine, one).items()}
    # The slower end holds up each micro-batch. The other adds to the way of the first one there and back.
    seconds["ends"] = m * ends[1] + ends[0] * (1 if p > 1 else m)
    seconds["pipeline"] = m * hop
    even = config.num_layers / p / state.layers(config, cut)  # some ranks may have a block less
    seconds["bubble"] = (p - 1) / v * (one.inner * even + hop)
    if cut.pipeline == "zero-bubble":
        seconds["bubble"] *= 1 / 3  # ZB-H1: Qi et al. 2023, section 2.1
    if cut.pipeline == "gpipe":
        seconds["bubble"] = (p - 1) * (one.inner * even + hop)
    seconds["data"] = exchanged
    seconds["optimizer"] = exchange.optimizer(job, machine)
    messages = exchange.inside(job, one.works) | messages
    memory = memory or state.worst(job, machine.gpu)[1]
    return Plan(job, machine, state.parameters(config), memory, messages, seconds, one)


def stage(job: Job, machine: Machine) -> Stage:
    """The seconds of one micro-batch on one pipeline rank."""
    config, cut, b = job.config, job.layout, job.micro_batch
    same = work_of(job)
    works = work.block(config, same, b, machine, job.dtype)
    there, back, again = (_sum(part) for part in works)
    n = state.layers(config, cut)
    _, gradient, _ = state.bytes_per_parameter(job.dtype, job.optimizer)
    experts, other = state.held(config, cut, 1 if cut.pp > 2 else 0)
    adding = machine.gpu.move(2 * gradient * (experts + other)) if cut.zero < 2 else 0.0
    ends: list[Any] = [
        tuple(sum(w.total for w in part) for part in part_of(config, same, b, machine, job.dtype))
        for part_of in (work.embedding, work.head)
    ]
    return Stage(n * there, n * (back + again) + adding, exchange.hop(job, machine), ends[0], ends[1], works)


def work_of(job: Job) -> Layout:
    """The layout with what does not change a block's work left out, so that it is computed once in a
    search.
    """
    cut = job.layout
    return replace(
        cut, dp=cut.ep, pp=1, zero=0, accumulate=1, micro_batches=1, pipeline="1f1b", virtual_stages=1
    )


def _sum(works: tuple[Work, ...]) -> float:
    """Their seconds; a ring of keys and values travels while attention computes."""
    total = sum(w.total for w in works if w.kind != "context")
    core = sum(w.total for w in works if w.name in ("scores", "weighted values", "softmax and dropout"))
    return total + max(0.0, sum(w.total for w in works if w.kind == "context") - core)


def _by_kind(job: Job, machine: Machine, one: Stage) -> dict[str, float]:
    """The seconds of a rank's blocks in one micro-batch, by kind of work."""
    n = state.layers(job.config, job.layout)
    forward, backward, again = one.works
    found = {"products": 0.0, "memory": 0.0, "tensor": 0.0, "expert": 0.0, "context": 0.0}
    for w in (*forward, *backward):
        kind = {"product": "products", "move": "memory"}.get(w.kind, w.kind)
        found[kind] += n * w.total
    found["recomputation"] = n * _sum(again)
    rest = one.inner - sum(found.values())  # adding to the gradients, less what the ring hides
    hidden = min(found["context"], max(0.0, -rest)) if rest < 0 else 0.0
    found["context"] -= hidden
    found["memory"] += rest + hidden
    return found
