"""What the ranks that share out a model send to compute it: again for each micro-batch.

B batch, T time, D width, V vocabulary; N tokens of a micro-batch on one replica; p, v: see schedules.py.
"""

from itertools import product

from minimega.costs.activations import items
from minimega.costs.messages.steps import Rows
from minimega.model import Config
from minimega.parallel.context import halves


def of_layers(
    config: Config,
    batch: int,
    tp: int = 1,
    dp: int = 1,
    accumulate: int = 1,
    sequence: bool = False,
    recompute: str = "none",
    dtype: str = "float32",
    held: int | None = None,
) -> Rows:
    """What the ranks that share out a model send to compute it: messages of N D numbers, four a layer.

    Attention and the MLP have one all-reduce in the forward pass (g) and one in the backward (f): four a
    layer and micro-batch (Shoeybi et al. 2019, section 3). With `recompute="full"` every block runs forward
    once more, with its two g: six. `held` tokens of each sequence are this group's (by default all).

    With sequence parallelism each all-reduce becomes an all-gather and a reduce-scatter, which together
    put as many bytes on the wire (Korthikanti et al. 2022, section 4.2.2): four of each. They keep only
    the rank's own tokens of a column-cut layer's input, and gather it once more in the backward pass, to
    save memory; here it is kept as it was gathered, so there is no third all-gather.

    16-bit numbers are moved as they are, and added up in float32: they travel to a sum as 4 bytes.

    Where experts stand in an MLP's place, the router's N E probabilities enter beside their input, and
    ranks with tokens of their own add up two numbers a sequence and expert for the balance loss.

    >>> rows = of_layers(Config(vocab_size=64, num_layers=3), batch=4, tp=2, accumulate=2)
    >>> sum(calls for (_, _, label), (calls, _) in rows.items() if label.startswith("block"))  # 3 x 2 x 4
    24
    """
    tokens = batch // (dp * accumulate) * (config.context if held is None else held)
    (moved, added), rows = items(dtype), {}

    def add(label: str, width: int, ways: dict[str, int]) -> None:
        for kind, calls in ways.items():
            item = moved if kind == "all-gather" else added
            rows["tensor", kind, label] = calls, calls * tokens * width * item

    def enter(label: str, forward: int, width: int = config.d_model) -> None:
        """The way into a pair of cut layers, so often forward."""
        back = "reduce-scatter" if sequence else "all-reduce"
        add(label, width, {back: accumulate} | ({"all-gather": forward} if sequence else {}))

    def leave(label: str, forward: int) -> None:
        """The way out of it."""
        there = "reduce-scatter" if sequence else "all-reduce"
        add(label, config.d_model, {there: forward} | ({"all-gather": accumulate} if sequence else {}))

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
    rows["tensor", "all-reduce", "cross-entropy"] = 2 * accumulate, accumulate * 3 * tokens * added
    return rows if tp > 1 else {}


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
        moved = sum(sent + came for sent, came in micro_batches) * config.d_model * items(dtype)[0]
        calls, counts = len(micro_batches), len(micro_batches) * 8 * config.experts
        total = calls * (3 * forward + 2), forward * (moved + counts) + moved
        found["experts", "all-to-all", f"block{i}.mlp.branch"] = total
    return found


def of_context(
    config: Config,
    rows: int,
    cp: int,
    c: int,
    m: int = 1,
    tp: int = 1,
    recompute: str = "none",
    dtype: str = "float32",
) -> Rows:
    """What rank c of `cp` sends around the ring in one step, where `rows` sequences pass in m micro-batches.

    In every layer the keys and values go around once forward and once backward, in cp - 1 sends each: nobody
    waits for them at home. Their gradients go with them, and home: cp sends (Liu et al. 2023, section 3).
    Attention that is computed again (selective or full) sends its keys and values once more.

    >>> rows = of_context(Config(vocab_size=64, num_layers=1), rows=1, cp=4, c=0)
    >>> rows["context", "send", "kv"]                # 2 x 3 sends of keys and values of 32 x 128 numbers each
    (6, 196608)
    """
    if cp == 1 or not config.attention:
        return {}
    next_has = sum(half.stop - half.start for half in halves(config.context, cp)[(c + 1) % cp])
    moved, added = (2 * rows * config.d_model // tp * item for item in items(dtype))  # bytes of one place's
    times, layers = 2 + (recompute != "none"), config.num_layers
    return {
        ("context", "send", "kv"): (
            layers * m * times * (cp - 1),
            layers * times * moved * (config.context - next_has),
        ),
        ("context", "send", "dkv"): (layers * m * cp, layers * added * config.context),
    }


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
