"""`minimega plan`: memory, messages and time of a run on GPUs that are not here, and how best to cut it."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Options

from minimega.commands import plan_here
from minimega.commands import plan_tables as tables
from minimega.commands import plan_text as text
from minimega.commands.options import model_config
from minimega.costs.plan import Fixed, Found, Gpu, Machine, Plan, named, read, search
from minimega.costs.plan.explain import explain
from minimega.costs.plan.published import compared, rows
from minimega.costs.plan.scaling import scaling
from minimega.costs.plan.search import fewest
from minimega.costs.plan.trace import step, trace
from minimega.errors import BadInput, naming
from minimega.model import Config
from minimega.ranks.streams import say

TOKENS_OF_A_STEP = 2**22  # if no batch is given: about those of GPT-3 (Brown et al. 2020, table 2.1)
TOKENS_PER_PARAMETER = 20  # if no number of tokens is given: Hoffmann et al. 2022, table 3
VOCABULARY = 51200  # GPT-2's, padded, as in the Megatron papers
MOST = 1_000_000  # GPUs
LONG = 16384  # from this context on, a search may cut sequences too
CUT = "tp", "pp", "dp", "cp", "ep"


def run(o: Options) -> int:
    """Plan a run, and print the plan as text or JSON. Returns the exit status.

    Raises BadInput if a GPU is unknown, a cut is impossible or a file cannot be written.
    """
    if o.published:
        found = [compared(row, ranked=True) for row in rows()]
        say(json.dumps([tables.of_row(c) for c in found], indent=1) if o.json else tables.published(found))
        return 0
    for path, ending in ((o.picture, ".png"), (o.trace, ".json")):
        if path and (not path.endswith(ending) or not Path(path).absolute().parent.is_dir()):
            raise BadInput(f"{path} cannot be written: name a {ending} file in a folder that exists")
    if o.calibrate or plan_here.is_here(o.gpu):
        return plan_here.run(o)
    gpu = gpu_of(o)
    config = model_config(o, o.vocab_size or VOCABULARY)
    if o.scaling:
        batch = o.train_batch_size if "train_batch_size" in o.given else None
        table = scaling(config, gpu, dtype_of(o, gpu), batch)
        say(json.dumps(tables.of_scaling(table), indent=1) if o.json else tables.scaling(config, gpu, table))
        return 0
    if o.gpus is None:
        raise BadInput("plan needs --gpus: how many there are, as in --gpus 64")
    if o.gpus > MOST:
        raise BadInput(f"`gpus` is {o.gpus}; a plan is for at most {MOST:,}")
    batch = batch_of(o, config)
    machine = Machine(gpu, o.gpus)
    plan, others = plan_of(o, config, machine, batch)
    least = None if plan.fits else fewest(config, machine, batch, plan.job.dtype)
    drawn = step(plan) if o.trace or o.picture else None
    tokens = o.tokens or TOKENS_PER_PARAMETER * plan.parameters
    if o.json:
        say(json.dumps(text.as_object(plan, others, tokens, o.price) | {"fewest_gpus": least}, indent=1))
    else:
        say(text.plan(plan, others, tokens, o.price))
        if not plan.fits:
            on = f"the fewest GPUs, doubled, on which it fits: {least}" if least else "no number of GPUs fits"
            say(f"\n{on}")
        if o.explain:
            say("\n" + text.explained(explain(plan)))
    if drawn and o.trace:
        with naming(o.trace):
            Path(o.trace).write_text(json.dumps(trace(plan, drawn)), encoding="utf-8")
        _note(o, f"the trace, for ui.perfetto.dev: {o.trace}")
    if drawn and o.picture:
        from minimega.pictures.plan import picture  # needs matplotlib, which takes long to import

        layers = -(-config.num_layers // plan.job.layout.pp)
        picture(o.picture, plan.memory, gpu.memory, layers, drawn.timed)
        _note(o, f"the picture: {o.picture}")
    return 0


def _note(o: Options, line: str) -> None:
    if not o.json:
        say(line)


def gpu_of(o: Options) -> Gpu:
    """The GPU that `--gpu` names: one of the table, or of a TOML file."""
    return read(o.gpu) if o.gpu.endswith(".toml") else named(o.gpu)


def dtype_of(o: Options, gpu: Gpu) -> str:
    """The dtype to plan for; raises BadInput if this GPU has no peak for it."""
    dtype = o.dtype if "dtype" in o.given else gpu.half
    if dtype not in dict(gpu.peak):
        raise BadInput(f"{gpu.name} has no peak for {dtype}: choose `dtype` {' or '.join(dict(gpu.peak))}")
    return dtype


def batch_of(o: Options, config: Config) -> int:
    """The sequences of a step; if none are given, a multiple of the GPUs with about 4 million tokens."""
    if "train_batch_size" in o.given:
        return o.train_batch_size
    return o.gpus * max(1, round(TOKENS_OF_A_STEP / config.context / o.gpus))


def fixed_of(o: Options) -> Fixed:
    """What the options settle. Who gives `--tp`, `--pp` or `--dp` states the cut: without ZeRO if it is not
    named.
    """
    given = {key: getattr(o, key) for key in (*CUT, "virtual_stages", "recompute", "zero") if key in o.given}
    if given.get("dp") == "auto":
        del given["dp"]
    for key in ("micro_batches", "micro_batch_size"):
        if key in o.given:
            given[key] = getattr(o, key)
    if "micro_batches" in given and "micro_batch_size" in given:
        raise BadInput("`micro_batches` is their number, `micro_batch_size` their size: give one of them")
    stated = {"tp", "pp", "dp"} & set(given)
    if "sequence_parallel" in o.given or stated:
        given["sequence"] = o.sequence_parallel
    if stated:
        given.setdefault("zero", 0)
    if "cp" not in given and o.context and o.context >= LONG and not stated:
        given["cp"] = None
    return Fixed(**given)


def plan_of(o: Options, config: Config, machine: Machine, batch: int) -> tuple[Plan, Found]:
    """The plan, and all cuts that were compared with it: those that run in the same way, whatever their
    sizes.
    """
    fixed, dtype = fixed_of(o), dtype_of(o, machine.gpu)
    mine = search(config, machine, batch, dtype, fixed)
    free = replace(fixed, **dict.fromkeys(("tp", "pp", "dp", "ep", "virtual_stages")))
    free = replace(free, micro_batches=None, micro_batch_size=None)
    others = mine if free == fixed else search(config, machine, batch, dtype, free)
    if mine.plans:
        return mine.plans[0], others.joined(mine.plans[0])
    smallest = min(mine.too_large.values(), key=lambda plan: plan.memory["total"])
    return smallest, others
