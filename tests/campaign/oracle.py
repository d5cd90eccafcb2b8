"""What must hold after every case; each breach is a Violation with its kind."""

import hashlib
import json
import math
import os
import re
import signal
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minimega.checkpoint import checkpoint
from minimega.checkpoint.run_folder import newest
from minimega.errors import BadInput
from tests.campaign.case import Case
from tests.campaign.world import FATAL

OWN = ("config.toml", "tokenizer.json", "log.jsonl", "loss.png", "latest")
OWN_FOLDER = re.compile(r"step-\d+(\.tmp)?|tokens-\w+")
CACHES = ("home/.cache", "home/.config", "home/.matplotlib")  # libraries may keep theirs


class Violation(NamedTuple):
    """`kind`: one word, by which failures are counted and compared."""

    kind: str
    text: str


@dataclass
class Ended:
    """How a case went. `left`: processes still running after the command ended."""

    status: int | None  # None: it did not end
    out: str
    err: str
    left: list[str] = field(default_factory=list)
    signals: tuple[int, ...] = ()  # those that it was sent


Tree = dict[str, tuple]


def snapshot(box: Path) -> Tree:
    """Every file's kind, mode, time and content, by its path in the box. A folder's time may change."""
    seen: Tree = {}
    for parent, folders, files in os.walk(box):
        for name in folders + files:
            path = os.path.join(parent, name)
            about = os.lstat(path)
            content = None
            if stat.S_ISLNK(about.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(about.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha1").hexdigest()
            time = None if stat.S_ISDIR(about.st_mode) else about.st_mtime_ns
            seen[os.path.relpath(path, box)] = about.st_mode, time, content
    return seen


def judge(case: Case, ended: Ended, before: Tree, box: Path) -> list[Violation]:
    """Everything wrong with how the case ended."""
    after = snapshot(box)
    return [
        *_status(case, ended),
        *_words(case, ended),
        *_unnoticed(case, ended),
        *_files(case, ended, before, after, box),
        *(Violation("left", f"still running: {line}") for line in ended.left),
        *(trained(run_folder(case, box)) if ended.status == 0 and case.command == "train" else []),
    ]


def _status(case: Case, ended: Ended) -> list[Violation]:
    if ended.status is None:
        return [Violation("hangs", f"no end, {len(ended.signals)} signals later")]
    by_signal = {s for n in ended.signals for s in (128 + n, -n)}
    if ended.status in {0, 1, 2} | by_signal:
        return []
    return [Violation("status", f"exit status {ended.status}")]


def _words(case: Case, ended: Ended) -> list[Violation]:
    both, found = ended.out + ended.err, []
    for mark in ("Traceback (most recent", "Exception ignored", "Segmentation fault", "Fatal Python"):
        if mark in both:
            found.append(Violation("traceback", _end_of(both)))
            break
    if warned := re.search(r"^.*\b[A-Z]\w*Warning: .*$", both, re.M):
        found.append(Violation("warning", warned[0]))
    lines = ended.err.splitlines()
    if ended.status not in (0, None) and len(lines) > 3 and not found:
        found.append(Violation("wordy", f"{len(lines)} lines of error, the last: {lines[-1][:200]}"))
    heard = case.stderr == "open" and case.stdout != "head" and not ended.signals
    if ended.status in (1, 2) and heard and not ended.err.strip():
        found.append(Violation("silent", f"exit status {ended.status} without a word"))
    return found


def _end_of(text: str) -> str:
    """The last lines of a traceback: where, and what."""
    places = re.findall(r'File "([^"]*)", line (\d+), in (\S+)', text)
    where = f"{Path(places[-1][0]).name}:{places[-1][1]} {places[-1][2]}" if places else "?"
    return f"{where}: {text.strip().splitlines()[-1][:200]}"


def run_folder(case: Case, box: Path) -> Path | None:
    name = case.value("save-dir")
    return Path(os.path.realpath(box / "work" / name)) if name and len(name) < 256 else None


def _unnoticed(case: Case, ended: Ended) -> list[Violation]:
    """A run that cannot be used, but was."""
    options = ["model-filename", "init-from"] + ["save-dir"] * case.has("resume")
    used = any(case.value(name) in ("R", "L") for name in options)
    bad = FATAL.intersection(case.damages)
    if "latest set back" in case.damages:  # the damaged checkpoint is not the one read
        bad = {name for name in bad if name.startswith("tokenizer")}
    if used and ended.status == 0 and bad:
        return [Violation("unnoticed", f"exit status 0 with {', '.join(bad)}")]
    return []


def _files(case: Case, ended: Ended, before: Tree, after: Tree, box: Path) -> list[Violation]:
    root = Path(os.path.realpath(box))
    run = run_folder(case, box) if case.command == "train" else None
    here = os.path.relpath(run, root) if run and run.is_relative_to(root) else None
    outputs = {
        os.path.relpath(os.path.realpath(box / "work" / value), root)
        for name, value in case.options
        if name == "generate-filename" and value and "\0" not in value and len(value) < 256
    }

    def own(path: str) -> bool:
        if here is None:
            return False
        if path == here or (here + os.sep).startswith(path + os.sep):
            return path not in before  # a folder created for the run
        inside = os.path.normpath(os.path.relpath(path, here)).split(os.sep)
        name = inside[0].removesuffix(".tmp") if inside[0] != ".." else ".."
        if name in OWN:
            return len(inside) == 1
        if "lock" in name:
            return True
        return bool(OWN_FOLDER.fullmatch(inside[0])) and _written(here, inside[0], before)

    killed = signal.SIGKILL in ended.signals or ended.status is None
    found = []
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) == after.get(path) or path in outputs or path.startswith(CACHES):
            continue
        if path.startswith("tmp" + os.sep) and killed:
            continue
        what = "new" if path not in before else "touched"
        if what == "new" and own(path):
            if "tokens-" in path and not killed:
                found.append(Violation("new", f"{path} was left behind"))
            continue
        if own(path) and ended.status != 2:
            continue
        gone = " (gone)" if path not in after else ""
        kind = "old-run" if own(path) else what
        found.append(Violation(kind, f"{path}{gone}, exit status {ended.status}"))
    return found[:5]


def _written(here: str, name: str, before: Tree) -> bool:
    """Whether a run wrote this step's folder, or it did not exist before."""
    folder = os.path.normpath(os.path.join(here, name))
    inside = [p for p in before if p.startswith(folder + os.sep)]
    marks = ("state.json", ".safetensors")
    if folder in before and stat.S_ISREG(before[folder][0]):
        return False
    return folder not in before or any(p.endswith(marks) for p in inside) or not inside


def records(log: Path) -> list[dict]:
    """The lines of a log; ValueError for what is not strictly JSON, or not finite."""

    def refuse(word: str):
        raise ValueError(f"{word} is not JSON")

    found = [json.loads(line, parse_constant=refuse) for line in log.read_text().splitlines() if line.strip()]
    for record in found:
        if not all(math.isfinite(x) for x in record.values() if isinstance(x, float)):
            raise ValueError(f"not finite: {record}")
    return found


def trained(run: Path | None) -> list[Violation]:
    """What must be true of a run folder after train ended with 0."""
    if run is None:
        return []
    try:
        steps = [r["step"] for r in records(run / "log.jsonl") if "loss" in r]
        if sorted(set(steps)) != steps:
            return [Violation("log", f"steps twice, or out of order: {steps[:50]}")]
    except (OSError, ValueError, KeyError, TypeError) as why:
        return [Violation("log", f"{run.name}/log.jsonl: {why!r}")]
    return loads(run)


def loads(run: Path) -> list[Violation]:
    """The newest checkpoint is read, and its numbers are finite."""
    try:
        model = checkpoint.load_model(newest(run))
    except (BadInput, OSError) as why:
        return [Violation("weights", str(why))]
    odd = [n for n, p in model.parameters().items() if not np.isfinite(np.asarray(p.data, np.float64)).all()]
    return [Violation("weights", f"{odd[0]} is not finite")] if odd else []
