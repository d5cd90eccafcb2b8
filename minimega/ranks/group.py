"""Groups of ranks and the messages between them.

A value over the p ranks of a group is *whole* (equal on all), *cut* (each rank holds a piece of one axis) or
*partial* (the sum over the ranks is the value). Callers know the interface of `Group` alone: the group of one
has it too, and there every collective is the identity, so no code asks whether it runs in parallel.

p ranks, n bytes of the whole array, r the rank.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import numpy as np

from minimega.ranks.counter import Counter

Wait = Callable[[], object]  # waits for a message under way and gives the array; may be called again


def pieces(length: int, size: int) -> list[slice]:
    """Where an axis is cut for `size` ranks: as evenly as it can be, the longer pieces first.

    >>> pieces(7, 3)
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    ends = [r * (length // size) + min(r, length % size) for r in range(size + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


class Group:
    """Ranks that work together; made as it stands here, a group of one, in which nothing is sent.

    `rank` is this rank's number within the group and `size` the number of ranks; `ranks` are their numbers
    in the world. Each collective must be entered by all ranks of the group, in one order, and each gives a
    new array, or x itself. `start_...` starts one and returns a function that waits for it: between the
    two calls x must not change. `label` is for the counter. Sums have the same bits on all ranks.

    >>> SELF.all_reduce(np.ones(2)).tolist(), SELF.rank, SELF.size
    ([1.0, 1.0], 0, 1)
    """

    rank, size = 0, 1

    def __init__(self, name: str = "self", counter: Counter | None = None, ranks: Sequence[int] = (0,)):
        self.name, self.ranks = name, tuple(ranks)
        self.counter = Counter() if counter is None else counter

    def __repr__(self) -> str:
        return f"{self.name}: a group of one"

    def all_reduce(self, x, op: str = "sum", label: str = ""):
        """The sum (or "max") of every rank's x, on every rank: partial -> whole."""
        return self.start_all_reduce(x, op, label)()

    def all_gather(self, x, axis: int = 0, length: int | None = None, label: str = ""):
        """Every rank's piece of an axis, one after another, on every rank: cut -> whole.

        `length` is that of the whole axis, cut as `pieces` says; None means that all pieces are as long as x.
        """
        return self.start_all_gather(x, axis, length, label)()

    def reduce_scatter(self, x, axis: int = 0, label: str = ""):
        """This rank's piece (cut as `pieces` says) of the sum of every rank's x: partial -> cut."""
        return self.start_reduce_scatter(x, axis, label)()

    def all_to_all(self, x, sends: Sequence[int], receives: Sequence[int], label: str = ""):
        """Rows for every rank: the first `sends[0]` of x go to rank 0, the next to rank 1..., cut -> cut.

        What comes, `receives[r]` rows from rank r, stands in the order of the ranks. All ranks together
        only put rows in another order: the way back (the same, with sends and receives swapped) undoes it.
        """
        return self.start_all_to_all(x, sends, receives, label)()

    def broadcast(self, x, root: int = 0, label: str = ""):
        """The x of rank `root`, on every rank; the others give an array of the same shape and type."""
        return self.start_broadcast(x, root, label)()

    def busy(self, what: str) -> AbstractContextManager:
        """Around long work of one rank: `what` it is doing, for those that wait for it meanwhile."""
        return nullcontext()

    def piece(self, length: int) -> slice:
        """This rank's piece of an axis of this length."""
        return pieces(length, self.size)[self.rank]

    def report(self) -> str:
        """What this rank sent so far, in this group and in all that share its counter."""
        return str(self.counter)

    # What a group of several ranks does in its own way:

    def start_all_reduce(self, x, op: str = "sum", label: str = "") -> Wait:
        return lambda: x

    def start_all_gather(self, x, axis: int = 0, length: int | None = None, label: str = "") -> Wait:
        return lambda: x

    def start_reduce_scatter(self, x, axis: int = 0, label: str = "") -> Wait:
        return lambda: x

    def start_all_to_all(self, x, sends: Sequence[int], receives: Sequence[int], label: str = "") -> Wait:
        return lambda: x

    def start_broadcast(self, x, root: int = 0, label: str = "") -> Wait:
        return lambda: x

    def start_send(self, x, to: int, label: str = "") -> Wait:
        """Send x to one rank of the group, which enters `start_receive`; x is free when the wait is over."""
        raise ValueError(f"a group of one has no rank {to} to send to")

    def start_receive(self, y, source: int) -> Wait:
        """Receive an array into y, which has its shape and type; y is filled when the wait is over."""
        raise ValueError(f"a group of one has no rank {source} to receive from")

    def barrier(self) -> None:
        """Wait until all ranks of the group are here."""

    def split(self, colour: int, name: str = "") -> "Group":
        """Cut the group: ranks of one colour form a group, in their order in this one.

        A rank gives its colour, or the function that gives it to each rank of the group.
        """
        return Group(name or self.name, self.counter, self.ranks)


SELF = Group()


def first_text(text: str, group: Group) -> str:
    """The text of the first rank that has one, on all ranks; "" where none has."""
    told = text.encode()
    length = int(group.all_reduce(np.array(len(told)), "max", label="message"))
    if not length:
        return ""
    packet = np.frombuffer(told.ljust(length, b"\0"), np.uint8)
    texts = group.all_gather(packet.reshape(1, -1), label="message")
    return next(bytes(t).rstrip(b"\0").decode() for t in texts if t.any())
