"""Typical wrong answers to lesson 16."""

MLP = """\
def mlp(x, w1, b1, w2, b2, group):
    h, back1 = linear(x, w1, b1)
    a, back_relu = relu(h)
    z, back2 = linear(a, w2)
    y = {y}
    def back(dy):
        dz = {dz}
        db2 = {db2}
        da, dw2, _ = back2(dz)
        part, dw1, db1 = back1(back_relu(da))
        dx = {dx}
        return dx, dw1(), db1(), dw2(), db2
    return y, back
"""
SUM = "group.all_reduce({})".format


def mlp(
    y: str = SUM("z") + " + b2", dz: str = "dy", db2: str = "dy.sum(axis=0)", dx: str = SUM("part")
) -> str:
    return MLP.format(y=y, dz=dz, db2=db2, dx=dx)


WRONG = [
    ("the bias on every rank", mlp(y=SUM("z + b2")), r"^b2 is in y 4 times"),
    ("no all-reduce forward", mlp(y="z + b2"), r"^y is this rank's part of the sum alone$"),
    (
        "f without its all-reduce",
        mlp(dx="part"),
        r"^dx is only this rank's part: the other ranks used x too$",
    ),
    ("g with an all-reduce", mlp(dz=SUM("dy")), r"^dz counts dy 4 times: dy is whole, on every rank$"),
    ("the bias's gradient added up", mlp(db2=SUM("dy.sum(axis=0)")), r"^db2 counts dy 4 times"),
    ("the bias's gradient for each row", mlp(db2="dy"), r"^db2 is not summed over the rows"),
    ("the bias's gradient divided", mlp(db2="dy.sum(axis=0) / group.size"), r"^db2 is divided by the"),
    ("a mean of the parts", mlp(dx=SUM("part") + " / group.size"), r"^dx is a mean over the ranks"),
    ("another dz", mlp(dz="dy * dy"), r"^dz is not the gradient of z: dw2, which back2 makes from it, is"),
    ("dz negative", mlp(dz="-dy"), r"^dz has the wrong sign"),
    ("half of it", mlp(dz="..."), r"^not written yet: a value is still `\.\.\.` at line \d+, `da, dw2"),
]
