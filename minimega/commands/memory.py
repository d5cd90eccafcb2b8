"""`minimega memory`: what a rank holds while it trains: by the papers, by our own formulas, and measured.

The measured figures are what `saved_bytes` finds in the closures of one rank's real forward pass. The other
ranks exist on paper only, so a laptop can show what one rank of many holds.

B batch, T time, D width, H heads, L layers, t ranks of a tensor group, p stages, m micro-batches, v chunks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from types import SimpleNamespace as Options

import numpy as np

from minimega.backend import device
from minimega.commands.options import model_config
from minimega.commands.progress import each
from minimega.costs import Job, activations
from minimega.costs import memory as plan
from minimega.costs.measured import measured_block, measured_stage, measured_state
from minimega.costs.memory import machine_memory, needs
from minimega.model import RECOMPUTE, Config, gpt
from minimega.parallel.data import BUCKET
from minimega.parallel.grid import grid as cut_into
from minimega.parallel.layout import Layout, check_cut
from minimega.parallel.schedules import SCHEDULES
from minimega.parallel.tensor import SequenceParallel, TensorParallel
from minimega.parallel.zero import state_bytes
from minimega.ranks.paper import Paper
from minimega.ranks.streams import say, tell


def run(o: Options) -> int:
    """`minimega memory`: print the tables for the model and layout that the options describe.

    Raises BadInput if this model cannot be cut over that many ranks.
    """
    config = model_config(o, o.vocab_size or 512)
    t, p, batch = max(o.tp, 2), max(o.pp, 2), o.train_batch_size
    check_cut(config, t, 1, ())
    say(
        f"activations of {batch} x {config.context} tokens of width {config.d_model}, {config.nhead} heads, "
        f"d_hidden {config.d_hidden}, in {o.dtype}; of one rank of each group\n"
    )
    n = max(o.dp, 4) if o.dp != "auto" else 4
    took = [
        found for found in (_of_block(config, o), _of_stage(config, o, p), _of_state(config)) if _fits(found)
    ]
    if max(took, default=0) > LARGE:
        tell("measuring takes minutes and gigabytes of memory; a smaller shape or batch takes less")
    for rows, count in (
        (items(config, batch), 0),
        (modes(config, o, t), 1 + 3 * len(RECOMPUTE)),
        (stages(config, o, p), 1 + len(SCHEDULES)),
        (states(config, o, n), 5),
    ):
        say(table(each(rows, "measuring", count or None)), end="\n\n")
    say(NOTES)
    return 0


def _of_block(config: Config, o: Options) -> int:
    return needs(Job(replace(config, num_layers=1), batch=o.train_batch_size, dtype=o.dtype))


def _of_stage(config: Config, o: Options, p: int) -> int:
    return needs(Job(replace(config, num_layers=2 * p), batch=1, dtype=o.dtype)) * p


def _of_state(config: Config) -> int:
    return 24 * gpt(config).count()


def _fits(count: int) -> bool:
    return count < (machine_memory() or np.inf) / 2


LARGE = 1e9  # bytes: a measurement that needs more takes minutes

NOTES = """The formulas differ from the paper in the size of numbers, in dropout masks (none are kept) and as
the first table says. With --sequence-parallel the gathered (whole) inputs of qkv and up are kept, which saves
the paper's third all-gather. "off" comes from dropout's coordinates and, on the first stage, the tokens.
ZeRO: float32, so 4 + 4 + 8 bytes per parameter, not 2 + 2 + 12; plus messages: a bucket twice, in stage 3 the
largest layer's weights too; and a tied table's gradient is kept until its second use."""

Rows = Iterable[Sequence[str]]


def table(rows: Rows) -> str:
    """The rows as text. All columns but the first and the last are right-aligned."""
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            c.ljust(w) if i in (0, len(rows[0]) - 1) else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("   ".join(cells).rstrip())
    return "\n".join(lines)


def items(config: Config, batch: int) -> Rows:
    """What one block keeps, in units of B T D numbers."""
    one = batch * config.context * config.d_model
    found = activations.block(config, batch)
    yield "one block keeps, of B T D numbers", "paper", "here", "why"
    for item in found:
        paper = item.paper_bytes / 2 / one
        yield item.name, f"{paper:.2f}", f"{(item.here + item.full) / one:.2f}", item.why
    total = [sum(item.paper_bytes / 2 for item in found), sum(item.here + item.full for item in found)]
    yield "total", *(f"{n / one:.2f}" for n in total), "paper: 17 + 2.5 H T / D"


def modes(config: Config, o: Options, t: int) -> Rows:
    """The bytes of one block on one rank, by layout and recomputation."""
    batch, xp = o.train_batch_size, device(o.device)
    fits = _fits(_of_block(config, o))
    yield "one block on one rank", "paper, 16 bit", "formula here", "measured", "off"
    for (ranks, sequence), recompute in product(((1, False), (t, False), (t, True)), RECOMPUTE):
        kept = activations.block(config, batch, recompute, ranks, sequence)
        formula = sum(item.bytes(o.dtype) for item in kept)
        shares = (SequenceParallel if sequence else TensorParallel)(Paper(ranks))
        found = measured_block(config, batch, recompute, shares, o.dtype, xp) if fits else None
        name = f"--tp {ranks}" + " --sequence-parallel" * sequence + f" --recompute {recompute}"
        yield name, _size(sum(item.paper_bytes for item in kept)), _size(formula), *_beside(found, formula)


def stages(config: Config, o: Options, p: int) -> Rows:
    """The bytes of the first stage of a pipeline, which holds most, with 2 p micro-batches."""
    v, m, batch, xp = 2, 2 * p, 1, device(o.device)
    fits = _fits(_of_stage(config, o, p))
    config = replace(config, num_layers=v * p)
    one = activations.block(config, batch)
    yield (
        f"first of {p} stages, {v * p} layers, {m} micro-batches of {batch}",
        "paper, 16 bit", "formula here", "measured", "off",
    )  # fmt: skip
    for schedule in SCHEDULES:
        chunks = v if schedule == "interleaved" else 1
        layers = most_held(schedule, p, m, chunks) * v // chunks  # of one micro-batch each
        paper = layers * sum(item.paper_bytes for item in one)
        formula = layers * sum(item.bytes(o.dtype) for item in one)
        cut = Layout(pp=p, micro_batches=m, virtual_stages=chunks, pipeline=schedule)
        found = measured_stage(Job(config, cut, m * batch, o.dtype), xp) if fits else None
        yield f"--pipeline {schedule}", _size(paper), _size(formula), *_beside(found, formula)


def states(config: Config, o: Options, n: int) -> Rows:
    """Parameters, gradients and Adam's state of one of n replicas under ZeRO: see `zero.state_bytes`."""
    count, xp = gpt(config).count(), device(o.device)
    table = config.vocab_size * (config.d_embedding or config.d_model) + config.d_embedding * config.d_model
    papers = 16, 4 + 12 / n, 2 + 14 / n, 16 / n  # bytes per parameter in 16-bit training with Adam, section 5
    fits = _fits(_of_state(config))
    yield f"state on one of {n} replicas, {count:,} parameters", "paper, 16 bit", "here", "measured", "off"
    for stage, paper in enumerate(papers):
        at_once = plan.at_once(config, stage, n)[0]
        found = None
        if fits:
            state = measured_state(
                config, cut_into(Paper(n), Layout(dp=n)), stage, min(BUCKET, count // 8), xp
            )
            found, at_once = sum(state.most.values()), state.at_once
        tied = table * config.tied
        formula = sum(state_bytes(stage, count, n, *((at_once, tied) if stage else ())).values())
        yield f"--zero {stage}", _size(paper * count), _size(formula), *_beside(found, formula)


def most_held(schedule: str, p: int, m: int, v: int) -> int:
    """The most micro-batches (each through one chunk) that the first rank holds at once.

    Narayanan et al. 2021, section 2.2; with v chunks 1 + (p - 1) / (p v) times 1F1B's p (Korthikanti et al.
    2022, section 4.2.3).

    >>> most_held("gpipe", 4, 8, 1), most_held("1f1b", 4, 8, 1), most_held("interleaved", 4, 8, 2)
    (8, 4, 11)
    """
    return m if schedule == "gpipe" else min(p * v + (p - 1 if v > 1 else 0), m * v)


def _size(count: float) -> str:
    return plan.size(count, digits=4)


def _beside(found: int | None, formula: float) -> tuple[str, str]:
    return ("too large to try here", "") if found is None else (_size(found), f"{found / formula - 1:+.1%}")
