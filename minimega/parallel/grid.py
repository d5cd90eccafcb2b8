"""The grid: every rank has a place in a tensor-parallel, a context, a data-parallel and a pipeline group.

    --tp 2 --dp 2 --pp 2     rank     0 1 | 2 3 || 4 5 | 6 7
                             tensor   0 1 | 0 1 || 0 1 | 0 1
                             data     0 0 | 1 1 || 0 0 | 1 1
                             pipeline 0 0 | 0 0 || 1 1 | 1 1

Neighbours are near each other on most machines: they hold the pieces of a layer, since they talk most. Then
come the ranks that hold different tokens of a sequence (`--cp`), and the replicas, which add up all of their
gradients once a step. The stages of the pipeline are furthest apart: one activation a micro-batch travels
between two of them (Narayanan et al. 2021, section 3).

A parameter that is cut is held by one rank of each replica and of each piece of the tokens; one that is not,
by all ranks of its stage; the table of token vectors, where embedding and head share it, by the first stage
and the last; an expert by every `--ep`-th replica.
"""

from dataclasses import dataclass

from minimega.errors import BadInput
from minimega.layer import Layer, Uncut
from minimega.parallel.layout import Layout
from minimega.parallel.tensor import SequenceParallel, TensorParallel
from minimega.parameter import Parameter, Shard
from minimega.ranks import launch
from minimega.ranks.group import SELF, Group

WHOLE = Layout()


@dataclass(frozen=True)
class Grid:
    """The groups of one rank, and the layout that they follow."""

    world: Group = SELF  # all ranks
    tensor: Group = SELF  # hold the pieces of the same layers
    data: Group = SELF  # replicas, each with its share of the batch
    shares: Uncut = Layer.shares  # what a layer asks of them
    pipeline: Group = SELF  # hold the stages of one model
    stage: Group = SELF  # all ranks of this stage
    ends: Group = SELF  # hold the same piece of what both ends of the pipeline use
    context: Group = SELF  # hold different tokens of the same sequences
    copies: Group = SELF  # hold the same pieces: replicas and context ranks
    experts: Group = SELF  # replicas that hold different experts
    expert_copies: Group = SELF  # hold the same experts
    layout: Layout = WHOLE

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

    def copies_of(self, p: Parameter | Shard) -> int:
        """How many ranks hold the same piece of this parameter, and after the sum the same gradient.

        Of a shard: how many own the same one.
        """
        whole = self.tensor.size if p.axis is None and not self.shares.partial else 1
        return whole if isinstance(p, Shard) else self.holders(p).size * whole

    def rows(self, batch: int) -> slice:
        """Which of a step's sequences this rank's replica works on."""
        if batch % self.data.size:
            raise BadInput(
                f"a batch of {batch} sequences cannot be split over {self.data.size} replicas: "
                f"choose --dp so that it divides --train-batch-size"
            )
        return self.data.piece(batch)


def grid(world: Group, layout: Layout = WHOLE) -> Grid:
    """Cut all ranks into `pp` stages of `dp` replicas of `cp` groups of `tp` neighbours.

    The replicas fall into groups of `ep` neighbours that hold different experts. Raises BadInput if the
    layout needs another number of ranks, or cannot be.
    """
    cut = layout
    launch.check_ranks(world.size, cut.ranks, str(cut))
    cut.check()
    n = cut.tp * cut.cp * cut.dp  # ranks of a stage
    stage = world.split(lambda r: r // n, "stage")
    # the first stage with the last, and each rank in between alone
    ends = world.split(lambda r: r % cut.tp if r // n in (0, cut.pp - 1) else cut.tp + r, "ends")
    tensor = stage.split(lambda r: r // cut.tp, "tensor")
    copies = stage.split(lambda r: r % cut.tp, "data" if cut.cp == 1 else "copies")
    data = copies if cut.cp == 1 else copies.split(lambda r: r % cut.cp, "data")
    context = copies.split(lambda r: r // cut.cp, "context")
    experts = data.split(lambda r: r // cut.ep, "experts")
    expert_copies = copies if cut.ep == 1 else copies.split(lambda r: r // cut.cp % cut.ep, "expert copies")
    pipeline = world.split(lambda r: r % n, "pipeline")
    shares = (SequenceParallel if cut.sequence else TensorParallel)(tensor, context, experts)
    groups = tensor, data, shares, pipeline, stage, ends, context, copies, experts, expert_copies
    return Grid(world, *groups, cut)
