"""Typical wrong answers to lesson 05."""

EMBEDDING = """\
def my_embedding(table, ids):
    y = table[ids]
    def back(dy):
        dtable = np.zeros_like(table)
        {line}
        return {given}
    return y, back
"""


def embedding(line: str, given: str = "dtable") -> str:
    return EMBEDDING.format(line=line, given=given)


WRONG = [
    (
        "y only",
        "def my_embedding(table, ids):\n    return table[ids]\n",
        r"^your function should give two things: y, and the function back$",
    ),
    (
        "a gradient for the tokens too",
        embedding("np.add.at(dtable, ids, dy)", given="dtable, None"),
        r"^back gives 2 gradients; it should give 1: dtable$",
    ),
    (
        "no back",
        "def my_embedding(table, ids):\n    return table[ids], np.zeros_like(table)\n",
        r"^the second thing that your function gives should be the function back$",
    ),
    ("assigned", embedding("dtable[ids] = dy"), r"^a token that occurs several times keeps only one"),
    ("added by +=", embedding("dtable[ids] += dy"), r"^a token that occurs several times keeps only one"),
    (
        "added by sequences",
        embedding("for i, d in zip(ids, dy): dtable[i] += d"),
        r"^the gradient at position \(0, 0\)",
    ),
    (
        "added by times",
        embedding("for t in range(3): dtable[ids[:, t]] += dy[:, t]"),
        r"^the gradient at position \(0, 1\) of dy is lost",
    ),
    (
        "the last position left out",
        embedding("np.add.at(dtable, ids[:, :-1], dy[:, :-1])"),
        r"position \(0, 2\) of dy is lost",
    ),
    ("counted", embedding("np.add.at(dtable, ids, 1.0)"), r"^each row gets its number of positions"),
    (
        "one sum too many",
        embedding("for v in ids.ravel(): dtable[v] += dy[ids == v].sum(axis=0)"),
        r"n times$",
    ),
    (
        "summed over the width",
        embedding("for v in range(7): dtable[v] = dy[ids == v].sum()"),
        r"^dy is summed over the",
    ),
    (
        "0 divided by 0",
        embedding("with np.errstate(all='ignore'): dtable += [[1 / np.sum(ids == v)] for v in range(7)]"),
        r"^some rows are not finite",
    ),
    ("dy as it is", embedding("", "dy"), r"^dtable does not have the shape of the table"),
    (
        "dy, a row for each position",
        embedding("", "dy.reshape(-1, 5)"),
        r"^dtable does not have the shape of the table: dy has a row",
    ),
    (
        "the mean over a token's positions",
        embedding("np.add.at(dtable, ids, dy / np.bincount(ids.ravel())[ids][..., None])"),
        r"^a row gets the mean of its gradients",
    ),
    (
        "the mean over all positions",
        embedding("np.add.at(dtable, ids, dy / ids.size)"),
        r"divided by the number",
    ),
    (
        "the first sequence",
        embedding("np.add.at(dtable, ids[0], dy[0])"),
        r"^the second sequence .* not count",
    ),
    (
        "all rows",
        embedding("dtable += dy.sum(axis=(0, 1))"),
        r"^every row gets the gradients of all",
    ),
    ("into the table", embedding("np.add.at(table, ids, dy)", "table"), r"^table is changed in place"),
    ("off by one", embedding("np.add.at(dtable, ids - 1, dy)"), r"^dtable is off by one place"),
    ("nothing added", embedding(""), r"^dtable is zero, even in rows"),
    ("no return of dtable", embedding("np.add.at(dtable, ids, dy)", "None"), r"is a `return` missing"),
]
