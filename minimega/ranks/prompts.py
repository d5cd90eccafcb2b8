"""One terminal for ranks that are threads: whole lines, and one debugger's prompt at a time."""

import pdb
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_prompt = threading.RLock()  # held by the rank that prompts


class Lines:
    """A text stream for threads: each thread's text goes out line by line, so lines stay whole.

    A thread that flushes within a line has begun it: the lines of others wait until it is ended.
    """

    def __init__(self, stream):
        self.stream, self.lock = stream, threading.Lock()
        self.kept: dict[int, str] = {}  # by thread: what is not written yet
        self.within: int | None = None  # the thread that has begun a line

    def write(self, text: str) -> int:
        """Write the whole lines of this thread, and keep the rest."""
        me = threading.get_ident()
        with self.lock:
            self.kept[me] = self.kept.get(me, "") + text
            if self.within in (None, me):
                self._put(me)
        return len(text)

    def flush(self) -> None:
        """Write what this thread has of a line, if no other has begun one; flush the stream below."""
        me = threading.get_ident()
        with self.lock:
            if self.kept.get(me) and self.within in (None, me):
                self.stream.write(self.kept[me])
                self.kept[me], self.within = "", me
            self.stream.flush()

    def finish(self) -> None:
        """Write this thread's unfinished line."""
        me = threading.get_ident()
        with self.lock:
            if self.within in (None, me):
                self._put(me, end=True)
            elif me in self.kept:
                self.stream.write(self.kept.pop(me))

    def _put(self, me: int, end: bool = False) -> None:
        lines, newline, rest = self.kept.pop(me, "").rpartition("\n")
        self.stream.write(lines + newline + rest * end)
        if rest and not end:
            self.kept[me] = rest
        if (newline or end) and self.within == me:  # the others' turn
            self.within = None
            for other in list(self.kept):
                if "\n" in self.kept[other]:
                    self._put(other)

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


class Prompt(pdb.Pdb):
    """The debugger of one rank: it prompts with the rank's name, and others wait for their turn."""

    def __init__(self, job, streams: tuple):
        super().__init__(stdin=streams[0], stdout=streams[1])
        self.job, self.prompt = job, f"({threading.current_thread().name}) "

    def interaction(self, *args) -> None:
        """Prompt, alone."""
        with _prompt, self.job.pause():
            super().interaction(*args)


class Terminal:
    """The terminal while ranks run: the first run takes it, the last one to end gives it back."""

    def __init__(self):
        self.lock, self.users = threading.Lock(), 0
        self.before: tuple[Any, Any] = (None, None)  # standard output and the hook of breakpoint()
        self.jobs: dict[int, object] = {}  # by thread

    @contextmanager
    def taken(self) -> Iterator[Lines]:
        """A context in which threads write whole lines to standard output, and prompt one at a time."""
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.before = sys.stdout, sys.breakpointhook
                self.lines = sys.stdout if isinstance(sys.stdout, Lines) else Lines(sys.stdout)
                sys.stdout, sys.breakpointhook = self.lines, self.hook
        try:
            yield self.lines
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    sys.stdout, sys.breakpointhook = self.before

    def hook(self, *args, **options) -> None:
        """What `breakpoint()` calls: the rank's own prompt, or the usual one outside of ranks."""
        job = self.jobs.get(threading.get_ident())
        if job is None:
            return self.before[1](*args, **options)
        return Prompt(job, (sys.stdin, self.before[0])).set_trace(sys._getframe(1))


TERMINAL = Terminal()
