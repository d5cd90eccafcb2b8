"""Typical wrong answers to lesson 19."""

ORDER = """\
def one_f_one_b(rank, ranks, micro_batches):
    ahead = {ahead}
    order = [("forward", n) for n in range(ahead)]
    for n in range(ahead, micro_batches):
        order += {turn}
    order += [("backward", n) for n in {left}]
    return order
"""


def order(
    ahead: str = "min(ranks - rank - 1, micro_batches)",
    turn: str = '[("forward", n), ("backward", n - ahead)]',
    left: str = "range(micro_batches - ahead, micro_batches)",
) -> str:
    return ORDER.format(ahead=ahead, turn=turn, left=left)


GPIPE = """\
def one_f_one_b(rank, ranks, micro_batches):
    return [(kind, n) for kind in ("forward", "backward") for n in range(micro_batches)]
"""
REVERSED = order().replace("return order", "return [(kind, micro_batches - 1 - n) for kind, n in order]")
# rank 1 sends the gradients back in another order than rank 0 waits for them
CROSSED = order(left="sorted(range(micro_batches - ahead, micro_batches), reverse=rank == 0)")

WRONG = [
    (
        "GPipe's order",
        GPIPE,
        r"^4 ranks, 8 micro-batches: rank 0 holds 8 micro-batches at once; 1F1B holds 4$",
    ),
    (
        "one ahead too many",
        order(ahead="min(ranks - rank, micro_batches)"),
        r"rank 0 holds 5 micro-batches at once; 1F1B holds 4$",
    ),
    (
        "one ahead too few",
        order(ahead="min(max(ranks - rank - 2, 0), micro_batches)"),
        r"the step takes \d+, and 1F1B takes 33 .* rank 0 has started only 3 micro-batches",
    ),
    ("none ahead", order(ahead="0"), r"the step takes 96, .* rank 0 has started only 1 micro-batch when"),
    (
        "as many ahead as its number",
        order(ahead="min(rank, micro_batches)"),
        r"they wait for each other: rank 0",
    ),
    ("the last backwards missing", order(left="()"), r"rank 0 never comes to backward 5, 6, 7$"),
    ("the backwards from 0 again", order(left="range(ahead)"), r"rank 0 does backward 0 twice$"),
    (
        "from the last micro-batch on",
        REVERSED,
        r"rank 0 takes forward 7 before forward 6; they must be in order",
    ),
    ("the last backwards reversed", CROSSED, r"rank 0 takes backward 7 before backward 6"),
    (
        "backward before forward",
        order(turn='[("backward", n - ahead), ("forward", n)]'),
        r"rank 3 comes to backward 0 before forward 0$",
    ),
    (
        "the backward of the same micro-batch",
        order(turn='[("forward", n), ("backward", n)]', left="range(ahead)"),
        r"rank 0 takes backward 7 before backward 0; they must be in order",
    ),
    (
        "more ahead than there are",
        order(ahead="ranks - rank - 1"),
        r"^4 ranks, 2 micro-batches: rank 0 does forward 2, and there are only the micro-batches 0 to 1$",
    ),
    (
        "words without numbers",
        "def one_f_one_b(rank, ranks, micro_batches): return ['forward'] * micro_batches",
        r"rank 0 has 'forward' in its list",
    ),
    (
        "a list in the list",
        order()
        .replace('order += [("backward", n) for', 'order.append([("backward", n) for')
        .replace("micro_batches)]\n    return", "micro_batches)])\n    return"),
        r"rank 0 has \[\('backward', 5\), .*\] in its list, where",
    ),
    (
        "counted from 1",
        GPIPE.replace("(kind, n)", "(kind, n + 1)"),
        r"there are only the micro-batches 0 to 7$",
    ),
    ("no list", "def one_f_one_b(rank, ranks, micro_batches): return rank", r"rank 0 returns no list"),
    ("no return", "def one_f_one_b(rank, ranks, micro_batches): []", r"is a `return` missing"),
]
