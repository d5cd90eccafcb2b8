"""Lesson 19: the order of one rank in a 1F1B pipeline."""

from itertools import pairwise

from minimega.learn.verdict import Verdict, written
from minimega.parallel import schedules
from minimega.parallel.bubble import held
from minimega.parallel.schedules import Action

TASK = "Write one_f_one_b(rank, ranks, micro_batches): what this rank of a 1F1B pipeline does, in order."

HINT = """\
Draw the picture of the lesson for 4 ranks and 2 micro-batches, and read off the row of rank 1."""

MORE = """\
Read a row of the picture from left to right: it has three parts. Only forward passes, then one forward and
one backward in turn, then the backward passes that are left. The last rank has an empty first part, and each
rank before it has one more forward there. With few micro-batches there may be fewer than that."""

SOLUTION = '''\
def one_f_one_b(rank, ranks, micro_batches):
    """What this rank does, in order: a list of ("forward", n) and ("backward", n), with n from 0 on."""
    ahead = min(ranks - rank - 1, micro_batches)
    order = [("forward", n) for n in range(ahead)]
    for n in range(ahead, micro_batches):
        order += [("forward", n), ("backward", n - ahead)]
    order += [("backward", n) for n in range(micro_batches - ahead, micro_batches)]
    return order
'''

KINDS = "forward", "backward"


def judge(f) -> Verdict:
    """More micro-batches than ranks, then fewer, then one rank alone."""
    for p, m in ((4, 8), (4, 2), (3, 3), (1, 3), (5, 7), (2, 1)):
        orders = [_plain(written(f(r, p, m), "what your function returns")) for r in range(p)]
        if problem := _what_is_wrong(orders, p, m):
            return Verdict(False, f"{_many(p, 'rank')}, {_many(m, 'micro-batch')}: {problem}")
    return Verdict(True, "every micro-batch there and back, as few held and as little waiting as in 1F1B")


def _plain(order):
    """Lists for tuples, and the other way round, are as good."""
    if not isinstance(order, list | tuple):
        return order
    return [tuple(a) if isinstance(a, list) and a[:1] in ([KINDS[0]], [KINDS[1]]) else a for a in order]


def _what_is_wrong(orders: list, p: int, m: int) -> str:
    """The plainest mistake first; "" if there is none."""
    for r, order in enumerate(orders):
        if problem := _incomplete(order, m) or _early(order):
            return f"rank {r} {problem}"
    if stuck := _stuck(orders):
        return f"they wait for each other: {stuck}"
    for r, order in enumerate(orders):
        for kind in KINDS:
            turns = [n for k, n in order if k == kind]
            if swap := [(a, b) for a, b in pairwise(turns) if a > b]:
                return f"rank {r} takes {kind} {swap[0][0]} before {kind} {swap[0][1]}; they must be in order"
    schedule = [[Action(kind, n) for kind, n in order] for order in orders]
    for r, actions in enumerate(schedule):
        if held(actions) > (most := min(p - r, m)):
            return f"rank {r} holds {_many(held(actions), 'micro-batch')} at once; 1F1B holds {most}"
    ends = [timed[-1][2] for timed in schedules.times(schedule)]
    if max(ends) > (best := 3 * (m + p - 1)):
        few = next((r for r, a in enumerate(schedule) if held(a) < min(p - r, m)), 0)
        return (
            f"the step takes {max(ends):g}, and 1F1B takes {best} (a forward is 1, a backward 2): rank {few} "
            f"has started only {_many(held(schedule[few]), 'micro-batch')} when it begins to wait"
        )
    return ""


def _incomplete(order, m: int) -> str:
    """What is not an action, repeated, or missing."""
    if not isinstance(order, list):
        return f"returns no list, but an object of type {type(order).__name__}"
    seen = set()
    for a in order:
        if not (isinstance(a, tuple) and len(a) == 2 and a[0] in KINDS):
            return f'has {a!r} in its list, where ("forward", n) or ("backward", n) belongs'
        if a[1] not in range(m):
            return f"does {a[0]} {a[1]}, and there are only the micro-batches 0 to {m - 1}"
        if a in seen:
            return f"does {a[0]} {a[1]} twice"
        seen.add(a)
    for kind in KINDS:
        if missing := [str(n) for n in range(m) if (kind, n) not in seen]:
            return f"never comes to {kind} {', '.join(missing)}"
    return ""


def _early(order) -> str:
    """A backward before its forward."""
    for at, (kind, n) in enumerate(order):
        if kind == "backward" and ("forward", n) not in order[:at]:
            return f"comes to backward {n} before forward {n}"
    return ""


def _stuck(orders: list) -> str:
    """Where each rank is stuck, waiting for its neighbour; "" if all come to the end."""
    p, at, done = len(orders), [0] * len(orders), set()
    moved = True
    while moved:
        moved = False
        for r, order in enumerate(orders):
            while at[r] < len(order):
                kind, n = order[at[r]]
                source = r - 1 if kind == "forward" else r + 1
                if 0 <= source < p and (source, kind, n) not in done:
                    break
                done.add((r, kind, n))
                at[r], moved = at[r] + 1, True
    where = [(r, *order[i]) for r, (order, i) in enumerate(zip(orders, at, strict=True)) if i < len(order)]
    return ", ".join(f"rank {r} for its {kind} {n}" for r, kind, n in where)


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "es" if what.endswith("ch") else "s")
