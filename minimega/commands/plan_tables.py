"""The tables of `minimega plan`: predicted beside published, and from 1 to 10,000 GPUs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean

from minimega.commands.plan_text import GIB, billions, table, way_of
from minimega.costs.plan import Gpu
from minimega.costs.plan.published import Compared, counts
from minimega.costs.plan.scaling import At, stops
from minimega.costs.plan.state import parameters
from minimega.model import Config


def of_row(c: Compared) -> dict:
    """One published row beside our figure."""
    ours = c.plan.tflops if c.row.unit == "TFLOP/s" else c.plan.iteration_seconds
    return {
        "source": c.row.source,
        "name": c.row.name,
        "gpu": c.row.gpu,
        "unit": c.row.unit,
        "published": c.row.value,
        "predicted": ours,
        "calculon": c.row.calculon,
        "time_error": c.error,
        "fitted": c.row.fitted,
        "fits": c.plan.fits,
        "rank": c.rank,
        **way_of(c.plan),
    }


def published(found: list[Compared]) -> str:
    """The table of predicted beside published, and how far off we are by source and by kind of GPU."""
    lines, by = [], defaultdict(list)
    for title in dict.fromkeys(c.row.source for c in found):
        rows: list[list[object]] = [
            ["", "unit", "published", "predicted", "calculon", "time", "GiB", "rank", "b", "v", ""]
        ]
        for c in (c for c in found if c.row.source == title):
            told, by_gpu = of_row(c), by[c.row.gpu]
            by_gpu.append(c)
            other = "-" if c.row.calculon is None else f"{c.row.calculon:.4g}"
            memory = f"{c.plan.memory['total'] / GIB:.1f}" + "!" * (not c.plan.fits)
            figures = [
                f"{c.row.value:.4g}",
                f"{told['predicted']:.4g}",
                other,
                f"{100 * c.error:+.1f}%",
                memory,
            ]
            cut = [c.rank or "-", told["micro_batch_size"], told["virtual_stages"]]
            rows.append([f"  {c.row.name}", c.row.unit, *figures, *cut, "fitted" if c.row.fitted else ""])
        lines += [title, table(rows), ""]
    for gpu, group in by.items():
        for name, part in (
            ("all rows", group),
            ("rows that set no constant", [c for c in group if not c.row.fitted]),
        ):
            errors = [abs(c.error) for c in part]
            within = sum(error <= 0.15 for error in errors)
            said = (
                f"mean error of the time {100 * fmean(errors):.1f}%, {within} of {len(part)} rows within 15%"
            )
            lines.append(f"{gpu}, {name}: {said}")
        far = [f"{c.row.source}, {c.row.name} ({100 * c.error:+.0f}%)" for c in group if abs(c.error) > 0.15]
        lines += [f"  more than 15% off: {line}" for line in far]
        others = [c for c in group if c.row.calculon is not None]
        if others:
            lines.append(f"  {_calculon(others)}")
    ranks = [c for c in found if c.rank is not None]
    low = [f"{c.row.source}, {c.row.name} ({c.rank})" for c in ranks if c.rank > 5]
    lines.append(f"the published cut is among our five best in {len(ranks) - len(low)} of {len(ranks)} rows")
    lines += [f"  not: {line}" for line in low]
    return "\n".join([*lines, "", "parameters, in billions or exactly", table(_counts())])


def _calculon(group: list[Compared]) -> str:
    theirs = [abs(_error(c, c.row.calculon)) for c in group]
    ours = [abs(c.error) for c in group]
    figures = f"{100 * fmean(ours):.1f}%, calculon {100 * fmean(theirs):.1f}%"
    return f"where calculon's figure is known ({len(group)} rows): {figures}"


def _error(c: Compared, value: float) -> float:
    return c.row.value / value - 1 if c.row.unit == "TFLOP/s" else value / c.row.value - 1


def _counts() -> Iterable[Sequence[str]]:
    yield "  source", "printed", "computed", ""
    for count in counts():
        exact = parameters(count.config)
        ours = f"{exact}" if count.digits is None else f"{exact / 1e9:.3f}"
        yield f"  {count.source}", f"{count.printed}", ours, ""


def scaling(config: Config, gpu: Gpu, rows: list[At]) -> str:
    """The table of scaling, and where each kind of parallelism stops paying."""
    first = next((at.plan for at in rows if at.plan), None)
    head = f"{billions(parameters(config))} parameters on {gpu.name}, {rows[0].batch} sequences a step"
    lines: list[list[object]] = [
        ["GPUs", "tp", "pp", "dp", "seconds", "TFLOP/s", "MFU", "bubble", "of ideal", ""]
    ]
    for at in rows:
        count = f"{at.gpus}" + f" of {at.asked}" * (at.gpus != at.asked)
        if at.plan is None:
            lines.append([count, *["-"] * 8, at.why])
            continue
        cut, p = at.plan.job.layout, at.plan
        ideal = first.iteration_seconds * first.gpus / (p.iteration_seconds * p.gpus)
        shares = [f"{100 * share:.1f}%" for share in (p.mfu, p.bubble, ideal)]
        how = [f"zero {cut.zero}"] * (cut.zero > 0) + [f"recompute {cut.recompute}"] * (
            cut.recompute != "none"
        )
        figures = [f"{p.iteration_seconds:.4g}", f"{p.tflops:.0f}", *shares]
        lines.append([count, cut.tp, cut.pp, cut.dp, *figures, ", ".join(how)])
    said = [head, table(lines, left=0), ""]
    if first:
        for stop in stops(config, gpu, first.job.dtype, rows[0].batch):
            said.append(f"--{stop.kind} alone pays up to {stop.last}: beyond it, {stop.why}")
    return "\n".join(said)


def of_scaling(rows: list[At]) -> list[dict]:
    """The table of scaling as objects."""
    return [
        {"gpus": at.gpus, "train_batch_size": at.batch, "fits": at.plan is not None, "why": at.why}
        | (
            way_of(at.plan) | {"iteration_seconds": at.plan.iteration_seconds, "mfu": at.plan.mfu}
            if at.plan
            else {}
        )
        for at in rows
    ]
