"""minimega timeline from a hand-made record, and end to end. On ranks: mpi/cases_timeline.py."""

import json
from collections import Counter

import numpy as np
import pytest

from minimega.commands.chrome_trace import chrome
from minimega.commands.timeline import had_a_core, seconds, table
from minimega.costs.stopwatch import Event, Stopwatch, as_it_was, costs, departure, mean_costs, orders
from minimega.model import Config, gpt
from minimega.parallel.bubble import bubble, waiting
from minimega.parallel.grid import Grid
from minimega.parallel.layout import Layout
from minimega.parallel.schedules import Action, gpipe, times
from minimega.parallel.team import Team
from minimega.ranks.group import SELF
from minimega.train import Alone
from tests.job import minimega

# gpipe of 2 ranks and 2 micro-batches, in seconds: forward 1 and 2, backward 2 and 3, and what lies between.
RECORD = {
    0: "forward0 10 11, send-x0 11 11.5, receive-dx0 11.5 11.5, forward1 11.5 12.5, send-x1 12.5 12.5, "
    "wait-dx0 12.5 18.5, backward0 18.5 20.5, wait-dx1 20.5 21.5, backward1 21.5 24.5",
    1: "wait-x0 10 11.5, forward0 11.5 13.5, wait-x1 13.5 13.5, forward1 13.5 15.5, backward0 15.5 18.5, "
    "send-dx0 18.5 18.5, backward1 18.5 21.5, send-dx1 21.5 21.5",
}
HALF = 0.5  # of a core


def by_hand() -> list[list[Event]]:
    """Each event costs half of its time, since two ranks share a core."""
    found = []
    for text in RECORD.values():
        found.append([])
        for word, start, end in (part.split() for part in text.split(", ")):
            kind, _, what = word[:-1].partition("-")
            length = float(end) - float(start)
            found[-1].append(
                Event(Action(kind, int(word[-1]), 0, what), float(start), float(end), HALF * length, 1)
            )
    return found


def test_the_bubble_of_a_record_by_hand():
    events = by_hand()
    assert seconds(events) == 14.5
    worked = (1 + 1 + 2 + 3) + (2 + 2 + 3 + 3)
    assert waiting(as_it_was(events)) == pytest.approx(1 - worked / (2 * 14.5))
    assert had_a_core(events) == HALF


def test_a_record_is_replayed_at_its_own_costs_and_at_their_means():
    events = by_hand()
    first, last = times(orders(events), costs(events))
    # rank 1 gets 0 at .5 and has done forward 1 at 2.5; the send of .25 keeps rank 0 back, not the message
    assert [box[1:] for box in last if box[0].kind == "backward"] == [(2.5, 4.0), (4.0, 5.5)]
    assert [box[1:] for box in first if box[0].kind == "backward"] == [(4.0, 5.0), (5.5, 7.0)]
    assert [box[1:] for box in first if box[0].kind == "forward"] == [(0.0, 0.5), (0.75, 1.25)]
    assert waiting(times(orders(events), costs(events))) == pytest.approx(1 - 17 / 2 / (2 * 7))
    # the mean backward of rank 0 is 1.25: its last one ends at 6.75
    assert bubble(gpipe(2, 2), mean_costs(events)) == pytest.approx(1 - 17 / 2 / (2 * 6.75))


def test_the_form_of_the_trace():
    """Trace Event Format: what a viewer needs of each kind of event."""
    events = by_hand()
    panels = {"theory": times(gpipe(2, 2)), "measured": as_it_was(events)}
    trace = json.loads(json.dumps(chrome(panels, events)))
    assert trace["displayTimeUnit"] == "ms"
    kinds = Counter(e["ph"] for e in trace["traceEvents"])
    assert kinds == {"M": 2 * 4, "X": 8 + sum(map(len, events)), "s": 4, "f": 4}
    names = [e["args"]["name"] for e in trace["traceEvents"] if e["name"].endswith("_name")]
    assert names == ["theory", "rank 0", "rank 1", "measured", "rank 0", "rank 1"]
    boxes = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    for e in boxes:
        assert e["ts"] >= 0 and e["dur"] >= 0 and {"name", "cat", "pid", "tid", "args"} <= e.keys()
    measured = [e for e in boxes if e["pid"] == 1]
    first = next(e for e in measured if e["name"] == "backward 1" and e["tid"] == 0)
    assert (first["ts"], first["dur"]) == (11.5e6, 3e6)
    assert first["args"] == {"micro-batch": 1, "chunk": 0, "message": "", "held": 1, "ms of a core": 1500.0}
    ends = {}
    for e in (e for e in trace["traceEvents"] if e["ph"] in "sf"):
        ends.setdefault(e["id"], {})[e["ph"]] = e
        inside = [b for b in measured if b["tid"] == e["tid"] and b["ts"] <= e["ts"] <= b["ts"] + b["dur"]]
        assert inside, e
    for arrow in ends.values():
        assert arrow["s"]["ts"] <= arrow["f"]["ts"] and arrow["s"]["tid"] != arrow["f"]["tid"]
        assert arrow["f"]["bp"] == "e" and arrow["s"]["name"] == arrow["f"]["name"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda did: did.insert(0, did.pop()), "rank 0 did"),
        (lambda did: did.pop(), "rank 0 did nothing"),
        (lambda did: did.append(did[0]), "rank 0 did forward 0"),
        (lambda did: did.__setitem__(0, did[0]._replace(action=Action("forward", 1))), "did forward 1"),
    ],
)
def test_another_order_is_noticed(change, says):
    model = gpt(Config(vocab_size=7, context=4, d_model=8, nhead=2)).draw(0)
    ids, watch = np.arange(8).reshape(2, 4) % 7, Stopwatch(SELF)
    grid = Grid(layout=Layout(pipeline="gpipe", micro_batches=2))
    Team(model, grid, run=watch.run).gradients(model, ids, ids)
    (did,) = events = watch.gathered()
    assert departure(gpipe(1, 2), events) == ""
    change(did)
    assert says in departure(gpipe(1, 2), events)


def test_measuring_changes_no_bit_on_one_rank():
    ids, found = np.arange(12).reshape(2, 6) % 7, []
    for run in (None, Stopwatch(SELF).run):
        model = gpt(Config(vocab_size=7, context=6, d_model=8, nhead=2, dropout=0.2)).draw(0)
        team = Team(model, Grid(layout=Layout(accumulate=2)), run=run) if run else Alone(accumulate=2)
        loss = team.gradients(model, ids, ids, 3)
        found.append((loss, *(p.grad.tobytes() for p in model.parameters().values())))
    assert found[0] == found[1]


def test_the_table_of_a_record():
    head, first, second = table(gpipe(2, 2), by_hand()).splitlines()
    assert head.split()[-8:] == ["/", "wall)", "held", "forward", "backward", "send", "total", "waiting"]
    said = "rank 0 1 (theory 2) 500.00 / 1000.00 1250.00 / 2500.00 125.00 / 250.00 7000.00"
    assert " ".join(first.split()) == said
    assert second.split()[-1] == "1500.00"


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shape = "--d-model 16 --nhead 2 --num-layers 4 --context 8 --vocab-size 30 --num-steps 2"
    words = f"timeline --pp 2 --pipeline interleaved --micro-batches 4 {shape} --picture a.png --trace a.json"
    ended = minimega(*words.split())
    assert (ended.returncode, ended.stderr) == (0, "")
    said = ended.stdout
    assert said.startswith(
        "interleaved: 4 micro-batches, 2 chunks per rank; ranks 0, 1 of --tp 1 --dp 1 --pp 2"
    )
    assert "by theory, forward 1, backward 2                        11.1%\n" in said
    for line in (
        "replayed, as if each rank had its own core",
        "measured, wall time (2 ranks",
        "5 (theory 5)",
        "3 (theory 3)",
    ):
        assert line in said
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    trace = json.loads((tmp_path / "a.json").read_text())
    assert {e["ph"] for e in trace["traceEvents"]} == set("MXsf")
