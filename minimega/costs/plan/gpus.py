"""Real GPUs: what their data sheets say, and the shares of it that training reaches.

A100, V100, H100 ...: NVIDIA's data sheets, dense (not sparse) tensor-core peaks. `between` is the share of a
node's network cards that one GPU has: in a DGX A100 eight cards of 200 Gbit/s for eight GPUs, 25 GB/s each.
"""

from minimega.costs.plan.machine import GIB, Gpu, Link
from minimega.errors import BadInput, nearest, shown

# Shares that do not depend on the kind of GPU. docs/planning.md says where each comes from.
NVLINK, INFINIBAND, PCIE = 0.75, 0.8, 0.7


def _gpu(name: str, gib: float, half: float, memory: float, inside: float, between: float, **more) -> Gpu:
    """Sizes in GiB, TFLOP/s, GB/s."""
    peak = (("float16", half * 1e12), ("bfloat16", half * 1e12), ("float32", more.pop("single") * 1e12))
    eff = more.pop("reached", PCIE if inside < 100 else NVLINK)
    links = Link(inside * 1e9, 3.4e-6, eff), Link(between * 1e9, 14e-6, INFINIBAND)
    return Gpu(name, gib * GIB, peak, memory * 1e9, *links, **more)


GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu(
            "v100-16gb",
            16,
            125,
            900,
            150,
            6.25,
            single=15.7,
            processors=80,
            reached=0.55,
            traffic=3.0,
            overlap=False,
            source="V100 SXM2 data sheet, 2018; DGX-1",
        ),
        _gpu(
            "v100-32gb",
            32,
            125,
            900,
            150,
            6.25,
            single=15.7,
            processors=80,
            reached=0.55,
            traffic=3.0,
            overlap=False,
            per_node=16,
            source="V100 SXM2 data sheet, 2018; DGX-2H",
        ),
        _gpu(
            "a100-40gb",
            40,
            312,
            1555,
            300,
            25,
            single=156,
            processors=108,
            source="A100 data sheet, 2020; DGX A100",
        ),
        _gpu(
            "a100-80gb",
            80,
            312,
            2039,
            300,
            25,
            single=156,
            processors=108,
            source="A100 data sheet, 2021; DGX A100",
        ),
        _gpu(
            "h100-80gb",
            80,
            989.4,
            3350,
            450,
            50,
            single=494.7,
            processors=132,
            source="H100 SXM data sheet, 2022; DGX H100",
        ),
        _gpu(
            "h200-141gb",
            131.3,
            989.4,
            4800,
            450,
            50,
            single=494.7,
            processors=132,
            source="H200 SXM data sheet, 2023",
        ),
    )
}


def named(name: str) -> Gpu:
    """The GPU of this name; raises BadInput with the nearest one."""
    if name in GPUS:
        return GPUS[name]
    told = nearest(name, GPUS) or f"; it has {', '.join(GPUS)}"
    raise BadInput(f"{shown(name)} is no GPU of the table{told}")
