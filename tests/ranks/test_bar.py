"""The bar that a rank tells of, as its launcher draws it."""

import sys

from minimega.ranks import bar, lifeline
from minimega.ranks.bar import Afar, Screen


def test_the_launcher_draws_what_a_rank_tells(monkeypatch, capsys):
    told = []
    monkeypatch.setattr(lifeline, "tell", lambda **state: told.append(state))
    far, screen = Afar(12, 8), Screen()
    far.show(9, "loss 1.5")
    far.show(11, "loss 1.4")
    for state in ({"rank": 1}, *told):
        screen.take({**state, "step": 3})
    drawn = screen.bar.bar
    assert (drawn.n, drawn.total, drawn.initial, drawn.postfix) == (11, 12, 8, "loss 1.4")
    with screen.above():
        sys.stdout.write("a line\n")
    assert capsys.readouterr().out == "a line\n"
    far.close()
    screen.take(told[-1])
    screen.take({})
    assert screen.bar is None
    with screen.above():
        pass


def test_there_is_a_bar_where_there_is_a_terminal(monkeypatch):
    assert bar.bar_for(5) is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    own = bar.bar_for(5)
    own.close()
    monkeypatch.setattr(lifeline, "held", lambda: True)  # a rank: what counts is its launcher's terminal
    assert isinstance(own, bar.Bar) and bar.bar_for(5) is None
    monkeypatch.setattr(lifeline, "on_terminal", lambda: True)
    assert isinstance(bar.bar_for(5), Afar)
