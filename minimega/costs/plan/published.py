"""What others measured, and what we predict for it: the table behind `minimega plan --published`.

Each row is asked as a user would ask: with what its table prints, and nothing else. What it does not print
follows one rule, never the printed time: of micro-batches and virtual stages, the fastest that fits.

Rows marked `fitted` set a constant of gpus.py or machine.py. The others set none, but all rows were seen
while the formulas were chosen:

    products 0.75, RAMP 128      A100: Narayanan et al. 2021, table 1 (alone 0.735), and the layer times of
                                 Korthikanti et al. 2022, table 4 (alone 0.76)
    zero3 0.2                    A100: the 174.6 billion rows with ZeRO-3 of its table 2
    traffic 3, NVLink 0.55       V100: the rows of Shoeybi et al. 2019, figure 5, without data parallelism

Checked against a second text: table 2 of Narayanan et al. and Smith et al. (examples/ of
github.com/cli99/llm-analysis) and table 5 of Korthikanti et al. (calculon's validation.py). Not checked
against one: the rows of 7.5, 39.1 and 310.1 billion of table 1, and 4 GPUs of Shoeybi et al.'s table 8.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from minimega.costs.plan.estimate import Plan
from minimega.costs.plan.gpus import GPUS
from minimega.costs.plan.machine import Machine
from minimega.costs.plan.search import Fixed, cut_of, search
from minimega.model import Config

TABLE_1 = "Narayanan et al. 2021, table 1"
TABLE_2 = "Narayanan et al. 2021, table 2"
ZERO_3 = "Narayanan et al. 2021, table 2, ZeRO-3"
TABLE_5 = "Korthikanti et al. 2022, table 5"
SECTION_6 = "Korthikanti et al. 2022, section 6.3"
SMITH = "Smith et al. 2022, section 2.4"
FIGURE_5 = "Shoeybi et al. 2019, figure 5"
TABLE_7 = "Shoeybi et al. 2019, table 7"
TABLE_8 = "Shoeybi et al. 2019, table 8"
TRIALS = "BigScience 2022, trials before the 176B run"


@dataclass(frozen=True)
class Row:
    """A measured run: `value` is TFLOP/s of a GPU (recomputation counted) if `unit` says so, or seconds of a
    step.

    `calculon` is what calculon (github.com/calculon-ai/calculon, commit caa4b11, its a100_80g.json, the same
    rule for what is not printed) gives in the same unit.
    """

    source: str
    name: str
    gpu: str
    config: Config
    gpus: int
    batch: int
    fixed: Fixed
    unit: str
    value: float
    calculon: float | None = None
    fitted: bool = False
    dtype: str = ""  # if it is not the GPU's usual one


class Compared(NamedTuple):
    """A row and our plan for it. `error` is that of the time: 0.05 is 5 % too slow. `rank` is the published
    cut's.
    """

    row: Row
    plan: Plan
    error: float
    rank: int | None


def _gpt(width: int, layers: int, heads: int, context: int = 2048) -> Config:
    return Config(51200, context, width, heads, layers)


# billions as printed, heads, width, layers, tp, pp, GPUs, batch, TFLOP/s, calculon's
_WEAK = (
    (1.7, 24, 2304, 24, 1, 1, 32, 512, 137, 166.76),
    (3.6, 32, 3072, 30, 2, 1, 64, 512, 138, 159.46),
    (7.5, 32, 4096, 36, 4, 1, 128, 512, 142, 153.62),
    (18.4, 48, 6144, 40, 8, 1, 256, 1024, 135, 144.20),
    (39.1, 64, 8192, 48, 8, 2, 512, 1536, 138, 150.62),
    (76.1, 80, 10240, 60, 8, 4, 1024, 1792, 140, 157.16),
    (145.6, 96, 12288, 80, 8, 8, 1536, 2304, 148, 165.24),
    (310.1, 128, 16384, 96, 8, 16, 1920, 2160, 155, 176.95),
    (529.6, 128, 20480, 105, 8, 35, 2520, 2520, 163, 179.06),
    (1008.0, 160, 25600, 128, 8, 64, 3072, 3072, 163, 185.35),
)
GPT3, NLG = _gpt(12288, 96, 96), _gpt(20480, 105, 128)
# shape, billions, pp, GPUs, batch, TFLOP/s, calculon's
_PTD = (
    (GPT3, 174.6, 12, 384, 1536, 153, 168.11),
    (GPT3, 174.6, 12, 768, 1536, 149, 163.53),
    (GPT3, 174.6, 12, 1536, 1536, 141, 158.36),
    (NLG, 529.6, 35, 560, 2240, 171, 195.41),
    (NLG, 529.6, 35, 1120, 2240, 167, 189.64),
    (NLG, 529.6, 35, 2240, 2240, 159, 179.06),
)
# shape, billions, GPUs, batch, micro-batch, TFLOP/s
_ZERO = (
    (GPT3, 174.6, 384, 1536, 4, 144),
    (GPT3, 174.6, 768, 1536, 2, 88),
    (GPT3, 174.6, 1536, 1536, 1, 44),
    (NLG, 529.6, 640, 2560, 4, 138),
    (NLG, 529.6, 1120, 2240, 2, 98),
    (NLG, 529.6, 2240, 2240, 1, 48),
)
# name, shape, pp, batch, micro-batch, virtual stages, seconds and calculon's with full recomputation, and
# selective
_KORTHIKANTI = (
    ("22B", _gpt(6144, 48, 64), 1, 4, 4, 1, (1.42, 1.40), (1.10, 1.14)),
    ("175B", GPT3, 8, 64, 1, 3, (18.13, 18.03), (13.75, 13.64)),
    ("530B", NLG, 35, 280, 1, 3, (49.05, 49.89), (37.83, 34.47)),
    ("1T", _gpt(25600, 128, 160), 64, 512, 1, 1, (94.42, 90.08), (71.49, 66.04)),
)
_SMITH = ((2240, 60.1, 42.98), (2800, 50.2, 35.49), (3360, 44.4, 30.49))
# width, heads, layers, model-parallel GPUs, percent of a single GPU's 39 TFLOP/s: alone, with 64 replicas
_V100 = (
    (1536, 16, 40, 1, 100, 96),
    (1920, 20, 54, 2, 95, 83),
    (2304, 24, 64, 4, 82, 79),
    (3072, 32, 72, 8, 77, 74),
)
_V100_HEADS = ((16, 82), (24, 80), (32, 77))
_V100_STRONG = ((1, 1.0), (2, 1.64), (4, 2.34), (8, 2.98))
ALONE = 39  # TFLOP/s of one V100, section 5.1.1
# DeepSpeed's pipeline with ZeRO-1 on Jean Zay, 48 nodes of 8, whose GPUs share four links of 100 Gbit/s
# (github.com/bigscience-workshop/bigscience, train/tr11-176B-ml/chronicles-prequel.md, commit 053adaf). Every
# row of its last two days of trials, 25 and 28 February, with at most 4 tensor ranks. First looked at when
# all constants stood.
OMNI_PATH = "a100-80gb, Omni-Path"
ELSEWHERE = {
    OMNI_PATH: replace(
        GPUS["a100-80gb"], name=OMNI_PATH, between=replace(GPUS["a100-80gb"].between, bandwidth=6.25e9)
    )
}
# dtype, layers, width, heads, dp, tp, pp, micro-batch, seconds
_TRIALS = (
    ("float16", 72, 14336, 64, 8, 4, 12, 4, 111.89),
    ("float16", 72, 14336, 64, 8, 4, 12, 2, 110.48),
    ("float16", 72, 14336, 64, 8, 4, 12, 2, 113.54),
    ("float16", 72, 14336, 64, 16, 4, 6, 4, 117.11),
    ("float16", 72, 14336, 64, 16, 4, 6, 2, 111.71),
    ("float16", 72, 14336, 64, 16, 2, 12, 2, 112.50),
    ("float16", 72, 14336, 64, 8, 2, 24, 1, 119.53),
    ("float16", 72, 14336, 64, 8, 2, 24, 2, 122.75),
    ("float16", 72, 14336, 64, 4, 4, 24, 1, 130.60),
    ("bfloat16", 106, 12288, 64, 8, 4, 12, 2, 116.54),
    ("bfloat16", 106, 12288, 96, 8, 4, 12, 2, 118.79),
    ("bfloat16", 106, 12288, 128, 8, 4, 12, 2, 121.42),
    ("bfloat16", 106, 12288, 96, 8, 4, 12, 4, 120.34),
    ("bfloat16", 82, 13312, 64, 8, 4, 12, 2, 104.45),
    ("bfloat16", 82, 13312, 104, 8, 4, 12, 2, 123.71),
    ("bfloat16", 82, 13312, 128, 8, 4, 12, 2, 108.78),
    ("bfloat16", 82, 13312, 64, 8, 4, 12, 4, 104.82),
    ("bfloat16", 94, 13312, 128, 8, 4, 12, 2, 124.10),
    ("bfloat16", 70, 14336, 64, 8, 4, 12, 2, 102.03),
    ("bfloat16", 70, 14336, 112, 8, 4, 12, 2, 104.50),
    ("bfloat16", 70, 14336, 128, 8, 4, 12, 2, 105.89),
    ("bfloat16", 70, 14336, 64, 8, 4, 12, 4, 102.27),
)

EIGHT: dict[str, Any] = {"tp": 8, "zero": 0}
FULL: dict[str, Any] = {"recompute": "full", "sequence": False}
SELECTIVE: dict[str, Any] = {"recompute": "selective", "sequence": True}


def rows() -> Iterator[Row]:
    """All measured rows, by source."""
    big = "a100-80gb"
    for b, heads, width, layers, tp, pp, gpus, batch, value, other in _WEAK:
        fixed = Fixed(tp=tp, pp=pp, zero=0, **FULL)
        shape = _gpt(width, layers, heads)
        yield Row(TABLE_1, f"{b}B", big, shape, gpus, batch, fixed, "TFLOP/s", value, other, True)
    for shape, b, pp, gpus, batch, value, other in _PTD:
        fixed = Fixed(pp=pp, micro_batch_size=1, **EIGHT, **FULL)
        yield Row(TABLE_2, f"{b}B on {gpus}", big, shape, gpus, batch, fixed, "TFLOP/s", value, other)
    for shape, b, gpus, batch, size, value in _ZERO:
        fixed = Fixed(tp=1, pp=1, zero=3, micro_batch_size=size, **FULL)
        fitted = shape is GPT3
        yield Row(ZERO_3, f"{b}B on {gpus}", big, shape, gpus, batch, fixed, "TFLOP/s", value, None, fitted)
    for name, shape, pp, batch, size, v, *both in _KORTHIKANTI:
        for how, (value, other) in zip((FULL, SELECTIVE), both, strict=True):
            fixed = Fixed(pp=pp, micro_batch_size=size, virtual_stages=v, **EIGHT, **how)
            said = f"{name} {how['recompute']}"
            yield Row(TABLE_5, said, big, shape, 8 * pp, batch, fixed, "s", value, other)
    fixed = Fixed(pp=35, micro_batch_size=1, virtual_stages=3, **EIGHT, **SELECTIVE)
    yield Row(SECTION_6, "530B on 2240", big, NLG, 2240, 2240, fixed, "s", 39.15, 34.64)
    for gpus, value, other in _SMITH:  # DeepSpeed's pipeline has one stage per rank
        fixed = Fixed(pp=35, micro_batch_size=1, virtual_stages=1, **EIGHT, **FULL)
        yield Row(SMITH, f"530B on {gpus}", big, NLG, gpus, 1920, fixed, "s", value, other)
    yield from _of_2019()
    for dtype, layers, width, heads, dp, tp, pp, size, value in _TRIALS:  # DeepSpeed: one stage per rank
        fixed = Fixed(tp, pp, dp, virtual_stages=1, micro_batch_size=size, zero=1, **FULL)
        shape, name = replace(_gpt(width, layers, heads), vocab_size=250880), f"{layers} x {width}, {heads}"
        told = TRIALS, f"{name} heads", OMNI_PATH, shape, dp * tp * pp, 2048, fixed, "s", value
        yield Row(*told, dtype=dtype)


def _of_2019() -> Iterator[Row]:
    def row(source: str, name: str, shape: Config, gpus: int, percent: float, **more) -> Row:
        tp = more.pop("tp", gpus)
        fixed = Fixed(tp=tp, pp=1, zero=0, micro_batch_size=8, **FULL)
        batch, fitted = 8 * gpus // tp, more.pop("fitted", False)
        value = ALONE * percent / 100
        return Row(source, name, "v100-32gb", shape, gpus, batch, fixed, "TFLOP/s", value, None, fitted)

    for width, heads, layers, tp, alone, many in _V100:
        shape = _gpt(width, layers, heads, 1024)
        yield row(FIGURE_5, f"{tp}-way", shape, tp, alone, fitted=True)
        yield row(FIGURE_5, f"{tp}-way x 64", shape, 64 * tp, many, tp=tp)
    for heads, percent in _V100_HEADS:
        yield row(TABLE_7, f"{heads} heads", _gpt(3072, 72, heads, 1024), 8, percent)
    for gpus, faster in _V100_STRONG:
        yield row(TABLE_8, f"1.2B on {gpus}", _gpt(1536, 40, 16, 1024), gpus, 100 * faster / gpus)


def compared(row: Row, ranked: bool = False) -> Compared:
    """Our plan for a row and its error; with `ranked`, the place of its cut among all cuts, run in the same
    way.
    """
    gpu = ELSEWHERE.get(row.gpu) or GPUS[row.gpu]
    machine, dtype = Machine(gpu, row.gpus), row.dtype or gpu.half
    found = search(row.config, machine, row.batch, dtype, row.fixed)
    plan = found.plans[0] if found.plans else next(iter(found.too_large.values()))
    error = row.value / plan.tflops - 1 if row.unit == "TFLOP/s" else plan.iteration_seconds / row.value - 1
    rank = None
    if ranked and gpu.name == "a100-80gb":  # the other rows compare cuts; nobody chose them
        free = Fixed(recompute=row.fixed.recompute, sequence=row.fixed.sequence, zero=row.fixed.zero)
        keys = [cut_of(p) for p in search(row.config, machine, row.batch, dtype, free).plans]
        rank = keys.index(cut_of(plan)) + 1 if cut_of(plan) in keys else None
    return Compared(row, plan, error, rank)


@dataclass(frozen=True)
class Count:
    """A printed number of parameters, in billions or exactly."""

    source: str
    config: Config = field(repr=False)
    printed: float
    digits: int | None = 1  # after the point, of billions; None: exact


def counts() -> Iterator[Count]:
    """All printed numbers of parameters. Two of table 1 are rounded up from 1.652 and 3.562 (its equation
    2).
    """
    for billions, heads, width, layers, *_ in _WEAK:
        yield Count(TABLE_1, _gpt(width, layers, heads), billions)
    yield Count(TABLE_2, GPT3, 174.6)
    for width, heads, layers, printed in (
        (1536, 16, 40, 1.2),
        (1920, 20, 54, 2.5),
        (2304, 24, 64, 4.2),
        (3072, 32, 72, 8.3),
    ):
        yield Count("Shoeybi et al. 2019, table 1", _gpt(width, layers, heads, 1024), printed)
    released = (
        (768, 12, 12, 124439808),
        (1024, 24, 16, 354823168),
        (1280, 36, 20, 774030080),
        (1600, 48, 25, 1557611200),
    )
    for width, layers, heads, printed in released:
        yield Count("GPT-2, as released", Config(50257, 1024, width, heads, layers), printed, None)
