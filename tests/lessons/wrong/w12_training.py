"""Typical wrong answers to lesson 12."""

MEAN = """\
def mean_loss(batches):
    total, count = 0.0, 0
    for loss, targets in batches:
        counted = {counted}
        total += {part}
        count += counted
    return {result}
"""


def mean(
    counted: str = "(targets >= 0).sum()", part: str = "counted * loss", result: str = "total / count"
) -> str:
    return MEAN.format(counted=counted, part=part, result=result)


WRONG = [
    (
        "the mean of the batches' means",
        "def mean_loss(batches): return np.mean([loss for loss, targets in batches])",
        r"^every batch weighs the same",
    ),
    ("all targets weigh", mean(counted="targets.size"), r"^targets below 0 weigh too"),
    ("the start token is left out", mean(counted="(targets > 0).sum()"), r"^a target 0 is not counted"),
    ("at least one a batch", mean(counted="max((targets >= 0).sum(), 1)"), r"^a batch in which no target"),
    ("not weighted, then divided by the count", mean(part="loss"), r"^two batches of the same size"),
    ("the targets added up", mean(counted="targets.sum()"), r"^a target weighs as much as its token's"),
    (
        "those below 0 counted",
        mean(counted="(targets < 0).sum()"),
        r"^if every target counts, you divide",
    ),
    (
        "divided once more",
        "def mean_loss(batches): return sum(loss / (t >= 0).sum() for loss, t in batches)",
        r"^each batch's loss is divided by its count",
    ),
    (
        "the first row's targets",
        mean(counted="(targets[0] >= 0).sum()"),
        r"^only the first row of each batch",
    ),
    (
        "the last row's targets",
        mean(counted="(targets[-1] >= 0).sum()"),
        r"^only the last row|a batch of|divide",
    ),
    (
        "rows by the length of the first",
        mean(counted="len(targets) * (targets[0] >= 0).sum()"),
        r"^right for batches of one row, but not for batches of several",
    ),
    ("a sum", mean(result="total"), r"^.* a mean above both"),
    ("divided by the batches", mean(result="total / len(batches)"), r"^.* a mean above both"),
    ("the perplexity", mean(result="np.exp(total / count)"), r"^you return a perplexity"),
    (
        "perplexities averaged",
        mean(part="counted * np.exp(loss)", result="np.log(total / count)"),
        r"^perplexities are averaged",
    ),
    ("the last batch only", "def mean_loss(batches): return batches[-1][0]", r"^only one batch counts"),
    (
        "batches without targets divide by 0",
        "def mean_loss(batches):\n"
        "    means = [loss * (t >= 0).sum() / (t >= 0).sum() for loss, t in batches]\n"
        "    counts = [(t >= 0).sum() for _, t in batches]\n"
        "    return np.average(means, weights=counts)",
        r"^a batch in which no target",
    ),
]
