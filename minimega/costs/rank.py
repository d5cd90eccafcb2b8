"""What one rank holds at the peak of a training step, kind by kind, whatever the layout.

    weights      its piece of the layers (under ZeRO 3 its shards, and room for one layer)
    gradients    float32, with the buckets in flight: what is sent and what comes, until the message ends
    optimizer    the slots of what it owns, and masters of 16-bit weights
    activations  what its closures keep, of all micro-batches under way
    passing      what goes between pipeline stages: inputs, outputs, gradients, messages not yet sent

N D: the tokens of a micro-batch times the width.
"""

from collections import Counter, deque
from typing import Any

import numpy as np

from minimega.costs import Job
from minimega.costs.activations import items, kept
from minimega.costs.part import Part, part
from minimega.optim import OPTIMIZERS
from minimega.parallel import zero
from minimega.parallel.data import BUCKET, Reducer
from minimega.parallel.pipeline import actions
from minimega.precision import HALF


def held(job: Job, rank: int = 0, bucket: int = BUCKET, rows: float | None = None) -> dict[str, int]:
    """The bytes that a rank holds at the peak of a step, by kind; `rows` as for `activations.kept`.

    >>> from minimega.costs import Config, Layout
    >>> job = Job(Config(vocab_size=64, num_layers=4), Layout(tp=2, pp=2), batch=2)
    >>> held(job)["optimizer"] == 2 * held(job)["weights"]               # AdamW: two numbers a weight
    True
    """
    own = part(job, rank)
    return state(own, bucket) | under_way(own, rows)


def state(own: Part, bucket: int = BUCKET) -> dict[str, int]:
    """The peak of weights, gradients and optimizer state of a rank."""
    job, (kept_in, computed) = own.job, items(own.job.dtype)
    model = own.fresh()  # ZeRO 3 wraps its layers
    parameters = list(model.parameters().values())
    reducer: Any = zero.reducer(model, own.grid, bucket)
    owned = sum(p.local_size for p in reducer.owned(parameters))
    weights = sum(p.local_size for p in parameters)
    if job.layout.zero == 3 and reducer.buckets:
        shared = sum(b.size for b in reducer.buckets)
        room = max(sum(b.size for b in buckets) for buckets in reducer.used_by.values())
        weights += room - shared + sum(_piece(b) for b in reducer.buckets)
    slots = len(OPTIMIZERS[job.optimizer].slots) + (np.dtype(job.dtype) in HALF)
    return {
        "weights": kept_in * weights,
        "gradients": computed * gradients(own, reducer),
        "optimizer": computed * slots * owned,
    }


def _piece(b: zero.SharedBucket) -> int:
    return len(range(b.size)[b.group.piece(b.size)])


class Flow:
    """Numbers of gradients in arrays and messages, followed through a backward pass: `most` is the peak."""

    def __init__(self, reducer: Reducer, sharded: bool):
        self.reducer, self.sharded, self.most, self.before = reducer, sharded, 0, None
        self.grads: Counter = Counter()  # by parameter
        self.sums: Counter = Counter()  # by bucket: what arrived
        self.flying: Counter = Counter()  # by bucket: what is sent, and the sum that comes

    def look(self, more: int = 0) -> None:
        """Note what is there now, and `more`."""
        now = sum(self.grads.values()) + sum(self.sums.values()) + sum(self.flying.values())
        self.most = max(self.most, now + more)

    def result(self, b) -> int:
        """The numbers of a bucket's sum on this rank."""
        return _piece(b) if self.sharded else b.size

    def leave(self, b) -> None:
        """A bucket is copied and sent; under ZeRO the one before has arrived."""
        if self.sharded and self.before:
            self.arrive(self.before)
        self.look(b.size)  # the copy, beside what it copies
        for p in b.parameters:
            self.grads[p.name] = 0
        self.flying[id(b)] = b.size + self.result(b)
        self.look()
        self.before = None if self.reducer.grid.at_ends(b.group) else b

    def arrive(self, b) -> None:
        """Its sum is here."""
        if self.flying.pop(id(b), 0):
            self.sums[id(b)] = self.result(b)

    def backward(self, order: list[tuple[str, int, bool]]) -> None:
        """The gradients come in this order (name, numbers, whether it is complete), and buckets leave."""
        missing = {id(b): {p.name for p in b.parameters} for b in self.reducer.buckets}
        for name, numbers, complete in order:
            self.grads[name] = numbers
            self.look()
            b = self.reducer.bucket_of.get(name)
            if b and complete:
                missing[id(b)].discard(name)
                if not missing[id(b)] and not self.reducer.grid.at_ends(b.group):
                    self.leave(b)
        for b in self.reducer.buckets:
            if missing[id(b)] or self.reducer.grid.at_ends(b.group):
                self.leave(b)
        for b in self.reducer.buckets:
            self.arrive(b)


def gradients(own: Part, reducer: Reducer) -> int:
    """The most numbers of gradients, sent copies and coming sums at once, in a step's last backward pass.

    A bucket's gradients are copied into one array as it leaves; the sum comes into another. Without ZeRO all
    buckets may be in flight at the end; with it, one at a time.
    """
    cut, flow = own.job.layout, Flow(reducer, own.job.layout.zero > 0)
    order = [(p.name, p.local_size, True) for p in reversed(own.model.parameters().values())]
    order.sort(key=lambda of: of[0] == "embedding.positions")  # backward, the tokens' table comes before
    if own.job.config.norm_position == "post":  # backward, a norm comes before its branch
        branches = list(dict.fromkeys(_branch(name) for name, *_ in order))
        order.sort(key=lambda of: (branches.index(_branch(of[0])), ".branch." in of[0]))
    if own.job.config.tied and {"embedding", "head"} <= own.model.layers.keys():
        first = [(name, numbers, False) for name, numbers, _ in order if name in TABLE]
        order = first + order  # a table's gradient begins at the head and is complete at the embedding
    several = cut.micro_batches if reducer.each_part else cut.parts
    for _ in range(cut.accumulate if reducer.each_part else 1):
        if several > 1:
            flow.grads |= Counter({name: numbers for name, numbers, _ in order})
        flow.backward(order)
    return flow.most


def _branch(name: str) -> str:
    """The part of a block that a parameter belongs to.

    >>> _branch("block0.mlp.norm.bias"), _branch("block0.mlp.branch.up.bias")
    ('block0.mlp', 'block0.mlp')
    """
    return name.partition(".branch.")[0].partition(".norm.")[0]


TABLE = "embedding.tokens", "embedding.projection"


def under_way(own: Part, rows: float | None = None) -> dict[str, int]:
    """The most bytes of activations, and of what passes between stages with them, that a rank holds at once.

    The rank's list of actions is followed: a micro-batch is held from its forward through a chunk to its
    backward, its input from the receive on. A sent array lives until its message has surely ended.
    """
    cut, c = own.job.layout, own.job.config
    p, r, v = cut.pp, own.grid.pipeline.rank, cut.virtual_stages
    array = own.piece.batch * own.piece.own * c.d_model * items(own.job.dtype)[0]  # of a message
    keeps_input = cut.recompute == "full" or (c.norm_position == "post" and not cut.sequence)
    whole = [_chunk(own, names, rows) for names in own.chunks]
    halves = [_halves(own, names, rows) for names in own.chunks]
    alive: dict[tuple, tuple[str, float]] = {}  # what there is: its kind and bytes
    sent: deque[tuple] = deque()
    most: dict[str, float] = {"activations": 0, "passing": 0}
    for a in actions(cut.pipeline, p, cut.micro_batches, v, r):
        stage, key = a.chunk * p + r, a.key
        if a.kind == "receive":
            alive[a.what, *key] = "passing", array
        elif a.kind == "forward":
            alive["kept", *key] = "activations", whole[a.chunk]
            if keeps_input:
                alive.pop(("x", *key), None)  # the first block keeps it too
            if stage < p * v - 1:
                alive["y", *key] = "passing", array
        elif a.kind in ("backward", "backward-input"):
            for what in {"kept", "x", "dx", "y"} - {what for what, *k in sent if tuple(k) == key}:
                alive.pop((what, *key), None)
            if a.kind == "backward-input":
                alive["half", *key] = "activations", halves[a.chunk]
            if stage:
                alive["gives", *key] = "passing", array
        elif a.kind == "backward-weight":
            del alive["half", *key]
        elif a.kind == "send":
            sent.append(("y" if a.what == "x" else "gives", *key))
            if len(sent) > 2 * p * v:
                what, *of = sent.popleft()
                if what == "gives" or ("kept", *of) not in alive:
                    del alive[what, *of]
        now: dict[str, float] = {kind: sum(n for k, n in alive.values() if k == kind) for kind in most}
        most = max(most, now, key=lambda held: sum(held.values()))
    return {kind: int(n) for kind, n in most.items()}


def _chunk(own: Part, names: list[str], rows: float | None) -> int:
    """The bytes that a chunk keeps of one micro-batch."""
    c, piece, dtype = own.job.config, own.piece, own.job.dtype
    item, computed = items(dtype)
    one = int(sum(i.bytes(dtype) for i in kept(c, piece, own.job.layout.recompute, rows)))
    between, n = piece.batch * piece.own, piece.n
    total = one * sum(name.startswith("block") for name in names)
    if "embedding" in names:
        total += 9 * n + 9 * piece.own * (c.positions == "learned")  # rows, and a flag for each
        total += between * item * (c.d_embedding + c.d_model * (c.positions == "sinusoidal"))
    if "norm" in names:
        total += between * (c.d_model * item + computed)
    if "head" in names:
        e = c.d_embedding * c.tied
        total += (between * c.d_model + n * e if e else n * c.d_model) * item
        total += n * piece.vocabulary * computed  # the probabilities
        total += (
            n + 16 * n * piece.vocabulary / c.vocab_size
        )  # flags; place and value of targets in this piece
    return int(total)


def _halves(own: Part, names: list[str], rows: float | None) -> int:
    """What deferred halves of a chunk's backward keep of a micro-batch: each layer's input and gradient."""
    c, piece, (item, computed) = own.job.config, own.piece, items(own.job.dtype)
    n, between = piece.n, piece.batch * piece.own
    m = rows if c.experts and rows is not None else n * (c.top_k_experts if c.experts else 1)
    heads = n * c.d_model * piece.heads / c.nhead
    norm = between * c.d_model
    # the bias after a row-cut layer has its own dy: of the rank's tokens, or rounded and widened once more
    bias = norm if own.job.layout.sequence or item < computed else 0.0
    inputs, gradients = 0.0, 0.0
    for name in names:
        if name.startswith("block"):
            if c.attention:  # norm, qkv, out
                inputs += norm + n * c.d_model + heads
                gradients += norm + 3 * heads + n * c.d_model + bias
            into = m if c.experts else n
            inputs += norm + into * (c.d_model + piece.hidden) + (norm if c.experts else 0)
            gradients += norm + into * (piece.hidden + c.d_model)
            gradients += between * c.experts if c.experts else bias
        elif name == "norm":
            inputs, gradients = inputs + norm, gradients + norm
    if "head" in names:
        e = c.d_embedding * c.tied
        inputs += (norm + n * e) if e else n * c.d_model
        gradients += n * piece.vocabulary + n * e
    if "embedding" in names:  # a table's gradient is computed at once
        e = c.d_embedding
        inputs += between * e
        gradients += piece.vocabulary * (e or c.d_model) + between * c.d_model * (e > 0)
        gradients += c.context * c.d_model * (c.positions == "learned")
    return int(inputs * item + gradients * computed)
