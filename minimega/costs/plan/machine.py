"""What a plan knows of a machine: its GPUs, its links, and the rates that they reach.

All rates are per second and in bytes or floating-point operations; a bandwidth is that of one GPU in one
direction.
"""

import math
import tomllib
from dataclasses import dataclass, fields, replace

from minimega.errors import BadInput, nearest, shown

GIB = 2**30


@dataclass(frozen=True)
class Curve:
    """A value that depends on a size: straight lines between points over the logarithm of the size.

    >>> Curve(((1e3, 0.2), (1e5, 0.8)))(1e4), Curve(((1e3, 0.2), (1e5, 0.8)))(1e9)
    (0.5, 0.8)
    """

    points: tuple[tuple[float, float], ...]

    def __call__(self, size: float) -> float:
        (x0, y0), *rest = self.points
        for x1, y1 in rest:
            if size < x1:
                share = math.log(max(size, x0) / x0) / math.log(x1 / x0)
                return y0 + (y1 - y0) * share
            x0, y0 = x1, y1
        return y0


@dataclass(frozen=True)
class Link:
    """How GPUs are joined: bytes per second of one GPU in one direction, and seconds per message.

    `efficiency` is the share of the bandwidth that messages reach: a number, or a curve over their bytes.
    """

    bandwidth: float
    latency: float = 5e-6
    efficiency: float | Curve = 0.8

    def rate(self, nbytes: float) -> float:
        """The bytes per second that a message of this size reaches."""
        share = self.efficiency(nbytes) if isinstance(self.efficiency, Curve) else self.efficiency
        return self.bandwidth * share

    def seconds(self, nbytes: float) -> float:
        """The time of one message to one neighbour."""
        return self.latency + nbytes / self.rate(nbytes) if nbytes else 0.0


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU, and what of its data sheet a program reaches.

    A product of matrices reaches `products` of the peak: a number (before the losses at the edges of tiles
    and waves, see `work.product`), or a curve over its floating-point operations, which then includes them.
    """

    name: str
    memory: float  # bytes
    peak: tuple[tuple[str, float], ...]  # by dtype, floating-point operations per second
    bandwidth: float  # of its memory
    inside: Link  # to the GPUs of its node
    between: Link  # to those of other nodes
    per_node: int = 8
    processors: int = 0  # streaming multiprocessors, each computes one tile at a time; 0: not modelled
    products: float | Curve = 0.75
    moves: float | Curve = 0.8  # share of the memory's bandwidth that element-wise kernels reach
    traffic: float = 1.0  # how often its software's element-wise kernels move what fused ones move once
    overlap: bool = True  # whether a gradient is sent while the next is computed (Megatron-LM since 2022)
    launch: float = 4e-6  # seconds to start a kernel
    zero3: float = 0.2  # share of `between` that ZeRO-3's many small gathers reach
    source: str = ""

    @property
    def half(self) -> str:
        """The dtype that training takes: the first of bfloat16, float16, float32 that the GPU has."""
        return next(d for d in ("bfloat16", "float16", "float32", "float64") if d in dict(self.peak))

    def flops(self, dtype: str) -> float:
        """The peak for products of this dtype."""
        return dict(self.peak)[dtype]

    def move(self, nbytes: float) -> float:
        """The seconds to read or write this many bytes of memory."""
        if not nbytes:
            return 0.0
        share = self.moves(nbytes) if isinstance(self.moves, Curve) else self.moves
        return self.launch + nbytes / (self.bandwidth * share)


@dataclass(frozen=True)
class Machine:
    """A number of GPUs of one kind, in nodes.

    >>> from minimega.costs.plan.gpus import GPUS
    >>> Machine(GPUS["a100-80gb"], 2240).nodes
    280
    """

    gpu: Gpu
    gpus: int

    nodes = property(lambda self: -(-self.gpus // self.gpu.per_node))

    def ring(self, ranks: int, stride: int) -> tuple[float, float, int]:
        """(bytes per second, seconds per step, ranks of a node) of a ring over ranks that lie `stride` apart.

        A ring that leaves a node shares its network cards among those of its ranks that are in the node: with
        g of them it has g cards.
        """
        gpu = self.gpu
        here = max(1, min(ranks, gpu.per_node // stride))
        if ranks * stride <= gpu.per_node:
            return gpu.inside.rate(math.inf), gpu.inside.latency, ranks
        fast = gpu.inside.rate(math.inf) if here > 1 else math.inf
        steps = ((here - 1) * gpu.inside.latency + gpu.between.latency) / here
        return min(fast, here * gpu.between.rate(math.inf)), steps, here


def read(path: str) -> Gpu:
    """A GPU of one's own from a TOML file: docs/planning.md has an example. Raises BadInput, saying what is
    wrong.
    """
    try:
        with open(path, "rb") as file:
            told = tomllib.load(file)
    except OSError as error:
        raise BadInput(f"{path} cannot be read as a GPU's description: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(f"{path} is not a TOML file: {error}") from None
    needed = "memory_gb", "bandwidth_gb_per_s", "peak_tflops", "inside_gb_per_s", "between_gb_per_s"
    may = (
        "name",
        "per_node",
        "processors",
        "products",
        "moves",
        "inside_efficiency",
        "between_efficiency",
        "source",
    )
    told.pop("rates", None)  # of `--layout auto`, measured (costs/kept.py)
    for key in told:
        if key not in (*needed, *may):
            raise BadInput(f"{path} sets {key}, which no GPU has{nearest(key, (*needed, *may))}")
    for key in needed:
        if key not in told:
            raise BadInput(f"{path} lacks {key}; a GPU needs {', '.join(needed)}")
    numbers = {key: told[key] for key in told if key not in ("name", "source", "peak_tflops")}
    peaks = told["peak_tflops"]
    if not isinstance(peaks, dict):
        peaks = {"float16": peaks, "bfloat16": peaks}
    for key, value in [*numbers.items(), *((f"peak_tflops.{k}", v) for k, v in peaks.items())]:
        if type(value) not in (int, float) or not 0 < value < 1e9:
            raise BadInput(f"{key} in {path} is {shown(value)}; it must be a number above 0")
    for key in ("products", "moves", "inside_efficiency", "between_efficiency"):
        if numbers.get(key, 0) > 1:
            raise BadInput(f"{key} in {path} is {numbers[key]}; it is a share, at most 1")
    if not peaks:
        raise BadInput(f"peak_tflops in {path} is empty; name a dtype, as in float16 = 312")
    for dtype in peaks:
        if dtype not in ("float16", "bfloat16", "float32", "float64"):
            known = ("float16", "bfloat16", "float32", "float64")
            raise BadInput(
                f"peak_tflops in {path} names {shown(dtype)}, which is no dtype{nearest(dtype, known)}"
            )
    for key in ("per_node", "processors"):
        if key in numbers and int(numbers[key]) != numbers[key]:
            raise BadInput(f"{key} in {path} is {numbers[key]}; it must be a whole number")
    made = Gpu(
        name=str(told.get("name", path)),
        memory=told["memory_gb"] * 1e9,
        peak=tuple((dtype, 1e12 * value) for dtype, value in peaks.items()),
        bandwidth=1e9 * told["bandwidth_gb_per_s"],
        inside=Link(1e9 * told["inside_gb_per_s"], efficiency=numbers.get("inside_efficiency", 0.75)),
        between=Link(1e9 * told["between_gb_per_s"], 14e-6, numbers.get("between_efficiency", 0.8)),
        per_node=int(numbers.get("per_node", 8)),
        processors=int(numbers.get("processors", 0)),
        source=str(told.get("source", path)),
    )
    given = {
        f.name: numbers[f.name] for f in fields(Gpu) if f.name in ("products", "moves") and f.name in numbers
    }
    return replace(made, **given)
