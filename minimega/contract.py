"""What an operation must return: `(y, back)`, and from `back` one gradient for each positional argument.

Without these checks the engine would often go on silently: the two rows of an array unpack as if they were
`y, back`, and a missing gradient would leave a weight untrained.
"""

import inspect
from collections.abc import Callable


class WrongOperation(TypeError):
    """An operation returned something that the engine cannot use; the message says what it must return."""


class WrongShape(ValueError):
    """A gradient does not have the shape of its value."""


def value_and_back(name: str, returned) -> tuple:
    """The (y, back) that an operation returned; raises WrongOperation for anything else.

    >>> value_and_back("double", 2.0)
    Traceback (most recent call last):
    minimega.contract.WrongOperation: double returned a float. An operation must return (y, back): its value,
    an array, and the function of dy that returns the gradients of its arguments.
    """
    pair = isinstance(returned, tuple) and len(returned) == 2
    if not (pair and _is_array(returned[0]) and callable(returned[1])):
        raise WrongOperation(
            f"{name} returned {_described(returned)}. An operation must return (y, back): its value,\n"
            f"an array, and the function of dy that returns the gradients of its arguments."
        )
    return returned


def called(name: str, back: Callable, *dy):
    """What `back` returns; an error inside it is raised with the operation's name as a note."""
    try:
        return back(*dy)
    except Exception as error:
        error.add_note(f"in the backward of {name}")
        raise


def each_gradient(name: str, given, inputs: tuple, most: int) -> tuple:
    """The gradients that `back` returned, as a tuple.

    Raises WrongOperation if they do not reach the last of `inputs` that is not None (a Tensor), or are more
    than `most`.

    >>> each_gradient("double", 2.0, ("x", None), 2)
    (2.0,)
    """
    gradients = given if isinstance(given, tuple) else (given,)
    needed = max((i for i, x in enumerate(inputs, 1) if x is not None), default=0)
    if given is None and needed:
        raise WrongOperation(f"the back of {name} returned nothing; (None,) says that there is no gradient")
    if not needed <= len(gradients) <= most:
        arguments = needed if len(gradients) < needed else most
        found = f"{_count(len(gradients), 'gradient')} for {_count(arguments, 'argument')}"
        raise WrongOperation(
            f"the back of {name} gave {found}.\n"
            f"It must return one per positional argument, at least up to the last Tensor; None stands for no "
            f"gradient."
        )
    return gradients


def check_gradient(name: str, dx, shape: tuple[int, ...]) -> None:
    """Raise WrongOperation if a gradient is not an array, WrongShape if it lacks the shape of its value."""
    if not hasattr(dx, "nbytes"):  # a Tensor has none
        raise WrongOperation(
            f"the back of {name} gave {_described(dx)} for a gradient. It must return an array, None, or a\n"
            f"function that returns the array; for several arguments, a tuple of these."
        )
    if dx.shape != shape:
        raise WrongShape(
            f"the back of {name} gave a gradient of shape {dx.shape} for a value of shape {shape}"
        )


def positional(f: Callable) -> int:
    """How many named arguments a function takes by position (0 if it has no signature).

    >>> positional(lambda x, w, b=None, *, axis: x)
    3
    """
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # compiled functions may have no signature
        return 0
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + "s" * (n != 1)


def _is_array(y) -> bool:
    return hasattr(y, "nbytes") or isinstance(y, int | float | complex)


def _described(thing) -> str:
    if isinstance(thing, tuple):
        return f"({', '.join(_described(part) for part in thing)})"
    shape = getattr(thing, "shape", None)
    if thing is None or shape is None:
        return "None" if thing is None else f"a {type(thing).__name__}"
    return f"{'an array' if _is_array(thing) else 'a ' + type(thing).__name__} of shape {shape}"
