"""What ranks send once a step, or at a checkpoint: gradients, weights, the norm, what is agreed on."""

import math
from collections import Counter
from typing import NamedTuple

from minimega.costs.activations import items
from minimega.costs.stopwatch import ROUNDS
from minimega.model import Config, gpt
from minimega.parallel.data import BUCKET
from minimega.parameter import Parameter
from minimega.ranks.group import pieces

Rows = dict[tuple[str, str, str], tuple[int, int]]  # (group, kind, label): (calls, bytes)


class Layout(NamedTuple):
    """How a model is cut, as one of its ranks sees it.

    `rank` is the place among the `tp` ranks that share out a layer, `expert_rank` among the `ep` that share
    out the experts: an uneven vocabulary, or number of experts, gives them pieces of different sizes.
    """

    tp: int = 1
    dp: int = 1
    sequence: bool = False
    rank: int = 0
    cp: int = 1
    ep: int = 1
    expert_rank: int = 0

    @property
    def copies(self) -> tuple[str, int]:
        """The group of the ranks that hold the same as this one, and how many they are."""
        return "data" if self.cp == 1 else "copies", self.cp * self.dp

    def holders(self, p: Parameter) -> tuple[str, int, int]:
        """Who holds a parameter as this rank does: the group, how many they are; and numbers on each."""
        shape = list(p.whole_shape)
        if p.axis is not None:
            shape[p.axis] = len(range(shape[p.axis])[pieces(shape[p.axis], self.tp)[self.rank]])
        if self.ep > 1 and len(shape) == 3:  # of the experts, which every ep-th replica holds
            shape[0] = len(range(shape[0])[pieces(shape[0], self.ep)[self.expert_rank]])
            return "expert copies", self.cp * self.dp // self.ep, math.prod(shape)
        # under sequence parallelism each rank of a pair has a part of the gradient of what all of them hold
        partial = p.axis is None and self.sequence
        return *(("stage", self.tp * self.cp * self.dp) if partial else self.copies), math.prod(shape)


def of_gradients(config: Config, layout: Layout, dtype: str = "float32", bucket: int = BUCKET) -> Rows:
    """What the holders of the same parameters send: every gradient once, whatever is accumulated; the loss.

    The gradients of 16-bit weights are float32.

    >>> of_gradients(Config(vocab_size=64), Layout(dp=4))
    {('data', 'all-reduce', 'gradients'): (2, 1685504), ('data', 'all-reduce', 'loss'): (1, 8)}
    """
    rows: Rows = {}
    buckets: dict[tuple[str, int, bool], list[int]] = {}  # the numbers in each, of a group; shared ones apart
    for p in reversed(gpt(config).parameters().values()):
        group, ranks, numbers = layout.holders(p)
        filled = buckets.setdefault((group, ranks, p.axis is None), [0])
        if filled[-1] >= bucket:
            filled.append(0)
        filled[-1] += numbers
    for (group, ranks, _), filled in buckets.items():
        if ranks > 1:
            calls, nbytes = rows.get((group, "all-reduce", "gradients"), (0, 0))
            more = len(filled), sum(filled) * items(dtype)[1]
            rows[group, "all-reduce", "gradients"] = calls + more[0], nbytes + more[1]
    name, ranks = layout.copies
    return rows | ({(name, "all-reduce", "loss"): (1, 8)} if ranks > 1 else {})


def of_zero(
    stage: int,
    config: Config,
    layout: Layout,
    dtype: str = "float32",
    bucket: int = BUCKET,
    accumulate: int = 1,
) -> Rows:
    """`of_gradients` under ZeRO (Rajbhandari et al. 2019, section 7), of the same arguments.

    In place of an all-reduce come its two halves: a reduce-scatter of the gradients, an all-gather of the new
    weights. Stages 2 and 3 add up the gradients of each accumulated part. Stage 3 has a bucket for the
    parameters that the same layers use, and gathers them before each forward and each backward pass of such a
    layer; but the head's are still there when it goes backward, and the embedding needs none for that.

    >>> of_zero(1, Config(vocab_size=64), Layout(dp=4))["data", "all-gather", "weights"]
    (2, 1685504)
    """
    (moved, added), whole = items(dtype), of_gradients(config, layout, dtype, bucket)
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
        group, ranks, numbers = layout.holders(p)
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
