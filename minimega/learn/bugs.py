"""Find the planted bug: a function of the library with a mistake in its backward, by a seed."""

import inspect
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from minimega import attention, linear, norm, ops
from minimega.errors import BadInput, naming
from minimega.learn import cells
from minimega.learn.slopes import backward
from minimega.learn.verdict import Verdict, judged_apart
from minimega.ranks.child import program


class Bug(NamedTuple):
    """The name of a function, the right text in it, the wrong one, and what that does."""

    function: str
    right: str
    wrong: str
    does: str


# Each function, and shapes without coincidences to judge it at (but w is square, to hide a transposed one).
FUNCTIONS: dict[str, tuple[Callable, tuple[tuple[int, ...], ...]]] = {
    "linear": (linear.linear, ((5, 3), (3, 3), (3,))),
    "layer_norm": (norm.layer_norm, ((5, 6), (6,), (6,))),
    "softmax": (ops.softmax, ((3, 5),)),
    "log_softmax": (ops.log_softmax, ((3, 5),)),
    "gelu": (ops.gelu, ((3, 5),)),
    "tanh": (ops.tanh, ((3, 5),)),
    "attention": (attention.attention, ((2, 1, 4, 3),) * 3),
}

TABLE = [
    Bug("linear", "product(dy, w.T)", "product(dy, w)", "dx was made with w, not with its transpose"),
    Bug("linear", "lambda: dy.sum(axis=0)", "lambda: dy.mean(axis=0)", "db was a mean over the rows"),
    Bug("linear", "product(rows.T, dy)", "product(dy.T, rows)", "dw was transposed"),
    Bug(
        "layer_norm",
        "dx = dxhat - dxhat.mean(axis=-1, keepdims=True)",
        "dx = dxhat.copy()",
        "dx lacked the term that comes through the mean",
    ),
    Bug("layer_norm", "dx -= xhat * (", "dx -= (", "in the term through the variance xhat was missing"),
    Bug("layer_norm", "dxhat = dy * w", "dxhat = dy", "dx lacked the factor w"),
    Bug("layer_norm", "dx *= r", "dx /= r", "dx was divided by r"),
    Bug("layer_norm", "lambda: (dy * xhat)", "lambda: (dxhat * xhat)", "dw had the factor w in it"),
    Bug("softmax", "(dy * y).sum(", "dy.sum(", "the sum that softmax subtracts was not weighted by y"),
    Bug("softmax", "y * (dy - (", "(dy - (", "dx lacked the factor y"),
    Bug("log_softmax", "library(y).exp(wide(y))", "wide(y)", "dx had log softmax for softmax"),
    Bug("gelu", "slope *= 3 *", "slope *= 2 *", "the slope of the cube had a factor 2 for its 3"),
    Bug("gelu", "1 - wide(t) * t", "1 - wide(t)", "the slope of tanh lacked a square"),
    Bug("tanh", "1 - wide(y) * y", "1 - wide(x) * x", "the slope of tanh was made with x for y"),
    Bug("attention", "dw -= (dy * y).sum(", "dw += (dy * y).sum(", "the sum in ds had the wrong sign"),
    Bug("attention", "ds.swapaxes(-1, -2), scaled", "ds, scaled", "in dk, ds was not transposed"),
    Bug("attention", "dq *= scale", "dq *= scale * scale", "dq had the scale twice"),
    Bug("attention", "dropped(w).swapaxes(-1, -2), dy", "dropped(w), dy", "in dv, w was not transposed"),
]


def find(seed: int) -> Bug:
    """The bug of this seed; seeds in a row have different ones.

    >>> find(3).function, find(3) == find(3 + len(TABLE)), find(3) == find(4)
    ('layer_norm', True, False)
    """
    return TABLE[(7 * seed + 3) % len(TABLE)]  # 7 and the length have no common factor


def own_seed(user: str) -> int:
    """A seed from 0 to 999 for a learner of this name."""
    return zlib.crc32(user.encode()) % 1000


def source(bug: Bug, planted: bool = True) -> str:
    """The function with its mistake, and the imports that it needs, as the text of a file."""
    f = inspect.unwrap(FUNCTIONS[bug.function][0])
    text = inspect.getsource(f).removeprefix("@op\n")
    assert text.count(bug.right) == 1, bug
    names = cells.looked_up(text) & set(f.__globals__)
    head = f"from {f.__module__} import {', '.join(sorted(names))}\n\n\n" if names else ""
    return head + (text.replace(bug.right, bug.wrong) if planted else text)


def shapes(bug: Bug) -> str:
    """The shapes at which its function is judged, as a command line takes them: 5x3,3x3,3."""
    return ",".join("x".join(map(str, shape)) for shape in FUNCTIONS[bug.function][1])


def start(seed: int, mine: Path, head: str) -> Path:
    """Write bug-SEED.py into the learner's folder, unless it is there; `head` is its docstring."""
    target = mine / f"bug-{seed}.py"
    mine.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        with naming(target), open(target, "x", encoding="utf-8") as file:
            file.write(f'"""{head}"""\n\n{source(find(seed))}')
    return target


def check(name: str, mine: Path) -> Verdict:
    """The verdict on bug-SEED.py, as the learner has mended it. Raises BadInput if there is none."""
    seed, path = name.removeprefix("bug-"), mine / f"{name}.py"
    if not seed.isdecimal() or not path.exists():
        raise BadInput(f"{mine} has no {name}.py; start with: {program()} learn bug {seed}".rstrip())
    bug = find(int(seed))
    with naming(path):
        text = path.read_text(encoding="utf-8")
    found = judged_apart(cells.source(text, []), bug.function, judge, 1, 60.0)
    return found._replace(sentence=f"found: {bug.does}") if found.ok else found


def judge(f: Callable) -> Verdict:
    """Whether this function's gradients are right; what is wrong is for the learner to find."""
    reference, shapes = FUNCTIONS[f.__name__]
    found = backward(f, reference, *shapes)
    if found.ok or found.sentence.startswith("the forward"):
        return found
    return Verdict(False, "a gradient is still wrong (minimega gradcheck says what is wrong with it)")
