"""Every schedule for all allowed p <= 8, m <= 32, v <= 4: no deadlock, and the papers' figures."""

from collections import Counter
from functools import cache
from itertools import pairwise

import pytest

from minimega.errors import BadInput
from minimega.parallel.bubble import bubble, held, meet
from minimega.parallel.schedules import SCHEDULES, Action, interleaved, one_f_one_b, times, zero_bubble
from minimega.pictures.pipeline import picture

ALLOWED = [
    (name, p, m, v)
    for name in SCHEDULES
    for p in range(1, 9)
    for m in range(1, 33)
    for v in (range(1, 5) if name == "interleaved" and m % p == 0 else [1] if name != "interleaved" else [])
    if p > 1 or v == 1
]


@cache
def made() -> dict:
    """The schedule of every case."""
    return {case: SCHEDULES[case[0]](*case[1:]) for case in ALLOWED}


def complete(schedule, m, v):
    """Every micro-batch once forward and once backward through every chunk, in whole or in halves."""
    halves = {"backward-input", "backward-weight"}
    for actions in schedule:
        count = Counter((a.kind, a.batch, a.chunk) for a in actions if not a.what and a.kind != "reduce")
        kinds = {"forward"} | (halves & {kind for kind, *_ in count} or {"backward"})
        assert count == {(kind, n, c): 1 for kind in kinds for n in range(m) for c in range(v)}


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_deadlock_and_every_micro_batch_once_forward_and_once_backward(name):
    for (kind, p, m, v), schedule in made().items():
        if kind == name:
            meet(schedule)
            complete(schedule, m, v)
            for r, actions in enumerate(schedule):
                sent = Counter((a.kind, a.what) for a in actions if a.what)
                inner = m * v  # minus the messages for which the first and last stages have no neighbour
                first, last = m * (r == 0), m * (r == p - 1)
                expected = {
                    ("receive", "x"): inner - first,
                    ("send", "dx"): inner - first,
                    ("send", "x"): inner - last,
                    ("receive", "dx"): inner - last,
                }
                assert sent == {key: n for key, n in expected.items() if n}


@pytest.mark.parametrize("name", SCHEDULES)
def test_gradients_are_reduced_once_complete(name):
    for (kind, _, m, v), schedule in made().items():
        for actions in schedule if kind == name else ():
            ends = [a for a in actions if a.kind == "reduce"]
            assert sorted(a.chunk for a in ends) == list(range(v))
            for end in ends:
                before = actions[: actions.index(end) + 2]
                grads = [
                    a for a in before if a.kind in ("backward", "backward-weight") and a.chunk == end.chunk
                ]
                assert len(grads) == m and before[-1] == grads[-1]


def test_the_bubbles_of_the_papers():
    for (name, p, m, v), schedule in made().items():
        waits = {  # the time that each rank waits over the time in which it works
            "gpipe": (p - 1) / m,
            "1f1b": (p - 1) / m,
            "interleaved": (p - 1) / (v * m),
            # (p - 1)(tf + tb - tw): a third of 1F1B's where all three take the same time
            "zero-bubble": (p - 1 + max(p - m, 0)) / (3 * m),
        }[name]
        assert bubble(schedule) == pytest.approx(waits / (1 + waits), abs=1e-12), (name, p, m, v)
        if name == "gpipe":
            assert bubble(schedule) == pytest.approx((p - 1) / (m + p - 1), abs=1e-12)


@pytest.mark.parametrize("tf, tb, tw", [(1, 1, 1), (2, 3, 2), (3, 3, 2), (2, 2, 1), (4, 5, 4)])
def test_the_bubble_of_zero_bubble_at_other_costs(tf, tb, tw):
    """(p - 1)(tf + tb - tw) of Qi et al. 2023, table 2."""
    for (name, p, m, _), schedule in made().items():
        if name == "zero-bubble" and m >= 2 * p:
            costs = {"forward": tf, "backward-input": tb, "backward-weight": tw}
            waits = (p - 1) * (tf + tb - tw) / (m * (tf + tb + tw))
            assert bubble(schedule, costs) == pytest.approx(waits / (1 + waits), abs=1e-12), (p, m)


def most_held(name, p, m, v, r):
    """The micro-batches (through one chunk) that rank r may hold, by the papers."""
    if name == "gpipe":
        return m
    if name == "1f1b":
        return min(p - r, m)
    if name == "zero-bubble":  # every rank holds as many as rank 0 of 1F1B
        return min(p, m)
    # a chunk is 1/v of 1F1B's; rank 0 holds 1 + (p - 1)/(p v) times as much:
    # Korthikanti et al. 2022, section 4.2.3
    return min((v - 1) * p + (1 if v == 1 else 2) * (p - r - 1) + 1, m * v)


def test_micro_batches_in_flight():
    for (name, p, m, v), schedule in made().items():
        for r, actions in enumerate(schedule):
            assert held(actions) == most_held(name, p, m, v, r), (name, p, m, v, r)
            if name == "zero-bubble":  # what still waits for its input half is what 1F1B holds
                inputs = [a._replace(kind=a.kind.replace("-input", "")) for a in actions]
                assert held([a for a in inputs if a.kind != "backward-weight"]) == min(p - r, m)


def test_what_cannot_be_interleaved_is_refused():
    for p, m, v in ((2, 3, 2), (4, 6, 2), (3, 4, 1), (1, 4, 2)):
        with pytest.raises(BadInput, match="`micro_batches`"):
            interleaved(p, m, v)


def test_a_swapped_order_of_messages_deadlocks():
    schedule = one_f_one_b(2, 4)
    actions = schedule[1]  # receives the next micro-batch before it sends the gradient of this one
    at = next(i for i, (a, b) in enumerate(pairwise(actions)) if {a.kind, b.kind} == {"send", "receive"})
    actions[at], actions[at + 1] = actions[at + 1], actions[at]
    with pytest.raises(ValueError, match="deadlock: rank 0 at"):
        meet(schedule)


def test_a_lost_or_doubled_micro_batch_is_found():
    for change in (lambda actions, i: actions.pop(i), lambda actions, i: actions.insert(i, actions[i])):
        schedule = zero_bubble(3, 5)
        change(schedule[1], schedule[1].index(Action("backward-weight", 2)))
        with pytest.raises(AssertionError):
            complete(schedule, 5, 1)


def test_an_action_before_what_it_needs_is_found():
    schedule = one_f_one_b(2, 3)
    schedule[1].insert(0, schedule[1].pop(schedule[1].index(Action("forward", 0))))
    with pytest.raises(ValueError, match="rank 1 runs forward 0 of chunk 0 before what it needs"):
        meet(schedule)
    early = zero_bubble(2, 3)
    early[0].insert(0, early[0].pop(early[0].index(Action("backward-weight", 0))))
    with pytest.raises(ValueError, match="rank 0 runs backward-weight 0 of chunk 0 before"):
        meet(early)
    lost = one_f_one_b(2, 3)
    lost[0].remove(Action("forward", 1))
    with pytest.raises(ValueError, match=r"never comes: .*'backward', batch=1"):
        times(lost)


def test_too_many_in_flight_are_found():
    actions = one_f_one_b(4, 8)[2]
    early = actions.pop(actions.index(Action("forward", 5)))
    actions.insert(actions.index(Action("backward", 0)), early)
    assert held(actions) == 3 > most_held("1f1b", 4, 8, 1, 2)


@pytest.mark.parametrize("name", SCHEDULES)
def test_picture(name, tmp_path):
    picture(tmp_path / "a.png", {name: times(SCHEDULES[name](4, 8, 2))})
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
