"""`minimega gradcheck`: checks the backward pass of a function in a user's file."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace as Options

import numpy as np

from minimega.contract import WrongOperation
from minimega.errors import BadInput
from minimega.gradcheck import check
from minimega.gradcheck.differences import Subject
from minimega.ranks.streams import say


def run(o: Options) -> int:
    """`minimega gradcheck FILE.py:function --shapes 3x4,4x5`: check it at random arrays of these shapes.

    Prints the report and, with --picture, draws it. Returns 0 if the backward pass is right, else 1. Raises
    BadInput if the file, function or shapes cannot be used.
    """
    rng = np.random.default_rng(o.seed)
    arrays = [rng.normal(size=shape) for shape in _shapes(o.shapes)]
    f = _load(o.target)
    with _theirs(f"{o.target} fails on arrays of shapes {o.shapes}"):
        if problem := Subject(f, tuple(arrays)).no_operation:  # else we would check the engine's backward
            raise problem
        report = check(f, *arrays, seed=o.seed)
    say(report)
    if o.picture:
        report.picture(o.picture)
    return 0 if report.ok else 1


@contextmanager
def _theirs(what: str) -> Iterator[None]:
    """Turn any exception of the user's code, SystemExit included, into a one-line BadInput."""
    try:
        yield
    except (BadInput, KeyboardInterrupt):
        raise
    except WrongOperation as error:  # its message needs no prefix
        raise BadInput(str(error)) from None
    except SystemExit:
        raise BadInput(f"{what}: it calls sys.exit(), so there is no verdict") from None
    except BaseException as error:
        lines = str(error).splitlines() or [""]
        raise BadInput(f"{what}: {type(error).__name__}: {lines[0]}".removesuffix(": ")) from None


def _shapes(text: str) -> list[tuple[int, ...]]:
    """
    >>> _shapes("3x4,5,scalar")
    [(3, 4), (5,), ()]
    """
    shapes = []
    for part in text.split(","):
        sizes = [] if part.strip() == "scalar" else part.strip().split("x")
        if not all(n.isdecimal() and int(n) > 0 for n in sizes):
            raise BadInput(
                f"--shapes: {part!r} is not a shape; write one per argument, as in 3x4,4x5 or 7,scalar"
            )
        shapes.append(tuple(int(n) for n in sizes))
    return shapes


def _load(target: str) -> Callable:
    """The function that FILE.py:function names."""
    name, colon, function = target.rpartition(":")
    path = Path(name)
    if not colon or not function or path.suffix != ".py":
        raise BadInput(f"{target!r} does not name a function: write FILE.py:function")
    if not path.is_file():
        raise BadInput(f"{name}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    with _theirs(f"{name} cannot be run"):
        spec.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise BadInput(f"{name} has no function {function!r}; it has {', '.join(known[:8]) or 'none'}")
    return found
