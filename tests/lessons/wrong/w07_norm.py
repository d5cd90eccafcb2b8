"""Typical wrong answers to lesson 07."""

NORM = """\
def my_layer_norm(x, w, b, eps=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    r = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
    xhat = centred * r
    y = xhat * w + b

    def mean(a):
        return a.mean(axis=-1, keepdims=True)

    def back(dy):
        dxhat = {dxhat}
        return {dx}, {dw}, {db}

    return y, back
"""
BOTH = "r * (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat))"


def norm(
    dxhat: str = "dy * w", dx: str = BOTH, dw: str = "(dy * xhat).sum(axis=0)", db: str = "dy.sum(axis=0)"
) -> str:
    return NORM.format(dxhat=dxhat, dx=dx, dw=dw, db=db)


WRONG = [
    (
        "the mean and r treated as constants",
        norm(dx="r * dxhat"),
        r"^both terms, .* missing from dx, or wrong: .*; dw and db are right$",
    ),
    (
        "no term of the mean",
        norm(dx="r * (dxhat - xhat * mean(dxhat * xhat))"),
        r"^the term that comes through the mean is missing",
    ),
    (
        "no term of the variance",
        norm(dx="r * (dxhat - mean(dxhat))"),
        r"^the term that comes through the variance is missing",
    ),
    (
        "the variance's term with x for xhat",
        norm(dx="r * (dxhat - mean(dxhat) - x * mean(dxhat * x))"),
        r"^the term through the variance is made with x, not",
    ),
    (
        "the variance's term with a plus",
        norm(dx="r * (dxhat - mean(dxhat) + xhat * mean(dxhat * xhat))"),
        r"^the term that comes through the variance has the wrong sign",
    ),
    (
        "sums for means",
        norm(dx="r * (dxhat - dxhat.sum(-1, keepdims=True) - xhat * (dxhat * xhat).sum(-1, keepdims=True))"),
        r"^the two terms of dx are sums",
    ),
    (
        "means over the rows",
        norm(dx="r * (dxhat - dxhat.mean(0) - xhat * (dxhat * xhat).mean(0))"),
        r"^the means of dx run over the rows",
    ),
    (
        "means over everything",
        norm(dx="r * (dxhat - dxhat.mean() - xhat * (dxhat * xhat).mean())"),
        r"^the means of dx run over all rows together",
    ),
    (
        "r in the first term only",
        norm(dx="r * dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)"),
        r"^r multiplies only the first term of dx",
    ),
    ("r twice", norm(dx="r * " + BOTH), r"^r is in dx twice"),
    ("both terms with a plus", norm(dx=BOTH.replace("-", "+")), r"^the terms .* have the wrong sign"),
    (
        "the mean's term with a plus",
        norm(dx=BOTH.replace("-", "+", 1)),
        r"^the term that comes through the mean has the wrong sign",
    ),
    (
        "no xhat in front",
        norm(dx="r * (dxhat - mean(dxhat) - mean(dxhat * xhat))"),
        r"^the term through the variance is the same for the whole row",
    ),
    (
        "divided by D - 1",
        norm(dx="r * (dxhat - 6 / 5 * (mean(dxhat) + xhat * mean(dxhat * xhat)))"),
        r"^the two terms of dx are divided by D - 1",
    ),
    ("dw with dxhat", norm(dw="(dxhat * xhat).sum(axis=0)"), r"^dw is made with dxhat"),
    ("r left out", norm(dx=BOTH[4:]), r"^r is left out of dx"),
    ("divided by r", norm(dx=BOTH[4:] + " / r"), r"^dx is divided by r"),
    ("w left out", norm(dxhat="dy"), r"^w is left out of dx.*; dw and db are right$"),
    (
        "w only in the first term",
        norm(dx="r * (dxhat - mean(dy) - xhat * mean(dy * xhat))"),
        r"^w is left out of the two terms",
    ),
    ("dw with x for xhat", norm(dw="(dy * x).sum(axis=0)"), r"^dw is made with x, but"),
    ("dw with centred for xhat", norm(dw="(dy * centred).sum(axis=0)"), r"^dw is made with x minus"),
    ("dw for every row", norm(dw="dy * xhat"), r"^dw is not summed over the rows.*; dx and db are right$"),
    ("db summed over the features", norm(db="dy.sum(axis=1)"), r"^db does not have the shape of b"),
    ("db a mean", norm(db="dy.mean(axis=0)"), r"^db is a mean over the rows"),
    ("dx with a minus", norm(dx="-" + BOTH), r"^dx has the wrong sign"),
    (
        "means that are no columns",
        norm(dx="r * (dxhat - dxhat.mean(axis=-1))"),
        r"^ValueError at line .*broadcast",
    ),
    ("dw and db left for later", norm(dw="...", db="..."), r"^not written yet: dw is still"),
]
