"""Runs a command on the ranks that its options ask for."""

from collections.abc import Callable
from types import SimpleNamespace as Options

from minimega.backend import device
from minimega.commands import auto_layout
from minimega.commands.options import layout_of
from minimega.errors import BadInput
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout, replicas
from minimega.ranks import launch
from minimega.ranks.mpi import world as start_world
from minimega.ranks.streams import say
from minimega.ranks.watch import watched


def on_ranks(o: Options, body: Callable[[Grid], int]) -> int:
    """Call body(grid) on the ranks that the options ask for; return its exit status.

    Uses the ranks that mpirun or srun started, else starts them with the same command line. Replaces
    `--layout auto`, and else `--dp auto`, in `o` with what they mean. Raises BadInput if the layout does not
    fit the ranks.
    """
    given, words = launch.ranks_given(), o.words
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
        return launch.start(words, cut.ranks, o.threads)
    world = start_world(device(o.device), o.threads)
    world = watched(world) if o.check_collectives else world
    return body(grid(world, cut))


def automatic(given: int | None, cut: Layout, o: Options) -> int:
    """What `--dp auto` means: as many replicas as there are cores, or ranks given, and as divide the batch.

    Without an MPI that starts ranks it says so and means one.
    """
    most = (given or launch.cores()) // cut.ranks
    found = replicas(most, o.train_batch_size // cut.parts, o.ep)
    if given is None and cut.ranks == 1 and found > 1 and o.ep == 1:
        try:
            launch.find_mpi()
        except BadInput as why:
            say(f"--dp auto: one rank, since {str(why).splitlines()[0]}")
            return 1
    return found
