"""The memory that training needs on each rank, what this machine has, and the nearest that fits.

B batch, T time, D width, F hidden width, H heads, V vocabulary; N = B T tokens, N/cp of them on a context
rank.
"""

import os
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from minimega.costs import Job
from minimega.costs.activations import block, items
from minimega.costs.activations import kept as activations_of
from minimega.costs.part import Part, part
from minimega.costs.rank import held
from minimega.errors import BadInput
from minimega.model import RECOMPUTE, SHAPES, Config, gpt
from minimega.parallel.data import BUCKET
from minimega.parallel.layout import Layout


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


def workspace(own: Part) -> int:
    """About the bytes of the temporary arrays of the operation of a rank that needs most.

    The formula is fitted to measurements. The largest is GELU's slope in the backward pass, the gradient of
    the attention weights (or their dropout mask, drawn from 8-byte integers), or the logits' gradient. In a
    ring: two blocks of half a rank's tokens, and keys, values and their gradients, both held and in flight.
    """
    c, piece, (kept, item) = own.job.config, own.piece, items(own.job.dtype)
    n, ring = piece.n, own.job.layout.cp > 1
    side, width = -(-piece.tokens // 2) if ring else piece.tokens, n * c.d_model
    scores = piece.batch * piece.heads * side**2 * c.attention
    moved = scores + 8 * width if ring else 0
    mask = 16 * scores if c.dropout else 0
    hidden = n * piece.hidden * (c.top_k_experts if c.experts else 1)
    attention = (scores + 6 * width + moved) * item + mask
    logit = item if kept == item else item + kept  # in float32, and rounded
    slope = hidden * (4 * item + (item - kept))  # in 16 bits, dy is there twice: rounded, and in float32
    logits = n * piece.vocabulary * logit if "head" in own.model.layers else 0
    adding = 0  # to a gradient: its part and the sum, while other micro-batches are held
    if own.job.layout.pp > 1:
        adding = 2 * item * max(p.local_size for p in own.model.parameters().values()) + 4 * width * item
    return int(max(slope, attention, logits) + 2 * width * item + adding)


def memory(job: Job, rank: int = 0) -> dict[str, int]:
    """The bytes that one rank needs for training, part by part: `rank.held`, and what comes and goes.

    A 16-bit weight costs Adam 18 bytes: 2, its gradient 4, master, mean and square 12 (Rajbhandari et al.
    2019, section 3.1, whose gradients are 16-bit too: 16).

    >>> memory(Job(Config(vocab_size=500), batch=16))["optimizer"]        # two numbers per parameter
    3817472
    """
    own, cut = part(job, rank), job.layout
    none, kept = (
        sum(item.bytes(job.dtype) for item in activations_of(job.config, own.piece, r))
        for r in ("none", cut.recompute)
    )  # one block while the backward pass recomputes it
    return held(job, rank) | {"recomputed": int(none - kept), "workspace": workspace(own)}


MANY = (
    8  # pipeline ranks above which only some are computed: each holds a micro-batch less than the one before
)
DEEP = 300  # layers above which the need is computed from two shallower models: it is a straight line


def needs_by_rank(job: Job) -> list[int]:
    """The bytes that each rank needs at its peak; those of one pipeline stage need the same.

    >>> four = needs_by_rank(Job(Config(vocab_size=500, num_layers=4), Layout(tp=2, pp=2), batch=4))
    >>> four[0] == four[1] > four[2] == four[3]                # the first stage holds two micro-batches
    True
    """
    cut, layers = job.layout, job.config.num_layers
    if layers > max(DEEP, 4 * cut.stages):
        few, more = (layers % cut.stages + n * cut.stages for n in (1, 2))
        some, all_of = (
            needs_by_rank(replace(job, config=replace(job.config, num_layers=n))) for n in (few, more)
        )
        times = (layers - few) // (more - few)
        return [a + times * (b - a) for a, b in zip(some, all_of, strict=True)]
    ranks = cut.tp * cut.cp * cut.dp  # of a stage
    marks = sorted({0, 1, cut.pp // 2, cut.pp - 2, cut.pp - 1} if cut.pp > MANY else range(cut.pp))
    found = [sum(memory(job, r * ranks).values()) for r in marks]  # between them, a straight line
    return [int(n) for n in np.interp(range(cut.pp), marks, found) for _ in range(ranks)]


def at_once(config: Config, zero: int, ranks: int) -> tuple[int, int]:
    """The sizes, in numbers, of ZeRO's largest message and of a tied table: see `zero.state_bytes`."""
    e, block = config.d_embedding, _block(config)
    table = config.vocab_size * (e or config.d_model) + e * config.d_model  # and its projection
    if not zero or ranks == 1:
        return 0, 0
    ends = table + config.context * config.d_model
    return max(block, ends) if zero == 3 else min(BUCKET + table, parameters(config)), table * config.tied


def needs(job: Job, here: int = 1) -> int:
    """The bytes that the `here` ranks with the largest need have at their peak, together."""
    return sum(sorted(needs_by_rank(job))[-here:])


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


def check_fits(job: Job, has: int | None = None, here: int = 1) -> None:
    """Raise BadInput if `here` ranks of a job need more than `has` bytes (by default, this machine's memory).

    The message says what is needed, what is available, and the nearest fit: fewer sequences at a time, or
    else another way to train the same model on as many ranks, or else the largest named shape that fits.

    >>> try:
    ...     check_fits(Job(Config(vocab_size=500, d_model=4096), batch=16), has=8 * 10**9)
    ... except BadInput as told:
    ...     print(str(told).splitlines()[1])
    6.5 GB of it whatever the batch; this machine has 8.0 GB.
    """
    has = machine_memory() if has is None else has
    config, batch, here = job.config, job.micro_batch, min(here, job.layout.ranks)
    whole = needs(job, here)
    if has is None or whole <= has:
        return
    over = (
        f" on {here} ranks ({job.layout})" if here > 1 else f" a rank ({job.layout})" * (job.layout.ranks > 1)
    )
    fixed, replicas = needs(replace(job, batch=0), here), job.layout.dp * job.layout.parts
    told = (
        f"{_name(config)} ({_count(parameters(config))} parameters) needs {size(whole)}{over} to train in "
        f"{job.dtype} with {_sequences(batch)} at a time,\n"
        f"{size(fixed)} of it whatever the batch; this machine has {size(has)}.\n"
    )
    if most := _most(job, has, here):
        raise BadInput(
            f"{told}{_sequences(most)} at a time would fit: `train_batch_size` {most * replicas}, "
            f"or `accumulate`, which works through a larger batch in parts."
        )
    for way in ways(job.layout):
        if not _refused(way, job) and needs(replace(job, layout=way), here) <= has:
            raise BadInput(f"{told}It would fit with {changes(job.layout, way)}.")
    shapes = sorted(SHAPES.values(), key=lambda shape: shape["num_layers"] * shape["d_model"] ** 2)
    for shape in reversed(shapes):
        near = replace(job, config=Config(**{"vocab_size": config.vocab_size} | shape))
        if not _refused(near.layout, near) and (most := min(batch, _most(near, has, here))):
            need = size(needs(_at_a_time(near, most), here))
            near_is = f"`model_type` {_name(near.config)}, with {_sequences(most)} at a time ({need})"
            raise BadInput(f"{told}The nearest shape that fits is {near_is}.")
    raise BadInput(f"{told}No named shape fits.")


def ways(cut: Layout) -> list[Layout]:
    """Other ways to train over the same ranks that hold less: the fewest changes first."""
    zeros = [z for z in range(cut.zero, 4) if z == cut.zero or cut.dp * cut.cp > 1]
    recompute = RECOMPUTE[RECOMPUTE.index(cut.recompute) :]
    sequence = [cut.sequence] if cut.sequence or cut.tp == 1 else [False, True]
    found = [replace(cut, recompute=r, zero=z, sequence=s) for r, z, s in product(recompute, zeros, sequence)]
    return sorted(found[1:], key=lambda way: changes(cut, way).count("`"))


def changes(cut: Layout, way: Layout) -> str:
    """What differs in another way, as fields with their values."""
    names = {"recompute": "recompute", "zero": "zero", "sequence": "sequence_parallel"}
    new = {name: getattr(way, key) for key, name in names.items() if getattr(cut, key) != getattr(way, key)}
    return " and ".join(
        f"`{name}`" + (f" {value}" if value is not True else "") for name, value in new.items()
    )


def _refused(cut: Layout, job: Job) -> bool:
    try:
        cut.check(job.config, dtype=job.dtype)
    except BadInput:
        return True
    return False


def _at_a_time(job: Job, sequences: int) -> Job:
    return replace(job, batch=sequences * job.layout.dp * job.layout.parts)


def _most(job: Job, has: int, here: int = 1) -> int:
    """The most sequences at a time that fit: all but the state is proportional to their number."""
    fixed, one = (needs(_at_a_time(job, n), here) for n in (0, 1))
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
