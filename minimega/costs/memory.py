"""The memory that training needs, what this machine has, and the nearest shape that fits.

B batch, T time, D width, F hidden width, H heads, V vocabulary; N = B T tokens, N/cp of them on a context
rank.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from minimega.costs import Job
from minimega.costs.activations import block, items
from minimega.errors import BadInput
from minimega.model import SHAPES, Config, gpt
from minimega.optim import OPTIMIZERS
from minimega.parallel.data import BUCKET
from minimega.parallel.zero import state_bytes
from minimega.precision import HALF


def parameters(config: Config) -> int:
    """The number of parameters, computed from models of one and two layers, so that depth costs no time.

    >>> parameters(Config(vocab_size=50257, context=1024, d_model=768, nhead=12, num_layers=12))
    124439808
    """
    one = gpt(replace(config, num_layers=1)).count()
    return one + (config.num_layers - 1) * _block(config)


def _block(config: Config) -> int:
    one, two = (gpt(replace(config, num_layers=n)).count() for n in (1, 2))
    return two - one


def used(config: Config) -> int:
    """The parameters that one token passes through: with experts, those of k experts per layer.

    >>> c = Config(vocab_size=500, experts=8)
    >>> parameters(c), used(c)
    (2312960, 740096)
    """
    idle = config.experts and config.experts - config.top_k_experts
    return parameters(config) - config.num_layers * idle * 2 * config.d_model * config.d_hidden


def activations(
    config: Config, batch: int, dtype: str = "float32", recompute: str = "none", cp: int = 1
) -> int:
    """The bytes kept for the backward pass of one batch, as `autograd.saved_bytes` counts them.

    A block of attention and a GELU MLP keeps 10 N D + 3 N F numbers (22 N D where F = 4 D), and the
    attention weights, B H T T; `activations.block` lists them. Ring attention (`cp` > 1) keeps one number
    per row instead of the weights. In 16-bit training the probabilities (N V) and each norm's deviations (N)
    are float32.

    >>> activations(Config(vocab_size=500), batch=16)
    60814464
    """
    c, tokens = config, _tokens(config, cp)
    n = batch * tokens
    width = n * c.d_model
    kept = c.num_layers * sum(item.bytes(dtype) for item in block(c, batch, recompute, cp=cp))
    numbers = width * ((c.norm_position == "pre") + (c.positions == "sinusoidal") + 1)  # the head's input
    full = n * c.vocab_size + n * (c.norm_position == "pre")  # the probabilities; each token's 1/deviation
    numbers += n * c.d_embedding * (1 + c.tied)  # the inputs of the projection and of the table
    # tokens and a flag per row; targets: place, value, flag; positions
    places = n * (9 + 17) + 9 * tokens * (c.positions == "learned")
    return int(kept) + numbers * items(dtype)[0] + full * items(dtype)[1] + places


def _tokens(config: Config, cp: int) -> int:
    """The most tokens of a sequence that one of `cp` ranks holds."""
    return -(-config.context // cp)


def workspace(config: Config, batch: int, dtype: str = "float32", cp: int = 1) -> int:
    """About the bytes of the temporary arrays of the operation that needs most.

    The formula is fitted to measurements. The largest is GELU's slope in the backward pass, the gradient of
    the attention weights (or their dropout mask, drawn from 8-byte integers), or the logits' gradient. In a
    ring: two blocks of half a rank's tokens, and keys, values and their gradients, both held and in flight.
    """
    c, tokens, (kept, item) = config, _tokens(config, cp), items(dtype)
    n = batch * tokens
    side, width = tokens if cp == 1 else -(-tokens // 2), n * c.d_model
    scores = batch * c.nhead * side**2 * c.attention
    ring = 0 if cp == 1 else scores + 8 * width
    mask = 16 * scores if c.dropout else 0
    hidden = n * c.d_hidden * (c.top_k_experts if c.experts else 1)
    attention = (scores + 6 * width + ring) * item + mask
    logit = item if kept == item else item + kept  # in float32, and rounded
    slope = hidden * (4 * item + (item - kept))  # in 16 bits, dy is there twice: rounded, and in float32
    largest = max(slope, attention, n * c.vocab_size * logit)
    return largest + 2 * width * item


def memory(job: Job) -> dict[str, int]:
    """The bytes that training needs, part by part.

    The model's state is one rank's under ZeRO (over `dp` times `cp` ranks). Activations are for one part of
    the batch, all replicas together, on one context rank. Tensor and pipeline parallelism are ignored. A
    16-bit weight costs Adam 18 bytes: 2, its gradient 4, master, mean and square 12 (Rajbhandari et al. 2019,
    section 3.1, whose gradients are 16-bit too: 16).

    >>> memory(Job(Config(vocab_size=500), batch=16))["optimizer"]        # two numbers per parameter
    3817472
    """
    config, cut, dtype = job.config, job.layout, job.dtype
    item, wide = items(dtype)
    kept = wide * (len(OPTIMIZERS[job.optimizer].slots) + (np.dtype(dtype) in HALF))  # 16-bit: a master too
    ranks, batch = cut.cp * cut.dp, job.batch // cut.parts
    state = cut.zero, parameters(config), ranks, *at_once(config, cut.zero, ranks), (item, wide, kept)
    return {
        **state_bytes(*state),
        "activations": activations(config, batch, dtype, cut.recompute, cut.cp),
        "recomputed": recomputed(config, batch, dtype, cut.recompute, cut.cp),
        "workspace": workspace(config, batch, dtype, cut.cp),
    }


def at_once(config: Config, zero: int, ranks: int) -> tuple[int, int]:
    """The sizes, in numbers, of ZeRO's largest message and of a tied table: see `zero.state_bytes`."""
    e, block = config.d_embedding, _block(config)
    table = config.vocab_size * (e or config.d_model) + e * config.d_model  # and its projection
    if not zero or ranks == 1:
        return 0, 0
    ends = table + config.context * config.d_model
    return max(block, ends) if zero == 3 else min(BUCKET + table, parameters(config)), table * config.tied


def recomputed(config: Config, batch: int, dtype: str, recompute: str, cp: int = 1) -> int:
    """The extra bytes of one block while the backward pass recomputes it."""
    one, none = (activations(replace(config, num_layers=1), batch, dtype, r, cp) for r in ("none", recompute))
    return one - none


def needs(job: Job) -> int:
    """The bytes that training needs at its peak: the sum of `memory`."""
    return sum(memory(job).values())


def machine_memory(root: Path = Path("/")) -> int | None:
    """The bytes of memory that this process may use: the machine's, or its control group's limit if lower.

    None if the system does not say. `root` is where /proc and /sys are.
    """
    try:
        known = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        known = []
    groups = root / "proc/self/cgroup"
    lines = groups.read_text().splitlines() if groups.is_file() else []
    own = next((line[4:] for line in lines if line.startswith("0::/")), "")
    folder = root / "sys/fs/cgroup" / own
    limits = [up / "memory.max" for up in (folder, *folder.parents)]
    for limit in (*limits, root / "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = limit.read_text().strip() if limit.is_file() else "max"
        known += [int(text)] if text.isdigit() else []
    return min(known, default=None)


def check_fits(job: Job, has: int | None = None) -> None:
    """Raise BadInput if training needs more than `has` bytes (by default, this machine's memory).

    The message says what is needed, what is available, and the nearest fit: fewer sequences at a time, or
    else the largest named shape that fits.

    >>> try:
    ...     check_fits(Job(Config(vocab_size=500, d_model=4096), batch=16), has=8 * 10**9)
    ... except BadInput as told:
    ...     print(str(told).splitlines()[1])
    6.5 GB of it whatever the batch; this machine has 8.0 GB.
    """
    has = machine_memory() if has is None else has
    config, batch = job.config, job.batch // job.layout.parts
    whole, fixed = needs(job), needs(replace(job, batch=0))
    if has is None or whole <= has:
        return
    told = (
        f"{_name(config)} ({_count(parameters(config))} parameters) needs {size(whole)} to train in "
        f"{job.dtype} with {_sequences(batch)} at a time,\n"
        f"{size(fixed)} of it whatever the batch; this machine has {size(has)}.\n"
    )
    if most := _most(job, has):
        raise BadInput(
            f"{told}{_sequences(most)} at a time would fit: `train_batch_size` {most}, "
            f"or `accumulate`, which works through a larger batch in parts."
        )
    shapes = sorted(SHAPES.values(), key=lambda shape: shape["num_layers"] * shape["d_model"] ** 2)
    for shape in reversed(shapes):
        near = Config(**{"vocab_size": config.vocab_size} | shape)
        if most := min(batch, _most(replace(job, config=near), has)):
            need = size(needs(_at_a_time(replace(job, config=near), most)))
            near_is = f"`model_type` {_name(near)}, with {_sequences(most)} at a time ({need})"
            raise BadInput(f"{told}The nearest shape that fits is {near_is}.")
    raise BadInput(f"{told}No named shape fits.")


def _at_a_time(job: Job, sequences: int) -> Job:
    return replace(job, batch=sequences * job.layout.parts)


def _most(job: Job, has: int) -> int:
    """The most sequences at a time that fit: all but the state is proportional to their number."""
    fixed, one = (needs(_at_a_time(job, n)) for n in (0, 1))
    return max(0, (has - fixed) // (one - fixed))


def _name(config: Config) -> str:
    for name, shape in SHAPES.items():
        if all(getattr(config, key) == value for key, value in shape.items() if key != "vocab_size"):
            return name
    return f"a model of {config.num_layers} layers of width {config.d_model}"


def _sequences(count: int) -> str:
    return f"{count} sequence{'s' * (count != 1)}"


def size(count: float, digits: int = 2) -> str:
    """A human-readable number of bytes, in powers of 1000, with `digits` significant digits or more.

    >>> size(8_473_000_000_000), size(25_200_000_000), size(512), size(999_999)
    ('8.5 TB', '25 GB', '512 B', '1.0 MB')
    >>> size(8_473_613_107_000, digits=4), size(123_456, digits=4), size(-2048)
    ('8.474 TB', '123.5 kB', '-2.0 kB')
    """
    return _short(count, ("B", "kB", "MB", "GB", "TB", "PB"), digits)


def _count(count: float) -> str:
    return _short(count, ("", "thousand", "million", "billion", "trillion")).strip()


def _short(count: float, units: tuple[str, ...], digits: int = 2) -> str:
    def text(power: int) -> str:
        value = count / 1000**power
        return f"{value:.{max(digits - len(str(int(abs(value)))), 0) if power else 0}f}"

    powers = range(len(units))
    power = next((p for p in powers if abs(float(text(p))) < 1000), powers[-1])
    return f"{text(power)} {units[power]}"
