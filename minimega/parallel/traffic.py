"""The messages of one training step by the papers' formulas, row by row as `comm.Counter` measures them.

Each value is (calls, bytes of the arrays). They say what a cut costs before anything runs, and the tests hold
every step to them.

B batch, T time, D width, V vocabulary; N tokens of a micro-batch on one replica; p, v: see schedules.py.
"""

from collections import Counter
from itertools import product

import numpy as np

from minimega.model import Config, gpt
from minimega.parallel.comm import pieces
from minimega.parallel.data import BUCKET
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

    >>> rows = of_layers(Config(vocab_size=64, num_layers=3), batch=4, tp=2, accumulate=2)
    >>> sum(calls for (_, _, label), (calls, _) in rows.items() if label.startswith("block"))  # 3 x 2 x 4
    24
    """
    tokens, item = batch // (dp * accumulate) * config.context, np.dtype(dtype).itemsize
    rows: Rows = {}

    def pair(into: str, out_of: str, forward: int, backward: int = accumulate) -> None:
        """The way into a pair of cut layers and the way out, so many times forward and back."""
        ways = [("all-reduce", into, backward), ("all-reduce", out_of, forward)]
        if sequence:
            ways = [("all-gather", into, forward), ("reduce-scatter", into, backward)]
            ways += [("reduce-scatter", out_of, forward), ("all-gather", out_of, backward)]
        rows.update(
            {("tensor", k, n): (calls, calls * tokens * config.d_model * item) for k, n, calls in ways}
        )

    branches = {"attention": ("qkv", "out")} if config.attention else {}
    for i, (name, ends) in product(range(config.num_layers), {**branches, "mlp": ("up", "down")}.items()):
        pair(
            *(f"block{i}.{name}.branch.{end}" for end in ends),
            forward=accumulate * (1 + (recompute == "full")),
        )
    pair("head", "embedding", forward=accumulate)  # the vocabulary is cut at both ends
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
) -> Rows:
    """What the holders of the same parameters send: every gradient once, whatever is accumulated; the loss.

    `rank` is the place among the ranks that share out a model: an uneven vocabulary gives them pieces of
    different sizes. What all of these hold is summed over all ranks under sequence parallelism, and
    over the replicas otherwise.

    >>> of_gradients(Config(vocab_size=64), dp=4)
    {('data', 'all-reduce', 'gradients'): (2, 1685504), ('data', 'all-reduce', 'loss'): (1, 8)}
    """
    rows: Rows = {}
    filled: dict[str, list[int]] = {}  # by group, the numbers in each bucket
    for shared in (True, False):  # held by all ranks of a replica, or cut over them
        buckets = []
        for p in reversed(gpt(config).parameters().values()):
            if (p.axis is None) == shared:
                if not buckets or buckets[-1] >= bucket:
                    buckets.append(0)
                buckets[-1] += _held(p, tp, rank)
        filled.setdefault("stage" if shared and sequence else "data", []).extend(buckets)
    for group, buckets in filled.items():
        if (tp * dp if group == "stage" else dp) > 1:
            rows[group, "all-reduce", "gradients"] = len(buckets), sum(buckets) * np.dtype(dtype).itemsize
    return rows | ({("data", "all-reduce", "loss"): (1, 8)} if dp > 1 else {})


def _held(p: Parameter, tp: int, rank: int) -> int:
    """The numbers of a parameter on one of the ranks that share out a model."""
    if p.axis is None:
        return p.size
    whole = p.whole_shape[p.axis]
    return p.size // whole * len(range(whole)[pieces(whole, tp)[rank]])


def of_zero(stage: int, config: Config, accumulate: int = 1, bucket: int = BUCKET, **cut) -> Rows:
    """`of_gradients` under ZeRO (Rajbhandari et al. 2020, section 7); `cut` are its other arguments.

    In place of an all-reduce come its two halves: a reduce-scatter of the gradients, an all-gather of the new
    weights. Stages 2 and 3 add up the gradients of each accumulated part. Stage 3 has a bucket for the
    parameters that the same layers use, and gathers them before each forward and each backward pass of such a
    layer; but the head's are still there when it goes backward, and the embedding needs none for that.

    >>> of_zero(1, Config(vocab_size=64), dp=4)["data", "all-gather", "weights"]
    (2, 1685504)
    """
    if stage < 3:
        rows = of_gradients(config, bucket=bucket, **cut)
        for row in [row for row in rows if row[2] == "gradients"]:
            calls, nbytes = rows.pop(row)
            parts = accumulate if stage > 1 else 1
            rows[row[0], "reduce-scatter", "gradients"] = calls * parts, nbytes * parts
            rows[row[0], "all-gather", "weights"] = calls, nbytes
        return rows
    rows = of_gradients(config, bucket=1 << 62, **cut)
    model, users = gpt(config), {}
    for layer, parameters in ((name, layer.parameters()) for name, layer in model.layers.items()):
        for name in parameters:
            users[name] = *users.get(name, ()), layer
    sizes: Counter = Counter()  # by bucket: whether all ranks of a replica hold it, and the layers
    for name, p in model.parameters().items():
        sizes[p.axis is None, users[name]] += _held(p, cut.get("tp", 1), cut.get("rank", 0))
    times = dict.fromkeys(("embedding", "head"), accumulate)
    item = np.dtype(cut.get("dtype", "float32")).itemsize
    sent: dict[tuple, list[int]] = {}
    for (shared, layers), size in sizes.items():
        group = "stage" if shared and cut.get("sequence") else "data"
        if (group, "all-reduce", "gradients") in rows:
            gathers = sum(times.get(layer, 2 * accumulate) for layer in layers)
            sent.setdefault((group, "reduce-scatter", "gradients"), []).extend([size * item] * accumulate)
            sent.setdefault((group, "all-gather", "weights"), []).extend([size * item] * gathers)
    kept = {row: t for row, t in rows.items() if row[2] != "gradients"}
    return kept | {row: (len(calls), sum(calls)) for row, calls in sent.items()}


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
