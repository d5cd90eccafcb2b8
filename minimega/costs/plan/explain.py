"""How a plan was computed: each formula, the numbers in it, and where it comes from.

Letters as in work.py; P is the parameters of one GPU.
"""

from typing import NamedTuple

from minimega.costs.plan import state, work
from minimega.costs.plan.estimate import Plan, hardware_flops, model_flops


class Step(NamedTuple):
    """One formula: `numbers` is it with the numbers put in, which `value` is (in `unit`), and its
    `source`.
    """

    name: str
    formula: str
    numbers: str
    value: float
    unit: str
    source: str


RAJBHANDARI = "Rajbhandari et al. 2019, section 3.1"
KEPT = {
    "none": ("B T D (10 + 24/t + 5 H T / (D t))", "equation 2"),
    "selective": ("B T D (10 + 24/t)", "table 2"),
    "full": ("2 B T D", "table 2"),
    "none, sequence": ("B T D (34/t + 5 H T / (D t))", "equation 4"),
    "selective, sequence": ("34 B T D / t", "table 2"),
    "full, sequence": ("2 B T D", "table 2"),
}


def explain(plan: Plan) -> list[Step]:
    """All formulas of a plan, in the order in which they build on each other."""
    return [*_memory(plan), *_time(plan), *_rates(plan)]


def _memory(plan: Plan) -> list[Step]:
    job, memory, cut, config = plan.job, plan.memory, plan.job.layout, plan.job.config
    stage = state.worst(job, plan.machine.gpu)[0]
    experts, other = state.held(config, cut, stage)
    weight, gradient, kept = state.bytes_per_parameter(job.dtype, job.optimizer)
    gradient = weight if cut.zero > 1 else gradient
    blocks, (table, positions, last) = state.of_block(config), state.of_ends(config)
    found = [
        Step(
            "parameters",
            "L x block + table + positions + the last norm",
            f"{config.num_layers} x {sum(blocks)} + {table} + {positions} + {last}",
            plan.parameters,
            "",
            "Narayanan et al. 2021, equation 2",
        ),
        Step(
            "parameters of a GPU",
            f"P: {state.layers(config, cut)} blocks of pipeline rank {stage}, cut over t, and its ends",
            f"{experts:.0f} + {other:.0f}",
            experts + other,
            "",
            "Narayanan et al. 2021, section 3",
        ),
    ]
    share = f"(1 / {cut.dp * cut.cp})"
    for name, each, least in (("weights", weight, 3), ("gradients", gradient, 2), ("optimizer", kept, 1)):
        cut_by = f" x {share}" if cut.zero >= least else ""
        formula = f"{each} bytes x P" + " over the replicas (ZeRO)" * bool(cut_by)
        numbers = f"{each} x ({experts:.0f}{f' x {cut.ep}' * bool(cut_by)} + {other:.0f}){cut_by}"
        found.append(Step(name, formula, numbers, memory[name], "B", RAJBHANDARI))
    formula, where = KEPT[cut.recompute + ", sequence" * (cut.sequence and cut.tp > 1)]
    item = 4 if job.dtype == "float32" else 8 if job.dtype == "float64" else 2
    each = state.activations(config, job.micro_batch, cut, cut.recompute, item)
    under_way = state.micro_batches_held(cut, stage)
    rest = memory["activations"] - under_way * state.layers(config, cut) * each
    found.append(
        Step(
            "activations",
            f"{under_way:g} micro-batches x L/p x {formula}, and the ends",
            f"{under_way:g} x {state.layers(config, cut)} x {each:.0f} + {rest:.0f}",
            memory["activations"],
            "B",
            f"Korthikanti et al. 2022, {where}",
        )
    )
    others = {
        "recomputed": "one block while backward recomputes it",
        "logits": "B T V / t in float32 and in 16 bits",
        "buffers": "messages under way; ZeRO's gathered weights",
        "reserved": "CUDA, NCCL, cuBLAS, gaps",
    }
    found += [Step(k, said, f"{memory[k]:.0f}", memory[k], "B", "state.py") for k, said in others.items()]
    whole = " + ".join(f"{nbytes:.0f}" for kind, nbytes in memory.items() if kind != "total")
    return [*found, Step("memory of a GPU", "their sum", whole, memory["total"], "B", "")]


def _time(plan: Plan) -> list[Step]:
    cut, one, gpu, seconds = plan.job.layout, plan.stage, plan.machine.gpu, plan.seconds
    forward, backward, again = one.works
    n, m, p, v = state.layers(plan.job.config, cut), cut.parts, cut.pp, cut.virtual_stages
    largest = max((w for w in forward if w.kind == "product"), key=lambda w: w.amount)
    reached = largest.amount / largest.seconds / gpu.flops(plan.job.dtype)
    found = [
        Step(
            f"the product '{largest.name}'",
            f"2 x {largest.size} operations at a share of the peak: {_share(gpu)}",
            f"{largest.amount:.6g} / ({gpu.flops(plan.job.dtype):.6g} x {reached:.6g})",
            largest.seconds,
            "s",
            "NVIDIA, Matrix Multiplication Background",
        )
    ]
    if sent := [w for w in forward if w.kind == "tensor"]:
        w, (rate, step, _) = sent[0], plan.machine.ring(cut.tp, 1)
        passes = 2 if w.name == "all-reduce" else 1
        found.append(
            Step(
                f"the {w.name} of a block",
                "passes x (t - 1) x (latency + bytes / t / rate)",
                f"{passes} x {cut.tp - 1} x ({step:.6g} + {w.amount:.6g} / {cut.tp} / {rate:.6g})",
                w.seconds,
                "s",
                "Rajbhandari et al. 2019, section 7.1",
            )
        )
    for name, works in (("forward", forward), ("backward", backward), ("recomputed", again)):
        sums = {kind: sum(w.total for w in works if w.kind == kind) for kind in _kinds(works)}
        if works:
            numbers = " + ".join(f"{s:.6g}" for s in sums.values())
            formula = f"a block, {name}: {' + '.join(sums)}"
            found.append(Step(f"block {name}", formula, numbers, sum(sums.values()), "s", "work.py"))
    found.append(
        Step(
            "a micro-batch on a rank",
            f"{n} blocks forward, backward, recomputed; adding to the gradients",
            f"{one.forward:.6g} + {one.backward:.6g}",
            one.inner,
            "s",
            "Korthikanti et al. 2022, table 4",
        )
    )
    work_s = sum(seconds[kind] for kind in WORK)
    found.append(Step("work of a step", f"m = {m} micro-batches", f"{m} x {one.inner:.8g}", work_s, "s", ""))
    if p > 1:
        hop, blocks = f"2 x {v} x {one.message:.6g}", plan.job.config.num_layers
        # the ranks have n blocks at most, num_layers / p in the mean
        mean, share = (f", of {blocks} / {p} blocks", f" x {blocks} / {p} / {n}") if blocks % p else ("", "")
        found += [
            Step(
                "messages between stages",
                "m x 2 v x one message",
                f"{m} x {hop}",
                seconds["pipeline"],
                "s",
                "Narayanan et al. 2021, section 4.1",
            ),
            Step(
                "bubble",
                "(p - 1) / v x (a micro-batch on a rank and its messages)" + mean,
                f"{p - 1} / {v} x ({one.inner:.8g}{share} + {hop})",
                seconds["bubble"],
                "s",
                "Narayanan et al. 2021, section 2.2",
            ),
        ]
    ends = seconds["ends"] / m
    said = (("ends", "the head or the table, of each micro-batch", f"{m} x {ends:.6g}", "work.head"),)
    said += (
        (
            "data",
            "gradients (and weights, with ZeRO) between replicas",
            f"{seconds['data']:.6g}",
            "exchange.py",
        ),
    )
    said += (
        (
            "optimizer",
            "its state, gradients and weights, read and written",
            f"{seconds['optimizer']:.6g}",
            "exchange.py",
        ),
    )
    found += [Step(kind, text, numbers, seconds[kind], "s", where) for kind, text, numbers, where in said]
    whole = " + ".join(f"{s:.6g}" for s in seconds.values())
    return [*found, Step("a step", "their sum", whole, plan.iteration_seconds, "s", "")]


WORK = ("products", "memory", "tensor", "expert", "context", "recomputation")


def _kinds(works: tuple[work.Work, ...]) -> list[str]:
    return list(dict.fromkeys(w.kind for w in works))


def _share(gpu) -> str:
    if not isinstance(gpu.products, float | int):
        return "measured, by size"
    if not gpu.processors:
        return f"{gpu.products}"
    return f"{gpu.products}, x full waves of tiles, x K / (K + {work.RAMP})"


def _rates(plan: Plan) -> list[Step]:
    job, seconds, n, peak = (
        plan.job,
        plan.iteration_seconds,
        plan.gpus,
        plan.machine.gpu.flops(plan.job.dtype),
    )
    model, hardware = model_flops(job), hardware_flops(job)
    which = {"none": "equation 7", "selective": "equation 8", "full": "equation 3 of Narayanan et al. 2021"}
    where = which[job.layout.recompute]
    papers = f"Korthikanti et al. 2022, {where}" if "of" not in where else where
    return [
        Step(
            "MFU",
            "72 B L T D^2 (1 + T / (6 D) + V / (12 D L)) / (seconds x GPUs x peak)",
            f"{model:.8g} / ({seconds:.8g} x {n} x {peak:.6g})",
            plan.mfu,
            "",
            "Korthikanti et al. 2022, equation 7",
        ),
        Step(
            "TFLOP/s of a GPU",
            "operations with recomputation / (seconds x GPUs)",
            f"{hardware:.8g} / ({seconds:.8g} x {n}) / 1e12",
            plan.tflops,
            "",
            papers,
        ),
    ]
