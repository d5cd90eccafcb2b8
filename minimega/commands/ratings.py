"""`minimega ratings`: reads people's ratings of a sheet: means, intervals and agreement."""

import json
from types import SimpleNamespace as Options

from minimega.commands.notes import counted
from minimega.commands.progress import busy
from minimega.errors import BadInput
from minimega.judging import ratings
from minimega.ranks.streams import say


def run(o: Options) -> int:
    """Print each system's ratings, and how far the raters agree; return the exit status.

    Raises BadInput for files that are not ratings of this sheet.
    """
    if not o.files:
        raise BadInput(
            "ratings needs the files that the raters downloaded: minimega ratings FILE... --key KEY"
        )
    if not o.key:
        raise BadInput("ratings needs --key: the file that minimega sheet wrote beside the page")
    key = ratings.read_key(o.key)
    with busy("summing up the ratings"):
        found = ratings.summary(key, ratings.read_all(o.files, key), o.resamples, o.seed)
    say(json.dumps(found, ensure_ascii=False) if o.json else table(found))
    return 0


def table(found: dict) -> str:
    """The summary as lines of text."""
    people = counted(len(found["raters"]), "rater")
    lines = [f"{people}, {counted(found['texts'], 'text')}, {counted(found['missing'], 'mark')} missing"]
    scales = list(found["agreement"])
    width = max(map(len, [*found["systems"], "agreement"])) + 2
    lines.append(" " * width + "".join(f"{scale:24}" for scale in scales).rstrip())
    for system, row in found["systems"].items():
        lines.append(f"{system:{width}}" + "".join(f"{_mean(row[scale]):24}" for scale in scales).rstrip())
    agreed = [found["agreement"][scale] for scale in scales]
    cells = ("undefined" if a is None else f"alpha {a:.3f}" for a in agreed)
    lines.append(f"{'agreement':{width}}" + "".join(f"{cell:24}" for cell in cells).rstrip())
    if None in agreed:
        lines.append("alpha is undefined where no text has two raters, or all marks are the same")
    if any(a is not None and a < 0.667 for a in agreed):
        lines.append("below 0.667 raters agree too little to draw conclusions from (Krippendorff 2004)")
    return "\n".join(lines)


def _mean(row: dict) -> str:
    if row["mean"] is None:
        return "no marks"
    spread = " ({:.2f} to {:.2f})".format(*row["interval"]) if "interval" in row else ""
    return f"{row['mean']:.2f}{spread}"
