"""A rank's socket to the launcher that started it, which closes when the launcher is gone.

A rank ends with its launcher, even if it is stuck inside MPI. It sends its state (one line of JSON each), so
the launcher can report on a rank that died. The launcher sends single bytes: 0 asks whether the rank makes
progress, any other number is the signal that the user sent.
"""

import atexit
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time

ADDRESS = "MINIMEGA_LAUNCHER"
COLUMNS = "MINIMEGA_COLUMNS"  # the width of the terminal to which the launcher writes errors, and so a bar
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
        self.tell({"rank": rank, "pid": os.getpid()})
        atexit.register(self.tell, {"bye": True})
        threading.Thread(target=self._listen, daemon=True).start()

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
