"""Judge a function that returns (y, back): its gradients against finite differences, and what is wrong.

What is said of a wrong gradient is what the checker has seen, and only in words of the lesson: causes that
belong to some lessons alone (the mean of a norm, the mask of attention) are said where `says` names them.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping

import numpy as np

from minimega.gradcheck import Argument, check
from minimega.learn.verdict import TWO_THINGS, Verdict, draw, gradients, parts, unlike

# For each cause that any lesson may name: the sentence about dx, the gradient of x. The beginning of the
# checker's detail tells apart the forms of one cause; "" stands for all others.
SAYS = {
    ("random", ""): "your forward gives a different value when it is called again",
    ("mutated", ""): "an array is changed in place although it is still needed",
    ("stateful", ""): "{dx} changes when back is called a second time",
    ("count", ""): "back does not give a tuple with one gradient per argument",
    ("shape", ""): "{dx} does not have the shape of {x}",
    ("zero", ""): "{dx} is zero where it should not be",
    ("sign", "the sign is wrong"): "{dx} has the wrong sign in some of its entries",
    ("sign", ""): "{dx} has the wrong sign",
    ("scale", "the gradient does not depend"): "{dx} is the same for every dy: the factor dy is missing",
    ("scale", ""): "{dx} is off by a constant factor",
    ("broadcast", "also summed"): "{dx} is summed over an axis along which {x} is not repeated",
    ("broadcast", "summed over"): "{dx} is summed over the wrong axis",
    ("broadcast", "only"): "{dx} has a part from one of the places alone in which {x} is used",
    ("broadcast", "dy is repeated"): "{dx} is repeated along the wrong axis",
    ("broadcast", ""): "{dx} is not summed over the axis along which {x} is repeated",
    ("transposed", "it would be right if"): "{dx} is made with a matrix that should be transposed",
    ("transposed", "an inner matrix"): "{dx} is made with a matrix that should be transposed",
    ("transposed", ""): "{dx} is transposed",
    # suspicions, which may as well be something else
    ("rank-one", "the missing part"): "{dx} is wrong",
    ("path", "what back gives is right as far"): "{dx} is wrong",
    ("precision", ""): "{dx} loses digits",
}
ROUNDED = 4e-6  # of the largest entry: what back may be off by if it computes in float32
GUESSED = "most likely the same mistake"  # how a detail begins that is about another argument


def backward(
    f: Callable,
    reference: Callable,
    *arrays: tuple[int, ...] | np.ndarray,
    right: str = "every gradient agrees with finite differences of the forward",
    says: Mapping[tuple[str, str | None], str] | None = None,
) -> Verdict:
    """Compare f, which returns (y, back), with the reference's y, and its gradients with finite differences.

    Each argument is an array, or a shape to draw one. `says` has this exercise's own sentences, by argument
    and cause: {("b", "broadcast"): "db is not summed over the rows"}. Of a cause that is neither there nor in
    SAYS nothing is said: the verdict is then that the gradient is wrong, and where.

    >>> def square(x):
    ...     return x * x, lambda dy: -2 * dy * x
    >>> print(backward(square, square, np.array([0.5, 2.0])))
    dx has the wrong sign
        the gradient is the true one times -1; at (0,): back gives -0.540974, finite differences give 0.540974
    """
    drawn = [draw(i, a) if isinstance(a, tuple) else a for i, a in enumerate(arrays)]
    y, back = parts(f(*(a.copy() for a in drawn)), ("y", "back"), TWO_THINGS)
    if problem := unlike(y, reference(*(a.copy() for a in drawn))[0], "y"):
        return Verdict(False, "the forward is not right yet, so the backward cannot be judged", problem)
    if not callable(back):
        return Verdict(False, "the second thing that your function gives should be the function back")
    names = list(inspect.signature(f).parameters)[: len(drawn)]
    gradients(back(np.ones_like(y)), [f"d{name}" for name in names])

    @functools.wraps(f)
    def of_tuples(*arguments):  # what the checker knows: a list or one stacked array is as good
        y, back = f(*arguments)
        exact = np.asarray(reference(*arguments)[0])  # a forward in float32 has no finite differences
        y = y if unlike(y, exact, "") else exact
        return np.asarray(y), lambda dy: gradients(back(dy), [f"d{name}" for name in names])

    report = check(of_tuples, *drawn)
    wrong = [a for a in report.arguments if not (a.ok or _rounded(a))]
    if not wrong:
        return Verdict(True, right)
    # changed in place: all that follows from it may be wrong too
    first = next((a for a in wrong if "mutated" in a.candidates), wrong[0])
    sentence, detail = _said(first, says or {})
    rest = [f"d{a.name}" for a in wrong if a is not first]
    fine = [f"d{a.name}" for a in report.arguments if a not in wrong]
    sentence += f"; {_and(rest)} {'is' if len(rest) == 1 else 'are'} wrong too" if rest else ""
    sentence += f"; {_and(fine)} {'is' if len(fine) == 1 else 'are'} right" if fine else ""
    shown = [f"at {i}: back gives {a:.6g}, finite differences give {n:.6g}" for i, a, n in first.entries[:1]]
    return Verdict(False, sentence, "; ".join(filter(None, [detail, *shown])))


def _rounded(a: Argument) -> bool:
    """Whether this gradient is off by the rounding of float32 alone."""
    firm = {"random", "mutated", "stateful", "count", "shape"} & set(a.candidates)
    return a.error <= ROUNDED and not firm


def _said(a: Argument, says: Mapping[tuple[str, str | None], str]) -> tuple[str, str]:
    """The sentence about a wrong gradient, and the checker's detail if that is about the same cause."""
    dx, cause, detail = f"d{a.name}", a.cause or "unknown", re.sub("^(no|wrong) mask: ", "", a.detail)
    if not a.detail.startswith(GUESSED):
        forms = [key for key in SAYS if key[0] == cause and a.detail.startswith(key[1])]
        if (own := says.get((a.name, cause))) and (not forms or not forms[0][1]):
            return own, detail
        if forms:
            return SAYS[forms[0]].format(dx=dx, x=a.name), detail
    return f"{dx} is wrong", detail if cause == "unknown" else ""


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:])
