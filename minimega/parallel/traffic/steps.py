"""What ranks send once a step, or at a checkpoint: gradients, weights, the norm, what is agreed on."""

import math
from collections import Counter

from minimega.activations import items
from minimega.model import Config, gpt
from minimega.parallel.comm import pieces
from minimega.parallel.data import BUCKET
from minimega.parallel.measured import ROUNDS
from minimega.parameter import Parameter

Rows = dict[tuple[str, str, str], tuple[int, int]]  # (group, kind, label): (calls, bytes)


def of_gradients(
    config: Config,
    tp: int = 1,
    dp: int = 1,
    sequence: bool = False,
    dtype: str = "float32",
    rank: int = 0,
    bucket: int = BUCKET,
    ep: int = 1,
    expert_rank: int = 0,
    cp: int = 1,
) -> Rows:
    """What the holders of the same parameters send: every gradient once, whatever is accumulated; the loss.

    `rank` is the place among the ranks that share out a model: an uneven vocabulary gives them pieces of
    different sizes. What all of these hold is summed over all ranks under sequence parallelism, and
    over the replicas otherwise, in each of which `cp` ranks hold copies; experts over every `ep`-th replica,
    and `expert_rank` says which ones. The gradients of 16-bit weights are float32.

    >>> of_gradients(Config(vocab_size=64), dp=4)
    {('data', 'all-reduce', 'gradients'): (2, 1685504), ('data', 'all-reduce', 'loss'): (1, 8)}
    """
    rows: Rows = {}
    buckets: dict[tuple[str, int, bool], list[int]] = {}  # the numbers in each, of a group; shared ones apart
    for p in reversed(gpt(config).parameters().values()):
        group, ranks, numbers = _held(p, tp, dp, sequence, rank, ep, expert_rank, cp)
        filled = buckets.setdefault((group, ranks, p.axis is None), [0])
        if filled[-1] >= bucket:
            filled.append(0)
        filled[-1] += numbers
    for (group, ranks, _), filled in buckets.items():
        if ranks > 1:
            calls, nbytes = rows.get((group, "all-reduce", "gradients"), (0, 0))
            more = len(filled), sum(filled) * items(dtype)[1]
            rows[group, "all-reduce", "gradients"] = calls + more[0], nbytes + more[1]
    name = "data" if cp == 1 else "copies"
    return rows | ({(name, "all-reduce", "loss"): (1, 8)} if cp * dp > 1 else {})


def _held(
    p: Parameter, tp: int, dp: int, sequence: bool, rank: int, ep: int, expert_rank: int, cp: int
) -> tuple[str, int, int]:
    """Who holds a parameter as a rank does: the group, how many they are; and how many numbers each has."""
    shape, expert = list(p.whole_shape), ep > 1 and len(p.whole_shape) == 3
    if p.axis is not None:
        shape[p.axis] = len(range(shape[p.axis])[pieces(shape[p.axis], tp)[rank]])
    if expert:
        shape[0] = len(range(shape[0])[pieces(shape[0], ep)[expert_rank]])
        return "expert copies", cp * dp // ep, math.prod(shape)
    copies = ("data" if cp == 1 else "copies", cp * dp)
    return (("stage", tp * cp * dp) if p.axis is None and sequence else copies) + (math.prod(shape),)


def of_zero(
    stage: int,
    config: Config,
    tp: int = 1,
    dp: int = 1,
    sequence: bool = False,
    dtype: str = "float32",
    rank: int = 0,
    bucket: int = BUCKET,
    ep: int = 1,
    expert_rank: int = 0,
    cp: int = 1,
    accumulate: int = 1,
) -> Rows:
    """`of_gradients` under ZeRO (Rajbhandari et al. 2020, section 7), of the same arguments.

    In place of an all-reduce come its two halves: a reduce-scatter of the gradients, an all-gather of the new
    weights. Stages 2 and 3 add up the gradients of each accumulated part. Stage 3 has a bucket for the
    parameters that the same layers use, and gathers them before each forward and each backward pass of such a
    layer; but the head's are still there when it goes backward, and the embedding needs none for that.

    >>> of_zero(1, Config(vocab_size=64), dp=4)["data", "all-gather", "weights"]
    (2, 1685504)
    """
    cut, (moved, added) = (tp, dp, sequence, rank, ep, expert_rank, cp), items(dtype)
    whole = of_gradients(config, tp, dp, sequence, dtype, rank, bucket, ep, expert_rank, cp)
    rows = {row: sent for row, sent in whole.items() if row[2] != "gradients"}
    if stage < 3:
        for row, (calls, nbytes) in whole.items():
            if row[2] == "gradients":
                parts = accumulate if stage > 1 else 1
                rows[row[0], "reduce-scatter", "gradients"] = calls * parts, nbytes * parts
                rows[row[0], "all-gather", "weights"] = calls, nbytes * moved // added
        return rows
    model, users = gpt(config), {}
    for layer, inside in model.layers.items():
        for name in inside.parameters():
            users[name] = *users.get(name, ()), layer
    sizes: Counter = Counter()  # by bucket: its group, whether all ranks of a replica hold it, its layers
    for name, p in model.parameters().items():
        group, ranks, numbers = _held(p, *cut)
        sizes[group, ranks, p.axis is None, users[name]] += numbers
    times = dict.fromkeys(("embedding", "head"), accumulate)
    sent = [
        row
        for (group, ranks, _, layers), size in sizes.items()
        for row in [(group, "reduce-scatter", "gradients", size * added)] * accumulate
        + [(group, "all-gather", "weights", size * moved)] * sum(times.get(n, 2 * accumulate) for n in layers)
        if ranks > 1
    ]
    for *row, size in sent:
        calls, nbytes = rows.get(tuple(row), (0, 0))
        rows[tuple(row)] = calls + 1, nbytes + size
    return rows


def of_norm(ranks: int) -> Rows:
    """The gradient's norm, over all ranks: one number."""
    return {("world", "all-reduce", "norm"): (1, 8)} if ranks > 1 else {}


def of_checkpoint(ranks: int, weights: int, slots: int) -> Rows:
    """What ranks tell each other when each writes its part: a key of 8 bytes for each array, never an array.

    `weights` and `slots` are the most arrays that a rank has of either kind. Three times they agree that
    nobody failed: when the folder is there, when the parts are written, and when it was renamed.

    >>> of_checkpoint(4, weights=30, slots=60)["world", "all-gather", "checkpoint"]
    (2, 2880)
    """
    rows = {
        ("world", "all-reduce", "checkpoint"): (2, 2 * 8),
        ("world", "all-gather", "checkpoint"): (2, ranks * (weights + slots) * 8),
        ("world", "all-reduce", "message"): (3, 3 * 8),
    }
    return rows if ranks > 1 else {}


def of_stopwatch(p: int, r: int, events: int) -> Rows:
    """What measuring one step adds on rank r: questions about the time, answers, a table of what was done.

    `events` is the number of the rank that has the most; each is eight numbers of eight bytes.

    >>> of_stopwatch(p=2, r=1, events=10)["pipeline", "all-gather", "events"]
    (1, 1280)
    """
    asked = ROUNDS * (1 if r else p - 1)
    return {
        ("pipeline", "send", "clock"): (asked, 8 * asked),
        ("pipeline", "all-reduce", "clock"): (1, 8),
        ("pipeline", "all-reduce", "events"): (1, 8),
        ("pipeline", "all-gather", "events"): (1, p * events * 8 * 8),
    }
