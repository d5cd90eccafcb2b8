"""Check a backward pass against finite differences of its forward, and name the mistake.

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
    """Check the backward pass of f at these arrays against finite differences, and say what is wrong.

    f takes arrays and returns (y, back), or takes Tensors and returns a Tensor, or is a layer or a model
    (whose `loss` is checked); their parameters are checked as further arguments. Small arrays are checked
    entry by entry, large ones along random directions; `directions` sets their number for all arrays.
    float32 arrays are checked in float64 first, then within float32's rounding. Raises CannotJudge (a
    BadInput) if no verdict is possible.

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
    """Like `check`, but raise AssertionError with the whole report unless every gradient is right."""
    report = check(f, *arrays, seed=seed, directions=directions)
    assert report.ok, f"\n{report}"
