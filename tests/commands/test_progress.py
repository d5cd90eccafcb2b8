"""What a run prints while it trains, resumed runs included."""

import io
import re
import sys
import threading
import time

import pytest

from minimega.commands import progress
from minimega.commands.progress import Progress

RECORD = {"step": 9, "loss": 1.5, "tokens_per_s": 10.0}


def test_the_time_that_is_left_is_told_by_the_steps_since_the_start(monkeypatch, capsys):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    resumed = Progress(12, 8)
    clock[0] += 6
    resumed.show(RECORD)
    assert capsys.readouterr().out == "step 9/12: loss 1.5000, 10 tokens/s, 18 s left\n"


def test_the_bar_of_a_resumed_run_begins_where_it_was(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    resumed = Progress(12, 8)
    resumed.show(RECORD)
    bar = resumed.bar
    resumed.close()
    assert (bar.n, bar.total) == (9, 12)


class Terminal(io.StringIO):
    """Standard error on a terminal; `shown` is what remains there at last."""

    def isatty(self):
        return True

    @property
    def shown(self) -> str:
        return self.getvalue().rpartition("\r")[2].strip()


def on_terminal(monkeypatch) -> Terminal:
    """From here on standard error is a terminal; a fixture would lose it to pytest's own."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setattr(progress, "DELAY", 0.1)
    monkeypatch.setattr(progress, "OFTEN", 0.05)
    monkeypatch.setenv("COLUMNS", "60")
    return made


class Windows:
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def take(self, which):
        return list(which)


def test_long_work_is_named_with_its_seconds_and_then_gone(monkeypatch):
    terminal = on_terminal(monkeypatch)
    with progress.busy("sorting"):
        time.sleep(0.4)
    assert "\rsorting ... 0 s" in terminal.getvalue() and terminal.shown == ""
    assert max(map(len, re.split(r"[\r\n]", terminal.getvalue()))) < 60


def test_a_bar_counts_and_is_then_gone(monkeypatch):
    terminal = on_terminal(monkeypatch)
    assert list(progress.each(Slow(range(4)), "reading", total=4)) == [0, 1, 2, 3]
    assert "reading" in terminal.getvalue() and "3/4" in terminal.getvalue() and terminal.shown == ""


class Slow:
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        for item in self.items:
            time.sleep(0.12)
            yield item


def test_a_bar_without_a_total_counts_too(monkeypatch):
    terminal = on_terminal(monkeypatch)
    list(progress.each(Slow(range(4)), "reading"))
    assert re.search(r"\rreading: [234], 00:00", terminal.getvalue()) and terminal.shown == ""


def test_windows_are_counted_as_they_are_taken_by_all_ranks(monkeypatch):
    terminal = on_terminal(monkeypatch)
    with progress.taking(Windows(10), "evaluating", times=2) as windows:
        for first in range(0, 6, 2):
            time.sleep(0.12)
            assert windows.take([first, first + 1]) == [first, first + 1]
        assert len(windows) == 10 and windows.bar.n == 10
    assert re.search(r"evaluating +80% \|.*\| 8/10", terminal.getvalue()) and terminal.shown == ""


def test_what_ends_soon_and_what_fails_leaves_nothing(monkeypatch):
    terminal = on_terminal(monkeypatch)
    with progress.busy("sorting"):
        pass
    list(progress.each(range(3), "reading"))
    assert terminal.getvalue() == ""
    with pytest.raises(ValueError), progress.busy("sorting"):
        time.sleep(0.3)
        raise ValueError
    assert terminal.getvalue() and terminal.shown == ""
    assert not any(thread.name == "sorting" for thread in threading.enumerate())


def test_without_a_terminal_or_a_word_in_it_nothing_is_drawn(monkeypatch):
    terminal = on_terminal(monkeypatch)
    with progress.busy("sorting", speaks=False):
        time.sleep(0.2)
    list(progress.each(Slow(range(2)), "reading", speaks=False))
    assert terminal.getvalue() == ""
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with progress.busy("sorting"), progress.taking(Windows(3), "evaluating") as windows:
        time.sleep(0.2)
        windows.take([0, 1, 2])
    list(progress.each(Slow(range(3)), "reading"))
    assert pipe.getvalue() == ""
