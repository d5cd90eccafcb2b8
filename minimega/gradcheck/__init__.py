"""Is the backward pass right, and if not: why?

`check` compares what `back` gives with differences of the forward alone, and names the mistake;
docs/gradcheck.md explains how.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from minimega.contract import WrongOperation
from minimega.errors import BadInput
from minimega.gradcheck.adjoint import check_adjoint
from minimega.gradcheck.differences import CannotJudge, Subject
from minimega.gradcheck.judge import Judge
from minimega.gradcheck.report import Argument, Report
from minimega.streams import say

__all__ = ["Argument", "CannotJudge", "Report", "assert_gradients", "check", "check_adjoint", "run_command"]


def check(f: Callable, *arrays, seed: int = 0, directions: int | None = None) -> Report:
    """Compare the backward pass of f at these arrays with differences of its forward, and say what is wrong.

    f gives (y, back) on arrays, or a Tensor on Tensors, or is a layer or a model (`model.loss` is checked),
    whose parameters count as arguments too. Every entry of small arrays is checked, random directions for
    large ones; `directions` asks for that many everywhere. Arrays of float32 are checked as float64 first,
    then within float32's rounding. Raises CannotJudge (a BadInput) where no verdict is possible.

    >>> x = np.array([[0.1, 0.7, -0.3]])
    >>> check(lambda x: (x * x, lambda dy: 2 * dy * x), x).ok
    True
    >>> check(lambda x: (x * x * x, lambda dy: -3 * dy * x * x), x).arguments[0].cause
    'sign'
    """
    with np.errstate(all="ignore"):
        subject = Subject(f, arrays)
        try:
            return Judge(subject, seed, directions).run()
        finally:
            subject.restore()


def assert_gradients(f: Callable, *arrays, seed: int = 0, directions: int | None = None) -> None:
    """Raise AssertionError with the whole report unless every gradient is right: see `check`."""
    report = check(f, *arrays, seed=seed, directions=directions)
    assert report.ok, f"\n{report}"


def run_command(target: str, shapes: str, seed: int = 0, picture: str | None = None) -> int:
    """`minimega gradcheck FILE.py:function --shapes 3x4,4x5`: check it at random arrays of these shapes.

    Prints the report, draws it to the file `picture` if one is named, and gives the exit status: 0 if the
    backward is right, 1 if not. Raises BadInput for a file, function or shape that cannot be used.
    """
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape) for shape in _shapes(shapes)]
    f = _load(target)
    with _theirs(f"{target} fails on arrays of the shapes {shapes}"):
        if problem := Subject(f, tuple(arrays)).no_operation:  # the engine's backward would be checked
            raise problem
        report = check(f, *arrays, seed=seed)
    say(report)
    if picture:
        report.picture(picture)
    return 0 if report.ok else 1


@contextmanager
def _theirs(what: str) -> Iterator[None]:
    """Whatever somebody's code does to end this block, a call of sys.exit too, is BadInput in one line."""
    try:
        yield
    except (BadInput, KeyboardInterrupt):
        raise
    except WrongOperation as error:  # it says all that there is to say
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
                f"--shapes: {part!r} is no shape; write one for each argument, as in 3x4,4x5 or 7,scalar"
            )
        shapes.append(tuple(int(n) for n in sizes))
    return shapes


def _load(target: str) -> Callable:
    """The function that FILE.py:function names."""
    name, colon, function = target.rpartition(":")
    path = Path(name)
    if not colon or not function or path.suffix != ".py":
        raise BadInput(f"{target!r} names no function: write FILE.py:function")
    if not path.is_file():
        raise BadInput(f"{name}: there is no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    with _theirs(f"{name} cannot be run"):
        spec.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise BadInput(f"{name} has no function {function!r}; it has {', '.join(known[:8]) or 'none'}")
    return found
