"""What can be combined with what: one table, read by the command line, the tests and docs/options.md."""

from collections.abc import Callable, Iterator
from itertools import combinations
from types import SimpleNamespace as Options

from minimega.errors import BadInput

FEATURES: dict[str, Callable[[Options], bool]] = {
    "--tp": lambda o: o.tp > 1,
    "--sequence-parallel": lambda o: o.sequence_parallel,
    "--cp": lambda o: o.cp > 1,
    "--dp": lambda o: o.dp == "auto" or o.dp > 1,
    "--ep": lambda o: o.ep > 1,
    "--pp": lambda o: o.pp > 1,
    "--pipeline zero-bubble": lambda o: o.pp > 1 and o.pipeline == "zero-bubble",
    "--virtual-stages": lambda o: bool(o.virtual_stages) and o.virtual_stages > 1,
    "--zero 1": lambda o: o.zero == 1,
    "--zero 2": lambda o: o.zero == 2,
    "--zero 3": lambda o: o.zero == 3,
    "--experts": lambda o: o.experts > 0,
    "--accumulate": lambda o: o.accumulate > 1,
    "--recompute selective": lambda o: o.recompute == "selective",
    "--recompute full": lambda o: o.recompute == "full",
    "--dtype float16": lambda o: o.dtype == "float16",
    "--dtype bfloat16": lambda o: o.dtype == "bfloat16",
}

# Pairs that do not go together, and why. Every other pair does, and the tests run it.
REFUSED: dict[tuple[str, str], str] = {
    ("--pp", "--zero 2"): "every micro-batch would send all gradients",
    ("--pp", "--zero 3"): "every micro-batch would gather all weights",
    ("--pipeline zero-bubble", "--virtual-stages"): "several stages a rank are --pipeline interleaved",
}
IMPLIED = {"--pipeline zero-bubble": "--pp", "--virtual-stages": "--pp", "--ep": "--experts"}


def check(o: Options) -> None:
    """BadInput where two options do not go together.

    >>> check(Options(pp=2, zero=2, tp=1, cp=1, dp=1, ep=1, sequence_parallel=False, pipeline="1f1b",
    ...               virtual_stages=None, experts=0, accumulate=1, recompute="none",
    ...               dtype="float32"))
    Traceback (most recent call last):
    minimega.errors.BadInput: --pp does not go with --zero 2: every micro-batch would send all gradients
    """
    on = [name for name, is_on in FEATURES.items() if is_on(o)]
    for pair in combinations(on, 2):
        if why := REFUSED.get(pair):
            raise BadInput(f"{pair[0]} does not go with {pair[1]}: {why}")


def allowed() -> Iterator[tuple[str, str]]:
    """The pairs that go together (two values of one option are no pair)."""
    for a, b in combinations(FEATURES, 2):
        on = [name for name in FEATURES if name in (a, b, IMPLIED.get(a), IMPLIED.get(b))]
        if a.split()[0] != b.split()[0] and not any(pair in REFUSED for pair in combinations(on, 2)):
            yield a, b
