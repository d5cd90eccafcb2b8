"""What the predicted time of a step here grows with. Beside measured times: `python -m tests.costs.quiet`."""

from dataclasses import replace

import pytest

from minimega.costs import Job, kept
from minimega.costs.here import linear, step, update
from minimega.costs.part import part
from minimega.costs.rates import Rates, Table
from minimega.model import Config
from minimega.parallel.bubble import taking_turns
from minimega.parallel.layout import Layout
from minimega.parallel.schedules import COSTS, SCHEDULES, times
from tests.commands.test_auto_layout import made_up

SHAPE = Config(64, 32, 64, 4, 4)


def calls_alone(ranks: int = 2) -> Rates:
    """A machine on which each call costs a microsecond, however large its arrays are."""
    flat = {name: Table(((1, 1, 1e-6),)) for name in made_up(2).tables}
    return replace(made_up(ranks), tables=flat)


def test_each_array_is_updated_by_itself():
    """Twelve arrays of a block, and ZeRO's empty shards among them, cost calls, not only numbers."""
    rates = calls_alone()
    short, long = (update(part(Job(replace(SHAPE, num_layers=n))), rates) for n in (2, 4))
    assert long - short == pytest.approx(2 * 12 * 3e-6)
    alone, sharded = (update(part(Job(SHAPE, Layout(dp=2, zero=z), 2)), rates) for z in (0, 1))
    assert sharded - alone == pytest.approx(1e-6)  # one copy more: the new weights; no array less


def test_a_wide_product_moves_more_than_a_square_one():
    """Of as much arithmetic: its input and output have more numbers, which move once, and backward twice."""
    rates = made_up(1)
    wide, square = linear(rates, 64, 64, 1024), linear(rates, 64, 256, 256)
    moved = rates.seconds("copy", 64 * (64 + 1024 - 2 * 256))
    assert moved > 0
    assert [a - b for a, b in zip(wide, square, strict=True)] == pytest.approx([moved, 2 * moved])


@pytest.mark.parametrize(("name", "v"), [("gpipe", 1), ("1f1b", 1), ("interleaved", 2), ("zero-bubble", 1)])
def test_ranks_that_share_cores(name, v):
    """With a core for each rank it is `times`; on fewer cores no shorter than all work on them, nor longer
    than one rank after another.
    """
    schedule = SCHEDULES[name](4, 8, v)

    def cost(r, a):
        return COSTS.get(a.kind)

    def end(timed):
        return max(end for rank in timed for *_, end in rank)

    work = sum(cost(0, a) or 0.0 for rank in schedule for a in rank)
    assert taking_turns(schedule, cost, cores=4) == times(schedule, cost)
    assert work / 2 < end(taking_turns(schedule, cost, cores=2)) < work
    assert end(taking_turns(schedule, cost, cores=1)) == pytest.approx(work)


def test_a_late_message_costs_each_call():
    job = Job(SHAPE, Layout(tp=2), 2)
    more = step(job, replace(made_up(2), per_message=1e-3)).seconds - step(job, made_up(2)).seconds
    assert more == pytest.approx(1e-3 * (4 * SHAPE.num_layers + 4 + 1))  # of blocks; ends and loss; the norm


def test_rates_of_an_earlier_version_are_measured_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(kept.launch, "cores", lambda: 2)
    path, now = tmp_path / "here.toml", made_up(2)
    path.write_text(kept.text([now]))
    assert kept.known(path) == [now]
    old = replace(now, tables={name: table for name, table in now.tables.items() if "ring" not in name})
    path.write_text(kept.text([old]))
    assert kept.known(path) == []
