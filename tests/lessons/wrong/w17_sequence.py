"""Typical wrong answers to lesson 17."""

LOSS = """\
def loss(logits, targets, first, group):
    rows, place = np.arange(len(targets)), targets - first
    here = {here}
    highest = {highest}
    total = {total}
    right = {right}
    return (np.log(total) + highest[:, 0] - right).mean()
"""
OWN = "logits.max(axis=1, keepdims=True)"
RIGHT = {
    "here": "(0 <= place) & (place < logits.shape[1])",
    "highest": f'group.all_reduce({OWN}, "max")',
    "total": "group.all_reduce(np.exp(logits - highest).sum(axis=1))",
    "right": "group.all_reduce(logits[rows, place * here] * here)",
}


def loss(**wrong: str) -> str:
    return LOSS.format(**RIGHT | wrong)


WRONG = [
    (
        "the largest of the own logits",
        loss(highest=OWN),
        r"^right where all ranks have the same largest logit, wrong where they differ$",
    ),
    (
        "one largest logit for all rows",
        loss(highest='group.all_reduce(logits.max(keepdims=True), "max")'),
        r"^with rows near -3000, 0 and 2000 it is wrong",
    ),
    (
        "the first row's largest logit",
        loss(highest=f'group.all_reduce({OWN}, "max")[:1]'),
        r"^with rows near -3000, 0 and 2000 it is wrong",
    ),
    (
        "the mean logit",
        loss(highest='group.all_reduce(logits.mean(axis=1, keepdims=True), "max")'),
        r"^right for logits near each other, wrong where thousands lie between them$",
    ),
    (
        "no largest logit",
        loss(highest="np.zeros((len(targets), 1))"),
        r"^right for small logits; with logits near 1000",
    ),
    (
        "the maxima added up",
        loss(highest=f"group.all_reduce({OWN})"),
        r"^right for small logits; with logits",
    ),
    (
        "the sum of the own exponentials",
        loss(total="np.exp(logits - highest).sum(axis=1)"),
        r"logarithm of this rank's tokens, not of all$",
    ),
    (
        "a target on every rank",
        loss(right="group.all_reduce(logits[rows, np.clip(place, 0, logits.shape[1] - 1)])"),
        r"^the target's logit counts 4 times",
    ),
    (
        "the first token forgotten",
        loss(right="group.all_reduce(logits[rows, targets * (targets < 2)] * (targets < 2))"),
        r"^token 1 counts on every rank and token 4 on none",
    ),
    (
        "only its own targets",
        loss(right="logits[rows, place * here] * here"),
        r"^the target's logit is missing if another rank has it$",
    ),
    (
        "a token after the last",
        loss(
            here="(0 <= place) & (place <= logits.shape[1])",
            right="group.all_reduce(logits[rows, np.clip(place, 0, logits.shape[1] - 1)] * here)",
        ),
        r"counts twice if it follows a rank's last token, as 3 does on rank 0$",
    ),
    (
        "the first token left out",
        loss(here="(0 < place) & (place < logits.shape[1])"),
        r"missing if it is the first token of a rank, as 3 is of rank 1$",
    ),
    (
        "the largest logit left in the sum",
        loss(total="group.all_reduce(np.exp(logits).sum(axis=1))"),
        r"^too large by the largest logit, 2: it is still in total",
    ),
    (
        "the largest of what the ranks have",
        loss(right='group.all_reduce(logits[rows, place * here] * here, "max")'),
        r"^right where the targets' logits are above 0, wrong where they are below$",
    ),
    (
        "the first token of each rank",
        loss(right="group.all_reduce(logits[:, 0] * here)"),
        r"^the logit that is subtracted is not that of the target$",
    ),
    (
        "targets beyond the own columns",
        loss(right="group.all_reduce(logits[rows, targets])"),
        r"IndexError at line 6, `right = ",
    ),
    (
        "the target left for later",
        loss(right="..."),
        r"^not written yet: a value is still `\.\.\.` at line",
    ),
]
