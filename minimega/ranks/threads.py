"""Ranks as threads of one process: `on_ranks(4)` needs no MPI, and a debugger steps through all of them.

NumPy's loops run in parallel; the interpreter runs one thread at a time.

x the array that goes in, y the one that is filled; `counts` numbers of elements, by rank.
"""

import contextvars
import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, Protocol, TypeVar

from minimega.backend import library
from minimega.ranks.counter import Counter
from minimega.ranks.group import Group
from minimega.ranks.launch import cores
from minimega.ranks.meeting import Apart, Ended, Job, Room
from minimega.ranks.mpi import Ranks
from minimega.ranks.prompts import TERMINAL

T = TypeVar("T")
PATIENCE = 5.0  # seconds for the others to end, once a rank has failed
TURN = 5e-4  # seconds until a rank that waits for the interpreter gets it; Python's own 5e-3 costs up to 5 %


class Memory:
    """The transport between threads, for arrays of any library: see transport.py for the calls."""

    roll = None

    def __init__(self, room: Room, rank: int):
        self.room, self.rank, self.entered = room, rank, 0

    def __str__(self) -> str:
        return "threads of one process"

    def all_reduce(self, x, y, op):
        """Sum (or "max") all ranks' x into y, in the order of the ranks."""
        return self.meet(
            f"all-reduce ({op}) of {x.size} {x.dtype}", (x, y), lambda given: _all_reduce(given, op)
        )

    def reduce_scatter(self, x, y, counts):
        """Sum all ranks' x; y gets this rank's `counts[rank]` elements of it."""
        return self.meet(
            f"reduce-scatter of {x.size} {x.dtype}", (x, y), lambda given: _reduce_scatter(given, counts)
        )

    def all_gather(self, x, y, counts):
        """Concatenate all ranks' x, of `counts[r]` elements each, into y."""
        return self.meet(
            f"all-gather to {y.size} {y.dtype}", (x, y), lambda given: _all_gather(given, counts)
        )

    def all_to_all(self, x, y, sends, receives):
        """Send `sends[r]` elements of x to each rank r; y gets `receives[r]` from it."""
        return self.meet(f"all-to-all of {x.dtype}", (x, y, sends, receives), _all_to_all)

    def broadcast(self, y, root):
        """Send root's y to all; the others' y is filled."""
        return self.meet(
            f"broadcast (from {root}) of {y.size} {y.dtype}", (y,), lambda given: _broadcast(given, root)
        )

    def barrier(self):
        """Wait for all ranks."""
        return self.meet("barrier", (), lambda given: None)

    def send(self, x, to):
        """Send x to rank `to`."""
        return self.room.exchange(self.rank, (self.rank, to), x, sends=True)

    def receive(self, y, source):
        """Fill y from rank `source`."""
        return self.room.exchange(self.rank, (source, self.rank), y, sends=False)

    def meet(self, what: str, given: tuple, work: Callable) -> Callable:
        """Enter this rank's next collective."""
        self.entered += 1
        return self.room.enter(self.rank, self.entered, what, given, work)


def _all_reduce(given: list, op: str) -> None:
    (first, total), others = given[0], given[1:]
    total[...] = first
    add = library(first).add if op == "sum" else library(first).maximum
    for x, _ in others:
        add(total, x, out=total)
    for _, y in others:
        y[...] = total


def _reduce_scatter(given: list, counts: Sequence[int]) -> None:
    ends = list(accumulate(counts))
    for (_, y), end, count in zip(given, ends, counts, strict=True):
        y[...] = given[0][0][end - count : end]
        for x, _ in given[1:]:
            y += x[end - count : end]


def _all_gather(given: list, counts: Sequence[int]) -> None:
    for _, y in given:
        for (x, _), end, count in zip(given, accumulate(counts), counts, strict=True):
            y[end - count : end] = x


def _all_to_all(given: list) -> None:
    for r, (_, y, _, receives) in enumerate(given):
        into = 0
        for (x, _, sends, _), count in zip(given, receives, strict=True):
            start = sum(sends[:r])
            y[into : into + count] = x[start : start + count]
            into += count


def _broadcast(given: list, root: int) -> None:
    for r, (y,) in enumerate(given):
        if r != root:
            y[...] = given[root][0]


class Threads(Ranks):
    """A group of ranks that are threads; it counts, cuts and checks as `Ranks` over MPI does."""

    in_process = True

    def __init__(self, memory: Memory, name: str, counter: Counter, ranks: Sequence[int]):
        Group.__init__(self, name, counter, ranks)
        self.ways, self.cuts = (memory, memory), {}
        self.rank, self.size = memory.rank, len(ranks)

    def busy(self, what):
        """A context in which the ranks that wait have no time limit."""
        return self.ways[0].room.job.pause()

    def _cut(self, colour: int, name: str) -> Group:
        memory, name = self.ways[0], name or self.name
        job = memory.room.job

        def rooms(given: list) -> list[tuple[Room, int]]:
            colours = [c for (c,) in given]
            of = {c: [r for r, other in enumerate(colours) if other == c] for c in colours}
            made = {c: Room(job, [self.ranks[r] for r in ranks], name) for c, ranks in of.items()}
            return [(made[c], of[c].index(r)) for r, c in enumerate(colours)]

        room, rank = memory.meet("split", (colour,), rooms)()[self.rank]
        if len(room.ranks) == 1:
            return Group(name, self.counter, room.ranks)
        return Threads(Memory(room, rank), name, self.counter, room.ranks)


class Run(Protocol):
    """What `on_ranks` yields: it calls f(group) on every rank, and returns what each of them returned."""

    def __call__(self, f: Callable[[Group], T], /) -> list[T]: ...


@contextmanager
def on_ranks(size: int, seconds: float = 60.0) -> Iterator[Run]:
    """Yields `run(f)`, which calls f(group) on each of `size` ranks and returns what each returned, in order.

    Ranks are threads of this process: each has its own error state of NumPy and its own context variables.
    The cores' BLAS threads are divided among them. If a rank raises, all end, and `run` raises its exception,
    with its traceback and a note of its rank. If ranks do not meet, or one does not come within `seconds`, it
    raises RunFailed with the place in the code where each of them is. At a `breakpoint()`, one rank prompts
    at a time, and no time limit runs.

    >>> with on_ranks(4) as run:
    ...     run(lambda group: float(group.all_reduce(np.array(group.rank + 1.0))))
    [10.0, 10.0, 10.0, 10.0]
    """
    if size < 1:
        raise ValueError(f"{size} ranks: choose at least 1")
    from threadpoolctl import threadpool_limits

    with threadpool_limits(max(1, cores() // size)):
        yield lambda f: _run(f, size, seconds)


class Turns:
    """Python's switch interval while ranks run: the first run shortens it, the last to end restores it."""

    def __init__(self):
        self.lock, self.users, self.before = threading.Lock(), 0, 0.0

    @contextmanager
    def short(self) -> Iterator[None]:
        """A context in which threads that wait for the interpreter get it sooner."""
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.before = sys.getswitchinterval()
                sys.setswitchinterval(min(TURN, self.before))
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    sys.setswitchinterval(self.before)


TURNS = Turns()


def _run(f: Callable[[Group], T], size: int, seconds: float) -> list[T]:
    if size == 1:
        return [f(Group("world"))]
    job = Job(size, seconds)
    results: list[Any] = [None] * size
    over = threading.Event()  # set whenever a rank has ended
    room = Room(job, list(range(size)), "world")

    def rank(r: int) -> None:
        job.threads[r] = threading.get_ident()
        TERMINAL.jobs[job.threads[r]] = job
        try:
            results[r] = f(Threads(Memory(room, r), "world", Counter(), range(size)))
        except Ended:
            pass
        except BaseException as error:
            job.fail(r, error)
        finally:
            lines.finish()
            del TERMINAL.jobs[job.threads[r]]
            with job.lock:
                job.ended.add(r)
            over.set()

    contexts = [contextvars.copy_context() for _ in range(size)]
    threads = [
        threading.Thread(target=c.run, args=(rank, r), name=f"rank {r}", daemon=True)
        for r, c in enumerate(contexts)
    ]
    with TURNS.short(), TERMINAL.taken() as lines:
        for thread in threads:
            thread.start()
        _join(job, over)
    if job.failed:
        r, error = job.failed
        alike = len(job.errors) == size and len({repr(e) for e in job.errors.values()}) == 1
        if not alike and not isinstance(error, Apart):
            error.add_note(f"on rank {r} of {size}")
        raise error
    return results


def _join(job: Job, over: threading.Event) -> None:
    """Wait until all ranks have ended; once one has failed, only briefly: the others end at their next wait.

    After a signal, which the main thread takes, the ranks end at once, unless they are in a long call of C.
    A signal that interrupts Thread.join makes it take the thread for ended (CPython issue 89437), so it
    is not used.
    """
    try:
        while len(job.ended) < job.size and not job.failed:
            over.wait(0.1)
            over.clear()
    except BaseException as error:
        job.fail(-1, error)
        for r, ident in job.threads.items():
            if job.tell_to_end(r):
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Ended))
        raise
    finally:
        end = time.monotonic() + PATIENCE
        while len(job.ended) < job.size and time.monotonic() < end:
            time.sleep(0.002)
