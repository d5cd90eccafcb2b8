"""--check-collectives: ranks that do not meet are reported, instead of hanging for ever.

In every MPI a rank that skips a collective, or leaves early, makes the others wait without a word. Here each
rank first tells the others of the group what it is about to enter. Any two ranks share one order of the
collectives that both take part in, so one stream of notes between them is enough, whatever the groups. A rank
that comes to no collective, or does not send what others receive, is found by a roll call (rollcall.py).
"""

import atexit
import math
import time
from collections.abc import Sequence

import numpy as np

from minimega.errors import RunFailed
from minimega.ranks import launch
from minimega.ranks.group import Group
from minimega.ranks.rollcall import GRACE, named, place

END = "the end of the program"
NOTE = 1024  # bytes of a note


def watched(world: Group, seconds: float = 60.0) -> Group:
    """The same group, and all that is cut from it, with each collective checked before it is entered.

    RunFailed, with both places in the code, where ranks enter different collectives, or one does not come to
    any message within so many seconds. A group of one has nothing to check.
    """
    return world if world.size == 1 else Watched(world, Watch(world, seconds))


class Watch:
    """The notes that ranks exchange; numbers are those of the world."""

    def __init__(self, world: Group, seconds: float):
        self.comm, self.rank, self.size = world.comm.Dup(), world.rank, world.size
        self.roll = world.roll
        self.roll.seconds, self.roll.ends = seconds, True
        self.roll.last = dict.fromkeys(world.ranks, "nothing")
        atexit.register(self.end, world.ranks)

    def enter(self, what: str, ranks: Sequence[int], where: str, limited: bool = True) -> None:
        """Tell the others what this rank enters, hear what they do, and go on if it is the same."""
        mine = f"{what}, {where}"
        packet = mine.encode()[:NOTE].ljust(NOTE)
        notes, boxes = {self.rank: mine}, {r: bytearray(NOTE) for r in ranks if r != self.rank}
        sent = [self.comm.Isend(packet, r) for r in boxes]
        coming = {r: self.comm.Irecv(box, r) for r, box in boxes.items()}
        begun, end = time.monotonic(), math.inf
        while coming and time.monotonic() < end:
            for r in [r for r, request in coming.items() if request.Test()]:
                del coming[r]
                notes[r] = boxes[r].decode(errors="replace").rstrip()
                if not notes[r].startswith(f"{what}, "):  # the others' notes only make the report complete
                    end = min(end, time.monotonic() + 0.5)
            time.sleep(5e-5)
            self.roll.look(begun, what, list(coming), limited and end == math.inf)
        if any(not note.startswith(f"{what}, ") for note in notes.values()):
            self._fail(notes)
        for request in sent:
            request.Wait()
        self.roll.last |= notes

    def end(self, ranks: Sequence[int]) -> None:
        """The program's end is a collective too: a rank that comes here alone has left the others behind."""
        if self.roll.failed:
            return
        try:  # without a limit: one rank may have more to do at the end, and nobody waits for an answer
            self.enter(END, ranks, f"after {self.roll.last[self.rank]}", limited=False)
        except RunFailed as error:
            launch.fail(error)

    def _fail(self, notes: dict[int, str]) -> None:
        self.roll.failed = True
        if len(notes) < self.size and self.rank > min(notes):
            time.sleep(2 * GRACE)  # one of those that know speaks for all, and ends the job
        by_note: dict[str, list[int]] = {}
        for r in sorted(notes):
            by_note.setdefault(notes[r], []).append(r)
        lines = [f"{named(ranks)} entered {note}" for note, ranks in by_note.items()]
        raise RunFailed("\n".join(["ranks do not meet in one collective:", *lines]))


class Watched(Group):
    """A group whose collectives are announced to a Watch before they begin."""

    def __init__(self, group: Group, watch: Watch):
        super().__init__(group.name, group.counter, group.ranks)
        self.group, self.watch, self.rank, self.size = group, watch, group.rank, group.size

    def __repr__(self) -> str:
        return f"{self.group!r}, each collective checked"

    def start_all_reduce(self, x, op="sum", label=""):
        self._enter(f"all-reduce ({op})", x)
        return self.group.start_all_reduce(x, op, label)

    def start_all_gather(self, x, axis=0, length=None, label=""):
        shape = list(x.shape)  # the pieces may differ in length: what they make up may not
        shape[axis] = x.shape[axis] * self.size if length is None else length
        self._enter(f"all-gather (axis {axis}) to {tuple(shape)} {x.dtype}")
        return self.group.start_all_gather(x, axis, length, label)

    def start_reduce_scatter(self, x, axis=0, label=""):
        self._enter(f"reduce-scatter (axis {axis})", x)
        return self.group.start_reduce_scatter(x, axis, label)

    def start_all_to_all(self, x, sends, receives, label=""):
        self._enter(f"all-to-all of rows {x.shape[1:]} {x.dtype}")  # whose number each rank decides
        return self.group.start_all_to_all(x, sends, receives, label)

    def start_broadcast(self, x, root=0, label=""):
        self._enter(f"broadcast (from {root})", x)
        return self.group.start_broadcast(x, root, label)

    def start_send(self, x, to, label=""):
        return self.group.start_send(x, to, label)

    def start_receive(self, y, source):
        return self.group.start_receive(y, source)

    def barrier(self):
        self._enter("barrier")
        self.group.barrier()

    def busy(self, what):
        return self.group.busy(what)

    def split(self, colour, name=""):
        self._enter("split")
        part = self.group.split(colour, name)
        return part if part.size == 1 else Watched(part, self.watch)

    def _enter(self, what: str, x=None) -> None:
        of = "" if x is None else f" of {np.shape(x)} {getattr(x, 'dtype', '')}"
        self.watch.enter(f"{what}{of} in {self.name}", self.ranks, place())
