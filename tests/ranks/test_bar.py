"""The bar that a rank tells of, as its launcher draws it."""

import sys

from minimega.ranks import bar, lifeline

FORM = "{n_fmt}/{total_fmt}{postfix}"


def test_the_launcher_draws_what_a_rank_tells(monkeypatch):
    told, drawn = [], []
    monkeypatch.setattr(lifeline, "tell", lambda **state: told.append(state))
    monkeypatch.setattr(lifeline, "held", lambda: True)
    monkeypatch.setattr(lifeline, "columns", lambda: 40)
    far = bar.bar(12, FORM, initial=8, mininterval=0)
    far.set_postfix_str("loss 1.5", refresh=False)
    far.update()
    far.close()
    assert [state["bar"] for state in told if state["bar"]] == ["8/12", "9/12, loss 1.5"]
    assert told[-1] == {"bar": ""}
    monkeypatch.setattr(bar.os, "write", lambda target, text: drawn.append((target, text.decode())))
    screen = bar.Screen()
    screen.take({"rank": 1, "step": 3})
    for state in ({"bar": "8/12, loss 1.5"}, {"bar": "9/12"}):
        screen.take(state)
        assert "bar" not in state  # what is drawn is not drawn again
    with screen.above():
        drawn.append((1, "a line\n"))
    screen.take({"bar": ""})
    blank = (2, f"\r{4 * ' '}\r")
    assert drawn == [
        (2, "\r8/12, loss 1.5"),
        (2, f"\r9/12{10 * ' '}"),
        blank,
        (1, "a line\n"),
        (2, "\r9/12"),
        blank,
    ]


def test_there_is_a_bar_where_there_is_a_terminal(monkeypatch):
    assert bar.bar(5, FORM) is None and bar.columns() == 0
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar.bar(5, FORM).close()
    monkeypatch.setattr(lifeline, "held", lambda: True)  # a rank: what counts is its launcher's terminal
    assert bar.bar(5, FORM) is None
    monkeypatch.setattr(lifeline, "columns", lambda: 70)
    assert bar.columns() == 70 and bar.bar(5, FORM) is not None
