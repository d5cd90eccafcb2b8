"""Typical wrong answers to lesson 10."""

BLOCK = """\
def block(x, attention, mlp, norm1, norm2):
    n1, back_norm1 = norm1(x)
    a, back_attention = attention(n1)
    h = {h}
    n2, back_norm2 = norm2(h)
    m, back_mlp = mlp(n2)
    y = {y}
    def back(dy):
        dh = {dh}
        return {dx}
    return y, back
"""
DH, DX = "dy + back_norm2(back_mlp(dy))", "dh + back_norm1(back_attention(dh))"


def block(h: str = "x + a", y: str = "h + m", dh: str = DH, dx: str = DX) -> str:
    return BLOCK.format(h=h, y=y, dh=dh, dx=dx)


POST = """\
def block(x, attention, mlp, norm1, norm2):
    a, back_attention = attention(x)
    h, back_norm1 = norm1(x + a)
    m, back_mlp = mlp(h)
    y, back_norm2 = norm2(h + m)
    def back(dy):
        dm = back_norm2(dy)
        da = back_norm1(dm + back_mlp(dm))
        return da + back_attention(da)
    return y, back
"""

WRONG = [
    (
        "the first text for all",
        "def block(x, attention, mlp, norm1, norm2):\n"
        "    n1, back_norm1 = norm1(x)\n    a, back_attention = attention(n1)\n    h = x + a[:1]\n"
        "    n2, back_norm2 = norm2(h)\n    m, back_mlp = mlp(n2)\n"
        "    def back(dy):\n        dh = dy + back_norm2(back_mlp(dy))\n"
        "        return dh + back_norm1(back_attention(dh))\n    return h + m, back",
        r"^right for the arrays tried first, but with arrays of other shapes y is wrong",
    ),
    ("no residual path in the backward", block(dh=DH[5:], dx=DX[5:]), r"^dx lacks both residual paths"),
    ("no path around attention", block(dx=DX[5:]), r"^dx lacks the residual path around attention$"),
    ("no path around the mlp", block(dh=DH[5:]), r"^dx lacks the residual path around the mlp$"),
    ("the norms after the sums", POST, r"this is post-norm$"),
    ("norm1 twice", block().replace("norm2(h)", "norm1(h)"), r"^norm1 is used twice"),
    ("norm2 twice", block().replace("norm1(x)", "norm2(x)"), r"^norm2 is used twice"),
    ("the forward without sums", block(h="a", y="m"), r"^nothing goes around: "),
    ("the mlp without its sum", block(y="m"), r"^nothing goes around the mlp"),
    ("the normalised x goes around", block(h="n1 + a"), r"around attention is normalised"),
    ("the normalised x and h go around", block(h="n1 + a", y="n2 + m"), r"around both halves"),
    ("the normalised h goes around", block(y="n2 + m"), r"around the mlp is normalised"),
    ("x around both", block(y="x + m"), r"what attention added is lost"),
    ("both branches from x", block().replace("norm2(h)", "norm2(x)"), r"^the mlp reads x"),
    ("dy into attention's branch", block(dx=DX.replace("(dh)", "(dy)")), r"branch is given dy"),
    ("dy around attention", block(dx=DX.replace("dh +", "dy +")), r"^dy goes around attention"),
    ("only the branch of the mlp", block(dx="dh"), r"lacks the branch of attention"),
    (
        "the backs of a branch in the forward's order",
        block(dh="dy + back_mlp(back_norm2(dy))", dx="dh + back_attention(back_norm1(dh))"),
        r"came first in its branch",
    ),
    ("no back of a norm", block(dh="dy + back_mlp(dy)", dx="dh + back_attention(dh)"), r"backs of the norms"),
    ("one name for both backs", block().replace("back_norm2", "back_norm1"), r"used for both norms"),
    (
        "attention without its norm",
        block().replace("attention(n1)", "attention(x)"),
        r"^attention reads x with",
    ),
    ("the mlp without its norm", block().replace("mlp(n2)", "mlp(h)"), r"^the mlp reads h without"),
    ("x added once more", block(y="x + h + m"), r"^x is added twice"),
    (
        "the mlp first",
        block().replace("attention(n1)", "mlp(n1)").replace("mlp(n2)", "attention(n2)"),
        r"^the mlp comes first",
    ),
    ("no back of norm1", block(dx="dh + back_attention(dh)"), r"^the back of norm1 is missing"),
    ("no back of norm2", block(dh="dy + back_mlp(dy)"), r"^the back of norm2 is missing"),
    (
        "attention's branch in the forward's order",
        block(dx="dh + back_attention(back_norm1(dh))"),
        r"^in attention's branch",
    ),
    ("the mlp's in the forward's order", block(dh="dy + back_mlp(back_norm2(dy))"), r"^in the mlp's branch"),
    ("dy once more", block(dx="dy + " + DX), r"^dy is in dx twice"),
    (
        "the mlp's branch once more",
        block(dx=DX + " + back_norm2(back_mlp(dh))"),
        r"^the mlp's branch is in dx",
    ),
    (
        "the halves in the forward's order",
        block(dh="dy + back_norm1(back_attention(dy))", dx="dh + back_norm2(back_mlp(dh))"),
        r"^the two halves are in the forward's order",
    ),
    (
        "the norm's pair taken for a value",
        block().replace("n2, back_norm2 = norm2(h)", "n2 = norm2(h)"),
        r"at line 6, ",
    ),
    ("dx left for later", block(dx="..."), r"^not written yet: "),
]
