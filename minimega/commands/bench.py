"""`minimega bench`: the speed of a training step, beside torch and beside what this machine can do.

B batch, T time, D width, L layers, N parameters.
"""

import json
import multiprocessing
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace as Options

from minimega.backend import device
from minimega.commands import bench_profile, fast, threads
from minimega.commands.bench_profile import by_operation, shortest
from minimega.commands.bench_steps import (
    EDGE,
    STREAM,
    Maker,
    Step,
    compiled_step,
    largest_size,
    minimega_step,
    product,
    stream,
    torch_is_missing,
    torch_step,
)
from minimega.commands.options import layout_of, model_config
from minimega.commands.plan_text import table
from minimega.commands.progress import busy, each
from minimega.costs import Job
from minimega.costs.memory import check_fits, size, used
from minimega.errors import BadInput, RunFailed
from minimega.model import Config, gpt
from minimega.parallel.grid import Grid
from minimega.precision import check_type
from minimega.ranks.group import SELF
from minimega.ranks.streams import say

WARM_UP = 2
HEADS = [
    "",
    "tokens/s",
    "shortest",
    "median",
    "of the peak",
    "memory",
    "ours, shortest",
    "ours, in pairs",
    "",
]


def run(o: Options) -> int:
    """`minimega bench`: time training steps in turn, and print a table or JSON.

    Raises BadInput if the model needs more memory than this machine has.
    """
    if o.launches:
        from minimega.commands import bench_launch

        return bench_launch.run(o)
    check_picture(o.picture)
    if o.profile and o.scaling:
        raise BadInput("bench shows --profile or --scaling: choose one of them")
    if o.profile:
        return bench_profile.run(o)
    if o.scaling:
        from minimega.commands import bench_scaling  # which uses this file

        return bench_scaling.run(o)
    if layout_of(o).ranks > 1:
        raise BadInput("bench times one rank: with --tp or --dp, use --profile (or --launches)")
    config = model_config(o, o.vocab_size or 512)
    check_type(device(o.device), o.dtype)
    check_fits(Job(config, batch=o.train_batch_size, dtype=o.dtype, optimizer=o.optimizer))
    chosen = settled(o, config)
    why_not = torch_is_missing(o)
    makers = rivals(o, bool(why_not))
    with busy("measuring the memory of a step"):
        memory = {name: peak_memory(maker, config, o, dtype) for name, (maker, dtype) in makers.items()}
    steps = {name: maker(config, o, dtype) for name, (maker, dtype) in makers.items()}
    found = measured(o, in_turn(machine(o) | steps, o.num_steps), memory, config)
    found["conditions"] = {"threads": chosen, "torch": why_not or "beside"}
    say(json.dumps(found, indent=1) if o.json else text(found, config, o))
    if o.picture:
        from minimega.pictures.bench import roofline_picture  # needs matplotlib, which takes long to import

        sums, *_ = shortest(o, config, Grid())
        roofline_picture(o.picture, by_operation(sums), *found["machine"].values())
        if not o.json:
            say(f"\nthe picture: {o.picture}")
    return 0


def check_picture(path: str | None) -> None:
    """Raise BadInput unless the picture can be written, or none is asked for."""
    if path and (not path.endswith(".png") or not Path(path).absolute().parent.is_dir()):
        raise BadInput(f"{path} cannot be written: name a .png file in a folder that exists")


def settled(o: Options, config: Config) -> str:
    """Set the kernels, and the number of BLAS threads: 1 unless given. Returns the choice in words."""
    given, o.threads = bool(o.threads), o.threads or 1
    told = threads.settle(o, SELF, config)
    told = (told if given else "1 BLAS thread") if o.device == "cpu" else "on a GPU"
    return "; ".join(filter(None, (told, fast.settle(o, SELF, config))))


def rivals(o: Options, alone: bool) -> dict[str, tuple[Maker, str]]:
    """What to time, by name: how to make its step, and in which dtype.

    With 16 bits our float32 is timed too, and torch's autocast always: that is the fair rival of 16 bits.
    """
    whole = "float64" if o.dtype == "float64" else "float32"
    half = o.dtype if o.dtype in ("float16", "bfloat16") else "bfloat16"
    found: dict[str, tuple[Maker, str]] = {
        f"minimega {dtype}": (minimega_step, dtype) for dtype in dict.fromkeys((o.dtype, whole))
    }
    if alone:
        return found
    found[f"torch {whole}"] = torch_step, whole
    if whole == "float32":
        found[f"torch autocast {half}"] = torch_step, half
    if o.compiled:
        found[f"torch compiled {whole}"] = compiled_step, whole
    return found


def machine(o: Options) -> dict[str, Step]:
    """What the machine does at best: products and additions, timed in turn with the steps."""
    xp = device(o.device)
    return {
        "product": lambda: product(xp, "float64" if o.dtype == "float64" else "float32"),
        "stream": stream(xp),
    }


def measured(
    o: Options, seconds: Mapping[str, list[float]], memory: Mapping[str, int], config: Config
) -> dict:
    """All figures: of the machine, of each step, and of the first step beside the others.

    `shortest` is the ratio of the shortest steps, `in_pairs` the median ratio of the steps of a turn: both
    above 1 if the first is faster.
    """
    peak = 2 * EDGE**3 / min(seconds["product"])  # operations per second
    tokens, ours = o.train_batch_size * config.context, next(iter(memory))
    runs = {}
    for name, held in memory.items():
        took = seconds[name]
        rate = tokens / min(took)
        runs[name] = {
            "tokens_per_s": rate,
            "shortest_s": min(took),
            "median_s": statistics.median(took),
            "share_of_peak": rate * operations(config) / peak,
            "memory_bytes": held,
            "beside": {
                "shortest": min(took) / min(seconds[ours]),
                "in_pairs": statistics.median(b / a for a, b in zip(seconds[ours], took, strict=True)),
            },
        }
    return {
        "parameters": gpt(config).count(),
        "tokens": tokens,
        "operations_per_token": operations(config),
        "steps": o.num_steps,
        "machine": {"product_flops": peak, "bandwidth_bytes": 12 * STREAM / min(seconds["stream"])},
        "runs": runs,
    }


def text(found: dict, config: Config, o: Options) -> str:
    """The figures as a table, with the conditions that they hold for."""
    rows: list[list[object]] = [list(HEADS)]
    for name, run_ in found["runs"].items():
        beside = [f"{run_['beside'][how]:.2f}" for how in ("shortest", "in_pairs")]
        rows.append(
            [
                name,
                f"{run_['tokens_per_s']:,.0f}",
                f"{1e3 * run_['shortest_s']:.1f} ms",
                f"{1e3 * run_['median_s']:.1f} ms",
                f"{run_['share_of_peak']:.0%}",
                size(run_["memory_bytes"]),
                *(["-", "-"] if name == next(iter(found["runs"])) else beside),
                "",
            ]
        )
    rates, how = found["machine"], found["conditions"]
    lines = [
        f"{found['parameters']:,} parameters: {config.num_layers} layers of width {config.d_model}, "
        f"vocabulary {config.vocab_size}",
        f"a step: {o.train_batch_size} x {config.context} tokens, {o.dtype}, {o.optimizer}, "
        f"{how['threads']}; the shortest of {o.num_steps}",
        f"this machine: {rates['product_flops'] / 1e9:,.0f} Gflop/s (products of {EDGE} x {EDGE} matrices), "
        f"{rates['bandwidth_bytes'] / 1e9:,.1f} GB/s (sums of two arrays)",
        "",
        table(rows),
        "",
        "ours, shortest: our speed beside theirs, by the shortest step of each; in pairs: the median of the "
        "ratios of each turn",
    ]
    if how["torch"] != "beside":
        lines.append(f"torch: {how['torch']}")
    return "\n".join(lines)


def operations(config: Config) -> int:
    """The multiplications and additions that a token costs in a step: 6 N + 12 L T D.

    A parameter multiplies and adds once forward and twice backward. So does a feature of a query with that
    of a key, and of a weight with a value's: T D times each in a layer, what the mask hides counted too.
    Chowdhery et al. 2022, appendix B.

    Only the experts that a token meets count.

    >>> operations(Config(vocab_size=512))
    3265536
    """
    c = config
    return 6 * used(c) + 12 * c.num_layers * c.context * c.d_model * c.attention


def in_turn(steps: Mapping[str, Step], count: int) -> dict[str, list[float]]:
    """The seconds of `count` calls of each step, taken in turn, after a warm-up.

    Interleaving lets other load on the machine slow all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for n in each(range(WARM_UP + count), "measuring the time of a step"):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            if n >= WARM_UP:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def peak_memory(maker: Maker, config: Config, o: Options, dtype: str) -> int:
    """The peak memory, in bytes, of a fresh process that does a few steps.

    Raises RunFailed if the system kills that process.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        try:
            return fresh.submit(_steps_then_size, maker, config, o, dtype).result()
        except BrokenProcessPool:
            raise RunFailed("the process that measures memory was killed: out of memory?") from None


def _steps_then_size(maker: Maker, config: Config, o: Options, dtype: str) -> int:
    settled(o, config)
    step = maker(config, o, dtype)
    for _ in range(WARM_UP):
        step()
    if o.device == "cuda" and maker is minimega_step:
        return device(o.device).get_default_memory_pool().total_bytes()
    return largest_size()
