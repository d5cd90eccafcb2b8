"""The work of a step on one GPU, operation by operation: products of matrices, memory traffic and messages.

Megatron-LM's operations, with its fused kernels (Narayanan et al. 2021, section 4.2). B sequences of a
micro-batch, T tokens of a sequence, D width, F hidden width, H heads, V vocabulary, E experts, k of them for
a token; N = B T / c tokens; t, c, d, e, p ranks of the tensor, context, data, expert and pipeline groups; m
micro-batches, v chunks.
"""

from functools import lru_cache
from typing import NamedTuple

from minimega.costs.plan.machine import Gpu, Machine
from minimega.model import Config
from minimega.parallel.layout import Layout

RAMP = 128  # a product of inner size K reaches K / (K + RAMP) of its rate: filling and emptying the pipeline
TILES = (256, 128, 1.0), (128, 128, 0.96), (128, 64, 0.85), (64, 64, 0.7)  # rate beside the largest's


class Work(NamedTuple):
    """One operation: `amount` is floating-point operations of a product, otherwise bytes; `times` it is
    done.
    """

    name: str
    kind: str  # product, move, or the group whose ranks exchange messages
    amount: float
    seconds: float
    times: int = 1
    size: str = ""

    @property
    def total(self) -> float:
        """The seconds of all times."""
        return self.seconds * self.times


def product(gpu: Gpu, m: float, n: float, k: float, count: float = 1, dtype: str = "float16") -> float:
    """The seconds of `count` products (m, k) by (k, n).

    The largest of two bounds: arithmetic and memory traffic. A GPU computes the result in tiles, one per
    processor at a time, so that the last wave of tiles and the tiles at the edges are partly idle (NVIDIA,
    "Matrix Multiplication Background User's Guide", sections 3.2 and 3.3).

    >>> from minimega.costs.plan.gpus import GPUS
    >>> one = product(GPUS["a100-80gb"], 4096, 4096, 4096)
    >>> 0.5 < 2 * 4096**3 / one / 312e12 < 0.8
    True
    """
    flops, item = 2.0 * m * n * k * count, 4 if dtype == "float32" else 8 if dtype == "float64" else 2
    peak = gpu.flops(dtype)
    if not isinstance(gpu.products, float | int):
        arithmetic = flops / (peak * gpu.products(2.0 * m * n * k))
    elif gpu.processors:
        share = max(rate * _waves(m, n, count, (high, wide), gpu.processors) for high, wide, rate in TILES)
        arithmetic = flops / (peak * gpu.products * share * k / (k + RAMP))
    else:
        arithmetic = flops / (peak * gpu.products)
    traffic = count * item * (m * k + k * n + m * n)
    return max(arithmetic + gpu.launch, gpu.move(traffic))


def _waves(m: float, n: float, count: float, tile: tuple[int, int], processors: int) -> float:
    """The share of the processors' time that goes into the result's own entries."""
    tiles = -(-m // tile[0]) * -(-n // tile[1]) * count
    waves = -(-tiles // processors)
    return m * n * count / (waves * processors * tile[0] * tile[1])


def collective(machine: Machine, kind: str, nbytes: float, ranks: int, stride: int = 1) -> float:
    """The seconds of a collective over a ring of `ranks` GPUs that lie `stride` apart; `nbytes` is the whole
    array.

    An all-gather or a reduce-scatter passes (n - 1) / n of the array over every link, an all-reduce twice
    that (Rajbhandari et al. 2019, section 7.1); an all-to-all sends (n - 1) / n of each rank's own array.
    """
    if ranks == 1 or not nbytes:
        return 0.0
    rate, step, here = machine.ring(ranks, stride)
    if kind == "all-to-all" and ranks > here:  # each card carries its own GPU's rows
        rate = machine.gpu.between.rate(nbytes)
    passes = 2 if kind == "all-reduce" else 1
    return passes * (ranks - 1) * (step + nbytes / ranks / rate)


@lru_cache(maxsize=4096)
def block(
    config: Config, cut: Layout, batch: int, machine: Machine, dtype: str
) -> tuple[tuple[Work, ...], ...]:
    """One block of one micro-batch: the works of its forward pass, of its backward pass, and of what is
    recomputed.
    """
    c, gpu, t = config, machine.gpu, cut.tp
    n, item = batch * -(-c.context // cut.cp), 2 if dtype in ("float16", "bfloat16") else 4
    outside = n / t if cut.sequence else n  # tokens between the cut layers
    heads, width = c.nhead / t, c.d_model / c.nhead
    rows, keys = -(-c.context // cut.cp), c.context
    scores = batch * heads * rows * keys
    experts = c.experts / cut.ep if c.experts else 1
    each = n * c.top_k_experts / experts if c.experts else n  # rows of one expert; balanced
    hidden = c.d_hidden / t

    def made(name: str, *size: float, count: float = 1) -> Work:
        said = (f"{count:g} of " if count != 1 else "") + " x ".join(f"{x:g}" for x in size)
        flops = 2.0 * size[0] * size[1] * size[2] * count
        return Work(name, "product", flops, product(gpu, size[0], size[1], size[2], count, dtype), 1, said)

    def moved(name: str, nbytes: float) -> Work:
        return Work(name, "move", nbytes, gpu.move(nbytes * gpu.traffic))

    attention = [
        made("queries, keys, values", n, 3 * c.d_model / t, c.d_model),
        made("scores", rows, keys, width, count=batch * heads),
        made("weighted values", rows, width, keys, count=batch * heads),
        made("output", n, c.d_model, c.d_model / t),
    ]
    mlp = [
        made("up", each, hidden, c.d_model, count=experts),
        made("down", each, c.d_model, hidden, count=experts),
    ]
    if c.experts:
        mlp.insert(0, made("router", n, c.experts, c.d_model))
    products = [*(attention if c.attention else []), *mlp]
    branches = 1 + c.attention
    # Read and written, in numbers of `item` bytes; a dropout mask is a byte an entry.
    moves = [moved("norms", 2 * item * outside * c.d_model * branches)]
    back_moves = [moved("norms", 4 * item * outside * c.d_model * branches)]
    core = [moved("softmax and dropout", (4 * item + 1) * scores)] if c.attention else []
    back_core = [moved("softmax and dropout", (5 * item + 1) * scores)] if c.attention else []
    if c.attention:
        moves.append(moved("bias of queries, keys, values", 2 * item * n * 3 * c.d_model / t))
        back_moves.append(moved("bias of queries, keys, values", item * n * 3 * c.d_model / t))
    inner = each * experts * hidden
    moves.append(moved("bias and activation", 2 * item * inner))
    back_moves.append(moved("bias and activation", 4 * item * inner))
    moves.append(moved("bias, dropout, residual", (3 * item + 1) * outside * c.d_model * branches))
    back_moves.append(moved("bias, dropout, residual", (3 * item + 1) * outside * c.d_model * branches))
    if c.experts:
        sorted_rows = 4 * item * n * c.top_k_experts * c.d_model
        moves.append(moved("rows to experts and back", sorted_rows))
        back_moves.append(moved("rows to experts and back", sorted_rows))
    forward = [*products, *moves, *core, *_exchanged(config, cut, batch, machine, item)]
    twice = [w._replace(times=2) for w in products]
    behind = sum(w.seconds for w in products if w.name in ("queries, keys, values", "up"))
    behind = behind if gpu.overlap else 0.0
    sent = _exchanged(config, cut, batch, machine, item, behind)
    backward = [*twice, *back_moves, *back_core, *sent]
    again = []
    if cut.recompute == "full":
        again = forward
    elif cut.recompute == "selective" and c.attention:
        again = [*attention[1:3], *core]
    return tuple(forward), tuple(backward), tuple(again)


def _exchanged(
    config: Config, cut: Layout, batch: int, machine: Machine, item: int, behind: float | None = None
) -> list[Work]:
    """The messages of one block's forward pass or, given the seconds of the products to hide behind, backward
    pass.

    Backward, the gradient of a pair's input is added up (and its input gathered, with sequence parallelism)
    while the pair's first weight gradients are computed (Korthikanti et al. 2022, section 4.2.2).
    """
    c, t, found, backward = config, cut.tp, [], behind is not None
    n = batch * -(-c.context // cut.cp)
    whole, branches = item * n * c.d_model, 1 + c.attention
    if t > 1:
        ways = ("all-gather", "reduce-scatter") if cut.sequence else ("all-reduce",)
        each = {kind: collective(machine, kind, whole, t) for kind in ways}
        if behind is None:
            found += [Work(kind, "tensor", whole, seconds, branches) for kind, seconds in each.items()]
        else:
            again = {"all-gather", "reduce-scatter"} if cut.sequence else {"all-reduce"}
            hidden = sum(each[kind] for kind in again) * branches
            exposed = max(0.0, hidden - behind) / hidden
            found += [Work(f"{k}, hidden", "tensor", whole, each[k] * exposed, branches) for k in again]
            if cut.sequence:  # the gradient of the pair's output: nothing to hide behind
                found.append(Work("all-gather", "tensor", whole, each["all-gather"], branches))
    if cut.ep > 1 and c.experts:
        rows = whole * c.top_k_experts
        seconds = collective(machine, "all-to-all", rows, cut.ep, t * cut.cp)
        found.append(Work("all-to-all", "expert", rows, seconds, 2))
    if cut.cp > 1 and c.attention:
        # keys and values go round; backward their gradients too (Liu et al. 2023, section 3)
        ring = 2 * whole / t * cut.cp * (2 if backward else 1)
        found.append(Work("ring", "context", ring, collective(machine, "all-gather", ring, cut.cp, t)))
    return found


@lru_cache(maxsize=4096)
def head(
    config: Config, cut: Layout, batch: int, machine: Machine, dtype: str
) -> tuple[tuple[Work, ...], ...]:
    """The head and the loss of one micro-batch, forward and backward: what the last stage has more than
    others.
    """
    c, gpu, t = config, machine.gpu, cut.tp
    n, item = batch * -(-c.context // cut.cp), 2 if dtype in ("float16", "bfloat16") else 4
    flops, size = 2.0 * n * c.vocab_size / t * c.d_model, f"{n:g} x {c.vocab_size / t:g} x {c.d_model}"
    one = product(gpu, n, c.vocab_size / t, c.d_model, 1, dtype)
    logits, whole = n * c.vocab_size / t, item * n * c.d_model
    there = [Work("logits", "product", flops, one, 1, size)]
    back = [Work("logits", "product", flops, one, 2, size)]
    # to float32, the largest, less it, exponentials, their sum, divided; backward: less 1 at the target, to
    # 16 bits
    there.append(Work("softmax of the logits", "move", 36 * logits, gpu.move(36 * logits)))
    back.append(Work("softmax of the logits", "move", 14 * logits, gpu.move(14 * logits)))
    if t > 1:
        back.append(Work("all-reduce", "tensor", whole, collective(machine, "all-reduce", whole, t)))
    return tuple(there), tuple(back)


@lru_cache(maxsize=4096)
def embedding(
    config: Config, cut: Layout, batch: int, machine: Machine, dtype: str
) -> tuple[tuple[Work, ...], ...]:
    """The table of one micro-batch, forward and backward: what the first stage has more than others."""
    n, item = batch * -(-config.context // cut.cp), 2 if dtype in ("float16", "bfloat16") else 4
    whole = item * n * config.d_model
    there = [Work("rows of the table", "move", 6 * whole, machine.gpu.move(6 * whole))]
    back = [Work("rows of the table", "move", 6 * whole, machine.gpu.move(6 * whole))]
    if cut.tp > 1:
        there.append(Work("all-reduce", "tensor", whole, collective(machine, "all-reduce", whole, cut.tp)))
    return tuple(there), tuple(back)
