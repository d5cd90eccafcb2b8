"""Runs a command on the ranks that its options ask for."""

from collections.abc import Callable
from types import SimpleNamespace as Options

from minimega.backend import device
from minimega.commands.options import layout_of
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import replicas
from minimega.ranks import launch
from minimega.ranks.mpi import world as start_world
from minimega.ranks.watch import watched


def on_ranks(o: Options, body: Callable[[Grid], int]) -> int:
    """Call body(grid) on the ranks that the options ask for; return its exit status.

    Uses the ranks that mpirun or srun started, else starts them with the same command line. Replaces
    `--dp auto` in `o` with a number. Raises BadInput if the layout does not fit the ranks.
    """
    given, cut = launch.ranks_given(), layout_of(o)
    if o.dp == "auto":
        most = (given or launch.cores()) // cut.ranks
        o.dp = replicas(most, o.train_batch_size // cut.parts, o.ep)
        cut = layout_of(o)
    if given is None and cut.ranks > 1:
        launch.check_crowd(cut.ranks, o.oversubscribe)
        return launch.start(o.words, cut.ranks, o.threads)
    world = start_world(device(o.device), o.threads)
    world = watched(world) if o.check_collectives else world
    return body(grid(world, cut))
