"""The messages of one training step by the papers' formulas, row by row as `comm.Counter` measures them.

Each value is (calls, bytes of the arrays). They say what a cut costs before anything runs, and the tests hold
every step to them.

B batch, T time, D width, V vocabulary; N tokens of a micro-batch on one replica; p, v: see schedules.py.
"""

import math
from collections import Counter
from itertools import product

import numpy as np

from minimega.model import Config, gpt
from minimega.parallel.comm import pieces
from minimega.parallel.data import BUCKET
from minimega.parallel.measured import ROUNDS
from minimega.parameter import Parameter

Rows = dict[tuple[str, str, str], tuple[int, int]]  # (group, kind, label): (calls, bytes)


def of_layers(
    config: Config,
    batch: int,
    tp: int = 1,
    dp: int = 1,
    accumulate: int = 1,
    sequence: bool = False,
    recompute: str = "none",
    dtype: str = "float32",
) -> Rows:
    """What the ranks that share out a model send to compute it: messages of N D numbers, four a layer.

    Attention and the MLP have one all-reduce in the forward pass (g) and one in the backward (f): four a
    layer and micro-batch (Shoeybi et al. 2019, section 3). With `recompute="full"` every block runs forward
    once more, with its two g: six.

    With sequence parallelism each all-reduce becomes an all-gather and a reduce-scatter, which together
    put as many bytes on the wire (Korthikanti et al. 2022, section 4.2.2): four of each. They keep only
    the rank's own tokens of a column-cut layer's input, and gather it once more in the backward pass, to
    save memory; here it is kept as it was gathered, so there is no third all-gather.

    Where experts stand in an MLP's place, the router's N E probabilities enter beside their input, and
    ranks with tokens of their own add up two numbers a sequence and expert for the balance loss.

    >>> rows = of_layers(Config(vocab_size=64, num_layers=3), batch=4, tp=2, accumulate=2)
    >>> sum(calls for (_, _, label), (calls, _) in rows.items() if label.startswith("block"))  # 3 x 2 x 4
    24
    """
    tokens, item = batch // (dp * accumulate) * config.context, np.dtype(dtype).itemsize
    rows: Rows = {}

    def enter(label: str, forward: int, width: int = config.d_model) -> None:
        """The way into a pair of cut layers, so often forward."""
        back = "reduce-scatter" if sequence else "all-reduce"
        ways = {back: accumulate} | ({"all-gather": forward} if sequence else {})
        rows.update({("tensor", k, label): (n, n * tokens * width * item) for k, n in ways.items()})

    def leave(label: str, forward: int) -> None:
        """The way out of it."""
        there = "reduce-scatter" if sequence else "all-reduce"
        ways = {there: forward} | ({"all-gather": accumulate} if sequence else {})
        rows.update({("tensor", k, label): (n, n * tokens * config.d_model * item) for k, n in ways.items()})

    branches = {"attention": ("qkv", "out")} if config.attention else {}
    forward = accumulate * (1 + (recompute == "full"))
    for i, (name, ends) in product(range(config.num_layers), {**branches, "mlp": ("up", "down")}.items()):
        enter(f"block{i}.{name}.branch.{ends[0]}", forward)
        leave(f"block{i}.{name}.branch.{ends[1]}", forward)
    for i in range(config.num_layers if config.experts else 0):
        enter(f"block{i}.mlp.branch.router", forward, config.experts)
        if sequence:
            sums = 8 * 2 * config.experts * batch // dp * forward // accumulate
            rows["tensor", "all-reduce", f"block{i}.mlp.branch.balance"] = forward, sums
    enter("head", accumulate)  # the vocabulary is cut at both ends
    leave("embedding", accumulate)
    # of each token the largest logit; then the sum of exponentials and the target's logit
    rows["tensor", "all-reduce", "cross-entropy"] = 2 * accumulate, accumulate * 3 * tokens * item
    return rows if tp > 1 else {}


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
) -> Rows:
    """What the holders of the same parameters send: every gradient once, whatever is accumulated; the loss.

    `rank` is the place among the ranks that share out a model: an uneven vocabulary gives them pieces of
    different sizes. What all of these hold is summed over all ranks under sequence parallelism, and
    over the replicas otherwise; experts over every `ep`-th replica, and `expert_rank` says which ones.

    >>> of_gradients(Config(vocab_size=64), dp=4)
    {('data', 'all-reduce', 'gradients'): (2, 1685504), ('data', 'all-reduce', 'loss'): (1, 8)}
    """
    rows: Rows = {}
    buckets: dict[tuple[str, int, bool], list[int]] = {}  # the numbers in each, of a group; shared ones apart
    for p in reversed(gpt(config).parameters().values()):
        group, ranks, numbers = _held(p, tp, dp, sequence, rank, ep, expert_rank)
        filled = buckets.setdefault((group, ranks, p.axis is None), [0])
        if filled[-1] >= bucket:
            filled.append(0)
        filled[-1] += numbers
    for (group, ranks, _), filled in buckets.items():
        if ranks > 1:
            calls, nbytes = rows.get((group, "all-reduce", "gradients"), (0, 0))
            more = len(filled), sum(filled) * np.dtype(dtype).itemsize
            rows[group, "all-reduce", "gradients"] = calls + more[0], nbytes + more[1]
    return rows | ({("data", "all-reduce", "loss"): (1, 8)} if dp > 1 else {})


def _held(
    p: Parameter, tp: int, dp: int, sequence: bool, rank: int, ep: int, expert_rank: int
) -> tuple[str, int, int]:
    """Who holds a parameter as a rank does: the group, how many they are; and how many numbers each has."""
    shape, expert = list(p.whole_shape), ep > 1 and len(p.whole_shape) == 3
    if p.axis is not None:
        shape[p.axis] = len(range(shape[p.axis])[pieces(shape[p.axis], tp)[rank]])
    if expert:
        shape[0] = len(range(shape[0])[pieces(shape[0], ep)[expert_rank]])
        return "expert copies", dp // ep, math.prod(shape)
    return (("stage", tp * dp) if p.axis is None and sequence else ("data", dp)) + (math.prod(shape),)


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
    cut = tp, dp, sequence, rank, ep, expert_rank
    whole = of_gradients(config, tp, dp, sequence, dtype, rank, bucket, ep, expert_rank)
    rows = {row: sent for row, sent in whole.items() if row[2] != "gradients"}
    if stage < 3:
        for row, (calls, nbytes) in whole.items():
            if row[2] == "gradients":
                parts = accumulate if stage > 1 else 1
                rows[row[0], "reduce-scatter", "gradients"] = calls * parts, nbytes * parts
                rows[row[0], "all-gather", "weights"] = calls, nbytes
        return rows
    model, users = gpt(config), {}
    for layer, inside in model.layers.items():
        for name in inside.parameters():
            users[name] = *users.get(name, ()), layer
    sizes: Counter = Counter()  # by bucket: its group, whether all ranks of a replica hold it, its layers
    for name, p in model.parameters().items():
        group, ranks, numbers = _held(p, *cut)
        sizes[group, ranks, p.axis is None, users[name]] += numbers * np.dtype(dtype).itemsize
    times = dict.fromkeys(("embedding", "head"), accumulate)
    sent = [
        row
        for (group, ranks, _, layers), size in sizes.items()
        for row in [(group, "reduce-scatter", "gradients", size)] * accumulate
        + [(group, "all-gather", "weights", size)] * sum(times.get(n, 2 * accumulate) for n in layers)
        if ranks > 1
    ]
    for *row, size in sent:
        calls, nbytes = rows.get(tuple(row), (0, 0))
        rows[tuple(row)] = calls + 1, nbytes + size
    return rows


def of_experts(
    config: Config, routed: list[list[tuple[int, int]]], dtype: str = "float32", recompute: str = "none"
) -> Rows:
    """What a rank that shares out experts sends for their rows: five messages a layer and micro-batch.

    `routed` says by layer, for each micro-batch, how many rows of its tokens the rank sent (N k: those to
    itself count, but not on the wire) and how many came for its experts, which the router decides. Forward
    the counts travel, the rows there and the answers back, backward the gradients there and back; a block
    that is computed again runs forward once more.

    >>> of_experts(Config(vocab_size=64, num_layers=1, experts=4), [[(10, 12)]])
    {('experts', 'all-to-all', 'block0.mlp.branch'): (5, 22560)}
    """
    forward, found = 1 + (recompute == "full"), {}
    for i, micro_batches in enumerate(routed):
        moved = sum(sent + came for sent, came in micro_batches) * config.d_model * np.dtype(dtype).itemsize
        calls, counts = len(micro_batches), len(micro_batches) * 8 * config.experts
        total = calls * (3 * forward + 2), forward * (moved + counts) + moved
        found["experts", "all-to-all", f"block{i}.mlp.branch"] = total
    return found


def of_pipeline(
    config: Config,
    rows: int,
    p: int,
    r: int,
    m: int = 1,
    v: int = 1,
    tokens: int | None = None,
    item: int = 4,
) -> Rows:
    """What rank r of p stages sends in one step: an activation and a gradient a micro-batch and neighbour.

    `rows` sequences of this replica pass in m micro-batches (all parts of an accumulated step counted), of
    which the rank holds `tokens` each (all of the context by default). Every schedule sends the same; v
    chunks a rank send v times as much (Narayanan et al. 2021, section 2.2.2). The last stage has nobody to
    send an activation to, the first none for a gradient.

    >>> of_pipeline(Config(vocab_size=64, num_layers=4), rows=8, p=2, r=0, m=4)["pipeline", "send", "x"]
    (4, 524288)
    """
    tokens = config.context if tokens is None else tokens
    ways = {"x": v - (r == p - 1), "dx": v - (r == 0)}
    found = {
        ("pipeline", "send", what): (m * times, rows * times * tokens * config.d_model * item)
        for what, times in ways.items()
        if times
    }
    return found | {("pipeline", "all-reduce", "loss"): (1, 8)} if p > 1 else {}


def of_norm(ranks: int) -> Rows:
    """The gradient's norm, over all ranks: one number."""
    return {("world", "all-reduce", "norm"): (1, 8)} if ranks > 1 else {}


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
