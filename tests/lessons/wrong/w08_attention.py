"""Typical wrong answers to lesson 08."""

ATTENTION = """\
def my_attention(q, k, v):
    scale = q.shape[-1] ** -0.5
    w = attention_weights({forward}, k)
    y = w @ v

    def back(dy):
        dw = {dw}
        ds = {ds}
        return {dq}, {dk}, {dv}

    return y, back
"""


def attention(
    dw: str = "dy @ v.T",
    ds: str = "w * (dw - (w * dw).sum(axis=-1, keepdims=True))",
    dq: str = "scale * ds @ k",
    dk: str = "scale * ds.T @ q",
    dv: str = "w.T @ dy",
    forward: str = "q * scale",
) -> str:
    return ATTENTION.format(dw=dw, ds=ds, dq=dq, dk=dk, dv=dv, forward=forward)


WRONG = [
    ("no scale in dq", attention(dq="ds @ k"), r"^dq lacks the scale: .*; dk and dv are right$"),
    ("no scale in dk", attention(dk="ds.T @ q"), r"^dk lacks the scale: .*; dq and dv are right$"),
    (
        "no scale in dq and dk",
        attention(dq="ds @ k", dk="ds.T @ q"),
        r"^dq lacks the scale: .*; dk is wrong too; dv is right$",
    ),
    ("the scale twice", attention(dq="scale * scale * ds @ k"), r"^dq has the scale twice"),
    (
        "divided by the scale",
        attention(dq="ds @ k / scale", dk="ds.T @ q / scale"),
        r"^dq is divided by the scale",
    ),
    ("no sum of the softmax", attention(ds="w * dw"), r"^ds lacks the sum that softmax subtracts"),
    (
        "the sum over the queries",
        attention(ds="w * (dw - (w * dw).sum(axis=0, keepdims=True))"),
        r"^the sum in ds runs over the queries",
    ),
    (
        "the plain sum",
        attention(ds="w * (dw - dw.sum(axis=-1, keepdims=True))"),
        r"^the sum in ds is not weighted by w",
    ),
    (
        "the plain mean",
        attention(ds="w * (dw - dw.mean(axis=-1, keepdims=True))"),
        r"^the sum in ds is a plain mean",
    ),
    (
        "the sum without w around",
        attention(ds="w * dw - (w * dw).sum(axis=-1, keepdims=True)"),
        r"^the sum in ds is not multiplied by w",
    ),
    (
        "the sum with a plus",
        attention(ds="w * (dw + (w * dw).sum(axis=-1, keepdims=True))"),
        r"^the sum in ds has the wrong sign",
    ),
    (
        "the sum without keepdims",
        attention(ds="w * (dw - (w * dw).sum(axis=-1))"),
        r"^the sum of each row is taken from a column",
    ),
    ("the sum over everything", attention(ds="w * (dw - (w * dw).sum())"), r"^the sum in ds runs over all"),
    (
        "the mean of w dw",
        attention(ds="w * (dw - (w * dw).mean(axis=-1, keepdims=True))"),
        r"^the sum in ds is divided by T",
    ),
    (
        "w outside of the sum",
        attention(ds="w * (dw - w * dw.sum(axis=-1, keepdims=True))"),
        r"^the sum in ds is of dw alone",
    ),
    (
        "no w in front",
        attention(ds="dw - (w * dw).sum(axis=-1, keepdims=True)"),
        r"^ds is not multiplied by w",
    ),
    (
        "dq and dk in the wrong order",
        attention(dq="scale * ds.T @ q", dk="scale * ds @ k"),
        r"^the gradients are in the wrong order",
    ),
    ("dv with the scale", attention(dv="scale * w.T @ dy"), r"^dv has the scale in it"),
    (
        "only the part above the diagonal",
        attention(ds="np.triu(w * (dw - (w * dw).sum(axis=-1, keepdims=True)))"),
        r"^ds is masked on the wrong side",
    ),
    ("the softmax left out", attention(ds="dw"), r"^ds is dw itself: the softmax"),
    ("the softmax left out, masked", attention(ds="np.tril(dw)"), r"^ds is dw itself, masked"),
    (
        "w (1 - w): the diagonal alone",
        attention(ds="w * (1 - w) * dw"),
        r"^ds has the diagonal of softmax alone",
    ),
    (
        "masked once more, off by one",
        attention(ds="np.tril(w * (dw - (w * dw).sum(-1, keepdims=True)), -1)"),
        r"^ds is masked off by one",
    ),
    (
        "ds not transposed in dk",
        attention(dk="scale * ds @ q"),
        r"^dk has ds the wrong way round.*; dq and dv are right$",
    ),
    ("ds transposed in dq", attention(dq="scale * ds.T @ k"), r"^dq has ds the wrong way round"),
    (
        "w not transposed in dv",
        attention(dv="w @ dy"),
        r"^dv has w the wrong way round.*; dq and dk are right$",
    ),
    (
        "q and k exchanged",
        attention(dq="scale * ds @ q", dk="scale * ds.T @ k"),
        r"^dq is made with q: .*; dk is wrong too",
    ),
    ("dw transposed", attention(dw="v @ dy.T"), r"^dw is transposed"),
    ("dv from ds", attention(dv="ds.T @ dy"), r"^dv is made with ds"),
    ("dq with a minus", attention(dq="-scale * ds @ k"), r"^dq has the wrong sign"),
    ("dv for the values", attention(dv="w.T @ v"), r"^dv is made with v; it is dy"),
    ("the product of unlike shapes", attention(dw="dy @ v"), r"^ValueError at line 7, `dw = dy @ v`"),
    ("the forward without its scale", attention(forward="q"), r"^the forward is not right yet"),
    (
        "no sum, and no scale",
        attention(ds="w * dw", dq="ds @ k", dk="ds.T @ q"),
        r"^ds lacks the sum that softmax .*; and dq lacks the scale",
    ),
    ("dk left for later", attention(dk="..."), r"^not written yet: dk is still"),
]
