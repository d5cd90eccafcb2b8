"""Who waits for whom: a rank that has waited for long calls the roll; who does not answer is missing.

A rank answers while it waits itself, for any message. One that computes, is stopped or hangs is silent. Long
work is announced (`busy`), so that nobody takes it for a lost rank. It all has a communicator of its own, and
costs nothing until a wait has become long.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from minimega.errors import RunFailed

LONG = 30.0  # seconds
GRACE = 2.0  # for the answers
# Modules that a report passes over: a reader wants the line of the program that called them.
PLUMBING = (
    "contextlib",
    "minimega.autograd",
    "minimega.ranks.group",
    "minimega.ranks.mpi",
    "minimega.parallel.regions",
    "minimega.ranks.rollcall",
    "minimega.ranks.transport",
    "minimega.ranks.watch",
)


class RollCall:
    """One rank's part in it; ranks are numbers of the world.

    Unless `ends`, a wait of so many seconds is said in one line, once, and goes on. Otherwise it raises
    RunFailed. `last` is what each rank was last seen in, where somebody notes it down.
    """

    def __init__(self, comm, seconds: float = LONG):
        self.comm, self.rank, self.others = comm.Dup(), comm.rank, set(range(comm.size)) - {comm.rank}
        self.seconds, self.ends, self.failed = seconds, False, False
        self.last: dict[int, str] = {}
        self.busy_with: dict[int, str] = {}
        self.begun, self.asked, self.call, self.answers = 0.0, 0.0, 0, {}
        self.since, self.yielded, self.said, self.said_busy = 0.0, False, False, False
        self.sent: list[tuple] = []  # the packets must live until they are gone

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Tell all ranks that this one will be long: they wait without a limit, and can say for what."""
        self._tell(self.others, busy=what)
        try:
            yield
        finally:
            self._tell(self.others, busy="")

    def look(self, begun: float, what: str, ranks: Sequence[int], limited: bool = True) -> None:
        """Called again and again by a rank that has waited for `ranks` since `begun` (time.monotonic)."""

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
        """Speak, unless the lowest of the ranks that wait will, or the wait is for announced work."""
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
            if not first and not self.yielded:  # the first one ends the job, unless it goes on after all
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
            return f"all ranks have waited for {self.seconds:g} s, each for another: {_places(waits)}"
        near = {r: w for r, w in waits.items() if set(w["for"]) & set(missing)} or waits
        r = min(near)
        more = len(waits) - 1
        also = f" (and {more} other rank{'s' * (more > 1)})" * (more > 0)
        waiter = f"rank {r}{also} waits in {near[r]['what']}, {near[r]['at']}"
        return f"{named(missing)} did not come within {self.seconds:g} s: {waiter}"

    def _report(self, waits: dict[int, dict], missing: list[int]) -> str:
        if not missing:
            return f"ranks do not meet: all wait, each for another, for {self.seconds:g} s\n{_places(waits)}"
        seen = {w["last"][str(r)] for r in missing for w in waits.values() if str(r) in w["last"]}
        last = f", last seen in: {' and '.join(sorted(seen))}" if seen else ""
        late = f"{named(missing)} did not come within {self.seconds:g} s{last}"
        return f"ranks do not meet: {late}\n{_places(waits)}"


def place() -> str:
    """Where the program called: the innermost place outside of the messages and of the engine."""
    frame = sys._getframe(1)
    while frame:
        module = frame.f_globals.get("__name__", "")
        if module not in PLUMBING and frame.f_code.co_name != "<lambda>":
            name = frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
            return f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return "outside of any program"


def named(ranks: Sequence[int]) -> str:
    """The ranks in words.

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
    sys.stderr.write(f"minimega: {line}\n")  # one call: lines of several ranks do not mix
    sys.stderr.flush()
