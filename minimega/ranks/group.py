"""Groups of ranks and the messages between them.

A value over the p ranks of a group is *whole* (equal on all), *cut* (each rank holds a piece of one axis) or
*partial* (its value is the sum over the ranks). Callers use only the interface of `Group`. In a group of one
every collective is the identity, so no code asks whether it runs in parallel.

p ranks (`size`), r this rank's number in the group (`rank`); x the array that goes in, y the one that is
filled.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import numpy as np

from minimega.ranks.counter import Counter

Wait = Callable[[], Any]  # waits for a message in flight and returns the array; may be called again


def pieces(length: int, size: int) -> list[slice]:
    """The piece of an axis for each of `size` ranks: as even as possible, longer pieces first.

    >>> pieces(7, 3)
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    ends = [r * (length // size) + min(r, length % size) for r in range(size + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


class Group:
    """Ranks that work together. This class is the group of one, which sends nothing.

    `rank` is this rank's number in the group, `size` the number of ranks, and `ranks` their numbers in the
    world. All ranks of the group must enter each collective, in the same order. A collective returns a new
    array or x itself. `start_...` starts one and returns a function that waits for it; x must not change
    until the wait is over. `label` names the message in the counter. Sums have the same bits on all ranks.

    >>> SELF.all_reduce(np.ones(2)).tolist(), SELF.rank, SELF.size
    ([1.0, 1.0], 0, 1)
    """

    rank, size = 0, 1
    in_process = False  # whether the ranks are threads of this process, not processes

    def __init__(self, name: str = "self", counter: Counter | None = None, ranks: Sequence[int] = (0,)):
        self.name, self.ranks = name, tuple(ranks)
        self.counter = Counter() if counter is None else counter

    def __repr__(self) -> str:
        return f"{self.name}: a group of one"

    def all_reduce(self, x, op: str = "sum", label: str = ""):
        """The sum (or "max") of all ranks' x, on every rank: partial -> whole. Shape and dtype of x."""
        return self.start_all_reduce(x, op, label)()

    def all_gather(self, x, axis: int = 0, length: int | None = None, label: str = ""):
        """All ranks' pieces of an axis, concatenated, on every rank: cut -> whole.

        `length` is the length of the whole axis, cut as `pieces` does; None: all pieces are as long as x's.
        Raises ValueError if x is not this rank's piece.

        >>> SELF.all_gather(np.ones((2, 3)), axis=1).shape
        (2, 3)
        """
        return self.start_all_gather(x, axis, length, label)()

    def reduce_scatter(self, x, axis: int = 0, label: str = ""):
        """This rank's piece of the sum of all ranks' x, cut along `axis` by `pieces`: partial -> cut."""
        return self.start_reduce_scatter(x, axis, label)()

    def all_to_all(self, x, sends: Sequence[int], receives: Sequence[int], label: str = ""):
        """Send rows to every rank: the first `sends[0]` of x to rank 0, the next to rank 1...: cut -> cut.

        Returns `receives[r]` rows from each rank r, in the order of the ranks. Over all ranks this permutes
        rows; the same call with sends and receives swapped undoes it. Raises ValueError if `sends` does not
        add up to the rows of x.
        """
        return self.start_all_to_all(x, sends, receives, label)()

    def broadcast(self, x, root: int = 0, label: str = ""):
        """The x of rank `root`, on every rank; the other ranks pass an array of the same shape and dtype."""
        return self.start_broadcast(x, root, label)()

    def busy(self, what: str) -> AbstractContextManager:
        """A context for long work on one rank: ranks that wait for it can report `what` it is doing."""
        return nullcontext()

    def piece(self, length: int) -> slice:
        """This rank's piece of an axis of this length."""
        return pieces(length, self.size)[self.rank]

    def report(self) -> str:
        """What this rank has sent so far, in this group and all groups that share its counter."""
        return str(self.counter)

    # A group of several ranks overrides these:

    def start_all_reduce(self, x, op: str = "sum", label: str = "") -> Wait:
        """Start `all_reduce`; the wait returns its result."""
        return lambda: x

    def start_all_gather(self, x, axis: int = 0, length: int | None = None, label: str = "") -> Wait:
        """Start `all_gather`; the wait returns its result."""
        return lambda: x

    def start_reduce_scatter(self, x, axis: int = 0, label: str = "") -> Wait:
        """Start `reduce_scatter`; the wait returns its result."""
        return lambda: x

    def start_all_to_all(self, x, sends: Sequence[int], receives: Sequence[int], label: str = "") -> Wait:
        """Start `all_to_all`; the wait returns its result."""
        return lambda: x

    def start_broadcast(self, x, root: int = 0, label: str = "") -> Wait:
        """Start `broadcast`; the wait returns its result."""
        return lambda: x

    def start_send(self, x, to: int, label: str = "") -> Wait:
        """Send x to one rank of the group, which calls `start_receive`; x may change after the wait.

        Raises ValueError in a group of one.
        """
        raise ValueError(f"a group of one has no rank {to} to send to")

    def start_receive(self, y, source: int) -> Wait:
        """Receive an array of y's shape and dtype into y; the wait returns y, filled.

        Raises ValueError in a group of one.
        """
        raise ValueError(f"a group of one has no rank {source} to receive from")

    def barrier(self) -> None:
        """Wait until all ranks of the group have arrived."""

    def split(self, colour: int | Callable[[int], int], name: str = "") -> "Group":
        """Split the group: ranks of the same colour form a group, in the same order as here.

        `colour` is this rank's colour, or a function from a rank's number in the group to its colour.

        >>> SELF.split(lambda r: r % 2, "even").name
        'even'
        """
        return Group(name or self.name, self.counter, self.ranks)


SELF = Group()


def first_text(text: str, group: Group) -> str:
    """The text of the first rank whose text is not empty, on all ranks; "" if all are empty."""
    told = text.encode()
    length = int(group.all_reduce(np.array(len(told)), "max", label="message"))
    if not length:
        return ""
    packet = np.frombuffer(told.ljust(length, b"\0"), np.uint8)
    texts = group.all_gather(packet.reshape(1, -1), label="message")
    return next(bytes(t).rstrip(b"\0").decode() for t in texts if t.any())
