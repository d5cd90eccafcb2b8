"""Typical wrong answers to lesson 03."""

LINEAR = """\
def my_linear(x, w, b):
    y = x @ w + b
    def back(dy):
        return {dx}, {dw}, {db}
    return y, back
"""


def linear(dx: str = "dy @ w.T", dw: str = "x.T @ dy", db: str = "dy.sum(axis=0)") -> str:
    return LINEAR.format(dx=dx, dw=dw, db=db)


WRONG = [
    (
        "a number of the first shape",
        linear(db="dy.reshape(5, -1).sum(axis=0)"),
        r"^right for the arrays tried first, but with arrays of other shapes something is wrong$",
    ),
    (
        "kept from the first call",
        "KEPT = []\n"
        + linear().replace("    def", "    KEPT.append(x)\n    def").replace("x.T", "KEPT[0].T"),
        r"^dw |dw is wrong: is one of the first kept",
    ),
    (
        "w for its transpose",
        linear(dx="dy @ w"),
        r"^dx sums over the wrong letter of w .*; dw and db are right$",
    ),
    ("dx on its side", linear(dx="w @ dy.T"), r"^dx is transposed; dw and db are right$"),
    ("dy for dx", linear(dx="dy"), r"^dx is dy unchanged"),
    ("dw the other way round", linear(dw="dy.T @ x"), r"^dw is transposed; dx and db are right$"),
    ("db for every row", linear(db="dy"), r"^db is not summed over the rows.*; dx and dw are right$"),
    ("db summed over the outputs", linear(db="dy.sum(axis=1)"), r"^db does not have the shape of b"),
    ("db as one number", linear(db="dy.sum()"), r"^db does not have the shape of b"),
    ("db a mean", linear(db="dy.mean(axis=0)"), r"^db is a mean over the rows"),
    ("dw a mean", linear(dw="x.T @ dy / len(x)"), r"^dw is a mean over the rows"),
    ("dx with a minus", linear(dx="-dy @ w.T"), r"^dx has the wrong sign"),
    ("no db", linear(db="0 * b"), r"^db is zero where it should not be"),
    ("the product of unlike shapes", linear(dw="x @ dy"), r"^ValueError at line 4, `return .*matmul"),
    ("db left for later", linear(db="..."), r"^not written yet: db is still"),
    (
        "two gradients",
        linear().replace(", dy.sum(axis=0)", ""),
        r"back gives 2 gradients; it should give 3: dx, dw, db",
    ),
    ("the forward without b", linear().replace(" + b", ""), r"^the forward is not right"),
    ("no back", "def my_linear(x, w, b): return x @ w + b", r"should give two things"),
]
