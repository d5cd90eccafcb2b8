"""A context too long for one rank: four ranks each hold a quarter of the tokens, and train on it.

    mpirun -n 4 python examples/long_context.py
    mpirun -n 4 python examples/long_context.py --device cuda

Each rank may allocate 100 MB beyond the model; the system (or CuPy) refuses more. Attention over T tokens
keeps T x T weights per head. In the ring (`--cp 4`) keys and values go around instead, no weights are kept,
and each rank has a quarter of everything else. If one rank can hold the context too, loss and gradients are
equal to its own.
"""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import minimega as mm
from minimega.autograd import saved_bytes
from minimega.backend import device
from minimega.costs import Job
from minimega.costs.memory import check_fits, size
from minimega.errors import BadInput
from minimega.layer import place
from minimega.parallel.context import share
from minimega.parallel.grid import Grid, Layout, grid
from minimega.parallel.team import team_of
from minimega.ranks.mpi import world

LIMIT = 100 * 10**6  # bytes
CONTEXTS, STEPS = (256, 512, 1024, 2048, 4096), 3
STATUS = Path("/proc/self/status")


def config(context: int) -> mm.Config:
    return mm.Config(vocab_size=64, context=context, d_model=64, nhead=4)


def text(context: int, xp) -> tuple:
    """One sequence whose second half repeats the first, and the target of each token."""
    half = np.random.default_rng(0).integers(64, size=(1, context // 2))
    both = xp.asarray(np.concatenate([half, half, half[:, :1]], axis=1))
    return both[:, :-1], both[:, 1:]


@contextmanager
def limited(context: int, cp: int, xp) -> Iterator[None]:
    """Limit this process to LIMIT more bytes: beyond that, MemoryError."""
    if xp is not np:
        pool = xp.get_default_memory_pool()
        pool.free_all_blocks()
        pool.set_limit(size=pool.used_bytes() + LIMIT)
        try:
            yield
        finally:
            pool.set_limit(size=0)
    elif not STATUS.exists():  # the system has no such limit: the planner refuses
        check_fits(Job(config(context), Layout(cp=cp), optimizer="sgd"), has=LIMIT)
        yield
    else:
        now = next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if "VmData" in line)
        before = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (now * 1024 + LIMIT, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, before)


def held(cut: Grid, context: int, xp) -> int:
    """The bytes kept for the backward pass on this rank, after a forward and a backward; 0 if refused."""
    model, (inputs, targets) = mm.gpt(config(context), cut.shares).draw(0, xp=xp), text(context, xp)
    try:
        with limited(context, cut.context.size, xp):
            batch = share(inputs, targets, place(inputs, training=True), cut.context)
            loss = model.loss(*batch, count=inputs.size)
            found = sum(saved_bytes(loss).values())
            loss.backward()
            return found
    except (MemoryError, BadInput):
        if cut.context.size > 1:
            raise
        return 0


def train(cut: Grid, context: int, xp) -> list[float]:
    """The losses of STEPS steps, within the limit."""
    model, adam = mm.gpt(config(context), cut.shares).draw(0, xp=xp), mm.AdamW()
    team, recipe = team_of(model, cut), mm.Recipe(STEPS, lr=0.01)
    with limited(context, cut.context.size, xp):
        steps = range(1, STEPS + 1)
        return [mm.train_step(model, adam, recipe, n, *text(context, xp), team=team)["loss"] for n in steps]


def off(cut: Grid, context: int, xp) -> float:
    """The largest difference from one rank's loss and gradients, in float64."""
    ours, whole = (mm.gpt(config(context), c.shares).draw(0, "float64", xp) for c in (cut, Grid()))
    a = team_of(ours, cut).gradients(ours, *text(context, xp))
    b = mm.Alone().gradients(whole, *text(context, xp))
    pairs = zip(ours.parameters().values(), whole.parameters().values(), strict=True)
    largest = max(float(abs(p.grad).max()) for p in whole.parameters().values())
    return max(abs(a / b - 1), *(float(abs(p.grad - q.grad).max()) / largest for p, q in pairs))


def main(xp=np) -> None:
    ranks = world(xp)
    cut, fits = grid(ranks, Layout(cp=ranks.size)), {}
    for context in CONTEXTS:
        alone = int(ranks.broadcast(np.array(held(Grid(), context, xp) if ranks.rank == 0 else 0)))
        each = int(ranks.all_reduce(np.array(held(cut, context, xp)), "max"))
        fits[context] = alone, each
    longest = max(context for context, (_, each) in fits.items() if each)
    losses, apart = train(cut, longest, xp), off(cut, 512, xp)
    if ranks.rank == 0:
        print(f"each rank may allocate {size(LIMIT)}; it keeps for the backward pass")
        print(f"context   one rank         each of {ranks.size}")
        for context, both in fits.items():
            print(f"{context:<10}" + "   ".join(f"{size(x) if x else 'refused':<14}" for x in both).rstrip())
        print(f"{STEPS} steps at {longest} tokens, loss: {', '.join(f'{loss:.4f}' for loss in losses)}")
        print(f"largest difference from one rank at 512 tokens: {apart:.0e}")
    assert not fits[CONTEXTS[-1]][0], "one rank could hold the longest context"
    assert ranks.size < 4 or longest == CONTEXTS[-1]
    assert losses[-1] < losses[0] and apart < 1e-10, "the ranks differ from the serial model"


main(device("cuda" if "cuda" in sys.argv else "cpu"))
