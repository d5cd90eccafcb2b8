"""Removes what mpirun prints when a rank dies from the ranks' own output."""

import re
import signal

FENCE = re.compile(r"={60,}|-{60,}")
MPICH, OPEN_MPI = (
    re.compile(r"=   [A-Z]"),
    re.compile(
        r"(mpirun|mpiexec|prte?run) (has )?(noticed|detected|exited)|MPI_ABORT was|Primary job +terminated"
    ),
)
# Outside the fenced block: what MPICH prints below it and about an abort, its launcher's own errors when
# ranks are killed, and Open MPI's counts of suppressed messages.
LOOSE = re.compile(
    r"YOUR APPLICATION TERMINATED WITH THE EXIT STRING: "
    r"|This typically refers to a problem with your application\."
    r"|Please see the FAQ page for debugging suggestions"
    r"|Abort\(\d+\) on node \d+ .*application called MPI_Abort"
    r"|\[(proxy|mpiexec)[@:].*(HYD|assert|process manager)"
    r"|\[\d+\.\d+\] \[\S+:\d+:\d+\] .* UCX +(ERROR|FATAL)"
    r"|\[[^\]]*:\d+\] (\d+ more process|Set MCA parameter|PMIX ERROR)"
)
# MPICH's own errors: one line, then the call stack, with the cause last.
FATAL = re.compile(r"Abort\(\d+\).*: Fatal error in \w+: (?P<why>.*?)(, error stack:)?$")
STACK = re.compile(r"\w+\(\d+\)\.*: *(?P<why>.*)$")


class Banners:
    """A filter of whole lines; one per stream.

    `signal` is the signal that ended a rank according to mpirun (0: none), `cause` MPI's own error.
    """

    def __init__(self):
        self.signal, self.cause = 0, ""
        self.pid = self.code = 0
        self.rest, self.held, self.inside = b"", b"", None

    def feed(self, data: bytes) -> bytes:
        """Take more output; returns what can be passed on. An incomplete line waits for its end."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        return b"".join(self._line(line + b"\n") for line in lines)

    def end(self) -> bytes:
        """Returns what is left at the end of the output."""
        left, self.rest = self.held + self.rest, b""
        return left

    def signal_of(self, pid: int) -> int:
        """The signal that ended this process; 0: it exited.

        MPICH's `signal` is the bitwise or of all ranks' exit statuses, also of those that it killed (9).
        Its exit code belongs to one process, the one that it names.
        """
        if self.pid != pid or not self.code:
            return self.signal
        return self.code if self.signal in (self.code, self.code | signal.SIGKILL) else 0

    def _line(self, line: bytes) -> bytes:
        text = line.decode(errors="replace").strip()
        fence = FENCE.fullmatch(text)
        if self.inside:
            if fence:
                self.inside = None
            elif self.inside is MPICH and not MPICH.match(text):
                return line  # a rank's own output in between
            self._note(text)
            return b""
        kind = next((kind for kind in (MPICH, OPEN_MPI) if kind.match(text)), None)
        if kind and FENCE.search(self.held.decode()):
            self.inside, self.held = kind, b""
            self._note(text)
            return b""
        if told := FATAL.match(text) or (self.cause and STACK.match(text)):
            self.cause = told["why"] or self.cause
            return self._release()
        if LOOSE.match(text):
            self._note(text)
            return self._release()
        if fence or not text:  # a banner's first line, or the empty one before it?
            before = b"" if fence and not self.held.strip() else self._release()
            self.held += line
            return before
        return self._release() + line

    def _release(self) -> bytes:
        held, self.held = self.held, b""
        return held

    def _note(self, text: str) -> None:
        if found := re.search(r"  (PID|EXIT CODE:) (\d+)", text):
            self.pid, self.code = (int(found[2]), 0) if found[1] == "PID" else (self.pid, int(found[2]))
        if found := re.search(r"signal (\d+)", text):
            self.signal = self.signal or int(found[1])
