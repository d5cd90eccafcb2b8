"""Typical wrong answers to lesson 15."""

GATHER = """\
def gather(x, group, alike):
    y = {y}
    def back(dy):
        if alike:
            return {alike}
        return {apart}
    return y, back
"""
SLICE, SUM = "dy[group.piece(len(dy))]", "group.reduce_scatter(dy)"


def gather(y: str = "group.all_gather(x)", alike: str = SLICE, apart: str = SUM) -> str:
    return GATHER.format(y=y, alike=alike, apart=apart)


WRONG = [
    (
        "the rows of a rank as a number",
        gather(alike="dy[2 * group.rank : 2 * group.rank + 2]"),
        r"^right for the first arrays, but not for others: all ranks do the same",
    ),
    (
        "a slice for all",
        gather(apart=SLICE),
        r"^each rank does something different.* lacks what the other ranks did",
    ),
    ("what is whole added up", gather(alike=SUM), r"^all ranks do the same.* counts it once for every rank$"),
    (
        "an all-reduce",
        gather(apart="group.all_reduce(dy)"),
        r"added up, but not cut: x has only this rank's rows$",
    ),
    (
        "an all-reduce, then the first rows",
        gather(apart="group.all_reduce(dy)[:len(x)]"),
        r"^on rank 1 of 4: .* these are the rows of rank 0$",
    ),
    (
        "an all-reduce, then the right rows",
        gather(apart="group.all_reduce(dy)[group.piece(len(dy))]"),
        r"^every number is right, but some are sent that nobody needs$",
    ),
    ("a mean", gather(apart=f"{SUM} / group.size"), r"a mean over the ranks, but each of them used"),
    (
        "divided by the ranks",
        gather(alike=f"{SLICE} / group.size"),
        r"^all ranks do the same.* is divided by",
    ),
    (
        "no backward",
        gather(alike="dy"),
        r"^all ranks do the same.* gradient of all rows, but x has only",
    ),
    ("a sum forward", gather(y="group.all_reduce(x)"), r"^y is not all ranks' rows"),
    ("one half", gather(apart="..."), r"^not written yet: dx, if the ranks do not do the same, is still"),
]
