"""Where the ranks of one process meet: each is a thread, and reads the arrays of the others directly.

A collective is a Meeting: each rank leaves its arrays there, and the last one to arrive does the work for
all. So only the result is copied, sums are added in the order of the ranks, and no rank waits for
another to pick up its result. If ranks enter different collectives, or one can never come, all of them end
with the places in the code.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from minimega.errors import RunFailed
from minimega.ranks.rollcall import named, place

POLL = 0.05  # seconds between two looks at the others, while a rank waits


class Ended(BaseException):
    """Raised on a rank that waits when another one has failed; no program should catch it."""


class Apart(RunFailed):
    """Ranks do not meet; the message names them."""


class Signal:
    """What `threading.Event` does, with one lock instead of three: a wait switches between threads once."""

    def __init__(self):
        self.given, self.lock = False, threading.Lock()
        self.lock.acquire()

    def set(self) -> None:
        """End all waits; called once."""
        self.given = True
        self.lock.release()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; returns whether it was set."""
        if not self.given and self.lock.acquire(timeout=seconds):
            self.lock.release()  # for the next one that waits
        return self.given


class Job:
    """State shared by the ranks of one run: who waits where, who has ended, and the first failure."""

    def __init__(self, size: int, seconds: float):
        self.size, self.seconds = size, seconds
        self.lock = threading.Lock()
        self.waits: dict[int, tuple[str, Signal]] = {}  # by rank: for what, and until when
        self.ended: set[int] = set()
        self.ending: set[int] = set()  # ranks that were told to end: once each
        self.threads: dict[int, int] = {}  # by rank: the thread's number
        self.failed: tuple[int, BaseException] | None = None  # the first failure
        self.errors: dict[int, BaseException] = {}  # by rank: all of them
        self.paused = 0  # ranks at a debugger's prompt, or in long work that was announced

    def fail(self, rank: int, error: BaseException) -> None:
        """Note the first failure: all ranks that wait end."""
        with self.lock:
            self.errors[rank] = error
            if self.failed is None:
                self.failed = rank, error

    def tell_to_end(self, rank: int) -> bool:
        """Whether Ended is to be raised on this rank: True once, so that none interrupts its cleaning up."""
        with self.lock:
            first = rank not in self.ending
            self.ending.add(rank)
            return first

    @contextmanager
    def pause(self) -> Iterator[None]:
        """A context in which no time limit runs."""
        with self.lock:
            self.paused += 1
        try:
            yield
        finally:
            with self.lock:
                self.paused -= 1

    def wait(self, rank: int, until: Signal, what: str, missing: Callable[[], list[int]]) -> None:
        """Wait until the signal is set; `missing` lists the ranks that must come first.

        Raises RunFailed if they never can, or did not within `seconds`; Ended if another rank has failed.
        """
        if until.given:
            return
        begun = time.monotonic()
        with self.lock:
            self.waits[rank] = f"{what}, {place()}", until
        try:
            while not until.wait(POLL):
                if self.failed and self.tell_to_end(rank):
                    raise Ended
                if self.paused:
                    begun = time.monotonic()
                self._look(begun, until, missing)
        finally:
            with self.lock:
                del self.waits[rank]

    def _look(self, begun: float, until: Signal, missing: Callable[[], list[int]]) -> None:
        with self.lock:
            asleep = (r in self.waits and not self.waits[r][1].given for r in range(self.size))
            stuck = all(r in self.ended or sleeps for r, sleeps in enumerate(asleep))
            ended = set(self.ended)
            absent = missing()  # after `ended`: what a rank has left before its end is seen
            late = time.monotonic() - begun > self.seconds
            if self.failed or until.given or not (stuck or late or ended & set(absent)):
                return
            by_place: dict[str, list[int]] = {}
            for r in range(self.size):
                by_place.setdefault(self._where(r), []).append(r)
        within = f" within {self.seconds:g} s" if late else ""
        lines = [f"{named(ranks)} {where}" for where, ranks in by_place.items()]
        raise Apart("\n".join([f"{named(absent)} did not come{within}:", *lines]))

    def _where(self, rank: int) -> str:
        if rank in self.ended:
            return "ended"
        if rank in self.waits:
            return f"in {self.waits[rank][0]}"
        return f"at {place(sys._current_frames().get(self.threads.get(rank, 0)))}"


class Meeting:
    """One collective of a group, with what each rank left for it."""

    def __init__(self):
        self.given: dict[int, tuple] = {}
        self.said: dict[int, tuple[str, str]] = {}  # by rank: which collective it entered, and where
        self.done, self.result = Signal(), None


class Room:
    """The meetings and the messages in flight of one group, whose ranks have these numbers in the world."""

    def __init__(self, job: Job, ranks: list[int], name: str):
        self.job, self.ranks, self.name, self.lock = job, ranks, name, threading.Lock()
        self.meetings: dict[int, Meeting] = {}  # by number: those that some ranks have not entered yet
        self.sent: dict[tuple[int, int], deque] = {}  # by sender and receiver: arrays not received yet
        self.wanted: dict[tuple[int, int], deque] = {}  # the other way round: buffers not filled yet

    def enter(self, rank: int, number: int, what: str, given: tuple, work: Callable) -> Callable:
        """Enter a collective; the wait returns what `work` made of all ranks' `given`, in their order.

        Raises RunFailed if another rank has entered a different one.
        """
        size, what = len(self.ranks), f"{what} in {self.name}"
        with self.lock:
            meeting = self.meetings.setdefault(number, Meeting())
            meeting.given[rank], meeting.said[rank] = given, (what, place())
            if len({said for said, _ in meeting.said.values()}) > 1:
                entered = [f"rank {self.ranks[r]} entered {', '.join(meeting.said[r])}" for r in meeting.said]
                raise Apart("\n".join(["ranks do not meet in one collective:", *sorted(entered)]))
            last = len(meeting.given) == size
            if last:
                del self.meetings[number]
        if last:
            meeting.result = work([meeting.given[r] for r in range(size)])
            meeting.given.clear()
            meeting.done.set()

        def wait():
            absent = lambda: [self.ranks[r] for r in range(size) if r not in meeting.said]  # noqa: E731
            self.job.wait(self.ranks[rank], meeting.done, what, absent)
            return meeting.result

        return wait

    def exchange(self, rank: int, pair: tuple[int, int], array, sends: bool) -> Callable:
        """Send an array to, or receive into it from, the other rank of the pair (sender, receiver)."""
        done, what = Signal(), f"{'send' if sends else 'receive'} in {self.name}"
        with self.lock:
            mine, theirs = (self.sent, self.wanted) if sends else (self.wanted, self.sent)
            other = theirs.setdefault(pair, deque())
            found = other.popleft() if other else None
            if found is None:
                mine.setdefault(pair, deque()).append((array, done))
        if found is not None:
            there, seen = found
            x, y = (array, there) if sends else (there, array)
            if x.nbytes != y.nbytes:
                raise Apart(f"{what}: {x.nbytes} bytes are sent and {y.nbytes} expected, at {place()}")
            y.view("uint8")[...] = x.view("uint8")
            seen.set()
            done.set()
        peer = pair[1] if sends else pair[0]
        return lambda: self.job.wait(self.ranks[rank], done, what, lambda: [self.ranks[peer]])
