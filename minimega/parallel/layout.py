"""The layout of a run: how a model and its batch are cut over ranks, and which features can be combined.

A layout never changes the result. The command line, the tests and docs/options.md read the same table of
features.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

from minimega.errors import BadInput
from minimega.model import Config
from minimega.parallel.schedules import SCHEDULES


@dataclass(frozen=True)
class Layout:
    """How a model is cut over `ranks` ranks, and how each step's batch is split.

    `parts` is the number of parts of a replica's share of the batch, `stages` the number of pipeline stages.

    >>> layout = Layout(tp=2, dp=2, pp=2, pipeline="interleaved")
    >>> layout.ranks, layout.micro_batches, layout.stages, str(layout)
    (8, 2, 4, '--tp 2 --dp 2 --pp 2')
    """

    tp: int = 1  # tensor-parallel ranks: each holds a piece of every layer
    dp: int = 1  # replicas: each works on its share of the batch
    sequence: bool = False  # sequence parallelism: between cut layers a tensor rank holds its own tokens
    pp: int = 1  # pipeline ranks: each holds some stages of the list of layers
    cp: int = 1  # context-parallel ranks: each holds some tokens of every sequence
    ep: int = 1  # neighbouring replicas that hold different experts
    zero: int = 0  # ZeRO stage: 1 shards the optimizer's state, 2 also gradients, 3 also weights
    accumulate: int = 1  # parts of a replica's share, one after another
    micro_batches: int = 0  # micro-batches in the pipeline at a time; 0: one per pipeline rank
    pipeline: str = "1f1b"  # the schedule
    virtual_stages: int = 0  # stages per pipeline rank; 0: 2 if the schedule is interleaved, otherwise 1
    recompute: str = "none"  # what backward computes again: none, selective or full

    def __post_init__(self):
        stages = 2 if self.pipeline == "interleaved" and self.pp > 1 else 1
        object.__setattr__(self, "micro_batches", self.micro_batches or self.pp)
        object.__setattr__(self, "virtual_stages", self.virtual_stages or stages)

    ranks = property(lambda self: self.tp * self.cp * self.dp * self.pp)
    parts = property(lambda self: self.accumulate * self.micro_batches)
    stages = property(lambda self: self.pp * self.virtual_stages)

    def __str__(self) -> str:
        """As options of the command line."""
        numbers = {"pp": self.pp, "cp": self.cp, "ep": self.ep}
        more = "".join(f" --{name} {n}" for name, n in numbers.items() if n > 1)
        more += f" --zero {self.zero}" * (self.zero > 0) + " --sequence-parallel" * self.sequence
        return f"--tp {self.tp} --dp {self.dp}{more}"

    def check(self, config: Config | None = None, batch: int | None = None, dtype: str = "float32") -> None:
        """Raise BadInput if this layout is impossible, or impossible for this model or batch.

        `batch` is the number of sequences per optimizer step. The vocabulary size is not checked: it may not
        be known yet.

        >>> Layout(pp=2, zero=2).check()
        Traceback (most recent call last):
        minimega.errors.BadInput: --pp and --zero 2 do not combine: each micro-batch would send all gradients
        """
        if batch is not None and batch % (self.dp * self.parts):
            raise BadInput(
                f"--train-batch-size {batch} cannot be split over {self.dp} replica{'s' * (self.dp > 1)}"
                f" in {self.parts} part{'s' * (self.parts > 1)} each: change --dp"
                + ", --accumulate or --micro-batches" * (self.micro_batches > 1)
                + " so that the batch divides evenly"
            )
        on = [name for name, is_on in FEATURES.items() if is_on(self, config, dtype)]
        for pair in combinations(on, 2):
            if why := REFUSED.get(pair):
                raise BadInput(f"{pair[0]} and {pair[1]} do not combine: {why}")
        if self.dp % self.ep:
            raise BadInput(
                f"{self.dp} replica{'s' * (self.dp > 1)} cannot hold experts in groups of {self.ep}: "
                f"--ep must divide --dp"
            )
        self.schedule()
        if config:
            check_cut(config, self.tp, self.ep, ("d_hidden",))
            check_stages(config, self.stages)

    def schedule(self) -> list:
        """The list of actions of each pipeline rank; raises BadInput if the schedule does not allow it."""
        v = self.virtual_stages
        if v > 1 and self.pipeline != "interleaved":
            raise BadInput(
                f"{v} stages per rank are interleaved: choose --pipeline interleaved, not {self.pipeline}"
            )
        return SCHEDULES[self.pipeline](self.pp, self.micro_batches, v)


def check_cut(config: Config, tp: int, ep: int, widths: tuple[str, ...] = ("vocab_size", "d_hidden")) -> None:
    """Raise BadInput if a model's heads, experts or `widths` cannot be cut over `tp` and `ep` ranks."""
    if config.attention and config.nhead % tp:
        raise BadInput(
            f"{config.nhead} heads cannot be cut over {tp} ranks: choose a --tp that divides --nhead"
        )
    if ep > max(config.experts, 1):
        raise BadInput(
            f"{config.experts} experts cannot be cut over {ep} ranks: choose --ep of at most --experts"
        )
    for name in widths:
        if getattr(config, name) < tp:
            raise BadInput(
                f"{name} {getattr(config, name)} cannot be cut over {tp} ranks: choose a smaller --tp"
            )


def check_stages(config: Config, stages: int) -> None:
    """Raise BadInput if a stage of the pipeline would have no layer."""
    if stages > config.num_layers:
        raise BadInput(
            f"{config.num_layers} layer{'s' * (config.num_layers > 1)} cannot be cut into {stages} stages: "
            f"choose --pp times --virtual-stages of at most --num-layers"
        )


def replicas(most: int, batch: int, ep: int = 1) -> int:
    """The largest number of replicas, up to `most` and in groups of `ep`, that divides a batch.

    >>> replicas(6, 16), replicas(6, 18, ep=2)
    (4, 6)
    """
    return ep * next(n for n in range(max(most // ep, 1), 0, -1) if batch % (n * ep) == 0 or n == 1)


FEATURES: dict[str, Callable[[Layout, Config | None, str], bool]] = {
    "--tp": lambda cut, config, dtype: cut.tp > 1,
    "--sequence-parallel": lambda cut, config, dtype: cut.sequence,
    "--cp": lambda cut, config, dtype: cut.cp > 1,
    "--dp": lambda cut, config, dtype: cut.dp > 1,
    "--ep": lambda cut, config, dtype: cut.ep > 1,
    "--pp": lambda cut, config, dtype: cut.pp > 1,
    "--pipeline zero-bubble": lambda cut, config, dtype: cut.pp > 1 and cut.pipeline == "zero-bubble",
    "--virtual-stages": lambda cut, config, dtype: cut.virtual_stages > 1,
    "--zero 1": lambda cut, config, dtype: cut.zero == 1,
    "--zero 2": lambda cut, config, dtype: cut.zero == 2,
    "--zero 3": lambda cut, config, dtype: cut.zero == 3,
    "--experts": lambda cut, config, dtype: config is not None and config.experts > 0,
    "--d-embedding": lambda cut, config, dtype: config is not None and config.d_embedding > 0,
    "--objective masked": lambda cut, config, dtype: config is not None and not config.causal,
    "--objective translate": lambda cut, config, dtype: config is not None and config.kind != "gpt",
    "--accumulate": lambda cut, config, dtype: cut.accumulate > 1,
    "--recompute selective": lambda cut, config, dtype: cut.recompute == "selective",
    "--recompute full": lambda cut, config, dtype: cut.recompute == "full",
    "--dtype float16": lambda cut, config, dtype: dtype == "float16",
    "--dtype bfloat16": lambda cut, config, dtype: dtype == "bfloat16",
}

# Pairs that cannot be combined, and why. Tests run all other pairs.
REFUSED: dict[tuple[str, str], str] = {
    ("--pp", "--zero 2"): "each micro-batch would send all gradients",
    ("--pp", "--zero 3"): "each micro-batch would gather all weights",
    ("--pipeline zero-bubble", "--virtual-stages"): "several stages per rank need --pipeline interleaved",
    ("--sequence-parallel", "--objective translate"): "a rank would hold tokens of the source alone",
    ("--cp", "--objective translate"): "keys and values of the source do not travel round the ring",
    ("--experts", "--objective translate"): "the blocks of an encoder-decoder have MLPs",
}
IMPLIED = {"--pipeline zero-bubble": "--pp", "--virtual-stages": "--pp", "--ep": "--experts"}


def allowed() -> Iterator[tuple[str, str]]:
    """The pairs of features that can be combined, without two values of one option."""
    for a, b in combinations(FEATURES, 2):
        on = [name for name in FEATURES if name in (a, b, IMPLIED.get(a), IMPLIED.get(b))]
        if a.split()[0] != b.split()[0] and not any(pair in REFUSED for pair in combinations(on, 2)):
            yield a, b
