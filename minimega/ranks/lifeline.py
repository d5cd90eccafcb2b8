"""Both ends of a rank's socket to the launcher that started it. It closes when either of them is gone.

A rank ends with its launcher, even if it is stuck inside MPI. It sends its state (one line of JSON each), so
the launcher can report on a rank that died. The launcher sends single bytes: 0 asks whether the rank makes
progress, any other number is the signal that the user sent.
"""

import atexit
import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time

ADDRESS = "MINIMEGA_LAUNCHER"
COLUMNS = "MINIMEGA_COLUMNS"  # the width of the terminal to which the launcher writes errors, and so a bar
FATAL = b"Fatal Python error: "
FAULTS = {  # how faulthandler calls the signals that it reports
    "Segmentation fault": signal.SIGSEGV,
    "Floating-point exception": signal.SIGFPE,
    "Floating point exception": signal.SIGFPE,
    "Aborted": signal.SIGABRT,
    "Bus error": getattr(signal, "SIGBUS", 0),
    "Illegal instruction": getattr(signal, "SIGILL", 0),
}
HIGHEST_FILE = 1 << 10  # the usual limit on a process's open files
MESSAGES = ("transport", "watch", "rollcall", "group", "mpi")  # where a rank waits for others


def hold(rank: int) -> None:
    """Connect rank number `rank` to the launcher in the environment, if any; from here on it ends with it."""
    global _line
    address = os.environ.pop(ADDRESS, None)  # child processes must not inherit it
    width = os.environ.pop(COLUMNS, "0")
    if address:
        _line = Line(address, rank, int(width))


def held() -> bool:
    """Whether our launcher started this rank, and has set its environment."""
    return _line is not None


def columns() -> int:
    """In a rank: the width of the terminal from which our launcher started it; 0 without one."""
    return _line.columns if _line else 0


def tell(**state) -> None:
    """Send this state to the launcher; without one, do nothing."""
    if _line:
        _line.tell(state)


def asked(number: int) -> int:
    """The signal that the user sent, given the one that arrived: the launcher sends every one as SIGUSR1.

    The signal may overtake the byte that names it. So this waits for the byte, at most half a second.
    """
    end = time.monotonic() + 0.5
    while _line and not _line.asked and number == signal.SIGUSR1 and time.monotonic() < end:
        time.sleep(0.005)
    return _line.asked if _line and _line.asked and number == signal.SIGUSR1 else number


def signal_name(number: int) -> str:
    """The name by which a user knows a signal: Ctrl-C, SIGTERM..."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


class Rank:
    """What the launcher knows of one rank: the state it sent, and when it last made progress.

    `fault` is the signal of a fatal error (0: none): just before such an end, Python's faulthandler writes to
    the socket.
    """

    def __init__(self, line: socket.socket):
        self.fault = 0
        self.line, self.state, self.unread, self.closed = line, {}, b"", 0.0
        self.answered = self.moved = 0.0

    def read(self) -> bool:
        """Read what the rank sent; returns False if its socket is closed."""
        try:
            data = self.line.recv(1 << 16)
        except OSError:
            data = b""
        *messages, self.unread = (self.unread + data).split(b"\n")
        for line in messages:
            if line.startswith(FATAL):
                self.fault = FAULTS.get(line.removeprefix(FATAL).decode(), 0)
            if not line.startswith(b"{"):
                continue
            message, now = json.loads(line), time.monotonic()
            if "moves" in message:
                self.answered = now
            if "bye" in message or message.get("moves") != self.state.get("moves"):
                self.moved = now
            self.state |= message
        return bool(data)

    def send(self, order: int) -> None:
        """Send one byte: 0 asks for progress, anything else is a signal's number."""
        with contextlib.suppress(OSError):
            self.line.send(bytes([order]), socket.MSG_DONTWAIT)


class Line:
    """The rank's end of the socket; a thread listens to it."""

    def __init__(self, address: str, rank: int, columns: int = 0):
        self.columns = columns
        self.asked, self.lock, self.unsent = 0, threading.Lock(), b""
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.connect(address)
        except OSError:
            _end()
        self._move_up()
        if not faulthandler.is_enabled():  # unless the user asked for a report on the screen
            faulthandler.enable(self.socket.fileno(), all_threads=False)
        self.tell({"rank": rank, "pid": os.getpid()})
        atexit.register(self.tell, {"bye": True})
        threading.Thread(target=self._listen, daemon=True).start()

    def _move_up(self) -> None:
        """Give the socket a high number: Linux closes a dead process's files from the highest number down.

        So the launcher hears of a death before mpirun does, whose own socket has a low number. mpirun then
        kills the other ranks, and the launcher could not tell which rank died first.
        """
        with contextlib.suppress(ImportError, OSError, ValueError):  # no such number is allowed
            import fcntl
            import resource

            top = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], HIGHEST_FILE)
            moved = fcntl.fcntl(self.socket.fileno(), fcntl.F_DUPFD_CLOEXEC, top - 1)
            self.socket.close()
            self.socket = socket.socket(fileno=moved)

    def tell(self, state: dict) -> None:
        """Send what fits without blocking: a launcher that does not read must not hold up the rank."""
        with self.lock:
            if len(self.unsent) < 1 << 16:
                self.unsent += json.dumps(state).encode() + b"\n"
            with contextlib.suppress(OSError):  # full, or closed; if closed, `_listen` ends this process
                self.unsent = self.unsent[self.socket.send(self.unsent, socket.MSG_DONTWAIT) :]

    def _listen(self) -> None:
        place, moves = None, 0
        while True:
            try:
                orders = self.socket.recv(64)
            except OSError:
                orders = b""
            if not orders:
                _end()
            for order in orders:
                if order:
                    self.asked = order
                    continue
                now = _waiting()
                moves += now is None or now is not place  # progress, unless it is still in the same call
                place = now
                self.tell({"moves": moves})


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _waiting():
    """The frame in which the main thread waits for other ranks; None if it is computing."""
    frame, call = sys._current_frames().get(threading.main_thread().ident), None
    while frame and frame.f_globals.get("__name__") == "threading":
        frame = frame.f_back
    while frame and frame.f_globals.get("__name__", "").rpartition(".")[2] in MESSAGES:
        frame, call = frame.f_back, frame
    return call


_line: Line | None = None
