"""`minimega plan --gpu here`: the planner for this machine and this implementation, by measured rates.

Memory is that of `costs/rank.py`, time that of `costs/here.py`. Both are held to measurements, in
tests/costs/test_rank.py and tests/costs/quiet.py.
"""

import json
from pathlib import Path
from types import SimpleNamespace as Options

from minimega.commands.auto_layout import FIELDS, VOCABULARY, described
from minimega.commands.options import model_config
from minimega.costs import Job, kept
from minimega.costs.choose import Way, choose, reason
from minimega.costs.memory import machine_memory, memory, parameters, size
from minimega.costs.plan.estimate import hardware_flops, model_flops
from minimega.costs.rates import Rates
from minimega.parallel.layout import Layout
from minimega.ranks import launch
from minimega.ranks.streams import say

BATCH, SHOWN = 16, 10


def is_here(name: str) -> bool:
    """Whether `--gpu` names this machine, or a file of its rates."""
    return name == "here" or (name.endswith(".toml") and Path(name).is_file() and bool(_rates_in(Path(name))))


def _rates_in(path: Path) -> bool:
    return "[[rates]]" in path.read_text(encoding="utf-8", errors="replace")


def rates_of(name: str, renew: bool, quiet: bool = False) -> list[Rates]:
    """The rates that `--gpu` names; measured if they were never, or with `--calibrate`."""
    path = Path(name) if name.endswith(".toml") else kept.default_path()
    found = [] if renew else kept.read(path) if name.endswith(".toml") else kept.known()
    if not found:
        if not quiet:
            say("measuring this machine for about ten seconds")
        found, where = kept.renewed(path)
        if not quiet:
            say(f"kept in {where}\n" if where else f"{path} could not be written\n")
    return found


def run(o: Options) -> int:
    """Plan a run on this machine, and print the plan as text or JSON. Returns the exit status.

    Raises BadInput if no layout fits.
    """
    rates, has = rates_of(o.gpu, o.calibrate, o.json), machine_memory()
    config = model_config(o, o.vocab_size or VOCABULARY)
    fixed = frozenset(field for field, key in FIELDS.items() if key in o.given and getattr(o, key) != "auto")
    mine = {field: getattr(o, FIELDS[field]) for field in fixed}
    dtype = o.dtype if "dtype" in o.given else "float32"
    job = Job(config, Layout(**mine), o.train_batch_size or BATCH, dtype)
    ranks = o.gpus or launch.cores()
    found = choose(job, [ranks], rates, has, fixed)
    say(json.dumps(as_object(job, found, rates, has), indent=1) if o.json else text(job, found, has))
    return 0


def _memory(job: Job, way: Way) -> dict[str, int]:
    """Of the rank that needs most, by kind."""
    cut = way.layout
    job = Job(job.config, cut, job.batch, job.dtype, job.optimizer)
    stage = cut.ranks // cut.pp
    most = max((memory(job, r * stage) for r in range(cut.pp)), key=lambda kinds: sum(kinds.values()))
    return most | {"total": sum(most.values())}


def text(job: Job, found: list[Way], has: int | None) -> str:
    """The plan as text."""
    best, config = found[0], job.config
    lines = [
        f"{parameters(config):,} parameters on {best.layout.ranks} ranks of this machine, "
        f"{job.batch} sequences of {config.context} tokens a step, {job.dtype}",
        described(best.layout),
        "",
        f"memory: {size(best.need)}" + (f" of {size(has)}" if has else "") + "; of the rank that needs most",
    ]
    lines += [f"  {kind:<14}{size(n):>10}" for kind, n in _memory(job, best).items() if n]
    s = best.step
    rest = {
        "forward and backward": s.compute * (1 - s.waiting),
        "waiting in the pipeline": s.compute * s.waiting,
    }
    rest |= {"messages": s.messages, "norm, clipping, update": s.update}
    lines += ["", f"a step: {1e3 * s.seconds:.1f} ms"]
    lines += [f"  {kind:<26}{1e3 * t:>8.1f} ms{t / s.seconds:>7.1%}" for kind, t in rest.items() if t > 0]
    lines += ["", "cuts, best first"]
    whys = ["the fastest that fits", *(reason(best, way) for way in found[1:])]
    for way, why in list(zip(found, whys, strict=True))[:SHOWN]:
        lines.append(
            f"  {described(way.layout):<44}{1e3 * way.step.seconds:>8.1f} ms  {size(way.need):>7}  {why}"
        )
    return "\n".join(lines)


def as_object(job: Job, found: list[Way], rates: list[Rates], has: int | None) -> dict:
    """The plan as one object, with the keys that plans for GPUs have."""
    best = found[0]
    cut, seconds = best.layout, best.step.seconds
    timed = Job(job.config, cut, job.batch, job.dtype)
    peak = 2 * 2048 * 512**2 / kept.of(rates, cut.ranks).tables["linear"](2048, 512)  # of a core, in products

    def told(way: Way) -> dict:
        names = ("tp", "pp", "dp", "cp", "zero", "micro_batches", "virtual_stages", "recompute")
        return {name: getattr(way.layout, name) for name in names} | {
            "micro_batch_size": job.batch // way.layout.dp // way.layout.parts,
            "iteration_seconds": way.step.seconds,
        }

    return {
        "parameters": parameters(job.config),
        "gpu": "here",
        "memory_bytes_per_gpu": _memory(job, best),
        "memory_bytes": best.need,
        "fits": has is None or best.need <= has,
        **told(best),
        "seconds": vars(best.step),
        "tflops_per_gpu": hardware_flops(timed) / seconds / cut.ranks / 1e12,
        "mfu": model_flops(timed) / seconds / cut.ranks / peak,
        "bubble": best.step.waiting * best.step.compute / seconds,
        "alternatives": [told(way) | {"reason": reason(best, way)} for way in found[1:SHOWN]],
    }
