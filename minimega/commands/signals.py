"""Signals that stop a command: Ctrl-C, SIGTERM, SIGHUP (the terminal closed), or SIGUSR1 on ranks.

Training finishes its step and saves. Everything else stops at once by an exception, which removes temporary
files on its way.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from minimega.ranks import lifeline
from minimega.ranks.launch import STOP_SIGNALS
from minimega.ranks.lifeline import signal_name


class Stopped(KeyboardInterrupt):
    """A signal ended the command; `number` is the signal's number."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal_name(lifeline.asked(number))}")
        self.number = number


@contextmanager
def ending() -> Iterator[None]:
    """Inside this block the first signal raises Stopped. A second one acts as usual."""

    def end(number):
        raise Stopped(number)

    with _first(end, leave_out=signal.SIGINT):  # Python raises KeyboardInterrupt itself
        yield


class Relay:
    """Passes the main thread's signal on to ranks that are threads; `takers` of them wait for one."""

    def __init__(self):
        self.asked, self.takers, self.lock = [], 0, threading.Lock()

    @contextmanager
    def taking(self) -> Iterator[list[int]]:
        """A context in which a rank takes the signal; yields the list to which its number is added."""
        with self.lock:
            self.takers += 1
        try:
            yield self.asked
        finally:
            with self.lock:
                self.takers -= 1


_relay: ContextVar[Relay | None] = ContextVar("relay", default=None)


@contextmanager
def relayed() -> Iterator[None]:
    """For ranks that are threads started inside: the first signal is that of their `interruptible`.

    If no rank is inside one, it ends this block, as in `ending`. A second one acts as usual.
    """
    relay = Relay()

    def pass_on(number):
        if not relay.takers:
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)
        relay.asked.append(number)

    token = _relay.set(relay)
    try:
        with _first(pass_on):
            yield
    finally:
        _relay.reset(token)


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Yield a list to which the first signal appends its number. A second one acts as usual."""
    if relay := _relay.get():
        with relay.taking() as taken:
            yield taken
        return
    asked: list[int] = []
    with _first(asked.append):
        yield asked


@contextmanager
def _first(act: Callable[[int], None], leave_out: int | None = None) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return

    def note(number, _frame):
        back()
        act(number)

    def back():
        for n, usual in before.items():
            signal.signal(n, usual)

    before = {n: signal.getsignal(n) for n in STOP_SIGNALS if n != leave_out and _heard(n)}
    for n in before:
        signal.signal(n, note)
    try:
        yield
    finally:
        back()


def _heard(number: int) -> bool:
    """Whether to handle this signal. nohup ignores SIGHUP; leave it ignored."""
    return number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) != signal.SIG_IGN
