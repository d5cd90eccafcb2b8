"""The grid: every rank has a place in a tensor-parallel, a context, a data-parallel and a pipeline group.

    --tp 2 --dp 2 --pp 2     rank     0 1 | 2 3 || 4 5 | 6 7
                             tensor   0 1 | 0 1 || 0 1 | 0 1
                             data     0 0 | 1 1 || 0 0 | 1 1
                             pipeline 0 0 | 0 0 || 1 1 | 1 1

Neighbours are near each other on most machines: they share out a layer, since they talk most. Then come
those that share out the tokens of a sequence (`--cp`), and the replicas of a piece, which add up all of its
gradients once a step. The stages of the pipeline are furthest apart: one activation a micro-batch travels
between two of them (Narayanan et al. 2021, section 3).

A parameter that is cut is held by one rank of each replica and of each piece of the tokens; one that is not,
by all ranks of its stage; the table of token vectors, where embedding and head share it, by the first stage
and the last; an expert by every `--ep`-th replica.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace as Options

from minimega import launch
from minimega.backend import device
from minimega.errors import BadInput
from minimega.layer import Layer, Uncut
from minimega.parallel.comm import SELF, Group
from minimega.parallel.comm import world as start_world
from minimega.parallel.tensor import SequenceParallel, TensorParallel
from minimega.parallel.watch import watched
from minimega.parameter import Parameter, Shard


@dataclass(frozen=True)
class Grid:
    """The groups of one rank.

    All; those that share out its layers; the replicas, which share out the batch; those that share out the
    list of layers; all of its stage; those that hold the piece of what both ends of the pipeline share;
    those that share out the tokens of its sequences; all that hold copies of its piece; those that share
    out the experts, and those that hold the same ones.
    """

    world: Group = SELF
    tensor: Group = SELF
    data: Group = SELF
    shares: Uncut = Layer.shares
    pipeline: Group = SELF
    stage: Group = SELF
    ends: Group = SELF
    context: Group = SELF
    copies: Group = SELF
    experts: Group = SELF
    expert_copies: Group = SELF

    @property
    def first(self) -> bool:
        """Whether this is the rank that speaks and writes."""
        return self.world.rank == 0

    def holders(self, p: Parameter) -> Group:
        """The ranks whose gradients of this parameter have to be added up.

        Each replica has seen its own sequences, and of them each rank of `--cp` its own tokens. Over the
        ranks of a tensor group the gradient of a parameter that all hold is whole, and needs no sum, unless
        each of them has seen its own tokens too (sequence parallelism).
        """
        if p.at_both_ends:
            return self.ends
        if p.by_expert and self.experts.size > 1:
            return self.expert_copies
        return self.stage if p.axis is None and self.shares.partial else self.copies

    def times(self, p: Parameter | Shard) -> int:
        """How many ranks hold the same piece of this parameter, and after the sum the same gradient.

        Of a shard: how many own the same one.
        """
        whole = self.tensor.size if p.axis is None and not self.shares.partial else 1
        return whole if isinstance(p, Shard) else self.holders(p).size * whole

    def rows(self, batch: int) -> slice:
        """Which of a step's sequences this rank's replica works on."""
        if batch % self.data.size:
            raise BadInput(
                f"a batch of {batch} sequences cannot be shared out over {self.data.size} replicas: "
                f"choose --dp so that it divides --train-batch-size"
            )
        return self.data.piece(batch)


SERIAL = Grid()


def grid(
    world: Group, tp: int = 1, dp: int = 1, sequence: bool = False, pp: int = 1, cp: int = 1, ep: int = 1
) -> Grid:
    """Cut all ranks into `pp` stages of `dp` replicas of `cp` groups of `tp` neighbours.

    The replicas fall into groups of `ep` neighbours that share out the experts. BadInput where that are not
    all ranks, or where `ep` does not divide `dp`.
    """
    launch.check_ranks(world.size, tp * cp * dp * pp, _typed(tp, dp, pp, cp))
    check_experts_of_replicas(dp, ep)
    n = tp * cp * dp  # ranks of a stage
    stage = world.split(lambda r: r // n, "stage")
    # the first stage with the last, and each rank in between alone
    ends = world.split(lambda r: r % tp if r // n in (0, pp - 1) else tp + r, "ends")
    tensor = stage.split(lambda r: r // tp, "tensor")
    copies = stage.split(lambda r: r % tp, "data" if cp == 1 else "copies")
    data = copies if cp == 1 else copies.split(lambda r: r % cp, "data")
    context = copies.split(lambda r: r // cp, "context")
    experts = data.split(lambda r: r // ep, "experts")
    expert_copies = copies if ep == 1 else copies.split(lambda r: r // cp % ep, "expert copies")
    pipeline = world.split(lambda r: r % n, "pipeline")
    shares = (SequenceParallel if sequence else TensorParallel)(tensor, context, experts)
    groups = tensor, data, shares, pipeline, stage, ends, context, copies, experts, expert_copies
    return Grid(world, *groups)


def check_experts_of_replicas(dp: int, ep: int) -> None:
    """BadInput where the replicas do not fall into groups of `ep`."""
    if dp % ep:
        raise BadInput(
            f"the experts cannot be shared out over {ep} of {dp} replicas: --ep has to divide --dp"
        )


def _typed(tp: int, dp: int, pp: int, cp: int) -> str:
    return f"--tp {tp} --dp {dp}" + f" --pp {pp}" * (pp > 1) + f" --cp {cp}" * (cp > 1)


def on_ranks(o: Options, body: Callable[[Grid], int]) -> int:
    """Call body(grid) on the ranks that `--tp`, `--cp`, `--dp` and `--pp` ask for, and give its exit status.

    Ranks that mpirun or srun started are used as they are; where nobody started any, they are started here,
    with the same words on the command line. `--dp auto` becomes a number in `o`.
    """
    given = launch.ranks_given()
    if o.dp == "auto":
        most = (given or launch.cores()) // (o.tp * o.cp * o.pp)
        o.dp = replicas(most, o.train_batch_size // parts(o), o.ep)
    needed = o.tp * o.cp * o.dp * o.pp
    if given is None and needed > 1:
        launch.check_crowd(needed, o.oversubscribe)
        return launch.start(o.words, needed, o.threads)
    world = start_world(device(o.device), o.threads)
    world = watched(world) if o.check_collectives else world
    return body(grid(world, o.tp, o.dp, o.sequence_parallel, o.pp, o.cp, o.ep))


def layout(o: Options) -> str:
    """How a run is cut, as it is typed.

    >>> layout(Options(tp=2, dp=1, pp=1, cp=1, ep=1, zero=0, sequence_parallel=True))
    '--tp 2 --dp 1 --sequence-parallel'
    """
    more = f" --ep {o.ep}" * (o.ep > 1) + f" --zero {o.zero}" * (o.zero > 0)
    return _typed(o.tp, o.dp, o.pp, o.cp) + more + " --sequence-parallel" * o.sequence_parallel


def micro_batches(o: Options) -> int:
    """Into how many micro-batches each part of a replica's share is cut: by default one for each stage."""
    return o.micro_batches or o.pp


def virtual_stages(o: Options) -> int:
    """How many pieces of the list of layers a rank has."""
    return o.virtual_stages or (2 if o.pipeline == "interleaved" and o.pp > 1 else 1)


def parts(o: Options) -> int:
    """Into how many parts a replica's share of the batch is cut."""
    return o.accumulate * micro_batches(o)


def replicas(most: int, batch: int, ep: int = 1) -> int:
    """The largest number of replicas, up to `most`, in groups of `ep`, that a batch can be shared out over.

    >>> replicas(6, 16), replicas(6, 18, ep=2)
    (4, 6)
    """
    return ep * next(n for n in range(max(most // ep, 1), 0, -1) if batch % (n * ep) == 0 or n == 1)
