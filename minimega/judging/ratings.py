"""People's ratings of a sheet, read back: means per system with intervals, and how far the raters agree.

R raters, N samples, S scales.
"""

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minimega.errors import BadInput, extra, shown
from minimega.judging import bootstrap
from minimega.judging.sheet import KEY, VERSION

RATINGS = "minimega ratings"


@dataclass(frozen=True)
class Key:
    """Which system wrote each sample of a sheet, and the scales on which it is rated."""

    sheet: str
    scales: tuple[str, ...]
    systems: tuple[str, ...]  # of each sample, in the order of the page


@dataclass(frozen=True)
class Ratings:
    """One rater's marks: (N, S) floats, NaN where there is none."""

    rater: str
    values: np.ndarray


def read_key(path: str | Path) -> Key:
    """Read the key of a sheet. Raises BadInput if the file is not one."""
    found = _json(path, KEY, "the key that minimega sheet wrote")
    samples, scales = found.get("samples"), found.get("scales")
    if not (
        isinstance(samples, list)
        and isinstance(scales, list)
        and all(isinstance(s, str) for s in scales)
        and all(isinstance(s, dict) and isinstance(s.get("system"), str) for s in samples)
    ):
        raise BadInput(f"{path} is damaged: its samples or scales are missing")
    return Key(str(found.get("sheet")), tuple(scales), tuple(s["system"] for s in samples))


def read(path: str | Path, key: Key) -> Ratings:
    """Read one rater's file. Raises BadInput if it is damaged, of another sheet, or off the scale."""
    found = _json(path, RATINGS, "what a sheet's Download button saved")
    if found.get("sheet") != key.sheet:
        raise BadInput(f"{path} has the ratings of another sheet: give the key of that one")
    rater, rows = found.get("rater"), found.get("ratings")
    if not isinstance(rater, str) or not rater.strip():
        raise BadInput(f"{path} has no name of its rater")
    if not isinstance(rows, list) or len(rows) != len(key.systems):
        count = len(rows) if isinstance(rows, list) else "no"
        raise BadInput(f"{path} has {count} ratings, and the sheet {len(key.systems)} texts: it is damaged")
    values = np.full((len(rows), len(key.scales)), np.nan)
    for n, row in enumerate(rows):
        if not isinstance(row, dict) or not row.keys() <= set(key.scales):
            raise BadInput(f"{path}, text {n + 1}: {shown(row)} is not a rating on {', '.join(key.scales)}")
        for scale, mark in row.items():
            if type(mark) is not int or not 1 <= mark <= 5:
                raise BadInput(f"{path}, text {n + 1}: {scale} is {shown(mark)}; it must be 1 to 5")
            values[n, key.scales.index(scale)] = mark
    return Ratings(rater.strip(), values)


def _json(path: str | Path, form: str, what: str) -> dict:
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as why:
        raise BadInput(f"{path} cannot be read: {why.strerror}") from None
    except (ValueError, RecursionError):
        raise BadInput(f"{path} is not JSON, or is cut short: give {what}") from None
    if not isinstance(found, dict) or found.get("format") != form:
        raise BadInput(f"{path} is another kind of file: give {what}")
    if found.get("version") != VERSION:
        raise BadInput(f"{path} is of version {shown(found.get('version'))}; this minimega reads {VERSION}")
    return found


def read_all(paths: Sequence[str | Path], key: Key) -> list[Ratings]:
    """Read the files of several raters. Raises BadInput for a rater who comes twice, or no ratings at all."""
    found: dict[str, Ratings] = {}
    for path in paths:
        one = read(path, key)
        if one.rater in found:
            raise BadInput(f"{path}: there are ratings of {one.rater} already; give each rater's last file")
        found[one.rater] = one
    if not any(np.isfinite(one.values).any() for one in found.values()):
        raise BadInput("these files have no ratings in them: every text is unrated")
    return list(found.values())


def alpha(marks: np.ndarray) -> float | None:
    """Krippendorff's alpha of ordinal marks (R, N), NaN where missing: 1 is agreement, 0 is chance.

    By the library krippendorff (Krippendorff 2011, "Computing Krippendorff's alpha-reliability"). None if
    it is undefined: no text was rated by two people, or all marks of such texts are the same.

    >>> alpha(np.array([[1.0, 2, 3, 4], [1, 2, 3, 4]])), alpha(np.array([[1.0, 2, 3]]))
    (1.0, None)
    """
    pairable = marks[:, np.isfinite(marks).sum(axis=0) > 1]
    values = np.unique(pairable[np.isfinite(pairable)])
    if len(values) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = extra("krippendorff").alpha(pairable, level_of_measurement="ordinal")
    return float(found) if math.isfinite(found) else None


def summary(key: Key, raters: Sequence[Ratings], resamples: int = 1000, seed: int = 0) -> dict:
    """Means, intervals and agreement.

    Returns `raters` (names), `texts`, `missing` (marks that were not given), `agreement` (scale -> alpha or
    None) and `systems`: per system and scale, `mean` and `interval` of the texts' mean marks, `texts` and
    `marks`, their numbers. The interval resamples texts, not raters: it says how far the mean could move with
    other texts, judged by the same people. A scale without marks has a mean of None.
    """
    marks = np.stack([one.values for one in raters])  # (R, N, S)
    given = np.isfinite(marks)
    owners, systems = np.array(key.systems), {}
    for system in dict.fromkeys(key.systems):
        systems[system] = {}
        for s, scale in enumerate(key.scales):
            mine, known = marks[:, owners == system, s], given[:, owners == system, s]
            rated = known.any(axis=0)
            row: dict[str, Any] = {"mean": None, "texts": int(rated.sum()), "marks": int(known.sum())}
            if rated.any():
                figure = bootstrap.mean_of(np.nanmean(mine[:, rated], axis=0))
                row["mean"] = figure.value
                if resamples:
                    row["interval"] = bootstrap.interval(bootstrap.resampled(figure, resamples, seed))
            systems[system][scale] = row
    return {
        "raters": [one.rater for one in raters],
        "texts": len(owners),
        "missing": int((~given).sum()),
        "systems": systems,
        "agreement": {scale: alpha(marks[:, :, s]) for s, scale in enumerate(key.scales)},
    }
