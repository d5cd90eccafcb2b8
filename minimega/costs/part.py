"""One rank's part of a job, on paper: its groups, its layers, its tokens. No array is made.

Everything that a rank holds or sends is computed from its part, so every layout is cut as training cuts it.
"""

from dataclasses import dataclass
from functools import cache, cached_property

from minimega.costs import Job
from minimega.costs.activations import Piece
from minimega.model import Model, gpt
from minimega.parallel.context import halves
from minimega.parallel.grid import Grid, grid
from minimega.parallel.pipeline import staged, stages_of
from minimega.ranks.paper import Paper


@dataclass(frozen=True)
class Part:
    """What rank `rank` of a job's layout has.

    >>> from minimega.model import Config
    >>> from minimega.parallel.layout import Layout
    >>> last = Part(Job(Config(vocab_size=64, num_layers=4), Layout(tp=2, pp=2), batch=2), rank=3)
    >>> list(last.model.layers), last.piece.heads
    (['block2', 'block3', 'norm', 'head'], 2)
    """

    job: Job
    rank: int = 0

    @cached_property
    def grid(self) -> Grid:
        """Its groups."""
        return grid(Paper(self.job.layout.ranks, self.rank), self.job.layout)

    @cached_property
    def model(self) -> Model:
        """Its layers, not drawn."""
        return self.fresh()

    def fresh(self) -> Model:
        """Its layers once more, for who changes them."""
        cut = self.job.layout
        return staged(
            gpt(self.job.config, self.grid.shares, cut.recompute), self.grid.pipeline, cut.virtual_stages
        )

    @property
    def chunks(self) -> list[list[str]]:
        """The names of its layers, by chunk."""
        return [list(chunk.layers) for chunk in stages_of(self.model).chunks]

    @cached_property
    def piece(self) -> Piece:
        """Its share of a micro-batch and of each layer."""
        c, g = self.job.config, self.grid
        tokens = sum(half.stop - half.start for half in halves(c.context, g.context.size)[g.context.rank])
        own = _length(g.shares.tokens(tokens), tokens)

        def local(length: int) -> int:
            return _length(g.tensor.piece(length), length)

        return Piece(
            self.job.micro_batch,
            tokens,
            own,
            local(c.nhead),
            local(c.d_hidden),
            local(c.vocab_size),
            g.context.size > 1,
        )


def _length(piece: slice, whole: int) -> int:
    return len(range(whole)[piece])


@cache
def part(job: Job, rank: int = 0) -> Part:
    """`Part(job, rank)`, computed once."""
    return Part(job, rank)
