"""What a run prints while it trains, resumed runs included."""

import sys

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
    bar = resumed.bar.bar
    resumed.close()
    assert (bar.n, bar.total) == (9, 12)
