"""`minimega bench --profile`: where the time of a step goes, by layer and by kind."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from types import SimpleNamespace as Options
from typing import Any

import numpy as np

from minimega.backend import device, keep_memory
from minimega.commands import fast, threads
from minimega.commands.bench_probe import KINDS, Key, Probe, Sum, Timed, probing, waited
from minimega.commands.bench_steps import largest_size, made_up
from minimega.commands.on_ranks import on_ranks
from minimega.commands.options import check_layout, model_config
from minimega.commands.plan_text import table
from minimega.commands.progress import each, say
from minimega.costs.memory import size
from minimega.model import Config
from minimega.optim import OPTIMIZERS
from minimega.parallel.grid import Grid, grid
from minimega.parallel.team import build
from minimega.train import Recipe, train_step

WARM_UP, SHOWN = 2, 12  # steps; operations in the table


class Watched:
    """A team whose gradients a probe times: what a step does beside them is the optimizer's."""

    def __init__(self, team: Any, probe: Probe):
        self.team, self.probe = team, probe

    def __getattr__(self, name: str):
        return getattr(self.team, name)

    def gradients(self, *args):
        """Those of the team; what is not an operation within is the interpreter's."""
        with self.probe.timed("engine", "", "interpreter"):
            return self.team.gradients(*args)


def run(o: Options) -> int:
    """Profile some steps on the ranks of the layout, and show the shortest.

    Raises BadInput if the layout does not fit the batch or the model.
    """
    check_layout(o)
    check_layout(o, model_config(o, o.vocab_size or 512))
    o.threads = o.threads or 1
    return on_ranks(o, _profile)


def _profile(o: Options, plain: Grid) -> int:
    config = model_config(o, o.vocab_size or 512)
    threads.settle(o, plain.world, config)
    kernels = fast.settle(o, plain.world, config)
    sums, meetings, seconds = shortest(o, config, plain)
    meetings = plain.world.all_gather(np.array(meetings).reshape(1, -1, 3), label="profile")
    kinds = by_kind(sums, float(waited(meetings)[plain.world.rank]))
    ranks = plain.world.all_gather(np.array([[kinds[kind] for kind in KINDS]]), label="profile")
    peak = np.array(float(largest_size()))
    memory = int(peak if plain.world.in_process else plain.world.all_reduce(peak, label="profile"))
    if plain.first:
        found = figures(sums, ranks, seconds, memory)
        found["layout"], found["kernels"] = str(plain.layout), kernels
        say(json.dumps(found, indent=1) if o.json else text(found, o))
        if o.picture:
            from minimega.pictures.bench import (
                profile_picture,  # needs matplotlib, which takes long to import
            )

            profile_picture(o.picture, found)
            if not o.json:
                say(f"\nthe picture: {o.picture}")
    return 0


def shortest(o: Options, config: Config, plain: Grid) -> tuple[dict[Key, Sum], list, float]:
    """The sums and meetings of this rank in the shortest of some steps, and the seconds of that."""
    keep_memory()
    xp, probe = device(o.device), Probe()
    watched = grid(Timed(plain.world, probe), plain.layout) if plain.world.size > 1 else plain
    model, team = build(config, watched)
    team.draw(model, o.seed, o.dtype, xp)
    rule = OPTIMIZERS[o.optimizer]((), o.lr, o.beta1, o.beta2, o.eps, o.weight_decay)
    batch, recipe = [xp.asarray(part) for part in made_up(config, o)], Recipe(1, o.lr)
    steps: list = []
    seen: Any = Watched(team, probe)
    with probing(probe):
        for _ in each(range(WARM_UP + o.num_steps), "measuring", speaks=plain.first):
            plain.world.barrier()
            probe.take()
            with probe.timed("step", "", "optimizer", "optimizer"):
                train_step(model, rule, recipe, 1, *batch, team=seen)
            steps.append(probe.take())
    whole = np.array([sum(s.seconds for s in sums.values()) for sums, _ in steps[WARM_UP:]])
    whole = plain.world.all_reduce(whole, "max", label="profile")
    return *steps[WARM_UP + int(whole.argmin())], float(whole.min())


def by_kind(sums: Mapping[Key, Sum], wait: float = 0.0) -> dict[str, float]:
    """The seconds of each kind; `wait` of those of messages are waiting for other ranks."""
    found: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    for key, each_ in sums.items():
        found[key.kind] += each_.seconds
    found["waiting"] = min(wait, found["messages"])
    found["messages"] -= found["waiting"]
    return found


def part_of(key: Key) -> str:
    """The row of the table: the parts of all blocks together, what is no layer's by its name.

    >>> part_of(Key("block3.mlp.branch.up", "linear", "forward", "products"))
    'mlp'
    """
    if key.layer:
        return re.sub(r"^block\d+\.(\w+).*", r"\1", key.layer).split(".")[0]
    other = "loss and norm over ranks" if key.kind == "messages" else "other"
    return {"engine": "interpreter", "cross_entropy": "loss"}.get(key.name, other)


def figures(sums: Mapping[Key, Sum], ranks: np.ndarray, seconds: float, memory: int) -> dict:
    """All figures as an object for JSON: of the first rank by part and operation, of all ranks by kind."""
    parts: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(KINDS, 0.0))
    for key, one in sums.items():
        parts[part_of(key)][key.kind] += one.seconds
    return {
        "step_s": seconds,
        "memory_bytes": memory,
        "ranks": [dict(zip(KINDS, map(float, row), strict=True)) for row in ranks],
        "parts": {name: {k: s for k, s in row.items() if s} for name, row in parts.items()},
        "operations": by_operation(sums),
    }


def by_operation(sums: Mapping[Key, Sum]) -> list[dict]:
    """The sums over all layers of each operation, longest first."""
    found: dict[tuple, Sum] = defaultdict(Sum)
    for key, one in sums.items():
        if key.kind not in ("interpreter", "optimizer"):
            every = found[key.name, key.way, key.kind]
            for name in ("seconds", "calls", "operations", "nbytes"):
                setattr(every, name, getattr(every, name) + getattr(one, name))
    order = sorted(found, key=lambda k: -found[k].seconds)
    return [dict(zip(("name", "way", "kind"), k, strict=True)) | vars(found[k]) for k in order]


def text(found: dict, o: Options) -> str:
    """The profile as tables."""
    used = [kind for kind in KINDS if any(rank[kind] for rank in found["ranks"])]
    seconds, ranks = found["step_s"], len(found["ranks"])
    cut = f"ranks of {found['layout']}" if ranks > 1 else "one rank"
    lines = [
        f"a step of {o.train_batch_size} x {o.context} tokens, {o.dtype}, {cut}: {1e3 * seconds:.1f} ms, "
        f"the shortest of {o.num_steps}; peak memory of all ranks: {size(found['memory_bytes'])}",
        "",
    ]
    rows: list[list[object]] = [["ms by kind", *used, "all", ""]]
    for n, rank in enumerate(found["ranks"]):
        total = sum(rank.values())
        rows.append([f"rank {n}", *(f"{1e3 * rank[kind]:.2f}" for kind in used), f"{1e3 * total:.2f}", ""])
        rows.append(["", *(f"{rank[kind] / total:.0%}" for kind in used), "", ""])
    lines += [table(rows), ""]
    kinds = [kind for kind in used if kind != "waiting"]
    rows = [["ms by layer (rank 0; messages with waiting)", *kinds, "all", "share"]]
    order = sorted(found["parts"].items(), key=lambda item: -sum(item[1].values()))
    for name, row in order:
        total = sum(row.values())
        rows.append(
            [
                name,
                *(f"{1e3 * row.get(kind, 0.0):.2f}" for kind in kinds),
                f"{1e3 * total:.2f}",
                f"{total / seconds:.0%}",
            ]
        )
    lines += [table(rows), ""]
    rows = [["operation (rank 0)", "calls", "ms", "share", "Gflop/s", "GB/s", ""]]
    for one in found["operations"][:SHOWN]:
        took = max(one["seconds"], 1e-9)
        rates = [f"{one[what] / took / 1e9:.1f}" if one[what] else "-" for what in ("operations", "nbytes")]
        name = f"{one['name']} {one['way']}, {one['kind']}"
        rows.append([name, one["calls"], f"{1e3 * took:.2f}", f"{took / seconds:.0%}", *rates, ""])
    return "\n".join([*lines, table(rows)])
