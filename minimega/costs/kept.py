"""The rates of this machine in a TOML file: measured once, read by `--layout auto` and by the planner."""

import json
import os
import subprocess
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path

from minimega.costs.here import WIDTHS
from minimega.costs.memory import machine_memory
from minimega.costs.rates import Rates
from minimega.errors import BadInput, RunFailed
from minimega.ranks import child, launch

HEAD = """# What this machine reaches, measured by minimega: a description of a GPU that the planner reads.
# rates: for each number of ranks the seconds of every operation, as [rows, width, seconds]; of a message, its
# bytes are the rows.
"""


def default_path(threads: bool = False) -> Path:
    """Where the rates of this machine are kept, for MPI ranks or for threads: in the user's cache folder."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "minimega" / ("here-threads.toml" if threads else "here.toml")


def counts(cores: int) -> list[int]:
    """The numbers of ranks to measure with: one, one for each core, and twice as many on a small machine.

    >>> counts(1), counts(2), counts(16)
    ([1, 2], [1, 2, 4], [1, 2, 16])
    """
    return sorted({1, 2, cores} | ({2 * cores} if cores < 4 else set()))


def measured_here(threads: bool = False) -> list[Rates]:
    """Measure this machine: about three seconds for each of `counts`, as MPI ranks or as threads.

    Without an MPI, MPI ranks are measured as one rank alone.
    """
    found = []
    for ranks in counts(launch.cores()):
        with tempfile.TemporaryDirectory() as folder:
            out, before = Path(folder) / "rates.json", Path(folder) / "before.json"
            words, fewer = ["-m", "minimega.costs.calibrate", str(out)], []
            if ranks > launch.cores():
                before.write_text(json.dumps(found[-1].as_dict()))
                fewer.append(str(before))
            try:
                if threads:
                    raise launch.NoMpi
                line, env = launch.command([*words, "1", *fewer], ranks, threads=1)
            except BadInput:
                if ranks > 1 and not threads:
                    break
                line, env = child.python(*words, str(ranks), *fewer), None
            ended = subprocess.run(line, env=env, capture_output=True, text=True)
            if ended.returncode or not out.exists():
                raise RunFailed(f"this machine could not be measured: {ended.stderr.strip()[-300:]}")
            found.append(Rates.of(json.loads(out.read_text())))
    return found


def text(found: list[Rates]) -> str:
    """The TOML file of some rates, with the keys of a GPU of one's own."""
    one, most = found[0], found[-1]
    flops, moved = 2 * 2048 * 512**2, 3 * 4 * 2048 * 512
    link = [r for r in found if r.ranks > 1][:1]
    sent = (1 << 21) / link[0].tables["send of 2"](1 << 21) / 1e9 if link else 1.0
    figures = {
        "name": "here",
        "memory_gb": round((machine_memory() or 8e9) / 1e9 / most.cores, 3),
        "bandwidth_gb_per_s": round(moved / one.tables["add"](2048, 512) / 1e9, 3),
        "inside_gb_per_s": round(sent, 3),
        "between_gb_per_s": round(sent, 3),
        "per_node": most.cores,
        "source": "measured here",
    }
    lines = [HEAD] + [f"{key} = {json.dumps(value)}" for key, value in figures.items()]
    peak = flops / one.tables["linear"](2048, 512) / 1e12
    lines += ["\n[peak_tflops]", f"float32 = {peak:.5f}", f"float64 = {peak / 2:.5f}"]
    for rates in found:
        told = rates.as_dict()
        lines += ["\n[[rates]]"] + [f"{key} = {json.dumps(v)}" for key, v in told.items() if key != "tables"]
        lines += ["[rates.tables]"] + [f'"{name}" = {json.dumps(p)}' for name, p in told["tables"].items()]
    return "\n".join(lines) + "\n"


def read(path: Path) -> list[Rates]:
    """The rates in such a file. Raises BadInput, saying what is wrong, if there are none."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        found = [Rates.of(rates) for rates in told["rates"]]
        if not found or any(t(64, 64) <= 0 for r in found for t in r.tables.values()):
            raise ValueError
        if any(f"ring {width}" not in r.tables for r in found for width in WIDTHS):
            raise ValueError  # of an earlier version
        return found
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(
            f"{path} has no rates of a machine: the planner's `calibrate` writes such a file"
        ) from None


def known(path: Path | None = None) -> list[Rates]:
    """The rates that were kept, if they are of as many cores as there are now; else none."""
    path = path or default_path()
    try:
        found = read(path) if path.is_file() else []
    except BadInput:  # an old file, or half of one
        return []
    return found if found and found[0].cores == launch.cores() else []


def renewed(path: Path | None = None, threads: bool = False) -> tuple[list[Rates], str]:
    """Measure now, and keep the rates; also says where, or nothing if they cannot be kept."""
    found, path = measured_here(threads), path or default_path(threads)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work = path.with_suffix(".tmp")
        work.write_text(text(found), encoding="utf-8")
        work.replace(path)
    except OSError:
        return found, ""
    return found, str(path)


def of(found: list[Rates], ranks: int) -> Rates:
    """The rates for this number of ranks: measured, or those of the nearest number that was."""
    near = min(found, key=lambda r: abs(r.ranks - ranks))
    return near if near.ranks == ranks else replace(near, ranks=ranks, threads=max(1, near.cores // ranks))
