"""Typical wrong answers to lesson 18."""

COMBINE = """\
def combine(loss_sum, grad_sum, count, group):
    n = group.all_reduce(count)
    loss = {loss}
    grad = {grad}
    return loss, grad
"""
LOSS, GRAD = "group.all_reduce(loss_sum) / n", "group.all_reduce(grad_sum) / n"


def combine(loss: str = LOSS, grad: str = GRAD) -> str:
    return COMBINE.format(loss=loss, grad=grad)


MEANS = combine(*(f"group.all_reduce({s} / count) / group.size" for s in ("loss_sum", "grad_sum")))
OWN = combine(*(f"group.all_reduce({s}) / count" for s in ("loss_sum", "grad_sum")))
WRONG = [
    ("a mean of means", MEANS, r"^the loss is a mean of the ranks' means: the one token of rank 1"),
    ("divided by the own count", OWN, r"the loss is all ranks' sum, but divided by the tokens of this rank"),
    (
        "the gradient not added up",
        combine(grad="grad_sum / n"),
        r"the gradient is this rank's share alone: .* but not added up$",
    ),
    (
        "a mean over the ranks, too",
        combine(grad=f"{GRAD} / group.size"),
        r"^the gradient is divided by all ranks' tokens, and by the number of ranks as well$",
    ),
    (
        "own means, weighted",
        combine(grad="group.all_reduce(grad_sum / count * count) / n"),
        r"^right, until a rank has counted no token at all",
    ),
    (
        "divided by the number of ranks",
        combine(loss="group.all_reduce(loss_sum) / group.size"),
        r"^on one rank with 5 counted tokens: the loss is a sum over its tokens, not a mean$",
    ),
    (
        "a gradient that is a sum",
        combine(grad="group.all_reduce(grad_sum)"),
        r"^on one rank with 5 counted tokens: the gradient is a sum over its tokens",
    ),
    (
        "a mean of a mean",
        combine(grad=f"{GRAD} / n"),
        r"^on one rank with 5 counted tokens: the gradient is divided by its tokens twice$",
    ),
    (
        "a rank without tokens that goes its own way",
        combine().replace("    n =", "    if not count:\n        return 0.0, 0 * grad_sum\n    n ="),
        r"until a rank has counted no token at all \(rank 2\)$",
    ),
    ("the loss only", combine().replace("return loss, grad", "return loss"), r"should return two things"),
    ("the gradient left for later", combine(grad="..."), r"^not written yet: the gradient is still"),
]
