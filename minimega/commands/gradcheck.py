"""`minimega gradcheck`: checks the backward pass of a function in a user's file."""

import re
from types import SimpleNamespace as Options

import numpy as np

from minimega.commands.progress import busy
from minimega.commands.theirs import load_function, theirs
from minimega.errors import BadInput
from minimega.gradcheck import check
from minimega.gradcheck.adapters import adapted
from minimega.gradcheck.differences import Subject
from minimega.ranks.colour import judged
from minimega.ranks.streams import say

VERDICT = re.compile(r"(?<=the backward pass is )(right|WRONG)|(?<=\): )(right|WRONG)", re.MULTILINE)


def run(o: Options) -> int:
    """`minimega gradcheck FILE.py:function --shapes 3x4,4x5`: check it at random arrays of these shapes.

    Prints the report and, with --picture, draws it. Returns 0 if the backward pass is right, else 1. Raises
    BadInput if the file, function or shapes cannot be used.
    """
    rng = np.random.default_rng(o.seed)
    arrays = [rng.normal(size=shape) for shape in _shapes(o.shapes)]
    f = adapted(load_function(o.target), tuple(arrays))
    with theirs(f"{o.target} fails on arrays of shapes {o.shapes}"):
        if problem := Subject(f, tuple(arrays)).no_operation:  # else we would check the engine's backward
            raise problem
        with busy(f"checking {o.target}"):
            report = check(f, *arrays, seed=o.seed)
    say(VERDICT.sub(lambda word: judged(word[0], word[0] == "right"), str(report)))
    if o.picture:
        with busy(f"drawing {o.picture}"):
            report.picture(o.picture)
    return 0 if report.ok else 1


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
