"""Typical wrong answers to lesson 13."""

PICK = """\
def pick(logits, u, p=1.0, temperature=1.0):
    order = {order}
    chance = {chance}
    before = {before}
    ends = np.cumsum({kept})
    return {token}
"""

SOFTMAX = "softmax(logits[order] / temperature)[0]"


def pick(
    order: str = "np.argsort(-logits, kind='stable')",
    chance: str = SOFTMAX,
    before: str = "np.cumsum(chance) - chance",
    kept: str = "chance[before < p]",
    token: str = "order[np.searchsorted(ends, u * ends[-1], side='right')]",
) -> str:
    return PICK.format(order=order, chance=chance, before=before, kept=kept, token=token)


WRONG = [
    (
        "the token that crosses p is dropped",
        pick(before="np.cumsum(chance) - 1e-9"),
        r"^0.4 alone does not reach 0.55",
    ),
    ("unsorted", pick(order="np.arange(len(logits))"), r"^the first tokens of the vocabulary"),
    ("the least likely first", pick(order="np.argsort(logits)"), r"^the least likely tokens are kept first"),
    (
        "the place, not the token",
        pick(token="np.searchsorted(ends, u * ends[-1])"),
        r"^you return a place in the sorted",
    ),
    (
        "the temperature after the softmax",
        pick(chance="softmax(logits[order])[0] / temperature; chance /= chance.sum()"),
        r"^the temperature has no effect",
    ),
    (
        "times the temperature",
        pick(chance=SOFTMAX.replace("/", "*")),
        r"^the temperature works the wrong way",
    ),
    (
        "p by the probabilities of temperature 1",
        pick(
            before="np.cumsum(softmax(logits[order])[0]) - softmax(logits[order])[0]",
        ),
        r"^the temperature comes too late",
    ),
    ("<= where < belongs", pick(kept="chance[before <= p]"), r"^of four equal tokens"),
    (
        "the border belongs to the first",
        pick(token="order[np.searchsorted(ends, u * ends[-1])]"),
        r"^a number on the border",
    ),
    (
        "not made to add up to 1",
        pick(token="order[min((ends <= u).sum(), len(ends) - 1)]"),
        r"^the right tokens are kept",
    ),
    (
        "the sum that should reach 1",
        "def pick(logits, u, p=1.0, temperature=1.0):\n"
        "    order = np.argsort(-logits)\n"
        "    ends = np.cumsum(softmax(logits / temperature)[0][order])\n"
        "    count = np.argmax(ends >= p) + 1\n"
        "    return order[np.argmax(ends[:count] / ends[count - 1] > u)]",
        r"^with p = 1 all tokens stay",
    ),
    (
        "the sum that should reach 1, by searchsorted",
        "def pick(logits, u, p=1.0, temperature=1.0):\n"
        "    order = np.argsort(-logits)\n"
        "    ends = np.cumsum(softmax(logits / temperature)[0][order])\n"
        "    count = np.searchsorted(ends, p) + 1\n"
        "    return order[np.argmax(ends[:count] / ends[count - 1] > u)]",
        r"^with p = 1 all tokens stay",
    ),
    (
        "p of all tokens",
        pick(kept="chance[:max(1, int(p * len(chance)))]"),
        r"^a token of probability 0.8 reaches 0.5",
    ),
    (
        "its own random draw",
        "def pick(logits, u, p=1.0, temperature=1.0):\n"
        "    return np.random.choice(len(logits), p=softmax(logits / temperature)[0])",
        r"^the same u gives another token",
    ),
    ("p is not used", pick(kept="chance"), r"^p has no effect"),
    (
        "greedy",
        "def pick(logits, u, p=1.0, temperature=1.0): return logits.argmax()",
        r"^with p = 1, the same token comes",
    ),
    (
        "exp of the logits as they are",
        pick(chance="np.exp(logits[order] / temperature); chance = chance / chance.sum()"),
        r"^logits of 2000 overflow",
    ),
    (
        "from the unlikeliest down",
        "def pick(logits, u, p=1.0, temperature=1.0):\n"
        "    order = np.argsort(-logits, kind='stable')\n"
        "    chance = softmax(logits[order] / temperature)[0]\n"
        "    kept = order[np.cumsum(chance) - chance < p][::-1]\n"
        "    ends = np.cumsum(chance[: len(kept)][::-1])\n"
        "    return kept[np.searchsorted(ends, u * ends[-1], side='right')]",
        r"^the pieces begin with the unlikeliest token",
    ),
    (
        "the logits in place",
        "def pick(logits, u, p=1.0, temperature=1.0):\n    logits -= 1\n"
        + "".join(pick().splitlines(True)[1:]),
        r"^logits is changed in place",
    ),
    ("probabilities, not a token", pick(token="chance"), r"^ValueError.* is not a token"),
]
