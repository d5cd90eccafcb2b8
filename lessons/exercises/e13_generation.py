"""Lesson 13: the choice of a token, by a number from 0 to 1."""

import re

import numpy as np

from minimega.learn.verdict import Case, Verdict, unlike, values, written
from minimega.ops import softmax

TASK = (
    "Write pick(logits, u, p, temperature): the token at which u points, among the most likely that reach p."
)

HINT = """\
Draw the line from 0 to 1 for four tokens, with the most likely one first. Where are the borders of their
pieces?"""

MORE = """\
Sort first: the tokens, the most likely one first, and the logits with them (np.argsort gives the order). In
this order, the running sum of the probabilities (np.cumsum) says where each piece ends; where does it begin,
and which pieces are needed to reach p? u finds a place in that order, and the order says which token is
there."""

SOLUTION = '''\
def pick(logits, u, p=1.0, temperature=1.0):
    """The token that the number u in [0, 1) points at: logits (V,) -> an integer.

    The logits are divided by the temperature. Only the most likely tokens are kept, the fewest that together
    reach the probability p. They share the line from 0 to 1 in proportion, the most likely first. Each has
    its piece [begin, end).
    """
    order = np.argsort(-logits, kind="stable")
    probability = softmax(logits[order] / temperature)[0]
    before = np.cumsum(probability) - probability
    ends = np.cumsum(probability[before < p])
    return order[np.searchsorted(ends, u * ends[-1], side="right")]
'''

GIVEN = {"softmax": softmax}

CHANCES, ONE = np.array([0.2, 0.1, 0.4, 0.3]), np.array([0.05, 0.05, 0.8, 0.1])
OTHERS = [np.arange(1, n) / sum(range(1, n)) for n in (8, 12, 20)]
MANY = (np.arange(1000) + 0.5) / 1000
EIGHTHS = np.arange(8) / 8
RIGHT = "each token comes as often as its probability says, and the fewest that reach p are kept"


def shares(pick, chances, numbers, order, **options) -> np.ndarray:
    """How often each token comes for these numbers u; the largest share first if `order` is "sorted"."""
    with np.errstate(divide="ignore"):
        logits = np.log(chances) if order != "logits" else np.array(chances)
    tokens = [written(pick(logits, u, **options), "what your function returns") for u in numbers]
    for token in tokens:
        if np.ndim(token) or token not in range(len(logits)):
            raise ValueError(f"{token!r} is not a token: tokens are integers from 0 to {len(logits) - 1}")
    found = np.bincount(np.array(tokens, int), minlength=len(logits)) / len(numbers)
    return np.sort(found)[::-1] if order == "sorted" else found


def judge(pick) -> Verdict:
    """If it is right for a p that needs every token, but wrong for 1, it is the rounding of a sum."""
    try:
        found, error = _judge(pick, 1.0), None
    except IndexError as raised:
        found, error = Verdict(False, ""), raised
    if not found.ok:
        if _tried(lambda: _judge(pick, 0.9999).ok):
            return Verdict(
                False,
                "with p = 1 all tokens stay, but their probabilities may add up to 0.9999999999999999",
            )
        if _tried(lambda: _draws(pick)):
            return Verdict(
                False, "the same u gives another token the second time: u is the only random number"
            )
    if error:
        raise error
    return _in_order(pick) if found.ok else found


def _in_order(pick) -> Verdict:
    """Which token it is for which u: the most likely first. And p and temperature may be left out."""
    numbers = [0.0, 0.2, 0.39, 0.41, 0.69, 0.71, 0.89, 0.91, 0.999]
    logits, wanted = np.log(CHANCES), [2, 2, 2, 3, 3, 0, 0, 1, 1]
    got = [pick(logits.copy(), u) for u in numbers]
    if unlike(got, wanted, ""):
        says = "each token comes as often as it should, but the most likely one has to have the first piece"
        if not unlike(got, [1, 0, 3, 3, 2, 2, 2, 2, 2], ""):
            says = "the pieces begin with the unlikeliest token; the most likely one has the first piece"
        return Verdict(False, says, f"for u of {numbers} these tokens: {list(map(int, got))}; not {wanted}")
    return Verdict(True, RIGHT)


def _tried(question) -> bool:
    """Its answer; False if it raises."""
    try:
        return question()
    except Exception:
        return False


def _draws(pick) -> bool:
    first, again = ([int(pick(np.log(CHANCES), u)) for u in MANY[::20]] for _ in range(2))
    return first != again


def _judge(pick, all_of_them: float) -> Verdict:
    """Each case is one that a typical mistake gets wrong; it compares how often each token comes."""

    def of(chances, numbers, order="", p=all_of_them, temperature=1.0):
        try:
            return shares(pick, chances, numbers, order, p=p, temperature=temperature)
        except (IndexError, ValueError):
            if order != "logits":
                raise
            return np.full(len(chances), np.nan)

    two = np.array([0, 0, 4, 3]) / 7
    half = CHANCES**2 / (CHANCES**2).sum()
    one = "a token of probability 0.8 reaches 0.5 alone, but yours keeps others: is p a share of the tokens?"
    few = "with p = 0.05 the most likely token, of probability 0.4, reaches p alone; yours keeps others"
    cold = "the temperature comes too late: p counts the probabilities of temperature 1"
    even, third = np.full(4, 0.25), "of four equal tokens two reach 0.5 exactly, and a third one is kept"
    border = "a number on the border of two tokens goes to the first; it belongs to the second: [begin, end)"
    with np.errstate(all="ignore"):
        found = values(
            of,
            [
                Case((CHANCES, MANY), CHANCES, _about_chances, 2e-3),
                Case((CHANCES, MANY, "", 0.55), two, _about_p, 2e-3),
                Case((CHANCES, MANY, "", 0.05), np.array([0, 0, 1, 0]), few, 2e-3),
                Case((ONE, MANY, "", 0.5), np.array([0, 0, 1, 0]), one, 2e-3),
                Case((CHANCES, MANY, "", all_of_them, 0.5), half, _about_temperature, 2e-3),
                Case((CHANCES, MANY, "", 0.5, 0.5), np.array([0, 0, 1, 0]), cold, 2e-3),
                *(Case((chances, MANY), chances, _about_chances, 2e-3) for chances in OTHERS),
                Case((even, EIGHTHS, "sorted"), even, border),
                Case((even, EIGHTHS, "sorted", 0.5), [0.5, 0.5, 0, 0], third),
                Case(
                    ([0.0, 2000.0, 2000.0], EIGHTHS, "logits"),
                    [0, 0.5, 0.5],
                    "logits of 2000 overflow in exp",
                ),
            ],
            RIGHT,
        )
    said = re.sub(r"the result is (\S+) at \((\d+),\)", r"token \2 comes for \1 of all u", found.detail)
    return found._replace(detail=said)


def _about_chances(got) -> str:
    if np.max(got) == 1:
        return "with p = 1, the same token comes for every u"
    if len(got) == len(CHANCES) and np.allclose(np.sort(got), np.sort(CHANCES), atol=3e-3):
        return "you return a place in the sorted order, not the token at that place"
    return "with p = 1 and temperature 1, the tokens do not come as often as their probabilities say"


def _about_p(got) -> str:
    if np.allclose(got, [0, 0, 1, 0]):
        return "0.4 alone does not reach 0.55: the token with which the sum crosses p is dropped"
    if np.allclose(got, CHANCES, atol=3e-3):
        return "p has no effect: with p = 0.55 the probabilities are those of p = 1"
    if got[2] < 0.01:
        return "the least likely tokens are kept first, and the most likely one is dropped"
    if got[0] > 0.05 and got[3] < 0.01:
        return "the first tokens of the vocabulary are kept, not the most likely ones"
    if np.allclose(got[:2], 0):
        return "the right tokens are kept, but their probabilities are not rescaled to add up to 1"
    return "p = 0.55 keeps the tokens of probability 0.4 and 0.3, in shares of 4 to 3; your shares differ"


def _about_temperature(got) -> str:
    root = np.sqrt(CHANCES) / np.sqrt(CHANCES).sum()
    if np.allclose(got, CHANCES, atol=3e-3):
        return "the temperature has no effect: dividing probabilities is undone when they are rescaled"
    if np.allclose(got, root, atol=3e-3):
        return "the temperature works the wrong way: at 0.5 unlikely tokens come more often, not less often"
    return "at temperature 0.5 the tokens do not come as often as softmax(logits / 0.5) says"
