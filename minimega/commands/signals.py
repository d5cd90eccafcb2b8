"""How a command is asked to stop: by Ctrl-C, SIGTERM, SIGHUP (its terminal is gone), or SIGUSR1 on ranks.

A run in training saves at its step's end. Everything else ends at once, by way of an exception, so that what
it wrote for the time being is removed.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from minimega.ranks import lifeline
from minimega.ranks.job import signal_name
from minimega.ranks.launch import STOP_SIGNALS


class Stopped(KeyboardInterrupt):
    """A signal that ends a command; `number` says which."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal_name(lifeline.asked(number))}")
        self.number = number


@contextmanager
def ending() -> Iterator[None]:
    """The first signal raises Stopped; a second one acts as it did before."""

    def end(number):
        raise Stopped(number)

    with _first(end, leave_out=signal.SIGINT):  # Python has its own exception for that one
        yield


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """A list to which the first signal adds its number; a second one acts as it did before."""
    asked: list[int] = []
    with _first(asked.append):
        yield asked


@contextmanager
def _first(act: Callable[[int], None], leave_out: int | None = None) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # no other thread may set handlers, or is told of signals
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
    """nohup has SIGHUP ignored, so that a run outlives its terminal."""
    return number != getattr(signal, "SIGHUP", None) or signal.getsignal(number) != signal.SIG_IGN
