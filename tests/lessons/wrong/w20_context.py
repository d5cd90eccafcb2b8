"""Typical wrong answers to lesson 20."""

MERGE = """\
def merge(y1, top1, total1, y2, top2, total2):
    top = {top}
    down1, down2 = {downs}
    total = {total}
    y = {y}
    return y, top, total
"""


def merge(
    top: str = "np.maximum(top1, top2)",
    downs: str = "np.exp(top1 - top), np.exp(top2 - top)",
    total: str = "total1 * down1 + total2 * down2",
    y: str = "y1 * down1 + y2 * down2",
) -> str:
    return MERGE.format(top=top, downs=downs, total=total, y=y)


WRONG = [
    (
        "no rescaling",
        merge(downs="1, 1"),
        r"larger score, total adds up .* different tops",
    ),
    ("only y is not rescaled", merge(y="y1 + y2"), r"second block has the larger score, y adds up"),
    (
        "only the old sums are rescaled",
        merge(downs="np.exp(top1 - top), 1"),
        r"^right if the second block has the larger score; if the first one has it, total is wrong",
    ),
    (
        "one block chosen for all rows",
        merge(downs="(1, np.exp(top2 - top1)) if (top1 > top2).all() else (np.exp(top1 - top2), 1)"),
        r"here each has some of them, and total is wrong",
    ),
    ("the larger of the totals", merge(total="np.maximum(total1, total2)"), r"^total is the larger of both"),
    (
        "sums weighted by the totals",
        merge(y="y1 * total1 * down1 + y2 * total2 * down2"),
        r"^y counts the totals again: y1 and y2 are sums already, not means$",
    ),
    (
        "weighted, and a mean",
        merge(y="(y1 * total1 * down1 + y2 * total2 * down2) / total"),
        r"^y counts the totals again",
    ),
    (
        "the wrong order",
        merge().replace("return y, top, total", "return top, total, y"),
        r"the wrong order",
    ),
    ("means added up", merge(y="y1 / total1 + y2 / total2"), r"blocks' means, as if both blocks weighed"),
    ("a mean of means", merge(y="(y1 / total1 + y2 / total2) / 2"), r"blocks' means, as if both"),
    ("a mean already", merge(y="(y1 * down1 + y2 * down2) / total"), r"^y is a mean already"),
    (
        "exponentials of the tops themselves",
        merge(downs="np.exp(top1) / np.exp(top), np.exp(top2) / np.exp(top)"),
        r"^right for small scores; for scores near 1000, total is not finite: what overflows\?$",
    ),
    (
        "down the wrong way",
        merge(downs="np.exp(top - top1), np.exp(top - top2)"),
        r"second block has the larger score, total adds up",
    ),
    ("the sum of the tops", merge(top="top1 + top2"), r"^top is not, for each row, the largest score"),
    ("one top for all rows", merge(top="max(top1.max(), top2.max())"), r"^top is not, for each row"),
    (
        "through the means",
        merge(y="(y1 / total1 * total1 * down1 + y2 / total2 * total2 * down2)"),
        r"^a first block without keys .* should leave the second alone, and y is wrong$",
    ),
    ("y left for later", merge(y="..."), r"^not written yet: y is still"),
    (
        "y alone",
        "def merge(y1, top1, total1, y2, top2, total2): return y1 + y2",
        r"return three things: y",
    ),
]
