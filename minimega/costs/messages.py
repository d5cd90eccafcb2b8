"""The messages of one training step by the papers' formulas, row by row as `ranks.counter` measures them.

Each value is (calls, bytes of the arrays). They say what a layout costs before anything runs, and the tests
compare every step with them. `rank` is the rank that sends, of all ranks of the layout.

B batch, T time, D width, V vocabulary; N tokens of a micro-batch on one replica; p, v: see schedules.py.
"""

from collections import Counter
from typing import Any

from minimega.costs import Job
from minimega.costs.activations import items
from minimega.costs.part import part
from minimega.costs.stopwatch import ROUNDS
from minimega.parallel.context import halves
from minimega.parallel.data import BUCKET

Rows = dict[tuple[str, str, str], tuple[Any, Any]]  # (group, kind, label): (calls, bytes)


def of_step(
    job: Job, rank: int = 0, routed: dict[str, list[tuple[int, int]]] | None = None, bucket: int = BUCKET
) -> Rows:
    """All that a rank sends in one training step; `routed` as for `of_experts`.

    >>> from minimega.costs import Config, Layout
    >>> for row, sent in of_step(Job(Config(vocab_size=64), Layout(pp=2), batch=2), rank=1).items():
    ...     print(*row, *sent)
    pipeline send dx 2 131072
    pipeline all-reduce loss 1 8
    ends all-reduce gradients 1 32768
    world all-reduce norm 1 8
    """
    rows = of_layers(job, rank) | of_context(job, rank) | of_pipeline(job, rank)
    rows |= (of_zero if job.layout.zero else of_gradients)(job, rank, bucket)
    rows |= of_experts(job, routed or {}) if job.layout.ep > 1 else {}
    return rows | of_norm(job.layout.ranks)


def of_layers(job: Job, rank: int = 0) -> Rows:
    """What the ranks of a tensor group send to compute a model: messages of N D numbers, four per layer.

    Attention and the MLP have one all-reduce in the forward pass (g) and one in the backward (f): four per
    layer and micro-batch (Shoeybi et al. 2019, section 3). With full recomputation every block runs forward
    once more, with its two g: six.

    With sequence parallelism each all-reduce becomes an all-gather and a reduce-scatter, which together
    put as many bytes on the wire (Korthikanti et al. 2022, section 4.2.2): four of each. The paper keeps only
    the rank's own tokens of a column-cut layer's input, and gathers it again in the backward pass to save
    memory; here the gathered input is kept, so there is no third all-gather.

    16-bit numbers are gathered as 16-bit, but summed as float32 (4 bytes).

    If experts replace the MLP, the router's N E probabilities enter beside their input, and sequence-parallel
    ranks sum two numbers per sequence and expert for the balance loss.

    >>> from minimega.costs import Config, Layout
    >>> rows = of_layers(Job(Config(vocab_size=64, num_layers=3), Layout(tp=2, accumulate=2), batch=4))
    >>> sum(calls for (_, _, label), (calls, _) in rows.items() if label.startswith("block"))  # 3 x 2 x 4
    24
    """
    config, cut, own = job.config, job.layout, part(job, rank)
    tokens, held = job.micro_batch * own.piece.tokens, own.model.layers
    (moved, added), rows = items(job.dtype), {}

    def add(label: str, width: int, ways: dict[str, int]) -> None:
        for kind, calls in ways.items():
            item = moved if kind == "all-gather" else added
            rows["tensor", kind, label] = calls, calls * tokens * width * item

    def enter(label: str, forward: int, width: int = config.d_model) -> None:
        """Into a pair of cut layers, `forward` times in the forward pass."""
        back = "reduce-scatter" if cut.sequence else "all-reduce"
        add(label, width, {back: cut.parts} | ({"all-gather": forward} if cut.sequence else {}))

    def leave(label: str, forward: int, width: int = config.d_model) -> None:
        """Out of the pair."""
        there = "reduce-scatter" if cut.sequence else "all-reduce"
        add(label, width, {there: forward} | ({"all-gather": cut.parts} if cut.sequence else {}))

    branches = {"attention": ("qkv", "out")} if config.attention else {}
    forward = cut.parts * (1 + (cut.recompute == "full"))
    balance = own.grid.context.size > 1, cut.sequence  # the tokens of a sequence are cut over these groups
    for block in (name for name in held if name.startswith("block")):
        for name, ends in {**branches, "mlp": ("up", "down")}.items():
            enter(f"{block}.{name}.branch.{ends[0]}", forward)
            leave(f"{block}.{name}.branch.{ends[1]}", forward)
        if config.experts:
            enter(f"{block}.mlp.branch.router", forward, config.experts)
        sums = forward, 8 * 2 * config.experts * job.micro_batch * forward
        for group, is_cut in zip(("context", "tensor"), balance, strict=True):
            if config.experts and is_cut:
                rows[group, "all-reduce", f"{block}.mlp.branch.balance"] = sums
    width = config.d_embedding or config.d_model
    if "embedding" in held:  # the vocabulary is cut at both ends
        leave("embedding", cut.parts, width)
    if "head" in held:
        enter("head", cut.parts, width if config.tied else config.d_model)
        # per token: the largest logit, then the sum of exponentials and the target's logit
        rows["tensor", "all-reduce", "cross-entropy"] = 2 * cut.parts, cut.parts * 3 * tokens * added
    return {row: sent for row, sent in rows.items() if row[0] != "tensor" or cut.tp > 1}


def of_experts(job: Job, routed: dict[str, list[tuple[int, int]]]) -> Rows:
    """What a rank with some of the experts sends for their rows: five messages per layer and micro-batch.

    `routed` lists, by block and micro-batch, how many rows of its tokens the rank sent (N k; those to itself
    are counted, but not on the wire) and how many its experts received, which the router decides. Forward,
    the counts travel, then the rows and the answers; backward, the gradients both ways. A recomputed block
    runs forward once more.

    >>> from minimega.costs import Config, Layout
    >>> of_experts(Job(Config(vocab_size=64, num_layers=1, experts=4)), {"block0": [(10, 12)]})
    {('experts', 'all-to-all', 'block0.mlp.branch'): (5, 22560)}
    """
    forward, found = 1 + (job.layout.recompute == "full"), {}
    for block, micro_batches in routed.items():
        moved = sum(sent + came for sent, came in micro_batches) * job.config.d_model * items(job.dtype)[0]
        calls, counts = len(micro_batches), len(micro_batches) * 8 * job.config.experts
        total = calls * (3 * forward + 2), forward * (moved + counts) + moved
        found["experts", "all-to-all", f"{block}.mlp.branch"] = total
    return found


def of_context(job: Job, rank: int = 0) -> Rows:
    """What a rank sends around the ring of its context group in one step.

    In every layer the keys and values go around once forward and once backward, in cp - 1 sends each: they
    need not come back. Their gradients travel with them and do: cp sends (Liu et al. 2023, section 3).
    Recomputed attention (selective or full) sends its keys and values once more.

    >>> from minimega.costs import Config, Layout
    >>> rows = of_context(Job(Config(vocab_size=64, num_layers=1), Layout(cp=4)))
    >>> rows["context", "send", "kv"]                # 2 x 3 sends of keys and values of 32 x 128 numbers each
    (6, 196608)
    """
    config, cut, own = job.config, job.layout, part(job, rank)
    layers = sum(name.startswith("block") for name in own.model.layers)
    if cut.cp == 1 or not config.attention:
        return {}
    early, late = halves(config.context, cut.cp)[(own.grid.context.rank + 1) % cut.cp]
    next_has = early.stop - early.start + late.stop - late.start
    sequences = job.batch // cut.dp
    # bytes of the keys and values at one position
    moved, added = (2 * sequences * config.d_model // cut.tp * item for item in items(job.dtype))
    times = 2 + (cut.recompute != "none")
    return {
        ("context", "send", "kv"): (
            layers * cut.parts * times * (cut.cp - 1),
            layers * times * moved * (config.context - next_has),
        ),
        ("context", "send", "dkv"): (layers * cut.parts * cut.cp, layers * added * config.context),
    }


def of_pipeline(job: Job, rank: int = 0) -> Rows:
    """What a rank sends to its pipeline neighbours in one step: per micro-batch an activation and a gradient.

    Every schedule sends the same; v chunks per rank send v times as much (Narayanan et al. 2021, section
    2.2.2). The last stage sends no activation on, the first no gradient back.

    >>> from minimega.costs import Config, Layout
    >>> job = Job(Config(vocab_size=64, num_layers=4), Layout(pp=2, micro_batches=4), batch=8)
    >>> of_pipeline(job)["pipeline", "send", "x"]
    (4, 524288)
    """
    cut, own = job.layout, part(job, rank)
    nbytes = job.batch // cut.dp * own.piece.own * job.config.d_model * items(job.dtype)[0]
    v, r = cut.virtual_stages, own.grid.pipeline.rank
    ways = {"x": v - (r == cut.pp - 1), "dx": v - (r == 0)}
    found = {
        ("pipeline", "send", what): (cut.parts * times, nbytes * times)
        for what, times in ways.items()
        if times
    }
    return found | {("pipeline", "all-reduce", "loss"): (1, 8)} if cut.pp > 1 else {}


def of_gradients(job: Job, rank: int = 0, bucket: int = BUCKET) -> Rows:
    """What the holders of the same parameters send: every gradient once per step, and the loss.

    Gradients travel in buckets of at least `bucket` numbers, except each group's last one.

    The gradients of 16-bit weights are float32.

    >>> from minimega.costs import Config, Layout
    >>> of_gradients(Job(Config(vocab_size=64), Layout(dp=4)))
    {('data', 'all-reduce', 'gradients'): (2, 1685504), ('data', 'all-reduce', 'loss'): (1, 8)}
    """
    own, rows = part(job, rank), {}
    seat = own.grid
    buckets: dict[tuple[str, int, bool], list[int]] = {}  # sizes by group; uncut parameters apart
    for p in reversed(own.model.parameters().values()):
        group = seat.holders(p)
        filled = buckets.setdefault((group.name, group.size, p.axis is None), [0])
        if filled[-1] >= bucket:
            filled.append(0)
        filled[-1] += p.local_size
    for (group, ranks, _), filled in buckets.items():
        if ranks > 1:
            calls, nbytes = rows.get((group, "all-reduce", "gradients"), (0, 0))
            more = len(filled), sum(filled) * items(job.dtype)[1]
            rows[group, "all-reduce", "gradients"] = calls + more[0], nbytes + more[1]
    copies = seat.copies
    return rows | ({(copies.name, "all-reduce", "loss"): (1, 8)} if copies.size > 1 else {})


def of_zero(job: Job, rank: int = 0, bucket: int = BUCKET) -> Rows:
    """`of_gradients` under ZeRO (Rajbhandari et al. 2019, section 7).

    The all-reduce is split into its two halves: a reduce-scatter of the gradients and an all-gather of the
    new weights. Stages 2 and 3 sum the gradients of each accumulated part. Stage 3 has a bucket for the
    parameters that the same layers use, and gathers it before each forward and backward pass of such a layer;
    except that the head's weights are still there for its backward pass, and the embedding's backward pass
    needs none unless its table is factorised.

    >>> from minimega.costs import Config, Layout
    >>> of_zero(Job(Config(vocab_size=64), Layout(dp=4, zero=1)))["data", "all-gather", "weights"]
    (2, 1685504)
    """
    (moved, added), cut, whole = items(job.dtype), job.layout, of_gradients(job, rank, bucket)
    rows = {row: sent for row, sent in whole.items() if row[2] != "gradients"}
    if cut.zero < 3:
        for row, (calls, nbytes) in whole.items():
            if row[2] == "gradients":
                parts = cut.accumulate if cut.zero > 1 else 1
                rows[row[0], "reduce-scatter", "gradients"] = calls * parts, nbytes * parts
                rows[row[0], "all-gather", "weights"] = calls, nbytes * moved // added
        return rows
    own, users = part(job, rank), {}
    seat, model = own.grid, own.model
    for layer, inside in model.layers.items():
        for name in inside.parameters():
            users[name] = *users.get(name, ()), layer
    sizes: Counter = Counter()  # by bucket: group, ranks, whether uncut, layers
    for name, p in model.parameters().items():
        group = seat.holders(p)
        sizes[group.name, group.size, p.axis is None, users[name]] += p.local_size
    # the next forward pass finds the factorised table as the backward pass left it
    times = {"embedding": cut.parts + (job.config.d_embedding > 0), "head": cut.parts}
    sent = [
        row
        for (group, ranks, _, layers), size in sizes.items()
        for row in [(group, "reduce-scatter", "gradients", size * added)] * cut.accumulate
        + [(group, "all-gather", "weights", size * moved)] * sum(times.get(n, 2 * cut.parts) for n in layers)
        if ranks > 1
    ]
    for where, kind, label, size in sent:
        calls, nbytes = rows.get((where, kind, label), (0, 0))
        rows[where, kind, label] = calls + 1, nbytes + size
    return rows


def of_norm(ranks: int) -> Rows:
    """What all ranks send for the gradient's norm: one number."""
    return {("world", "all-reduce", "norm"): (1, 8)} if ranks > 1 else {}


def of_checkpoint(ranks: int, weights: int, slots: int) -> Rows:
    """What ranks send when a checkpoint is written: a key of 8 bytes per array, never an array.

    `weights` and `slots` are the most arrays that a rank has of each kind. Three times the ranks agree that
    none has failed: when the folder is made, when the parts are written, and when it is renamed.

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
    """What measuring one step adds on pipeline rank r of p: clock questions, answers, a table of events.

    `events` is the largest number of events on any rank; each is eight numbers of eight bytes.

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
