"""The progress of work: a bar or a line on a terminal. Without a terminal only a run prints lines."""

import math
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager

from minimega.ranks.bar import bar as _bar
from minimega.ranks.bar import columns
from minimega.ranks.streams import say

DELAY = 1.0  # seconds until work is shown: what takes less needs no progress
COUNTED = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}, {remaining} left"
OFTEN = 0.5  # seconds between the drawings of a line without a count


@contextmanager
def busy(what: str, speaks: bool = True) -> Iterator[None]:
    """A line with what is being done and for how long, for work whose end is unknown.

    It appears after a second, on a terminal alone, and disappears with the end of the work. Inside, nothing
    may be printed. Only the rank with `speaks` draws.

    >>> with busy("sorting"):
    ...     sorted([2, 1])
    [1, 2]
    """
    done = threading.Event()

    def draw() -> None:
        begun = time.monotonic()
        if done.wait(DELAY) or (line := _bar(None, "{desc}")) is None:
            return
        while not done.is_set():
            line.set_description_str(f"{what} ... {time.monotonic() - begun:.0f} s")
            done.wait(OFTEN)
        line.close()

    if not speaks or not columns():
        yield
        return
    thread = threading.Thread(target=draw, name=what, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def each(items: Iterable, what: str, total: int | None = None, speaks: bool = True) -> Iterator:
    """The items, with a bar on a terminal that shows how many are done; the rules are those of `busy`.

    `total` is their number if they have no length.

    >>> list(each(range(3), "counting"))
    [0, 1, 2]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    form = COUNTED if total else "{desc}: {n_fmt}, {elapsed}"
    bar = _bar(total, form, desc=what, delay=DELAY) if speaks else None
    try:
        for item in items:
            yield item
            if bar is not None:
                bar.update()
    finally:
        if bar is not None:
            bar.close()


class Taken:
    """Windows that report how many were taken; `times`: so many ranks take as many."""

    def __init__(self, windows, bar, times: int):
        self.windows, self.bar, self.times = windows, bar, times

    def __len__(self) -> int:
        return len(self.windows)

    def take(self, which):
        """The windows with these numbers."""
        if self.bar is not None:
            self.bar.update(min(len(which) * self.times, len(self) - self.bar.n))
        return self.windows.take(which)


@contextmanager
def taking(windows, what: str, times: int = 1, speaks: bool = True) -> Iterator[Taken]:
    """These windows, with a bar as that of `each` while they are taken."""
    bar = _bar(len(windows), COUNTED, desc=what, delay=DELAY) if speaks else None
    try:
        yield Taken(windows, bar, times)
    finally:
        if bar is not None:
            bar.close()


class Progress:
    """A bar on a terminal, else a line at the first step, every ten seconds and at the last step.

    Only the rank with `speaks` prints.
    """

    def __init__(self, steps: int, start: int, speaks: bool = True):
        self.steps, self.begun, self.start, self.speaks = steps, time.monotonic(), start, speaks
        self.said = -math.inf
        form = "{percentage:3.0f}% |{bar}| step {n_fmt}/{total_fmt}{postfix}, {remaining} left"
        self.bar = _bar(steps, form, initial=start) if speaks else None

    def show(self, record: dict) -> None:
        """Show a step: `record` has step, loss (nats per token) and tokens_per_s."""
        step = record["step"]
        text = f"loss {record['loss']:.4f}, {record['tokens_per_s']:,.0f} tokens/s"
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()
        elif time.monotonic() - self.said >= 10 or step == self.steps:
            self.said = time.monotonic()
            left = (self.said - self.begun) / (step - self.start) * (self.steps - step)
            self.say(f"step {step}/{self.steps}: {text}, {left:.0f} s left")

    def say(self, text: str) -> None:
        """Print a text, above the bar if there is one."""
        if self.bar is not None:
            with self.bar.external_write_mode(file=sys.stdout):
                say(text)
        elif self.speaks:
            say(text)

    def close(self) -> None:
        """Remove the bar. May be called twice."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
