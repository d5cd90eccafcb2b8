"""What one GPU holds: parameters of its stage, and memory by kind.

Letters as in work.py. Activations: Korthikanti et al. 2022, section 4 (16-bit numbers, masks of one byte).
"""

from functools import lru_cache

from minimega.costs import Job
from minimega.costs.activations import block as kept_by_block
from minimega.costs.plan.machine import Gpu
from minimega.model import Config
from minimega.optim import OPTIMIZERS
from minimega.parallel.layout import Layout

# CUDA's context, cuBLAS's workspace and gaps between arrays; with other ranks NCCL's buffers too. Narayanan
# et al. 2021, table 2, says between which bounds: with ZeRO-3 530B at 4 sequences fits 640 GPUs, and does not
# fit 560.
RESERVED_ALONE, RESERVED = 1e9, 3.5e9


def of_block(config: Config) -> tuple[int, int, int]:
    """The parameters of one block: cut over the tensor group, of the experts (cut over both), and on every
    rank.
    """
    c, d = config, config.d_model
    attention = 4 * d * d + 3 * d if c.attention else 0
    norms = 2 * d * (1 + c.attention)
    if c.experts:
        return attention, c.experts * 2 * d * c.d_hidden, norms + d * c.attention + d * c.experts
    return attention + 2 * d * c.d_hidden + c.d_hidden, 0, norms + d * c.attention + d


def of_ends(config: Config) -> tuple[int, int, int]:
    """The parameters outside of the blocks: the table, the positions, and the head's own (with the last
    norm).
    """
    c = config
    table = c.vocab_size * (c.d_embedding or c.d_model) + c.d_embedding * c.d_model
    own = 0 if c.tied else c.vocab_size * c.d_model
    last = 2 * c.d_model * (c.norm_position == "pre") + c.vocab_size * c.head_bias
    return table, c.context * c.d_model * (c.positions == "learned"), own + last


def parameters(config: Config) -> int:
    """All parameters: equation 2 of Narayanan et al. 2021 and the last norm's 2 D, which it leaves out.

    >>> parameters(Config(vocab_size=50257, context=1024, d_model=768, nhead=12, num_layers=12))
    124439808
    """
    return config.num_layers * sum(of_block(config)) + sum(of_ends(config))


def layers(config: Config, cut: Layout) -> int:
    """The blocks of the fullest stage of the pipeline."""
    return -(-config.num_layers // cut.pp)


def held(config: Config, cut: Layout, stage: int) -> tuple[float, float]:
    """The parameters that one GPU of a pipeline rank holds: those of experts, and all others."""
    wide, experts, whole = of_block(config)
    table, positions, last = of_ends(config)
    n, t = layers(config, cut), cut.tp
    other = n * (wide / t + whole)
    if stage == 0:
        other += table / t + positions
    if stage == cut.pp - 1:
        other += last / t + (table / t if cut.pp > 1 and config.tied else 0)
    return n * experts / t / cut.ep, other


def bytes_per_parameter(dtype: str, optimizer: str) -> tuple[int, int, int]:
    """The bytes of a weight, its gradient, and the optimizer's state.

    Mixed precision with Adam: 2, 2 and 12 (Rajbhandari et al. 2019, section 3.1); bfloat16 sums gradients in
    float32, 4 (Smith et al. 2022, section 2.3).

    >>> bytes_per_parameter("float16", "adamw"), bytes_per_parameter("bfloat16", "adamw")
    ((2, 2, 12), (2, 4, 12))
    """
    half = dtype in ("float16", "bfloat16")
    item = 2 if half else 8 if dtype == "float64" else 4
    slots = len(OPTIMIZERS[optimizer].slots)
    return item, 4 if dtype == "bfloat16" else item, (4 if half else item) * slots + 4 * half


def micro_batches_held(cut: Layout, stage: int) -> float:
    """The most micro-batches whose activations a pipeline rank holds at once, each through all of its layers.

    1F1B: p - r of m. Interleaved: v chunks of 1/v of the layers, 1 + (p - 1) / (p v) times as many on the
    first rank (Korthikanti et al. 2022, section 4.2.3).

    >>> micro_batches_held(Layout(pp=4, micro_batches=8), 0)
    4
    """
    p, m, v = cut.pp, cut.parts, cut.virtual_stages
    if cut.pipeline == "gpipe":
        return m
    if v == 1:
        return min(p - (0 if cut.pipeline == "zero-bubble" else stage), m)
    return min(2 * (p - stage - 1) + (v - 1) * p + 1, m * v) / v


@lru_cache(maxsize=4096)
def activations(config: Config, batch: int, cut: Layout, recompute: str, item: int = 2) -> float:
    """The bytes that one block keeps of one micro-batch, in the paper's count."""
    total = 0.0
    for one in kept_by_block(config, batch, recompute, cut.tp, cut.sequence, cut.cp):
        numbers = one.paper
        if config.experts and recompute != "full" and not one.name.startswith(("scaled", "heads", "tanh")):
            numbers = max(one.paper, one.here)  # the paper has no experts: k rows per token
        total += item * numbers + one.masks + 4 * one.full * (cut.cp > 1)
    return total


def memory(job: Job, gpu: Gpu, stage: int = 0) -> dict[str, float]:
    """The bytes of one GPU of a pipeline rank, by kind; `total` is their sum.

    >>> from minimega.costs.plan.gpus import GPUS
    >>> job = Job(Config(vocab_size=1, d_model=4096, nhead=32, num_layers=37), Layout(dp=64), 64, "float16")
    >>> state = memory(job, GPUS["v100-32gb"])
    >>> round(sum(state[kind] for kind in ("weights", "gradients", "optimizer")) / parameters(job.config))
    16
    """
    config, cut, batch = job.config, job.layout, job.micro_batch
    weight, gradient, state = bytes_per_parameter(job.dtype, job.optimizer)
    item = 4 if job.dtype == "float32" else 8 if job.dtype == "float64" else 2
    experts, other = held(config, cut, stage)
    holders = cut.dp * cut.cp  # ranks that hold the same parameters; experts: fewer

    def shared(stage_of_zero: int, each: int) -> float:
        by = (holders / cut.ep, holders) if cut.zero >= stage_of_zero else (1, 1)
        return each * (experts / by[0] + other / by[1])

    n, tokens = layers(config, cut), batch * -(-config.context // cut.cp)
    width = item * tokens * config.d_model
    once = activations(config, batch, cut, cut.recompute, item)
    own = micro_batches_held(cut, stage) * n * once
    if stage == 0:  # the embedding's dropout mask, of each micro-batch under way
        own += tokens * config.d_model / (cut.tp if cut.sequence else 1) * micro_batches_held(cut, stage)
    logits = 0.0
    if stage == cut.pp - 1:
        logits = (4 + item) * tokens * config.vocab_size / cut.tp
        own += 2 * width / (cut.tp if cut.sequence else 1)
    found = {
        "weights": shared(3, weight),
        "gradients": shared(2, weight if cut.zero > 1 else gradient),
        "optimizer": shared(1, state),
        "activations": own,
        "recomputed": activations(config, batch, cut, "none", item) - once
        if cut.recompute != "none"
        else 0.0,
        "logits": logits,
        "buffers": _buffers(job, width),
        "reserved": RESERVED if cut.ranks > 1 else RESERVED_ALONE,
    }
    return found | {"total": sum(found.values())}


def _buffers(job: Job, width: float) -> float:
    """Messages that are held beside what they bring: of the pipeline, and of ZeRO, which gathers a layer's
    weights.
    """
    config, cut = job.config, job.layout
    weight = bytes_per_parameter(job.dtype, job.optimizer)[0]
    found = 4 * width / cut.tp if cut.pp > 1 else 0.0
    wide, experts, whole = of_block(config)
    one, ends = wide / cut.tp + experts / cut.tp / cut.ep + whole, of_ends(config)
    if cut.zero == 3:
        found += weight * max(one, sum(ends[:2]) / cut.tp)
    if cut.zero >= 2:  # the largest matrix's
        largest = max(config.d_model * max(config.d_hidden, 3 * config.d_model), ends[0])
        found += weight * largest / cut.tp
    return found


def worst(job: Job, gpu: Gpu) -> tuple[int, dict[str, float]]:
    """The pipeline rank that needs most memory, and what it holds: the first or the last."""
    both = {stage: memory(job, gpu, stage) for stage in {0, job.layout.pp - 1}}
    stage = max(both, key=lambda s: both[s]["total"])
    return stage, both[stage]
