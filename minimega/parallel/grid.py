"""The grid: every rank has a place in a tensor-parallel, a data-parallel and a pipeline group.

    --tp 2 --dp 2 --pp 2     rank     0 1 | 2 3 || 4 5 | 6 7
                             tensor   0 1 | 0 1 || 0 1 | 0 1
                             data     0 0 | 1 1 || 0 0 | 1 1
                             pipeline 0 0 | 0 0 || 1 1 | 1 1

Neighbours are near each other on most machines: they share out a layer, since they talk most. Then come the
replicas of a piece, which add up all of its gradients once a step. The stages of the pipeline are furthest
apart: one activation a micro-batch travels between two of them (Narayanan et al. 2021, section 3).

A parameter that is cut is held by one rank of each replica; one that is not, by all ranks of its stage; the
table of token vectors, where embedding and head share it, by the first stage and the last.
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
    """The groups of one rank.

    All; those that share out its layers; those that hold copies of its piece; those that share out the list
    of layers; all of its stage; and those that hold the piece of what both ends of the pipeline share.
    """

    world: Group = SELF
    tensor: Group = SELF
    data: Group = SELF
    shares: Shares = ALONE
    pipeline: Group = SELF
    stage: Group = SELF
    ends: Group = SELF

    @property
    def first(self) -> bool:
        """Whether this is the rank that speaks and writes."""
        return self.world.rank == 0

    def holders(self, p: Parameter) -> Group:
        """The ranks whose gradients of this parameter have to be added up.

        Each replica has seen its own sequences. Within a replica the gradient of a parameter that all hold is
        whole, and needs no sum, unless each rank has seen its own tokens (sequence parallelism).
        """
        if p.shared:
            return self.ends
        return self.stage if p.axis is None and self.shares.partial else self.data

    def rows(self, batch: int) -> slice:
        """Which of a step's sequences this rank's replica works on."""
        if batch % self.data.size:
            raise BadInput(
                f"a batch of {batch} sequences cannot be shared out over {self.data.size} replicas: "
                f"choose --dp so that it divides --train-batch-size"
            )
        return self.data.piece(batch)


SERIAL = Grid()


def grid(world: Group, tp: int = 1, dp: int = 1, sequence: bool = False, pp: int = 1) -> Grid:
    """Cut all ranks into groups of `tp` neighbours, `dp` of them a stage, and `pp` stages.

    BadInput where that are not all ranks.
    """
    launch.check_ranks(world.size, tp * dp * pp, f"--tp {tp} --dp {dp}" + f" --pp {pp}" * (pp > 1))
    number, within = divmod(world.rank, tp * dp)
    stage = world.split(number, "stage")
    in_between = 0 < number < pp - 1  # each of them alone
    ends = world.split(tp + world.rank if in_between else within % tp, "ends")
    tensor = stage.split(stage.rank // tp, "tensor")
    data = stage.split(stage.rank % tp, "data")
    pipeline = world.split(within, "pipeline")
    shares = SequenceShares(tensor) if sequence else Shares(tensor)
    return Grid(world, tensor, data, shares, pipeline, stage, ends)


def on_ranks(o: Options, body: Callable[[Grid], int]) -> int:
    """Call body(grid) on the ranks that `--tp`, `--dp` and `--pp` ask for, and give its exit status.

    Ranks that mpirun or srun started are used as they are; where nobody started any, they are started here,
    with the same words on the command line. `--dp auto` becomes a number in `o`.
    """
    given = launch.ranks_given()
    if o.dp == "auto":
        o.dp = replicas((given or launch.cores()) // (o.tp * o.pp), o.train_batch_size // parts(o))
    needed = o.tp * o.dp * o.pp
    if given is None and needed > 1:
        return launch.start(o.words, needed, o.threads)
    world = start_world(device(o.device), o.threads)
    world = watched(world) if o.check_collectives else world
    return body(grid(world, o.tp, o.dp, o.sequence_parallel, o.pp))


def layout(o: Options) -> str:
    """How a run is cut, as it is typed.

    >>> layout(Options(tp=2, dp=1, pp=1, sequence_parallel=True))
    '--tp 2 --dp 1 --sequence-parallel'
    """
    pipeline = f" --pp {o.pp}" if o.pp > 1 else ""
    return f"--tp {o.tp} --dp {o.dp}{pipeline}" + " --sequence-parallel" * o.sequence_parallel


def micro_batches(o: Options) -> int:
    """Into how many micro-batches each part of a replica's share is cut: by default one for each stage."""
    return o.micro_batches or o.pp


def virtual_stages(o: Options) -> int:
    """How many pieces of the list of layers a rank has."""
    return o.virtual_stages or (2 if o.pipeline == "interleaved" and o.pp > 1 else 1)


def parts(o: Options) -> int:
    """Into how many parts a replica's share of the batch is cut."""
    return o.accumulate * micro_batches(o)


def replicas(most: int, batch: int) -> int:
    """The largest number of replicas, up to `most`, that a batch can be shared out over.

    >>> replicas(6, 16)
    4
    """
    return next(n for n in range(max(most, 1), 0, -1) if batch % n == 0)
