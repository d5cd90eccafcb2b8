"""A pipeline's timeline in the Trace Event Format, which ui.perfetto.dev opens."""

from collections.abc import Iterator, Mapping

from minimega.costs.stopwatch import Event
from minimega.parallel.schedules import Timed, neighbour, received


def chrome(panels: Mapping[str, Timed], events: list[list[Event]]) -> dict:
    """The panels in the Trace Event Format: each panel is a process, each rank a thread in it.

    The last panel is the measured one, made of `events`: it has an arrow from each send to the action that
    used the message. Google 2016, "Trace Event Format": X is a complete event, M names something, s and f are
    the ends of a flow; ts and dur are in microseconds.
    """
    found, last = [], len(panels) - 1
    for pid, (title, timed) in enumerate(panels.items()):
        found += [
            _about("process_name", pid, 0, name=title),
            _about("process_sort_index", pid, 0, sort_index=pid),
        ]
        for r, actions in enumerate(timed):
            found.append(_about("thread_name", pid, r, name=f"rank {r}"))
            for n, (a, start, end) in enumerate(actions):
                args = {"micro-batch": a.batch, "chunk": a.chunk, "message": a.what}
                if pid == last:
                    args |= {"held": events[r][n].held, "ms of a core": 1e3 * events[r][n].cost}
                when = {"ts": _us(start), "dur": round(_us(end) - _us(start), 3)}
                where = {"pid": pid, "tid": r}
                found.append(
                    {"name": f"{a.kind} {a.batch}", "cat": a.kind, "ph": "X"} | when | where | {"args": args}
                )
    return {"traceEvents": [*found, *_arrows([*panels.values()][-1], last)], "displayTimeUnit": "ms"}


def _about(what: str, pid: int, tid: int, **args) -> dict:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": args}


def _arrows(timed: Timed, pid: int) -> Iterator[dict]:
    """The arrows from each send to the action that used the message."""
    p, taken = len(timed), {}
    for r, actions in enumerate(timed):
        for a, start, _ in actions:
            if a.kind in ("forward", "backward", "backward-input"):
                taken[r, "x" if a.kind == "forward" else "dx", a.batch, a.chunk] = start
    sends = [(r, a, start) for r, actions in enumerate(timed) for a, start, _ in actions if a.kind == "send"]
    for number, (r, a, start) in enumerate(sends):
        to, got = neighbour(a, r, p), received(a, r, p)
        end = taken[to, got.what, got.batch, got.chunk]
        arrow = {"name": f"{a.what} {a.batch}", "cat": "message", "id": number, "pid": pid}
        yield arrow | {"ph": "s", "tid": r, "ts": _us(start)}
        yield arrow | {"ph": "f", "bp": "e", "tid": to, "ts": _us(end)}


def _us(seconds: float) -> float:
    """Microseconds, rounded to nanoseconds, so that an event does not overlap the next one."""
    return round(1e6 * seconds, 3)
