"""Check a backward pass against finite differences of its forward, and name the mistake.

docs/gradcheck.md explains how.
"""

from collections.abc import Callable

import numpy as np

from minimega.gradcheck.adapters import adapted, from_jax, from_torch
from minimega.gradcheck.adjoint import check_adjoint
from minimega.gradcheck.differences import CannotJudge, Subject
from minimega.gradcheck.judge import Judge
from minimega.gradcheck.report import Argument, Report

__all__ = [
    "Argument",
    "CannotJudge",
    "Report",
    "assert_gradients",
    "check",
    "check_adjoint",
    "from_jax",
    "from_torch",
]


def check(f: Callable, *arrays, seed: int = 0, directions: int | None = None) -> Report:
    """Check the backward pass of f at these arrays against finite differences, and say what is wrong.

    f takes arrays and returns (y, back), or takes Tensors and returns a Tensor, or is a layer or a model
    (whose `loss` is checked); their parameters are checked as further arguments. It may also be a
    torch.autograd.Function or a function of JAX (see adapters.py). Small arrays are checked
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
        subject = Subject(adapted(f, arrays), arrays)
        try:
            return Judge(subject, seed, directions).run()
        finally:
            subject.restore()


def assert_gradients(f: Callable, *arrays, seed: int = 0, directions: int | None = None) -> None:
    """Like `check`, but raise AssertionError with the whole report unless every gradient is right."""
    report = check(f, *arrays, seed=seed, directions=directions)
    assert report.ok, f"\n{report}"
