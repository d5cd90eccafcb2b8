"""What `minimega plan` prints: as text, and as objects for JSON."""

from collections.abc import Iterable, Sequence

from minimega.costs.plan import Found, Plan
from minimega.costs.plan.explain import Step
from minimega.costs.plan.search import cut_of

SHOWN = 10  # alternatives
GIB = 2**30
KINDS = {
    "products": "products of matrices",
    "memory": "element-wise operations",
    "recomputation": "recomputation",
    "tensor": "messages of tensor parallelism",
    "expert": "rows to experts and back",
    "context": "keys and values round the ring",
    "ends": "the head and the table",
    "pipeline": "messages between stages",
    "bubble": "the bubble",
    "data": "gradients between replicas",
    "optimizer": "the optimizer's step",
}


def table(rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """Rows as text; all columns but the first `left` and the last are right-aligned."""
    cells = [[*map(str, row)] for row in rows]
    last = max(map(len, cells)) - 1
    widths = [max(len(row[i]) for row in cells if i < len(row)) for i in range(last + 1)]
    return "\n".join(
        "  ".join(
            cell.ljust(widths[i]) if i < left or i == last else cell.rjust(widths[i])
            for i, cell in enumerate(row)
        ).rstrip()
        for row in cells
    )


def way(plan: Plan) -> str:
    """A cut, as options of this command."""
    cut, job = plan.job.layout, plan.job
    numbers = {"tp": cut.tp, "pp": cut.pp, "dp": cut.dp}
    more = {"cp": cut.cp, "ep": cut.ep, "virtual-stages": cut.virtual_stages, "zero": cut.zero}
    said = [f"--{name} {n}" for name, n in numbers.items()]
    said += [f"--micro-batch-size {job.micro_batch}"]
    said += [f"--{name} {n}" for name, n in more.items() if n > (name != "zero")]
    said += [f"--recompute {cut.recompute}"] if cut.recompute != "none" else []
    return " ".join(said + ["--sequence-parallel"] * cut.sequence)


def plan(p: Plan, others: Found, tokens: float, price: float | None) -> str:
    """The whole plan as text."""
    job, gpu = p.job, p.machine.gpu
    shape = f"{billions(p.parameters)} parameters on {p.gpus} x {gpu.name}"
    lines = [f"{shape}, {job.batch} sequences of {job.config.context} tokens a step, {job.dtype}", way(p), ""]
    whole = p.memory["total"]
    lines.append(f"memory of a GPU: {whole / GIB:.1f} of {gpu.memory / GIB:.1f} GiB")
    lines.append(
        table([f"  {k}", f"{n / GIB:.2f} GiB", ""] for k, n in p.memory.items() if n and k != "total")
    )
    if not p.fits:
        over = "this cut does not fit" if others.plans else "no cut fits"
        lines += [f"  {over}: {(whole - gpu.memory) / GIB:.1f} GiB too much at the least"]
    seconds = p.iteration_seconds
    lines += ["", f"a step: {duration(seconds)}"]
    shares = [(KINDS[k], s) for k, s in p.seconds.items() if s > 5e-4 * seconds]
    lines.append(table([f"  {k}", duration(s), f"{100 * s / seconds:.1f}%"] for k, s in shares))
    if p.messages:
        lines += ["", "messages of a GPU in a step"]
        heads = [["  group", "calls", "arrays", "sent"]]
        rows = [[f"  {k}", f"{m.calls:,}", size(m.nbytes), size(m.wire)] for k, m in p.messages.items()]
        lines.append(table(heads + rows))
    lines += ["", *summary(p, tokens, price)]
    if others.plans:
        lines += ["", "cuts, best first", *alternatives(p, others)]
    return "\n".join(lines)


def summary(p: Plan, tokens: float, price: float | None) -> list[str]:
    """Rates, days and cost, a line each."""
    peak = p.machine.gpu.flops(p.job.dtype) / 1e12
    share = f"{100 * p.tflops / peak:.0f}% of {peak:.3g}"
    days = p.days(tokens)
    digits = 0 if days >= 100 else 2
    lines = [
        f"{p.tflops:.3g} TFLOP/s per GPU with recomputation ({share}), MFU {100 * p.mfu:.1f}%, "
        f"bubble {100 * p.bubble:.1f}%",
        f"{billions(tokens)} tokens: {days:,.{digits}f} days, {days * 24 * p.gpus:,.0f} GPU-hours",
    ]
    if price is not None:
        lines[-1] += f", {days * 24 * p.gpus * price:,.0f} at {price:g} per GPU-hour"
    return lines


def alternatives(p: Plan, others: Found) -> list[str]:
    """The best cuts, a line each, with the reason why it is not the best; and the smallest that does not
    fit.
    """
    rows: list[list[object]] = [["  tp", "pp", "dp", "seconds", "GiB", "", ""]]
    for other, reason in zip(others.plans[:SHOWN], others.reasons(), strict=False):
        tp, pp, dp, cp, ep = cut_of(other)
        more = "".join(f" cp {cp}" * (cp > 1) + f" ep {ep}" * (ep > 1))
        mine = "<" if cut_of(other) == cut_of(p) and p.fits else ""
        total = f"{other.memory['total'] / GIB:.1f}"
        seconds = f"{other.iteration_seconds:.4g}"
        rows.append([f"  {tp}", pp, f"{dp}{more}", seconds, total, mine, reason or "the fastest that fits"])
    lines = [table(rows, left=0)]
    if others.too_large:
        key, least = min(others.too_large.items(), key=lambda item: item[1].memory["total"])
        said = ", ".join(
            f"{name} {n}" for name, n in zip(("tp", "pp", "dp", "cp", "ep"), key, strict=True) if n > 1
        )
        need = f"{least.memory['total'] / GIB:.0f} GiB"
        lines.append(
            f"  {len(others.too_large)} more cuts do not fit; the smallest ({said or '1 GPU'}) needs {need}"
        )
    return lines


def as_object(p: Plan, others: Found, tokens: float, price: float | None) -> dict:
    """The plan as one object."""
    found = {
        "parameters": p.parameters,
        "gpu": p.machine.gpu.name,
        "gpus": p.gpus,
        "dtype": p.job.dtype,
        "train_batch_size": p.job.batch,
        "memory_bytes_per_gpu": {kind: round(n) for kind, n in p.memory.items()},
        "fits": p.fits,
        **way_of(p),
        "iteration_seconds": p.iteration_seconds,
        "seconds": p.seconds,
        "messages": {kind: vars(m) for kind, m in p.messages.items()},
        "tflops_per_gpu": p.tflops,
        "mfu": p.mfu,
        "bubble": p.bubble,
        "tokens": tokens,
        "days": p.days(tokens),
        "gpu_hours": p.days(tokens) * 24 * p.gpus,
    }
    if price is not None:
        found["cost"] = found["gpu_hours"] * price
    found["alternatives"] = [
        way_of(other)
        | {
            "iteration_seconds": other.iteration_seconds,
            "memory_bytes_per_gpu": round(other.memory["total"]),
            "reason": reason or "the fastest that fits",
        }
        for other, reason in zip(others.plans[:SHOWN], others.reasons(), strict=False)
    ]
    return found


def way_of(p: Plan) -> dict:
    """How a plan runs its cut, as an object."""
    cut = p.job.layout
    return {
        "tp": cut.tp,
        "pp": cut.pp,
        "dp": cut.dp,
        "cp": cut.cp,
        "ep": cut.ep,
        "micro_batch_size": p.job.micro_batch,
        "micro_batches": cut.parts,
        "virtual_stages": cut.virtual_stages,
        "recompute": cut.recompute,
        "sequence_parallel": cut.sequence,
        "zero": cut.zero,
    }


def explained(steps: list[Step]) -> str:
    """Each formula with its numbers and its source."""
    lines = []
    for s in steps:
        unit = f" {s.unit}" * bool(s.unit)
        value = f"{s.value:,}" if isinstance(s.value, int) else f"{s.value:.5g}"
        lines.append(f"{s.name}: {s.formula}" + f"   [{s.source}]" * bool(s.source))
        lines.append(f"    = {s.numbers} = {value}{unit}")
    return "\n".join(lines)


def billions(count: float) -> str:
    """A number of parameters or tokens in words.

    >>> billions(529.6e9), billions(3e11), billions(2048)
    ('529.6 billion', '300 billion', '2048')
    """
    for name, unit in (("trillion", 1e12), ("billion", 1e9), ("million", 1e6)):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """Seconds, or milliseconds if there are few.

    >>> duration(50.83), duration(0.0123)
    ('50.8 s', '12.3 ms')
    """
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def size(nbytes: float) -> str:
    """Bytes in powers of 1000.

    >>> size(1.05e12), size(4096)
    ('1.05 TB', '4.1 kB')
    """
    for name, unit in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= unit:
            return f"{nbytes / unit:.3g} {name}"
    return f"{nbytes:.0f} B"
