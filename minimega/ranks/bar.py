"""A bar on the terminal. Ranks have none: theirs is drawn by the launcher that started them."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from minimega.ranks import lifeline


def columns() -> int:
    """The width of the terminal on which a bar is drawn: this process's or its launcher's; 0 without one."""
    if lifeline.held():
        return lifeline.columns()
    return shutil.get_terminal_size().columns if sys.stderr and sys.stderr.isatty() else 0


def bar(total: int | None, form: str, **more):
    """A tqdm bar of this form, which vanishes when it is closed; None without a terminal."""
    if not (width := columns()):
        return None
    from tqdm import tqdm  # only where a bar is drawn

    file = Afar() if lifeline.held() else sys.stderr
    size = {"ncols": max(20, width - 1), "nrows": 24}  # some pseudo-terminals say that they have no rows
    return tqdm(total=total, bar_format=form, leave=False, file=file, **size, **more)


class Afar:
    """What a rank's bar is written to: the launcher draws it, whose terminal it is."""

    encoding = property(lambda self: sys.stderr.encoding)

    def write(self, text: str) -> None:
        """Tell the launcher the text of the bar; "" removes it."""
        lifeline.tell(bar=text.strip())

    def flush(self) -> None:
        """Nothing is kept back."""


class Screen:
    """The launcher's side: one line below the output, on a terminal alone."""

    def __init__(self):
        self.columns, self.drawn, self.begun = columns(), "", time.monotonic()

    def take(self, state: dict) -> None:
        """Draw what a rank's state says of a bar; most ranks say nothing."""
        if "bar" in state:
            self.draw(state.pop("bar"))

    def wait(self, what: str) -> None:
        """Draw what is waited for since the beginning, after a second, if there is a terminal."""
        if self.columns and (past := time.monotonic() - self.begun) > 1:
            self.draw(f"{what} ... {past:.0f} s")

    def draw(self, text: str) -> None:
        """Draw a text in place of the last one; "" removes it."""
        text = text[: max(self.columns - 1, 0)]
        if text != self.drawn:
            shown = f"\r{text.ljust(len(self.drawn))}{'' if text else chr(13)}"
            try:
                os.write(2, shown.encode(sys.stderr.encoding or "utf-8", "replace"))
            except OSError:
                self.columns = 0  # the terminal is gone
            self.drawn = text

    @contextmanager
    def above(self) -> Iterator[None]:
        """Inside this context, what is written appears above the line, if there is one."""
        text = self.drawn
        self.draw("")
        yield
        self.draw(text)
