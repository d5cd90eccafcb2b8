"""`minimega bench --launches`: which way of using all cores trains fastest.

The same training step on ranks that are MPI processes, on ranks that are threads, and on one rank whose
matrix products use as many BLAS threads. Every turn of a way is a process (or a job of them) of its own.

    python -m minimega.commands.bench_launch OUT WAY RANKS ...      one turn; the rest as of `minimega bench`
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import SimpleNamespace as Options

from threadpoolctl import threadpool_limits

from minimega.backend import keep_memory
from minimega.commands import cli, fast
from minimega.commands.bench import WARM_UP
from minimega.commands.bench_steps import step_on_ranks
from minimega.commands.notes import counted
from minimega.commands.options import model_config
from minimega.commands.progress import each
from minimega.errors import BadInput, RunFailed
from minimega.parallel.layout import replicas
from minimega.ranks import child, launch
from minimega.ranks.group import Group
from minimega.ranks.mpi import world as start_world
from minimega.ranks.streams import say
from minimega.ranks.threads import on_ranks

TURNS = 3
# Compared if the command line names no shape: a step of many small operations, and one of few large ones.
SHAPES = (
    "--num-layers 4 --d-model 128 --nhead 4 --context 64 --train-batch-size 12",
    "--num-layers 6 --d-model 384 --nhead 6 --context 256 --train-batch-size 8",
)
SHAPE = {"size", "model_type", "num_layers", "d_model", "nhead", "context", "train_batch_size", "experts"}
WAYS = ("threads", "mpi", "blas")


def run(o: Options) -> int:
    """Print the tokens per second of each way, fastest first, for one shape or for two.

    Raises BadInput on a GPU, or if the batch cannot be split; RunFailed if a turn fails.
    """
    if o.device != "cpu":
        raise BadInput(f"--launches compares ways to use a CPU's cores: not with --device {o.device}")
    ways = list(WAYS)
    try:
        launch.find_mpi()
    except launch.NoMpi as why:
        ways.remove("mpi")
        say(f"without MPI ranks: {str(why).splitlines()[0]}")
    argv = o.words[3:]
    for more in [""] if o.given & SHAPE else SHAPES:
        words = [*argv, *more.split()]
        compare(cli.parse("bench", words), words, ways)
    return 0


def compare(o: Options, words: list[str], ways: list[str]) -> None:
    """Time the ways in turn at the shape of these options, and print who wins."""
    ranks = replicas(max(2, launch.cores()), o.train_batch_size)
    if ranks == 1:
        raise BadInput(f"a batch of {o.train_batch_size} cannot be split over ranks: `train_batch_size` 2")
    config = model_config(o, o.vocab_size or 512)
    layers = f"{counted(config.num_layers, 'layer')} of width {config.d_model}"
    turns: dict[str, list[list[float]]] = {way: [] for way in ways}
    plan = [way for _ in range(TURNS) for way in ways]
    for way in each(plan, f"{layers}: each way in turn"):
        turns[way].append(turn(way, ranks, words))
    rates = {way: o.train_batch_size * config.context / statistics.median(chain(*turns[way])) for way in ways}
    names = {
        "threads": f"{ranks} ranks as threads",
        "mpi": f"{ranks} MPI ranks",
        "blas": f"1 rank, {ranks} BLAS threads",
    }
    say(
        f"{layers}: {o.train_batch_size} x {config.context} tokens, "
        f"{o.dtype}; medians of {TURNS} turns of {steps(o)} steps"
    )
    ways = sorted(ways, key=lambda way: -rates[way])
    for way in ways:
        say(f"{names[way]}: {rates[way]:,.0f} tokens/s")
    best, *others = ways
    said = []
    for way in others:
        won = sum(min(a) < min(b) for a, b in zip(turns[best], turns[way], strict=True))
        said.append(f"{rates[best] / rates[way]:.2f} times as fast as {names[way]} ({won} of {TURNS} turns)")
    say(f"fastest: {names[best]}, " + ", ".join(said))


def steps(o: Options) -> int:
    """The steps of a turn: all turns together make at least `--num-steps`."""
    return -(-o.num_steps // TURNS)


def turn(way: str, ranks: int, words: list[str]) -> list[float]:
    """The seconds of each step of one turn, in a new process. Raises RunFailed if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "seconds.json"
        argv = ["-m", "minimega.commands.bench_launch", str(out), way, str(ranks), *words]
        threads = ranks if way == "blas" else 1
        if way == "mpi":
            line, env = launch.command(argv, ranks, threads)
        else:
            line, env = child.python(*argv), os.environ | launch.thread_settings(threads)
        ended = subprocess.run(line, env=env, capture_output=True, text=True)
        if ended.returncode or not out.exists():
            reason = ended.stderr.strip().splitlines() or ["no reason given"]
            raise RunFailed(f"a turn ({way}) failed: {reason[-1]}")
        return json.loads(out.read_text())


def seconds(world: Group, o: Options) -> Iterator[float]:
    """The seconds of each step on this rank, after a warm-up; all ranks begin together."""
    o, config = Options(**vars(o)), model_config(o, o.vocab_size or 512)  # each rank settles its own options
    fast.settle(o, world, config)
    step = step_on_ranks(config, o, world)
    for n in range(WARM_UP + steps(o)):
        world.barrier()
        begun = time.perf_counter()
        step()
        world.barrier()
        if n >= WARM_UP:
            yield time.perf_counter() - begun


def main(out: str, way: str, ranks: str, *words: str) -> None:
    """One turn: time the steps, and let the first rank write their seconds as JSON."""
    keep_memory()
    o = cli.parse("bench", list(words))
    with threadpool_limits(int(ranks) if way == "blas" else 1):
        if way == "threads":
            with on_ranks(int(ranks), 600.0) as run:
                rank, took = 0, run(lambda world: list(seconds(world, o)))[0]
        else:
            world = start_world()
            rank, took = world.rank, list(seconds(world, o))
    if rank == 0:
        Path(out).write_text(json.dumps(took), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
