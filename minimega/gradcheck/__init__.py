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
from minimega.ranks.streams import say

__all__ = ["Argument", "CannotJudge", "Report", "assert_gradients", "check", "check_adjoint"]


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
