"""--check-collectives: reports ranks that do not meet, instead of hanging forever.

In any MPI, if a rank skips a collective or exits early, the others hang silently. Here each rank first tells
the other ranks of the group which collective it enters. Two ranks enter their common collectives in the same
order, so one stream of notes between them is enough, whatever the groups. A roll call (rollcall.py) finds a
rank that enters no collective, or does not send what others receive.
"""

import atexit
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from minimega.errors import RunFailed
from minimega.ranks import launch
from minimega.ranks.group import Group
from minimega.ranks.rollcall import GRACE, named, place

END = "the end of the program"
NOTE = 1024  # bytes of a note


def watched(world: Group, seconds: float = 60.0) -> Group:
    """The same group; each collective of it, and of groups split from it, is checked before it starts.

    A collective raises RunFailed, with the places in the code, if ranks enter different ones, or a rank
    enters none within `seconds`. A group of one has nothing to check.
    """
    return world if world.size == 1 else Watched(world, Watch(world, seconds))


class Watch:
    """The notes that ranks exchange; ranks are numbered as in the world."""

    def __init__(self, world: Any, seconds: float):
        self.comm, self.rank, self.size = world.comm.Dup(), world.rank, world.size
        self.roll = world.roll
        self.roll.seconds, self.roll.ends = seconds, True
        self.roll.last = dict.fromkeys(world.ranks, "nothing")
        atexit.register(self.end, world.ranks)

    def enter(self, what: str, ranks: Sequence[int], where: str, limited: bool = True) -> None:
        """Tell `ranks` what this rank enters and where; return once all have entered the same.

        Raises RunFailed if they enter something else, or, if `limited`, if one is late (see RollCall).
        """
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
                if not notes[r].startswith(f"{what}, "):  # wait briefly for the rest, to complete the report
                    end = min(end, time.monotonic() + 0.5)
            time.sleep(5e-5)
            self.roll.look(begun, what, list(coming), limited and end == math.inf)
        if any(not note.startswith(f"{what}, ") for note in notes.values()):
            self._fail(notes)
        for request in sent:
            request.Wait()
        self.roll.last |= notes

    def end(self, ranks: Sequence[int]) -> None:
        """Treat the end of the program as a collective: a rank that ends alone has left others waiting."""
        if self.roll.failed:
            return
        try:  # no limit: a rank may have more to do at the end, and no other rank depends on it
            self.enter(END, ranks, f"after {self.roll.last[self.rank]}", limited=False)
        except RunFailed as error:
            launch.fail(error)

    def _fail(self, notes: dict[int, str]) -> None:
        self.roll.failed = True
        if len(notes) < self.size and self.rank > min(notes):
            time.sleep(2 * GRACE)  # the lowest rank reports for all and ends the job
        by_note: dict[str, list[int]] = {}
        for r in sorted(notes):
            by_note.setdefault(notes[r], []).append(r)
        lines = [f"{named(ranks)} entered {note}" for note, ranks in by_note.items()]
        raise RunFailed("\n".join(["ranks do not meet in one collective:", *lines]))


class Watched(Group):
    """A group that announces each collective to a Watch before it starts."""

    def __init__(self, group: Group, watch: Watch):
        super().__init__(group.name, group.counter, group.ranks)
        self.group, self.watch, self.rank, self.size = group, watch, group.rank, group.size

    def __repr__(self) -> str:
        return f"{self.group!r}, each collective checked"

    def start_all_reduce(self, x, op="sum", label=""):
        """Checked: the operation, shape and dtype agree."""
        self._enter(f"all-reduce ({op})", x)
        return self.group.start_all_reduce(x, op, label)

    def start_all_gather(self, x, axis=0, length=None, label=""):
        """Checked: the axis, whole shape and dtype agree."""
        shape = list(x.shape)  # the pieces may differ in length, the whole may not
        shape[axis] = x.shape[axis] * self.size if length is None else length
        self._enter(f"all-gather (axis {axis}) to {tuple(shape)} {x.dtype}")
        return self.group.start_all_gather(x, axis, length, label)

    def start_reduce_scatter(self, x, axis=0, label=""):
        """Checked: the axis, shape and dtype agree."""
        self._enter(f"reduce-scatter (axis {axis})", x)
        return self.group.start_reduce_scatter(x, axis, label)

    def start_all_to_all(self, x, sends, receives, label=""):
        """Checked: the rows' shape and dtype agree; their number may differ."""
        self._enter(f"all-to-all of rows {x.shape[1:]} {x.dtype}")
        return self.group.start_all_to_all(x, sends, receives, label)

    def start_broadcast(self, x, root=0, label=""):
        """Checked: the root, shape and dtype agree."""
        self._enter(f"broadcast (from {root})", x)
        return self.group.start_broadcast(x, root, label)

    def start_send(self, x, to, label=""):
        """Not checked: only two ranks take part. A lost message is found by the roll call."""
        return self.group.start_send(x, to, label)

    def start_receive(self, y, source):
        """Not checked, as `start_send`."""
        return self.group.start_receive(y, source)

    def barrier(self):
        """Checked: all ranks enter it."""
        self._enter("barrier")
        self.group.barrier()

    def busy(self, what):
        """Passed on to the group."""
        return self.group.busy(what)

    def split(self, colour, name=""):
        """Checked; the groups that it returns are checked too."""
        self._enter("split")
        part = self.group.split(colour, name)
        return part if part.size == 1 else Watched(part, self.watch)

    def _enter(self, what: str, x=None) -> None:
        of = "" if x is None else f" of {np.shape(x)} {getattr(x, 'dtype', '')}"
        self.watch.enter(f"{what}{of} in {self.name}", self.ranks, place())
