"""Arguments under the names that other frameworks give them."""

import re
from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import TypeVar

Kind = TypeVar("Kind", bound=type)

SAME = {"dim": "axis", "keepdim": "keepdims"}  # these are taken as well
INSTEAD = {
    "requires_grad": "every Tensor gets a gradient; constants are plain arrays",
    "dtype": 'give an array: np.asarray(numbers, "float32")',
    "device": "a Tensor lives where its array does: cupy.asarray moves that",
    "betas": "write beta1=0.9, beta2=0.99",
    "momentum": "use mm.Momentum(parameters, lr, beta1=0.9)",
    "amsgrad": "there is no such variant here",
    "learning_rate": "write lr=0.01",
}


def renamed(kind: Kind) -> Kind:
    """A class whose methods with an `axis` take `dim` too, and which explains an argument that it has not.

    >>> @renamed
    ... class Numbers:
    ...     def __init__(self, *numbers): self.numbers = numbers
    ...     def sum(self, axis=None): return axis
    >>> Numbers(1).sum(dim=0)
    0
    >>> Numbers(1, requires_grad=True)
    Traceback (most recent call last):
    TypeError: Numbers has no argument requires_grad: every Tensor gets a gradient; constants are plain arrays
    """
    for name, method in list(vars(kind).items()):
        if name == "__init__":
            kind.__init__ = _explained(method)
        elif callable(method) and name[0] != "_" and {*SAME.values()} & {*signature(method).parameters}:
            setattr(kind, name, _both(method))
    return kind


def _both(method: Callable) -> Callable:
    @wraps(method)
    def either(*inputs, **options):
        if SAME.keys() & options:
            options = {SAME.get(name, name): value for name, value in options.items()}
        return method(*inputs, **options)

    return either


def _explained(init: Callable) -> Callable:
    @wraps(init)
    def explain(self, *inputs, **options):
        try:
            init(self, *inputs, **options)
        except TypeError as why:
            found = re.search(r"unexpected keyword argument '(\w+)'", str(why))
            if found and found[1] in INSTEAD and found[1] in options:
                kind = type(self).__name__
                raise TypeError(f"{kind} has no argument {found[1]}: {INSTEAD[found[1]]}") from None
            raise

    return explain
