"""Faster versions of functions above, under the same names and signatures; one that NumPy lacks.

A function is `replaceable` if a run may use another version of it: all operations (`@op`), and what the
optimizers do. It looks its own full name up in the set of versions that the run chose, which is empty at
first. A version returns NotImplemented for arguments that it was not written for, and the readable function
does those: arrays on a GPU, 16-bit floats, rare options.
"""

import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

chosen: ContextVar[Mapping[str, Callable]] = ContextVar("kernels", default=MappingProxyType({}))


def replaceable(f: Callable[P, T]) -> Callable[P, T]:
    """The function, or the version of it in the chosen set if that takes these arguments.

    >>> @replaceable
    ... def double(x):
    ...     return x + x
    >>> token = chosen.set({double.__module__ + ".double": lambda x: 2 * x if x > 0 else NotImplemented})
    >>> double(3), double(-3)
    (6, -6)
    >>> chosen.reset(token)
    """
    name = f"{f.__module__}.{getattr(f, '__qualname__', '')}"  # an object that can be called may have none

    @functools.wraps(f)
    def call(*args: P.args, **options: P.kwargs) -> T:
        version = chosen.get().get(name)
        if version is None or (result := version(*args, **options)) is NotImplemented:
            return f(*args, **options)
        return result

    return call
