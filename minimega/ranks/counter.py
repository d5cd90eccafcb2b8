"""Counts what a rank sends; tests compare the formulas of costs/messages.py with these figures."""

from dataclasses import dataclass


@dataclass
class Traffic:
    """What one rank sent: calls, bytes of the arrays, and bytes on the wire of a ring algorithm."""

    calls: int = 0
    bytes: int = 0
    wire: float = 0.0


class Counter:
    """Counts every message of one rank by (group, kind, label); groups split from one group share a counter.

    >>> counter = Counter()
    >>> counter.add("tensor", "all-reduce", "attention", 1000, size=4)
    >>> print(counter)
    group     kind            label              calls         bytes       on wire
    tensor    all-reduce      attention              1         1,000         1,500
    """

    def __init__(self):
        self.traffic: dict[tuple[str, str, str], Traffic] = {}

    def add(
        self, group: str, kind: str, label: str, nbytes: int, size: int, wire: float | None = None
    ) -> None:
        """Count a call of `nbytes` in a group of `size`; `wire` bytes leave the rank (None: as in a ring)."""
        row = self.traffic.setdefault((group, kind, label), Traffic())
        row.calls += 1
        row.bytes += nbytes
        # In a ring each rank sends (p - 1)/p of the bytes; an all-reduce, which is a reduce-scatter and
        # an all-gather, sends twice that (Patarasuk and Yuan 2009, section 3).
        ring = (2 if kind == "all-reduce" else 1) * (size - 1) / size
        row.wire += (nbytes * (1 if kind == "send" else ring)) if wire is None else wire

    def total(self, group: str = "", kind: str = "", label: str = "") -> Traffic:
        """The sum of all rows with this group, kind and label; "" matches any."""
        wanted = group, kind, label
        rows = [
            t
            for row, t in self.traffic.items()
            if all(w in ("", r) for w, r in zip(wanted, row, strict=True))
        ]
        return Traffic(sum(t.calls for t in rows), sum(t.bytes for t in rows), sum(t.wire for t in rows))

    def __str__(self) -> str:
        label = max([15, *(len(label) + 2 for _, _, label in self.traffic)])
        line = f"{{:<10}}{{:<16}}{{:<{label}}}{{:>9}}{{:>14}}{{:>14}}".format
        rows = [
            line(*row, f"{t.calls:,}", f"{t.bytes:,}", f"{t.wire:,.0f}") for row, t in self.traffic.items()
        ]
        return "\n".join([line("group", "kind", "label", "calls", "bytes", "on wire"), *rows])
