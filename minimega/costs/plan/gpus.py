"""Real GPUs: what their data sheets say, and the shares of it that training reaches.

Peaks are of dense products with float32 sums (data sheets also print twice as much, for sparse ones).
`between` is a GPU's share of its node's network cards: a DGX A100 has eight of 200 Gbit/s for eight GPUs,
25 GB/s each.

Shares that training reaches, and where they come from:

    NVLINK 0.75      users of nccl-tests on A100 report 200 to 208 of 300 GB/s (its issues 149 and 178)
    INFINIBAND 0.8   over nodes: 85 to 96 of 100 GB/s on four cards (issue 119), less on many nodes
    OLD_NVLINK 0.55  V100 with the NCCL of 2019: see published.py
    PCIE 0.7         about 22 of 32 GB/s, through the host
    latencies        NCCL's own table (src/graph/tuning.cc, hwLat), for a step of a ring: 3.4 us over
                     NVLink, 14 us over the network
"""

from typing import Any

from minimega.costs.plan.machine import GIB, Gpu, Link
from minimega.errors import BadInput, nearest, shown

NVLINK, OLD_NVLINK, INFINIBAND, PCIE = 0.75, 0.55, 0.8, 0.7
# fmt: off
# name, GiB, TFLOP/s in 16 bits, in float32 (TF32 where there is it), GB/s of memory, inside, between,
# processors, GPUs of a node, source
SHEETS = (
    ("v100-16gb", 16, 125, 15.7, 900, 150, 6.25, 80, 8, "V100 data sheet, 2018; DGX-1"),
    ("v100-32gb", 32, 125, 15.7, 900, 150, 6.25, 80, 16, "V100 data sheet, 2018; DGX-2H"),
    ("t4-16gb", 16, 65, 8.1, 320, 16, 3.125, 40, 4, "T4 data sheet, 2018"),
    ("a100-40gb", 40, 312, 156, 1555, 300, 25, 108, 8, "A100 data sheet, 2020; DGX A100"),
    ("a100-80gb", 80, 312, 156, 2039, 300, 25, 108, 8, "A100 data sheet, 2021; DGX A100"),
    ("a6000-48gb", 48, 154.8, 77.4, 768, 32, 6.25, 84, 8, "NVIDIA RTX A6000 data sheet, 2020"),
    ("rtx-3090", 24, 71, 35.6, 936, 32, 1.25, 82, 4, "NVIDIA GA102 white paper, 2020"),
    ("rtx-4090", 24, 165.2, 82.6, 1008, 32, 1.25, 128, 4, "NVIDIA Ada white paper, 2022"),
    ("l40s", 48, 362, 183, 864, 32, 12.5, 142, 8, "NVIDIA L40S data sheet, 2023"),
    ("h100-80gb", 80, 989.4, 494.7, 3350, 450, 50, 132, 8, "H100 SXM data sheet, 2022; DGX H100"),
    ("h200-141gb", 131.3, 989.4, 494.7, 4800, 450, 50, 132, 8, "H200 SXM data sheet, 2023; DGX H200"),
    ("b200", 167.6, 2250, 1125, 8000, 900, 50, 148, 8, "NVIDIA DGX B200 data sheet, 2024"),
    ("mi300x", 178.8, 1307.4, 653.7, 5300, 448, 50, 304, 8, "AMD MI300X data sheet, 2023"),
)
# fmt: on
# Megatron-LM of 2019: each element-wise step a kernel of its own, and no message beside computing.
SOFTWARE: dict[str, dict[str, Any]] = {"v100": {"traffic": 3.0, "overlap": False}}


def _gpu(sheet: tuple) -> Gpu:
    name, gib, half, single, memory, inside, between, processors, per_node, source = sheet
    old = name.startswith(("v100", "t4"))
    halves = ("float16",) if old else ("bfloat16", "float16")
    peak = (*((dtype, half * 1e12) for dtype in halves), ("float32", single * 1e12))
    reached = PCIE if inside < 100 else OLD_NVLINK if old else NVLINK
    links = Link(inside * 1e9, 3.4e-6, reached), Link(between * 1e9, 14e-6, INFINIBAND)
    more = SOFTWARE.get(name.split("-")[0], {})
    return Gpu(name, gib * GIB, peak, memory * 1e9, *links, per_node, processors, source=source, **more)


GPUS: dict[str, Gpu] = {sheet[0]: _gpu(sheet) for sheet in SHEETS}


def named(name: str) -> Gpu:
    """The GPU of this name; raises BadInput with the nearest one.

    >>> named("a100-80gb").flops("bfloat16")
    312000000000000.0
    """
    if name in GPUS:
        return GPUS[name]
    plain = name.lower().replace("_", "-").replace(" ", "-").replace("nvidia-", "").replace("-sxm", "")
    close = nearest(plain, GPUS) or nearest(plain.replace("-", ""), {n.replace("-", "") for n in GPUS})
    told = close or f"; it has {', '.join(GPUS)}"
    raise BadInput(f"{shown(name)} is no GPU of the table{told}")
