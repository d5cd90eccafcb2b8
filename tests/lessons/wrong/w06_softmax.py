"""Typical wrong answers to lesson 06."""

CELL = """\
def my_cross_entropy(logits, targets):
    p = softmax(logits)[0]
    rows = np.flatnonzero(targets >= 0)
    n = len(rows)
    loss = -np.log(p[rows, targets[rows]]).sum() / {mean}

    def back(dy):
        dlogits = {start}
        {rows}
        {hot}
        return {end}

    return loss, back
"""


def cell(
    start: str = "np.zeros_like(p)",
    rows: str = "dlogits[rows] = p[rows]",
    hot: str = "dlogits[rows, targets[rows]] -= 1",
    end: str = "dlogits * dy / n",
    mean: str = "n",
) -> str:
    return CELL.format(start=start, rows=rows, hot=hot, end=end, mean=mean)


WRONG = [
    (
        "divided by all tokens",
        cell(end="dlogits * dy / len(targets)"),
        r"^dlogits is divided by all tokens; the loss is a mean over the counted ones$",
    ),
    ("not divided", cell(end="dlogits * dy"), r"^dlogits is that of a sum over the tokens; the loss is"),
    ("a mean over all logits", cell(end="dlogits * dy / p.size"), r"^dlogits is divided by all logits"),
    ("no one-hot", cell(hot="pass"), r"^every logit is pushed down, the target's too: what raises it"),
    (
        "no one-hot, and all rows",
        cell(start="p.copy()", rows="pass", hot="pass"),
        r"^every logit is pushed down.*; and the rows of the tokens that do not count are not zero$",
    ),
    ("only the one-hot", cell(rows="pass"), r"^the targets are raised, and nothing pushes the other"),
    ("one-hot minus p", cell(end="-dlogits * dy / n"), r"^dlogits has the wrong sign: a step against it"),
    (
        "uncounted rows keep their p",
        cell(start="p.copy()", rows="pass"),
        r"^the rows of the tokens that do not count are not zero$",
    ),
    (
        "a target of -1 taken for the last token",
        cell(start="p.copy()", rows="pass", hot="dlogits[np.arange(len(p)), targets] -= 1"),
        r"^the rows of the tokens that do not count are not zero$",
    ),
    (
        "uncounted rows, and divided by all tokens",
        cell(start="p.copy()", rows="pass", end="dlogits * dy / len(targets)"),
        r"are not zero; and it is divided by all tokens",
    ),
    (
        "one column for all rows",
        cell(hot="dlogits[:, targets[rows]] -= 1"),
        r"^each row loses a 1 at the targets of all rows, not only at its own; and the rows of the token",
    ),
    (
        "a 1 taken from the last token",
        cell(hot="dlogits[np.arange(len(p)), targets] -= 1"),
        r"are not zero: -1 is the last token for NumPy$",
    ),
    ("a 1 added", cell(hot="dlogits[rows, targets[rows]] += 1"), r"^the 1 of each target is added"),
    (
        "only p divided",
        cell(rows="dlogits[rows] = p[rows] / n", end="dlogits * dy"),
        r"^p is divided by n, but the target.s 1 is not",
    ),
    (
        "-1 set, not added",
        cell(hot="dlogits[rows, targets[rows]] = -1"),
        r"^the targets' entries are -1",
    ),
    (
        "the gradient of p",
        cell(rows="pass", hot="dlogits[rows, targets[rows]] = -1 / p[rows, targets[rows]]"),
        r"^that is the gradient with respect to p",
    ),
    ("multiplied by n", cell(end="dlogits * dy * n"), r"^dlogits is multiplied by n"),
    ("p is changed", cell(start="p", rows="dlogits[targets < 0] = 0"), r"dlogits differs when back"),
    ("dy left out", cell(end="dlogits / n"), r"^dy is missing from dlogits$"),
    ("the loss over all tokens", cell(mean="len(targets)"), r"^the forward is not right yet"),
    ("the loss left out", cell(end="loss"), r"^dlogits does not have the shape of logits$"),
    ("nothing", cell(end="None"), r"^not written yet: what back gives is None"),
]
