"""The grid: every rank has a place in a tensor-parallel group and in a data-parallel group.

    --tp 2 --dp 3        rank   0 1 | 2 3 | 4 5        neighbours share out a layer (they talk most),
                         tensor 0 1 | 0 1 | 0 1        ranks at a distance hold copies of the same piece
                         data   0 0 | 1 1 | 2 2

A parameter that is cut is held by one rank of each replica; one that is not, by all ranks of all replicas.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace as Options

from minimega import launch
from minimega.backend import device
from minimega.errors import BadInput
from minimega.parallel.comm import SELF, Group
from minimega.parallel.comm import world as start_world
from minimega.parallel.tensor import ALONE, SequenceShares, Shares
from minimega.parallel.watch import watched
from minimega.parameter import Parameter


@dataclass(frozen=True)
class Grid:
    """The groups of one rank: all, those that share out its layers, those that hold copies of its piece."""

    world: Group = SELF
    tensor: Group = SELF
    data: Group = SELF
    shares: Shares = ALONE

    @property
    def first(self) -> bool:
        """Whether this is the rank that speaks and writes."""
        return self.world.rank == 0

    def holders(self, p: Parameter) -> Group:
        """The ranks whose gradients of this parameter have to be added up.

        Each replica has seen its own sequences. Within a replica the gradient of a parameter that all hold is
        whole, and needs no sum, unless each rank has seen its own tokens (sequence parallelism).
        """
        return self.world if p.axis is None and self.shares.partial else self.data

    def rows(self, batch: int) -> slice:
        """Which of a step's sequences this rank's replica works on."""
        if batch % self.data.size:
            raise BadInput(
                f"a batch of {batch} sequences cannot be shared out over {self.data.size} replicas: "
                f"choose --dp so that it divides --train-batch-size"
            )
        return self.data.piece(batch)


SERIAL = Grid()


def grid(world: Group, tp: int = 1, dp: int = 1, sequence: bool = False) -> Grid:
    """Cut all ranks into groups of `tp` neighbours, `dp` of them (BadInput where that are not all ranks)."""
    launch.check_ranks(world.size, tp * dp, f"--tp {tp} --dp {dp}")
    tensor = world.split(world.rank // tp, "tensor")
    data = world.split(world.rank % tp, "data")
    return Grid(world, tensor, data, SequenceShares(tensor) if sequence else Shares(tensor))


def on_ranks(o: Options, body: Callable[[Grid], int]) -> int:
    """Call body(grid) on the ranks that `--tp` and `--dp` ask for, and give its exit status.

    Ranks that mpirun or srun started are used as they are; where nobody started any, they are started here,
    with the same words on the command line. `--dp auto` becomes a number in `o`.
    """
    given = launch.ranks_given()
    if o.dp == "auto":
        o.dp = replicas((given or launch.cores()) // o.tp, o.train_batch_size // o.accumulate)
    if given is None and o.tp * o.dp > 1:
        return launch.start(o.words, o.tp * o.dp, o.threads)
    world = start_world(device(o.device), o.threads)
    world = watched(world) if o.check_collectives else world
    return body(grid(world, o.tp, o.dp, o.sequence_parallel))


def layout(o: Options) -> str:
    """How a run is cut, as it is typed.

    >>> layout(Options(tp=2, dp=1, sequence_parallel=True))
    '--tp 2 --dp 1 --sequence-parallel'
    """
    return f"--tp {o.tp} --dp {o.dp}" + " --sequence-parallel" * o.sequence_parallel


def replicas(most: int, batch: int) -> int:
    """The largest number of replicas, up to `most`, that a batch can be shared out over.

    >>> replicas(6, 16)
    4
    """
    return next(n for n in range(max(most, 1), 0, -1) if batch % n == 0)
