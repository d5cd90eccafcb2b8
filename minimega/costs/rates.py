"""The rates of this machine, as `calibrate` measures them: seconds of each operation, by its size.

A table has the seconds of an operation at some numbers of rows and widths. A call costs something, and each
row and feature adds to it: between two sizes the time is a straight line of the rows, and of the width or,
where a sum over the width is computed for each feature of it, of its square. Above the largest size the line
goes on; below the smallest, calls cost what they cost there.
"""

import bisect
from dataclasses import dataclass, field, fields
from functools import cached_property

Points = tuple[tuple[float, float, float], ...]  # rows, width, seconds; a whole grid
SQUARE = "linear", "attention", "ring"  # operations whose time grows with the square of the width


@dataclass(frozen=True)
class Table:
    """The seconds of one operation on (rows, width).

    >>> table = Table(((16, 32, 1e-5), (16, 512, 1e-5), (256, 32, 4e-5), (256, 512, 16e-5)))
    >>> table(136, 32), table(256, 272), table(256, 272, square=True)
    (2.5e-05, 0.0001, 7.3529412e-05)
    """

    points: Points

    @cached_property
    def grid(self) -> tuple[list[float], list[float], dict]:
        """The rows, the widths, and the seconds at each pair of them."""
        rows, widths = (sorted({p[axis] for p in self.points}) for axis in (0, 1))
        return rows, widths, {(r, w): s for r, w, s in self.points}

    def __call__(self, rows: float, width: float = 1, square: bool = False) -> float:
        """The seconds at this size; 0 for none."""
        if not rows or not width:
            return 0.0
        row_marks, width_marks, at = self.grid
        x, y = max(rows, row_marks[0]), max(width, width_marks[0])
        marks, y = ([w * w for w in width_marks], y * y) if square else (width_marks, y)
        along = [_line(marks, [at[mark, w] for w in width_marks], y) for mark in row_marks]
        return round(_line(row_marks, along, x), 12)


def _line(marks: list[float], values: list[float], x: float) -> float:
    """The straight line between the two marks around x, or through the last two."""
    if len(marks) == 1:
        return values[0]
    i = min(max(bisect.bisect_right(marks, x) - 1, 0), len(marks) - 2)
    share = (x - marks[i]) / (marks[i + 1] - marks[i])
    return values[i] + share * (values[i + 1] - values[i])


@dataclass(frozen=True)
class Rates:
    """What a rank of `ranks`, each with `threads` of this machine's `cores`, needs for each operation.

    `tables` are measured while all ranks compute at once: they share caches and memory. Messages are named
    for their kind and the ranks of their group ("all-reduce of 2"), and have their bytes as rows.
    """

    ranks: int
    threads: int
    cores: int
    tables: dict[str, Table] = field(repr=False)
    scale: float = 1.0  # how much longer operations take in a step than one by one
    per_step: float = 0.0  # seconds of what no table has: a step, a part of it, and a block in it
    per_part: float = 0.0
    per_block: float = 0.0
    per_message: float = 0.0  # seconds of a message between two operations beyond those of one by itself
    skew: float = 0.0  # share of their computation for which ranks of a cut layer wait for the slowest
    latest: float = 0.0  # seconds for which they wait at most at a message

    @property
    def crowd(self) -> float:
        """How many ranks there are for each core, at least 1."""
        return max(1.0, self.ranks * self.threads / self.cores)

    def seconds(self, name: str, rows: float, width: float = 1) -> float:
        """The seconds of a core for an operation at this size."""
        return self.scale * self.tables[name](rows, width, name.startswith(SQUARE))

    def message(self, kind: str, ranks: int, nbytes: float) -> float:
        """The seconds of a message among this many ranks."""
        if ranks == 1 or not nbytes:
            return 0.0
        known = [int(name.rpartition(" ")[2]) for name in self.tables if name.startswith(f"{kind} of ")]
        near = min(known, key=lambda n: abs(n - ranks))
        scale = 1.0 if near == ranks else (ranks - 1) / ranks / ((near - 1) / near)
        return self.per_message + scale * self.tables[f"{kind} of {near}"](nbytes)

    def as_dict(self) -> dict:
        """For a TOML file."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "tables"}
        return own | {
            "tables": {name: [list(p) for p in table.points] for name, table in self.tables.items()}
        }

    @classmethod
    def of(cls, told: dict) -> "Rates":
        """The inverse of `as_dict`."""
        tables = {name: Table(tuple(map(tuple, points))) for name, points in told["tables"].items()}
        return cls(**told | {"tables": tables})
