"""Arguments by the names that other frameworks give them."""

import re
from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])
Kind = TypeVar("Kind", bound=type)

SAME = {"dim": "axis", "keepdim": "keepdims"}  # these are taken as well
NUMPY = ("out", "dtype")  # np.sum(tensor) passes these on as None
INSTEAD = {
    "requires_grad": "every Tensor gets a gradient; constants are plain arrays",
    "dtype": 'give an array: np.asarray(numbers, "float32")',
    "device": "a Tensor lives where its array does: cupy.asarray moves that",
    "betas": "write beta1=0.9, beta2=0.99",
    "momentum": "use mm.Momentum(parameters, lr, beta1=0.9)",
    "amsgrad": "there is no such variant here",
    "learning_rate": "write lr=0.01",
    "n_layer": "write num_layers",
    "n_head": "write nhead",
    "n_embd": "write d_model",
    "hidden_size": "write d_model",
    "block_size": "write context",
    "n_positions": "write context",
}


def renamed(kind: Kind) -> Kind:
    """Let the methods of a class take `dim` for `axis`, and its constructor explain an unknown argument.

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
            setattr(kind, name, _explained(method))
        elif callable(method) and name[0] != "_":
            setattr(kind, name, either(method))
    return kind


def either(function: Function) -> Function:
    """The function, which takes `dim` for its `axis` too; itself if it has no axis.

    >>> either(lambda x, axis=None: axis)(1, dim=0)
    0
    """
    known = signature(function).parameters
    if "axis" not in known or "dim" in known:
        return function

    @wraps(function)
    def both(*inputs, **options):
        if options:
            options = {
                SAME.get(name, name): value for name, value in options.items() if not _idle(name, value)
            }
        return function(*inputs, **options)

    return cast(Function, both)


def _idle(name: str, value) -> bool:
    return name in NUMPY and value is None


def arguments(name: str, inputs: tuple, options: dict, kind: type) -> None:
    """Raise TypeError if a Tensor (`kind`) stands where an operation does not look for one.

    >>> arguments("concatenate", ([1, 2],), {}, int)
    Traceback (most recent call last):
    TypeError: concatenate takes Tensors one by one, not in a list: concatenate(*tensors)
    """
    if any(isinstance(a, kind) for a in options.values()):
        raise TypeError(f"{name} takes Tensors by position, not by keyword")
    if inputs and isinstance(inputs[0], list | tuple) and any(isinstance(a, kind) for a in inputs[0]):
        raise TypeError(f"{name} takes Tensors one by one, not in a list: {name}(*tensors)")


def _explained(init: Callable) -> Callable:
    @wraps(init)
    def explain(self, *inputs, **options):
        try:
            init(self, *inputs, **options)
        except TypeError as why:
            found = re.search(r"unexpected keyword argument '(\w+)'", str(why))
            if not found or found[1] not in options:
                raise
            import difflib  # takes 2 ms: only after a mistake

            name, known = found[1], list(signature(init).parameters)[1:]
            near = [INSTEAD[name]] if name in INSTEAD else difflib.get_close_matches(name, known, 1, 0.7)
            instead = f": {near[0]}" if name in INSTEAD else f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"{type(self).__name__} has no argument {name}{instead}") from None

    return explain
