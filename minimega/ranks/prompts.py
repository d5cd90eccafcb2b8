"""One terminal for ranks that are threads: whole lines, and one debugger's prompt at a time."""

import io
import pdb
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_prompt = threading.RLock()  # held by the rank that prompts


class Lines(io.TextIOBase):
    """A text stream for threads: each thread's text goes out line by line, so lines stay whole."""

    def __init__(self, stream):
        self.stream, self.kept, self.lock = stream, threading.local(), threading.Lock()

    def write(self, text: str) -> int:
        """Write the whole lines of this thread, and keep the rest."""
        begun = getattr(self.kept, "text", "") + text
        lines, newline, self.kept.text = begun.rpartition("\n")
        if newline:
            with self.lock:
                self.stream.write(lines + newline)
        return len(text)

    def flush(self) -> None:
        """Flush the stream below; an unfinished line stays."""
        self.stream.flush()

    def finish(self) -> None:
        """Write this thread's unfinished line."""
        if rest := getattr(self.kept, "text", ""):
            self.kept.text = ""
            with self.lock:
                self.stream.write(rest)

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


class Prompt(pdb.Pdb):
    """The debugger of one rank: it prompts with the rank's name, and others wait for their turn."""

    def __init__(self, job, streams: tuple):
        super().__init__(stdin=streams[0], stdout=streams[1])
        self.job, self.prompt = job, f"({threading.current_thread().name}) "

    def interaction(self, *args) -> None:
        """Prompt, alone."""
        with _prompt:
            self.job.paused += 1
            try:
                super().interaction(*args)
            finally:
                self.job.paused -= 1


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
                self.before, self.lines = (sys.stdout, sys.breakpointhook), Lines(sys.stdout)
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
