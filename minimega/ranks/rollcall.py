"""Roll calls: a rank that has waited too long asks all others; a rank that does not answer is missing.

A rank answers only while it waits for a message itself. A rank that computes, is stopped or hangs is silent.
Long work is announced (`busy`), so it is not mistaken for a lost rank. Roll calls have their own communicator
and cost nothing until a wait gets long.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from minimega.errors import RunFailed

LONG = 30.0  # seconds until a wait is reported
GRACE = 2.0  # seconds for the answers
# Modules that a report skips: the reader wants the line of the program that called them.
PLUMBING = (
    "contextlib",
    "minimega.autograd",
    "minimega.ranks.group",
    "minimega.ranks.mpi",
    "minimega.ranks.meeting",
    "minimega.ranks.threads",
    "minimega.parallel.regions",
    "minimega.ranks.rollcall",
    "minimega.ranks.transport",
    "minimega.ranks.watch",
)


def wait_for(request, look: Callable[..., None], *of) -> None:
    """Wait for an MPI request, yielding the core; in a long wait, call look(begun, *of) every few ms.

    MPI's own wait spins, so the rank it waits for may get no core. With 8 ranks on 2 cores MPICH took 6 ms
    for an all-reduce of 8 bytes and 23 ms for one of 256 KB; with this wait it takes 0.5 ms and 3 ms. With
    a core for each rank both take the same.
    """
    polls, begun = 0, 0.0
    while not request.Test():
        polls += 1
        if polls > 300 and polls % 8 == 0:
            time.sleep(5e-5)
            if polls % 128 == 0:
                begun = begun or time.monotonic()
                look(begun, *of)


class RollCall:
    """One rank's side of the roll calls; ranks are numbered as in the world.

    A wait of more than `seconds` is reported in one line, once, and goes on; if `ends`, it raises RunFailed
    instead. `last` is the collective each rank was last seen in, if known (watch.py).
    """

    def __init__(self, comm, seconds: float = LONG):
        self.comm, self.rank, self.others = comm.Dup(), comm.rank, set(range(comm.size)) - {comm.rank}
        self.seconds, self.ends, self.failed = seconds, False, False
        self.last: dict[int, str] = {}
        self.busy_with: dict[int, str] = {}
        self.begun, self.asked, self.call, self.answers = 0.0, 0.0, 0, {}
        self.since, self.yielded, self.said, self.said_busy = 0.0, False, False, False
        self.sent: list[tuple] = []  # MPI's buffers must live until they are sent

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """A context that tells all ranks `what` this one is busy with: they wait for it without a limit."""
        self._tell(self.others, busy=what)
        try:
            yield
        finally:
            self._tell(self.others, busy="")

    def look(self, begun: float, what: str, ranks: Sequence[int], limited: bool = True) -> None:
        """Answer roll calls, and start one if this wait is long. Called repeatedly during a wait.

        The rank waits in `what` for `ranks` since `begun` (time.monotonic). Raises RunFailed if `ends` and
        the roll call finds a missing rank, or that all ranks wait; never unless `limited`.
        """

        def here() -> dict:
            waited_for = [r for r in ranks if r != self.rank]
            last = {str(r): self.last[r] for r in waited_for if r in self.last}
            return {"what": what, "at": place(), "for": waited_for, "last": last, "said": self.said}

        self._hear(here)
        now = time.monotonic()
        if not limited or self.said or now - max(begun, self.since) < self.seconds:
            return
        if self.begun != begun or not self.asked:
            self.begun, self.asked, self.call, self.answers = begun, now, self.call + 1, {}
            self._tell(self.others, ask=self.call)
        elif self.answers.keys() == self.others or now - self.asked > GRACE:
            self.asked = 0.0
            self._judge(self.answers | {self.rank: here()}, now)

    def _hear(self, here: Callable[[], dict]) -> None:
        from mpi4py import MPI

        status = MPI.Status()
        while self.comm.Iprobe(status=status):
            packet = bytearray(status.Get_count(MPI.BYTE))
            self.comm.Recv(packet, status.source, status.tag)
            words = json.loads(packet)
            if "ask" in words:
                self._tell([status.source], answer=words["ask"], **here())
            elif "busy" in words:
                self.busy_with[status.source] = words["busy"]
            elif words.pop("answer") == self.call:
                self.answers[status.source] = words

    def _tell(self, ranks, **words) -> None:
        packet = json.dumps(words).encode()
        self.sent = [s for s in self.sent if not s[0].Test()]
        self.sent += [(self.comm.Isend(packet, r), packet) for r in ranks]

    def _judge(self, waits: dict[int, dict], now: float) -> None:
        """Report the wait, unless a lower waiting rank will, or it is for announced work."""
        missing = sorted(self.others - waits.keys())
        first = min(waits) == self.rank
        busy = {r: what for r in missing if (what := self.busy_with.get(r))}
        if busy:
            self.since = now
            if first and not self.said_busy and not self.ends:
                work = "; ".join(f"rank {r} is {what}" for r, what in busy.items())
                _say(f"{work}: others have waited for {self.seconds:g} s")
            self.said_busy = True
        elif self.ends:
            if not first and not self.yielded:  # the lowest rank ends the job, unless its wait ends first
                self.since, self.yielded = now - self.seconds + 2 * GRACE, True
                return
            self.failed = True
            raise RunFailed(self._report(waits, missing))
        else:
            if first and not any(w["said"] for w in waits.values()):
                _say(self._line(waits, missing))
            self.said = True

    def _line(self, waits: dict[int, dict], missing: list[int]) -> str:
        if not missing:
            return f"all ranks have waited for one another for {self.seconds:g} s: {_places(waits)}"
        near = {r: w for r, w in waits.items() if set(w["for"]) & set(missing)} or waits
        r = min(near)
        more = len(waits) - 1
        also = f" (and {more} other rank{'s' * (more > 1)})" * (more > 0)
        waiter = f"rank {r}{also} waits in {near[r]['what']}, {near[r]['at']}"
        return f"{named(missing)} did not arrive within {self.seconds:g} s: {waiter}"

    def _report(self, waits: dict[int, dict], missing: list[int]) -> str:
        if not missing:
            return (
                f"ranks do not meet: all have waited for one another for {self.seconds:g} s\n{_places(waits)}"
            )
        seen = {w["last"][str(r)] for r in missing for w in waits.values() if str(r) in w["last"]}
        last = f", last seen in: {' and '.join(sorted(seen))}" if seen else ""
        late = f"{named(missing)} did not arrive within {self.seconds:g} s{last}"
        return f"ranks do not meet: {late}\n{_places(waits)}"


def place(frame: FrameType | None = None) -> str:
    """The line of the program that is running: the innermost frame outside of messages and autograd.

    `frame` is where to begin (None: here).
    """
    frame = frame or sys._getframe(1)
    while frame:
        module = frame.f_globals.get("__name__", "")
        if module not in PLUMBING and frame.f_code.co_name != "<lambda>":
            name = frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
            return f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return "outside the program"


def named(ranks: Sequence[int]) -> str:
    """Ranks as text.

    >>> named([3]), named([0, 2])
    ('rank 3', 'ranks 0, 2')
    """
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _places(waits: dict[int, dict]) -> str:
    by_place: dict[str, list[int]] = {}
    for r in sorted(waits):
        by_place.setdefault(f"{waits[r]['what']}, {waits[r]['at']}", []).append(r)
    return "; ".join(f"{named(r)} wait{'s' * (len(r) == 1)} in {where}" for where, r in by_place.items())


def _say(line: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(f"minimega: {line}\n")  # one call, so lines of different ranks do not interleave
    sys.stderr.flush()
