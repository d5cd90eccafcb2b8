"""Runs a command on the ranks that its options ask for: processes over MPI, or threads of this process."""

from collections.abc import Callable
from types import SimpleNamespace as Options

from minimega.backend import device
from minimega.commands import auto_layout, signals
from minimega.commands.options import layout_of
from minimega.errors import BadInput
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout, replicas
from minimega.ranks import launch, threads
from minimega.ranks.mpi import world as start_world
from minimega.ranks.streams import say, tell
from minimega.ranks.watch import watched

Body = Callable[[Options, Grid], int]
PATIENCE = 60.0, 600.0  # seconds until a thread is missing: with --check-collectives, and without


def on_ranks(o: Options, body: Body) -> int:
    """Call body(o, grid) on the ranks that the options ask for; return its exit status.

    Uses the ranks that mpirun or srun started, else starts them: with the same command line by MPI, or as
    threads, each with its own copy of the options. Replaces `--layout auto`, and else `--dp auto`, in `o`
    with what they mean. Raises BadInput if the layout does not fit the ranks.
    """
    given, words = launch.ranks_given(), o.words
    if given is not None and "launch" in o.given and o.launch == "threads":
        raise BadInput("--launch threads starts its own ranks: run it without mpirun or srun")
    if getattr(o, "layout", "given") == "auto":
        if given is None:
            words = [*words, *auto_layout.settle(o)]
        else:
            auto_layout.among(o, start_world(device(o.device), o.threads))
    cut = layout_of(o)
    if o.dp == "auto":
        o.dp = automatic(given, cut, o)
        cut = layout_of(o)
    if given is None and cut.ranks > 1:
        launch.check_crowd(cut.ranks, o.oversubscribe)
        return started(o, words, cut, body)
    world = start_world(device(o.device), o.threads)
    world = watched(world) if o.check_collectives else world
    return body(o, grid(world, cut))


def started(o: Options, words: list[str], cut: Layout, body: Body) -> int:
    """Start the ranks of this layout as `--launch` says; return the exit status.

    Where no MPI is found, the default is threads, which a line says.
    """
    if o.launch != "threads":
        try:
            return launch.start(words, cut.ranks, o.threads)
        except launch.NoMpi as why:
            if o.launch == "mpi" or o.device != "cpu":
                raise
            tell(f"ranks are threads of this process: {str(why).splitlines()[0]}")
    if o.device != "cpu":
        raise BadInput(
            f"--launch threads is for --device cpu: on {o.device}, ranks are processes of their own"
        )
    launch.hold()
    patience = PATIENCE[not o.check_collectives]
    with threads.on_ranks(cut.ranks, patience) as run, signals.relayed():
        return max(run(lambda world: body(Options(**vars(o)), grid(world, cut))))


def automatic(given: int | None, cut: Layout, o: Options) -> int:
    """What `--dp auto` means: as many replicas as there are cores, or ranks given, and as divide the batch.

    Without an MPI they are threads, which train faster than one rank with as many BLAS threads. On a GPU,
    where ranks cannot be threads, it then says so and means one.
    """
    most = (given or launch.cores()) // cut.ranks
    found = replicas(most, o.train_batch_size // cut.parts, o.ep)
    if given is None and cut.ranks == 1 and found > 1 and o.ep == 1 and o.device != "cpu":
        try:
            launch.find_mpi()
        except launch.NoMpi as why:
            say(f"--dp auto: one rank, since {str(why).splitlines()[0]}")
            return 1
    return found
