"""The sets of faster versions that a run can choose."""

import functools
import importlib.util
from collections.abc import Callable, Mapping

from minimega.errors import BadInput, pip

TYPES = ("float32", "float64")  # of the numbers that compiled versions are made for


def available() -> bool:
    """Whether the compiler of the set "numba" is installed."""
    return importlib.util.find_spec("numba") is not None


def load(name: str, dtype: str = "float32") -> Mapping[str, Callable]:
    """The versions of a set by the full names of the functions they replace, ready to run on this dtype.

    It compiles what was not compiled before, which takes some seconds. Raises BadInput if the compiler is not
    installed.

    >>> load("none")
    {}
    """
    if name == "none":
        return {}
    if not available():
        raise BadInput(f"`kernels` {name} needs numba, which is not installed: {pip('numba')}")
    return _compiled(dtype)


@functools.cache
def _compiled(dtype: str) -> Mapping[str, Callable]:
    from minimega.kernels import compiled
    from minimega.kernels.compiled import cache

    if dtype in TYPES:
        with cache.alone():
            compiled.warm(dtype)
    return compiled.VERSIONS
