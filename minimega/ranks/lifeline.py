"""A rank's line to the launcher that started it: a socket that closes when the launcher is gone.

The rank ends with its launcher, also where it is stuck inside MPI. It leaves its state there (JSON, a line
each), for words about a rank that can say none itself. The launcher sends single bytes: 0 asks whether
the rank gets on, any other number is the signal that the user sent.
"""

import atexit
import contextlib
import json
import os
import signal
import socket
import sys
import threading

ADDRESS = "MINIMEGA_LAUNCHER"
MESSAGES = ("transport", "watch", "rollcall", "group", "mpi")  # where a rank waits for others


def hold(rank: int) -> None:
    """Connect to the launcher that the environment names, if any, and end with it from here on."""
    global _line
    address = os.environ.pop(ADDRESS, None)  # not for the processes that this one starts
    if address:
        _line = Line(address, rank)


def held() -> bool:
    """Whether this rank has a launcher of ours: it has set the environment already."""
    return _line is not None


def tell(**state) -> None:
    """Leave this with the launcher; without one, do nothing."""
    if _line:
        _line.tell(state)


def asked(number: int) -> int:
    """The signal that the user sent; every one of them reaches the ranks as SIGUSR1."""
    return _line.asked if _line and _line.asked and number == signal.SIGUSR1 else number


class Line:
    """The rank's end of the line; a thread of its own listens there."""

    def __init__(self, address: str, rank: int):
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
        """Send what fits: a launcher that reads nothing must not hold up the rank."""
        with self.lock:
            if len(self.unsent) < 1 << 16:
                self.unsent += json.dumps(state).encode() + b"\n"
            with contextlib.suppress(OSError):  # full, or closed: then `_listen` ends this process
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
                moves += now is None or now is not place  # the same frame: the same call, not a later one
                place = now
                self.tell({"moves": moves})


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _waiting():
    """The call in which the main thread waits for other ranks; None where it is at work."""
    frame, call = sys._current_frames().get(threading.main_thread().ident), None
    while frame and frame.f_globals.get("__name__") == "threading":
        frame = frame.f_back
    while frame and frame.f_globals.get("__name__", "").rpartition(".")[2] in MESSAGES:
        frame, call = frame.f_back, frame
    return call


_line: Line | None = None
