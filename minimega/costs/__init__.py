"""What a training job costs in memory and messages: by the formulas of the papers, and measured."""

from dataclasses import dataclass

from minimega.model import Config
from minimega.parallel.layout import Layout

WHOLE = Layout()


@dataclass(frozen=True)
class Job:
    """What is trained, and how: everything that decides what a rank holds and sends.

    >>> job = Job(Config(vocab_size=64), Layout(dp=2, accumulate=2), batch=16)
    >>> job.micro_batch
    4
    """

    config: Config
    layout: Layout = WHOLE
    batch: int = 1  # sequences of one optimizer step, over all replicas
    dtype: str = "float32"
    optimizer: str = "adamw"

    @property
    def micro_batch(self) -> int:
        """The sequences that one replica works through at a time."""
        return self.batch // (self.layout.dp * self.layout.parts)
