"""`minimega timeline`: a pipeline step, measured and in theory, as a table, a picture and a trace."""

import json
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace as Options

from minimega import random
from minimega.backend import device, keep_memory
from minimega.commands import threads
from minimega.commands.bench_steps import made_up
from minimega.commands.chrome_trace import chrome
from minimega.commands.on_ranks import on_ranks
from minimega.commands.options import model_config
from minimega.commands.progress import each, say
from minimega.commands.train import check_shape
from minimega.costs.stopwatch import Event, Stopwatch, as_it_was, costs, departure, mean_costs, orders
from minimega.errors import BadInput, RunFailed, naming
from minimega.parallel.bubble import bubble, held, waiting
from minimega.parallel.grid import Grid
from minimega.parallel.schedules import COSTS, Schedule, times
from minimega.parallel.team import build
from minimega.pictures.pipeline import picture
from minimega.ranks import launch

WARM_UP, VOCABULARY = 2, 512

ENOUGH = 0.95  # the share of a core that a computing rank needs for wall time to be meaningful

REPLAYED = "replayed, as if each rank had its own core"


def run(o: Options) -> int:
    """`minimega timeline`: measure some pipeline steps on random tokens, and show the shortest.

    Raises BadInput if a file cannot be written, or the model or layout is impossible.
    """
    for path, ending in ((o.picture, ".png"), (o.trace, ".json")):
        if path and (not path.endswith(ending) or not Path(path).absolute().parent.is_dir()):
            raise BadInput(f"{path} cannot be written: name a {ending} file in a folder that exists")
    check_shape(o)
    return on_ranks(o, _timeline)


def _timeline(o: Options, grid: Grid) -> int:
    keep_memory()
    xp, config, v = device(o.device), model_config(o, o.vocab_size or VOCABULARY), grid.layout.virtual_stages
    chosen = threads.settle(o, grid.world, config)
    watch, steps = Stopwatch(grid.pipeline, xp), []
    model, team = build(config, grid, run=watch.run)
    team.draw(model, o.seed, o.dtype, xp)
    inputs, targets = (xp.asarray(part) for part in made_up(config, o))
    for step in each(range(WARM_UP + o.num_steps), "measuring", speaks=grid.first):
        for p in model.parameters().values():
            p.grad = None
        grid.world.barrier()
        team.gradients(model, inputs, targets, random.key(o.seed, "step", step))
        steps.append(watch.gathered())
    if grid.first:
        cut = grid.layout
        schedule = cut.schedule()
        events = min(steps[WARM_UP:], key=seconds)
        if wrong := departure(schedule, events):
            raise RunFailed(wrong)
        ranks = ", ".join(map(str, grid.pipeline.ranks))
        say(
            f"{cut.pipeline}: {cut.micro_batches} micro-batches, {v} chunk{'s' * (v > 1)} per rank; "
            f"ranks {ranks} of {cut}, {o.dtype}{chosen and ', '}{chosen}\n"
            f"the shortest of {len(steps) - WARM_UP} steps: {1e3 * seconds(events):.1f} ms from the first "
            f"forward to the last backward\n"
            f"the ranks' clocks agree within {1e6 * watch.error:.0f} us\n"
        )
        _report(o, schedule, events, grid.world.size)
    return 0


def _report(o: Options, schedule: Schedule, events: list[list[Event]], ranks: int) -> None:
    cores = launch.cores()
    panels = {
        "by theory, at the mean cost of each kind of action": times(schedule, mean_costs(events)),
        REPLAYED: times(orders(events), costs(events)),
        f"measured, wall time ({ranks} ranks, {cores} cores)": as_it_was(events),
    }
    shares = {"by theory, forward 1, backward 2": bubble(schedule)}
    shares |= {title: waiting(timed) for title, timed in panels.items()}
    say("waiting (the bubble)")
    for title, share in shares.items():
        say(f"{title:<54}{share:>7.1%}")
    say("\n" + table(schedule, events))
    if (share := had_a_core(events)) < ENOUGH or (ranks > cores and o.device == "cpu"):
        say(
            f"\n{ranks} ranks, {cores} cores: computing ranks had a core for {share:.0%} of the time.\n"
            f"Wall time includes waiting for a core; CPU time does not. The replay uses CPU times,\n"
            f"in the order of the run, with messages that take no time."
        )
    else:
        panels.pop(REPLAYED)  # the same as measured
    if o.picture:
        first, *rest = panels
        titles = [f"{o.pipeline} {first} (forward 1, backward 2: {bubble(schedule):.1%})", *rest]
        ms = [[[(a, 1e3 * s, 1e3 * e) for a, s, e in rank] for rank in timed] for timed in panels.values()]
        picture(o.picture, dict(zip(titles, ms, strict=True)), "ms")
        say(f"the picture: {o.picture}")
    if o.trace:
        with naming(o.trace):
            Path(o.trace).write_text(json.dumps(chrome(panels, events)), encoding="utf-8")
        say(f"the trace, for ui.perfetto.dev: {o.trace}")


def _computing(events: list[list[Event]]) -> list[Event]:
    return [e for of_rank in events for e in of_rank if e.action.kind in COSTS]


def seconds(events: list[list[Event]]) -> float:
    """The seconds from the first forward to the last backward."""
    done = _computing(events)
    return max(e.end for e in done) - min(e.start for e in done)


def had_a_core(events: list[list[Event]]) -> float:
    """The share of their computing time in which ranks had a core."""
    done = _computing(events)
    return sum(e.cost for e in done) / sum(e.end - e.start for e in done)


def table(schedule: Schedule, events: list[list[Event]]) -> str:
    """Per rank: micro-batches held, the mean time of each kind of action, and its total waiting."""
    kinds = [*dict.fromkeys(a.kind for a in schedule[0] if a.kind in COSTS), "send"]
    heads = "".join(f"{kind:>18}" for kind in (*kinds, "total waiting"))
    lines = [f"{'ms (CPU / wall)':<24}held{heads}"]
    for r, of_rank in enumerate(events):
        most, said = max(e.held for e in of_rank), held(schedule[r])
        line = f"rank {r:<3}{f'{most} (theory {said})':>20}"
        for kind in kinds:
            each = [(e.cost, e.end - e.start) for e in of_rank if e.action.kind == kind] or [(0.0, 0.0)]
            line += f"{' / '.join(f'{1e3 * fmean(column):.2f}' for column in zip(*each, strict=True)):>18}"
        waited = sum(e.end - e.start for e in of_rank if e.action.kind == "wait")
        lines.append(f"{line}{f'{1e3 * waited:.2f}':>18}")
    return "\n".join(lines)
