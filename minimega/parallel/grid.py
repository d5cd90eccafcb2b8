"""The grid: every rank belongs to a tensor, a context, a data and a pipeline group.

    --tp 2 --dp 2 --pp 2     rank     0 1 | 2 3 || 4 5 | 6 7
                             tensor   0 1 | 0 1 || 0 1 | 0 1
                             data     0 0 | 1 1 || 0 0 | 1 1
                             pipeline 0 0 | 0 0 || 1 1 | 1 1

On most machines neighbouring ranks have the fastest links. So tensor ranks, which communicate most, are
neighbours. Then come the context ranks (`--cp`), and the replicas, which sum their gradients once per step.
Pipeline stages are furthest apart: only one activation per micro-batch travels between two of them (Narayanan
et al. 2021, section 3).

One rank of each tensor group holds a given piece of a cut parameter, all ranks of a stage hold an uncut one.
The first and the last stage both hold a tied embedding table. Every `--ep`-th replica holds the same experts.
"""

from dataclasses import dataclass

from minimega.errors import BadInput
from minimega.layer import Layer
from minimega.parallel.layout import Layout
from minimega.parallel.shard import Shard
from minimega.parallel.tensor import SequenceParallel, TensorParallel
from minimega.parameter import Parameter
from minimega.ranks import launch
from minimega.ranks.group import SELF, Group
from minimega.ranks.uncut import Uncut

WHOLE = Layout()


@dataclass(frozen=True)
class Grid:
    """The groups of one rank, and its layout."""

    world: Group = SELF  # all ranks
    tensor: Group = SELF  # ranks with the pieces of the same layers
    data: Group = SELF  # replicas, each with its share of the batch
    shares: Uncut = Layer.shares  # how layers use these groups
    pipeline: Group = SELF  # ranks with the stages of one model
    stage: Group = SELF  # all ranks of this stage
    ends: Group = SELF  # ranks with the same piece of a table used at both ends of the pipeline
    both: Group = SELF  # all ranks of both ends
    context: Group = SELF  # ranks with different tokens of the same sequences
    copies: Group = SELF  # ranks with the same pieces of the model: replicas and context ranks
    experts: Group = SELF  # replicas with different experts
    expert_copies: Group = SELF  # ranks with the same experts
    layout: Layout = WHOLE

    @property
    def first(self) -> bool:
        """Whether this is the rank that prints and writes files."""
        return self.world.rank == 0

    def holders(self, p: Parameter) -> Group:
        """The ranks over which this parameter's gradient is summed.

        Each replica saw its own sequences, and each context rank its own tokens of them. In a tensor group
        the gradient of a parameter that all ranks hold is already whole, unless each rank saw its own tokens
        (sequence parallelism).
        """
        if p.at_both_ends:
            return self.both if p.axis is None and self.shares.partial else self.ends
        if p.by_expert and self.experts.size > 1:
            return self.expert_copies
        return self.stage if p.axis is None and self.shares.partial else self.copies

    def copies_of(self, p: Parameter | Shard) -> int:
        """How many ranks hold the same piece of a parameter, or own the same shard."""
        whole = self.tensor.size if p.axis is None and not self.shares.partial else 1
        return whole if isinstance(p, Shard) else self.holders(p).size * whole

    def at_ends(self, group: Group) -> bool:
        """Whether ranks of both ends of the pipeline are in this group of holders."""
        return group is self.ends or group is self.both

    def rows(self, batch: int) -> slice:
        """This replica's slice of a step's `batch` sequences; raises BadInput if dp does not divide it."""
        if batch % self.data.size:
            raise BadInput(
                f"a batch of {batch} sequences cannot be split over {self.data.size} replicas: "
                f"choose a `dp` that divides `train_batch_size`"
            )
        return self.data.piece(batch)


def grid(world: Group, layout: Layout = WHOLE) -> Grid:
    """Split the world into `pp` stages of `dp` replicas of `cp` groups of `tp` neighbours.

    Each `ep` neighbouring replicas hold different experts. Raises BadInput if the layout needs another
    number of ranks, or is impossible.

    >>> from minimega.ranks.paper import Paper
    >>> g = grid(Paper(8, rank=5), Layout(tp=2, dp=2, pp=2))
    >>> g.tensor.ranks, g.data.ranks, g.pipeline.ranks
    ((4, 5), (5, 7), (1, 5))
    """
    cut = layout
    launch.check_ranks(world.size, cut.ranks, str(cut))
    cut.check()
    if cut.ranks == 1:
        return Grid(world, layout=cut)  # a rank alone runs the plain model
    n = cut.tp * cut.cp * cut.dp  # ranks of a stage
    stage = world.split(lambda r: r // n, "stage")
    # the first stage with the last; each rank in between is alone
    ends = world.split(lambda r: r % cut.tp if r // n in (0, cut.pp - 1) else cut.tp + r, "ends")
    both = world.split(lambda r: 0 if r // n in (0, cut.pp - 1) else 1 + r, "both ends")
    tensor = stage.split(lambda r: r // cut.tp, "tensor")
    copies = stage.split(lambda r: r % cut.tp, "data" if cut.cp == 1 else "copies")
    data = copies if cut.cp == 1 else copies.split(lambda r: r % cut.cp, "data")
    context = copies.split(lambda r: r // cut.cp, "context")
    experts = data.split(lambda r: r // cut.ep, "experts")
    expert_copies = copies if cut.ep == 1 else copies.split(lambda r: r // cut.cp % cut.ep, "expert copies")
    pipeline = world.split(lambda r: r % n, "pipeline")
    shares = (SequenceParallel if cut.sequence else TensorParallel)(tensor, context, experts)
    groups = tensor, data, shares, pipeline, stage, ends, both, context, copies, experts, expert_copies
    return Grid(world, *groups, cut)
