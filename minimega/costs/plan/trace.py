"""A planned step, action by action, as a trace for ui.perfetto.dev: one replica, rank by rank.

Letters as in work.py.
"""

from collections.abc import Iterator
from typing import NamedTuple

from minimega.costs import Job
from minimega.costs.plan import exchange, state
from minimega.costs.plan.estimate import Plan
from minimega.errors import BadInput
from minimega.parallel.schedules import Action, Timed, times

MOST = 300_000  # actions of a step that is drawn


class Step(NamedTuple):
    """A step on the pipeline's ranks: what each does and when, and the seconds of the whole pipeline."""

    timed: Timed
    seconds: float

    def waiting(self, rank: int) -> float:
        """The seconds for which a rank waits while the pipeline runs."""
        return self.seconds - sum(end - start for _, start, end in self.timed[rank])


def step(plan: Plan) -> Step:
    """The schedule of the plan's pipeline with the plan's seconds for each action, each with its message.

    Raises BadInput if there are too many actions to list.
    """
    cut, one = plan.job.layout, plan.stage
    p, v = cut.pp, cut.virtual_stages
    if (count := 2 * p * v * cut.parts) > MOST:
        raise BadInput(f"a step of {count:,} actions is too long to draw: plan a smaller `train_batch_size`")
    blocks = _blocks(plan)

    def cost(r: int, a: Action) -> float | None:
        if a.kind not in ("forward", "backward"):
            return None
        way = 0 if a.kind == "forward" else 1
        seconds = (one.forward, one.backward)[way] * blocks[r] / max(blocks) / v
        first, last = r == 0 and a.chunk == 0, r == p - 1 and a.chunk == v - 1
        return seconds + first * one.first[way] + last * one.last[way] + one.message

    timed = times(_schedule(plan), cost)
    return Step(timed, max(end for rank in timed for _, _, end in rank))


def _schedule(plan: Plan) -> list[list[Action]]:
    cut = plan.job.layout
    return cut.schedule() if cut.pp > 1 else _alone(cut.parts)


def _alone(m: int) -> list[list[Action]]:
    """Micro-batches one after another on a rank without a pipeline."""
    return [[Action(kind, n) for n in range(m) for kind in ("forward", "backward")]]


def _blocks(plan: Plan) -> list[int]:
    """The blocks of each pipeline rank: those that do not divide go to the first ranks."""
    each, more = divmod(plan.job.config.num_layers, plan.job.layout.pp)
    return [each + (r < more) for r in range(plan.job.layout.pp)]


def trace(plan: Plan, made: Step | None = None) -> dict:
    """The step of one replica in the Trace Event Format (Google 2016), as `minimega timeline --trace` writes
    them.

    A process is a pipeline rank, a thread in it one of its tensor ranks, which all do the same. After the
    pipeline the replicas add up their gradients, and the optimizer updates the weights. A counter shows the
    memory of the rank.
    """
    cut, made = plan.job.layout, made or step(plan)
    found: list[dict] = []
    for r, actions in enumerate(made.timed):
        name = f"pipeline rank {r}, GPUs {r * cut.tp}-{(r + 1) * cut.tp - 1}"
        found += [_about("process_name", r, 0, name=name), _about("process_sort_index", r, 0, sort_index=r)]
        events = [*_events(plan, r, actions, made.seconds)]
        for thread in range(cut.tp):
            found.append(_about("thread_name", r, thread, name=f"tensor rank {thread}"))
            found += [event | {"pid": r, "tid": thread} for event in events]
        found += _memory(plan, r, actions)
    told = {
        "seconds": plan.iteration_seconds,
        "bubble": plan.bubble,
        "parameters": plan.parameters,
        "cut": {"tp": cut.tp, "pp": cut.pp, "dp": cut.dp},
        "micro-batches": cut.parts,
        "chunks": cut.virtual_stages,
    }
    return {"traceEvents": found, "displayTimeUnit": "ms", "otherData": told}


def _events(plan: Plan, r: int, actions: list[tuple[Action, float, float]], whole: float) -> Iterator[dict]:
    """What each tensor rank of a pipeline rank does: computing, its message, waiting; then the update."""
    cut, one, clock = plan.job.layout, plan.stage, 0.0
    nbytes = round(exchange.width(plan.job) / cut.tp)
    last = cut.pp * cut.virtual_stages - 1
    for a, start, end in actions:
        if start - clock > 1e-9:
            yield _event("wait", "wait", clock, start)
        args = {"micro-batch": a.batch, "chunk": a.chunk}
        yield _event(f"{a.kind} {a.batch}", a.kind, start, end - one.message, **args)
        if cut.pp > 1:
            stage = a.chunk * cut.pp + r
            ends = last if a.kind == "forward" else 0
            kind, other = ("receive", -1) if stage == ends else ("send", 1)
            what, to = ("x", other) if a.kind == "forward" else ("dx", -other)
            peer = (r + to) % cut.pp
            yield _event(
                f"{kind} {what} {a.batch}", kind, end - one.message, end, bytes=nbytes, rank=peer, **args
            )
        clock = end
    if whole - clock > 1e-9:
        yield _event("wait", "wait", clock, whole)
    after = whole
    for kind in ("data", "optimizer"):
        if plan.seconds[kind]:
            args = {
                "bytes": round(
                    sum(plan.messages[k].wire for k in ("data", "embedding") if k in plan.messages)
                )
            }
            yield _event(
                NAMES[kind], kind, after, after + plan.seconds[kind], **(args if kind == "data" else {})
            )
            after += plan.seconds[kind]


NAMES = {"data": "gradients between replicas", "optimizer": "optimizer"}


def _memory(plan: Plan, r: int, actions: list[tuple[Action, float, float]]) -> Iterator[dict]:
    """The memory of a GPU of the rank over time: what stays, and the activations of the micro-batches under
    way.
    """
    stays, each = _held(plan, r)
    now = 0
    yield _counter(r, 0.0, stays, 0.0)
    for a, start, end in actions:
        now += 1 if a.kind == "forward" else -1
        yield _counter(r, start if a.kind == "forward" else end, stays, now * each)


def _held(plan: Plan, r: int) -> tuple[float, float]:
    """The bytes that a rank holds throughout, and those of one micro-batch in one chunk."""
    job: Job = plan.job
    kinds = state.memory(job, plan.machine.gpu, r)
    moving = kinds["activations"] / state.micro_batches_held(job.layout, r) / job.layout.virtual_stages
    return kinds["total"] - kinds["activations"], moving


def _counter(r: int, when: float, stays: float, moving: float) -> dict:
    args = {"state and buffers, GB": round(stays / 1e9, 3), "activations, GB": round(moving / 1e9, 3)}
    return {"name": "memory of a GPU", "ph": "C", "pid": r, "ts": _us(when), "args": args}


def _event(name: str, kind: str, start: float, end: float, **args) -> dict:
    when = {"ts": _us(start), "dur": round(_us(end) - _us(start), 3)}
    return {"name": name, "cat": kind, "ph": "X", **when} | ({"args": args} if args else {})


def _about(what: str, pid: int, tid: int, **args) -> dict:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": args}


def _us(seconds: float) -> float:
    """Microseconds, rounded to nanoseconds, so that an event does not overlap the next one."""
    return round(1e6 * seconds, 3)
