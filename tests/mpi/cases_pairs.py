"""Every pair of features that the table allows, and larger compositions, against the serial model.

Dropout is on, widths divide by no number of ranks, stages have unequal numbers of layers, and micro-batches
are not as many as stages.
"""

from collections.abc import Iterable

from minimega.parallel.grid import grid
from minimega.parallel.layout import FEATURES, Layout, allowed
from tests.mpi.equal import Case, assert_equal
from tests.mpi.ranks import sizes

ZERO = {"--zero 1": 1, "--zero 2": 2, "--zero 3": 3}
WHOLE = [
    # the composition that the project is about, and other layouts of eight ranks
    ("--tp", "--pp", "--dp", "--zero 1", "--sequence-parallel", "--recompute selective"),
    ("--tp", "--pp", "--cp", "--sequence-parallel", "--pipeline zero-bubble", "--recompute full"),
    ("--tp", "--cp", "--dp", "--zero 3", "--sequence-parallel", "--accumulate"),
    ("--tp", "--pp", "--dp", "--ep", "--virtual-stages", "--zero 1", "--recompute selective"),
    ("--cp", "--pp", "--dp", "--ep", "--zero 1", "--accumulate"),
    ("--tp", "--cp", "--dp", "--ep", "--zero 2", "--dtype bfloat16"),
    ("--tp", "--pp", "--dp", "--zero 1", "--sequence-parallel", "--objective masked"),
]


def cut(on: Iterable[str]) -> dict[str, int]:
    """The layout with these features: two ranks for each."""
    on = set(on)
    return {
        "tp": 1 + bool(on & {"--tp", "--sequence-parallel"}),
        "dp": 1 + bool(on & {"--dp", "--ep", *ZERO}),
        "sequence": "--sequence-parallel" in on,
        "pp": 1 + bool(on & {"--pp", "--pipeline zero-bubble", "--virtual-stages"}),
        "cp": 1 + ("--cp" in on),
        "ep": 1 + ("--ep" in on),
    }


def made_with(on: Iterable[str], pp: int, dp: int) -> Case:
    on, v = set(on), 2 if "--virtual-stages" in on else 1
    factors = {"dropout", "uneven"}
    factors |= {word for word in ("accumulate", "experts") if f"--{word}" in on}
    factors |= {"experts"} if "--ep" in on else set()
    factors |= {"factorised", "frozen"} if "--d-embedding" in on else set()
    factors |= {"masked"} if "--objective masked" in on else set()
    factors |= {"encoder-decoder"} if "--objective translate" in on else set()
    factors |= {word for word in ("selective", "full") if f"--recompute {word}" in on}
    schedule = "interleaved" if v > 1 else "zero-bubble" if "--pipeline zero-bubble" in on else "1f1b"
    m = 1 if pp == 1 else 4 if v > 1 else 3
    dtype = next((name.split()[1] for name in on if name.startswith("--dtype")), "float64")
    stage = next((ZERO[name] for name in on if name in ZERO), 0)
    batch = dp * m * (2 if "accumulate" in factors else 1)
    layers = v * pp + 1 if pp > 1 else 1 + ("encoder-decoder" in factors)
    return Case(frozenset(factors), max(batch, 2), 8, dtype, layers, schedule, v, m, stage)


def hold(group, sets: Iterable[tuple[str, ...]]) -> None:
    for on in sets:
        layout = cut(on)
        if layout["tp"] * layout["dp"] * layout["pp"] * layout["cp"] == group.size:
            assert_equal(made_with(on, layout["pp"], layout["dp"]), grid(group, Layout(**layout)))


@sizes(1)
def case_no_pair_is_left_out(group):
    ranks = {1, 2, 4}
    for on in allowed():
        layout = cut(on)
        assert layout["tp"] * layout["dp"] * layout["pp"] * layout["cp"] in ranks, on
    assert {name for pair in allowed() for name in pair} == set(FEATURES)


@sizes(1, 2, 4)
def case_every_pair_is_the_serial_model(group):
    hold(group, list(allowed())[::2])


@sizes(1, 2, 4)
def case_and_so_is_every_other_pair(group):
    hold(group, list(allowed())[1::2])


@sizes(8)
def case_the_whole_is_the_serial_model(group):
    hold(group, WHOLE)
