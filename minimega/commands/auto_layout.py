"""`--layout auto`: the fastest way to train over the ranks that are there, by the rates of this machine.

`--dp auto` only chooses the number of replicas, and measures nothing.
"""

import json
from types import SimpleNamespace as Options

import numpy as np

from minimega.commands.options import layout_of, model_config
from minimega.costs import Job, kept
from minimega.costs.calibrate import measure
from minimega.costs.choose import Way, choose, reason
from minimega.costs.memory import machine_memory, size
from minimega.costs.rates import Rates
from minimega.errors import BadInput
from minimega.parallel.layout import Layout
from minimega.ranks import launch
from minimega.ranks.group import Group, first_text
from minimega.ranks.streams import say

VOCABULARY = 512  # if it is not known yet
# By field of the layout: the option that sets it.
FIELDS = {
    "tp": "tp",
    "dp": "dp",
    "pp": "pp",
    "cp": "cp",
    "zero": "zero",
    "sequence": "sequence_parallel",
    "accumulate": "accumulate",
    "micro_batches": "micro_batches",
    "recompute": "recompute",
}


def settle(o: Options) -> list[str]:
    """Choose a layout for the cores of this machine, say why, and set it in `o`; returns it as options.

    Without an MPI that starts ranks, they are threads, whose rates are others. Raises BadInput if nothing
    fits.
    """
    threads = o.launch == "threads"
    try:
        threads or launch.find_mpi()
    except launch.NoMpi as why_not:
        if o.launch == "mpi":
            raise
        threads = True
        say(f"--layout auto: ranks as threads of this process, since {str(why_not).splitlines()[0]}")
    path = kept.default_path(threads)
    rates = kept.known(path)
    if not rates:
        say("--layout auto: measuring this machine for about ten seconds")
        rates, where = kept.renewed(path, threads)
        say(f"kept in {where}" if where else "the rates could not be kept")
    lines, chosen = chosen_for(o, list(range(1, launch.cores() + 1)), rates, machine_memory())
    say("\n".join(lines))
    return use(o, chosen)


def among(o: Options, world: Group) -> None:
    """Choose a layout for the ranks that mpirun started, by the first one's rates and memory; set it in `o`.

    If no rates were kept, all ranks measure now. Raises BadInput on all ranks if nothing fits.
    """
    rates, told = kept.known() if world.rank == 0 else [], ""
    if world.all_reduce(np.array(float(world.rank == 0 and not rates)), "max", label="layout"):
        rates = [measure(world, launch.share())]
    if world.rank == 0:
        has, here = machine_memory(), launch.ranks_here() or 1
        try:
            told = json.dumps(chosen_for(o, [world.size], rates, has and has * world.size // here))
        except BadInput as why_not:
            told = json.dumps([str(why_not), None])
    lines, chosen = json.loads(first_text(told, world))
    if chosen is None:
        raise BadInput(lines)
    if world.rank == 0:
        say("\n".join(lines))
    use(o, chosen)


def chosen_for(o: Options, ranks: list[int], rates: list[Rates], has: int | None) -> tuple[list[str], dict]:
    """Why which layout is chosen, in lines, and the options that describe it.

    What the command line gives is not chosen.
    """
    if o.device != "cpu":
        raise BadInput(
            "--layout auto knows the rates of this machine's cores, not of a GPU: give --tp, --dp, --pp"
        )
    config = model_config(o, o.vocab_size or VOCABULARY)
    fixed = frozenset(field for field, key in FIELDS.items() if key in o.given and getattr(o, key) != "auto")
    if config.kind != "gpt":  # an encoder-decoder refuses them
        fixed |= {"cp", "sequence"}
    job = Job(config.as_gpt(), layout_of(o), o.train_batch_size, o.dtype, o.optimizer)
    found = choose(job, ranks, rates, has, fixed)
    return why(found, has), {key: getattr(found[0].layout, field) for field, key in FIELDS.items()}


def use(o: Options, chosen: dict) -> list[str]:
    """Set the chosen options; returns them as words of the command line, for the ranks that are started."""
    for key, value in chosen.items():
        setattr(o, key, value)
    o.layout = "given"
    words = ["--layout", "given"]
    for key, value in chosen.items():
        name = f"--{key.replace('_', '-')}"
        words += ([name] if value else []) if isinstance(value, bool) else [name, str(value)]
    return words


def why(found: list[Way], has: int | None) -> list[str]:
    """What was chosen and why, in at most three lines: the choice, and why the next two lose."""
    first, *rest = found
    of_all = f" of {size(has)}" if has else ""
    said = described(first.layout)
    lines = [f"{said}: {_ms(first)} per step, {size(first.need)}{of_all}"]
    return lines + [f"not {described(way.layout)}: {_ms(way)}, {reason(first, way)}" for way in rest[:2]]


def _ms(way: Way) -> str:
    return f"{1e3 * way.step.seconds:.3g} ms"


def described(cut: Layout) -> str:
    """A layout as options, with how it splits the batch.

    >>> described(Layout(pp=2, micro_batches=4))
    '--tp 1 --dp 1 --pp 2 --micro-batches 4'
    """
    said = f"{cut}" + f" --micro-batches {cut.micro_batches}" * (cut.pp > 1)
    said += f" --accumulate {cut.accumulate}" * (cut.accumulate > 1)
    return said + f" --recompute {cut.recompute}" * (cut.recompute != "none")
