"""`minimega compare`: is the difference between two runs rounding or a bug, and where does it begin?

The second run, B, is the reference. One batch goes through the model twice, both times with B's weights: once
in A's layout and once in B's. Only the computation differs. Then the weights, the optimizer's state and the
logs show how the training of both runs went.
"""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace as Options
from typing import Any

import numpy as np

from minimega import random
from minimega.checkpoint import checkpoint, log, run_folder
from minimega.checkpoint.front import open_tokenizer
from minimega.commands import kinks, options
from minimega.commands import option_table as table
from minimega.commands import rounding as verdict
from minimega.commands.notes import counted
from minimega.commands.one_batch import measure
from minimega.commands.progress import busy, say
from minimega.commands.rounding import Off, off
from minimega.commands.texts import batches, read_texts
from minimega.errors import BadInput, RunFailed
from minimega.ranks import child, launch
from minimega.ranks.colour import judged
from minimega.ranks.job import line_for_ranks

PLURAL = {"weight": "weights", "velocity": "velocities", "mean": "means", "square": "squares"}
WIDE = 64  # characters before a line's figures
SHOWN = 8  # lines per kind for distances beyond rounding
STEPS = 3  # steps of a run given as a command
ROUNDS = {"dtype"}  # may differ, like MAY_CHANGE: it changes only rounding


def run(o: Options) -> int:
    """Compare two run folders or quoted commands. Returns 0 for equal or rounding, 1 for a bug.

    A command ("train --tp 2 ...") runs for 3 steps in a temporary folder. Raises BadInput if the runs differ
    in more than their layout: in another option, the vocabulary or the text.
    """
    if (launch.ranks_given() or 1) > 1:
        raise BadInput("compare starts its own ranks: run it without mpirun")
    with tempfile.TemporaryDirectory(prefix="minimega-") as work:
        a, b = (_folder(run, Path(work) / name) for run, name in ((o.run_a, "a"), (o.run_b, "b")))
        return Comparison(a, b, Path(work), (o.run_a, o.run_b)).report()


def _folder(run: str, target: Path) -> Path:
    """The run folder; a command runs for STEPS steps first."""
    typed = _words(run)
    if Path(run).is_dir() or typed[:1] != ["train"]:
        run_folder.newest(Path(run))
        return Path(run)
    more = ["--save-dir", str(target), "--num-steps", str(STEPS), "--save-every", "1", "--keep", str(STEPS)]
    words = child.python("-m", "minimega", *typed, *more)
    with line_for_ranks() as (_, told), busy(f"running {STEPS} steps of: {' '.join(typed)}"):
        how: dict[str, Any] = {
            "capture_output": True,
            "text": True,
            "stdin": subprocess.DEVNULL,
            "env": os.environ | told,
        }
        ended = subprocess.run(words, **how)
    if ended.returncode:
        error = BadInput if ended.returncode == 2 else RunFailed
        raise error(f"{run}: {ended.stderr.strip().removeprefix('minimega: ')}")
    return target


def _words(run: str) -> list[str]:
    """Split a command as a shell would, and drop the program's name.

    >>> _words('minimega train --train-filename "my book.txt"')
    ['train', '--train-filename', 'my book.txt']
    """
    try:
        words = shlex.split(run)
    except ValueError as error:
        if run.split()[:1] not in (["train"], ["minimega"]):
            return [run]  # a folder may have any name
        raise BadInput(
            f"{run}: {error}; quote a value as in \"train --train-filename 'my book.txt'\""
        ) from None
    return words[words[:1] == ["minimega"] :]


class Comparison:
    """Compares two runs. Findings are dicts: kind ("gradient", "weight", ...) -> name -> Off."""

    def __init__(self, run_a: Path, run_b: Path, work: Path, names: tuple[str, str]):
        self.runs, self.work, self.names = (run_a, run_b), work, names
        self.o = [options.complete("train", options.read(str(run / "config.toml"))) for run in self.runs]
        self.logs = [_log(run / "log.jsonl") for run in self.runs]
        self.check_comparable()
        o, self.newest = self.o[1], run_folder.newest(run_b)
        self.config = checkpoint.open_model(self.newest)[1]
        dtype = max((o.dtype for o in self.o), key=verdict.eps)  # the coarser one
        self.kinks: kinks.Kinks | None = None
        norms = [r["grad_norm"] for run in self.logs for r in run.values()]
        self.clip = o.clip if o.clip and max(norms, default=0.0) > o.clip else 0.0  # 0 if it never acted
        self.limit, self.formula = verdict.explained(dtype, self.config, o.train_batch_size)
        self.room: dict[str, float] = {}  # extra tolerance of a gradient's entries: see commands/kinks.py
        self.norm = 0.0  # extra tolerance of the gradient norm, relative

    def check_comparable(self) -> None:
        """Raise BadInput if the runs cannot give the same result."""
        a, b = self.o
        both = f"{self.names[0]} and {self.names[1]} cannot be equal"
        for name, option in table.of_command("train").items():
            x, y = getattr(a, option.key), getattr(b, option.key)
            if option.key not in table.MAY_CHANGE | ROUNDS and x != y:
                raise BadInput(f"{both}: --{name} is {x} in one and {y} in the other")
        if len({(run / "tokenizer.json").read_bytes() for run in self.runs}) > 1:
            raise BadInput(f"{both}: their vocabularies differ")
        if len({_state(run)["digest"] for run in self.runs}) > 1:
            raise BadInput(f"{both}: they were trained on different texts")
        for step in sorted(self.logs[0].keys() & self.logs[1].keys()):
            if self.logs[0][step]["lr"] != self.logs[1][step]["lr"]:
                raise BadInput(
                    f"{both}: their learning rates differ at step {step} (give both the same --num-steps)"
                )

    def report(self) -> int:
        """Print all findings and the verdict; return the exit status."""
        for letter, name, o in zip("AB", self.names, self.o, strict=True):
            say(f"{letter}: {name} ({options.layout_of(o)}, {o.dtype})")
        say(
            f"\nA distance is max|A - B| / max|B|. Rounding explains {self.limit:.1e} after one step\n"
            f"({self.formula}) and n times that after n steps.\n"
            "The ratio of the two decides: up to 100% is rounding, more is a bug (!)."
        )
        found = self.one_batch()
        if self.kinks:
            k = self.kinks
            say(
                f"\nA ReLU's slope jumps at 0, and {k.near:,} of {k.count:,} inputs are so close to 0 that\n"
                "rounding may decide their slope. For this batch both runs were led to the same side. In\n"
                "training they were not, so the gradient change of switching these is explained as well."
            )
        with busy("comparing the weights"):
            at, trained = self.training()
        say(f"\n{at:<{WIDE}}{verdict.HEAD}")
        for kind, row in trained.items():
            _rows(PLURAL.get(kind, kind), row)
        logs = self.logged()
        common = len(self.logs[0].keys() & self.logs[1].keys())
        say(f"\n{'logs, ' + counted(common, 'common step'):<{WIDE}}{verdict.HEAD}")
        for name, (step, x) in logs.items():
            say(f"{f'  {name}, largest at step {step}':<{WIDE}}{x}")
        bug = verdict.begins(found | trained)
        if not bug and (name := next((name for name, (_, x) in logs.items() if x.wrong), "")):
            bug = f"The logs diverge at step {logs[name][0]} ({name}); no early checkpoint shows where."
        furthest = max(x.share for kind in (found | trained).values() for x in kind.values())
        furthest = max([furthest, *(x.share for _, x in logs.values())])
        if bug:
            word, why = "a bug", f": up to {furthest:,.3g} times what rounding explains. {bug}"
        elif furthest:
            word, why = "rounding", f": no distance is above {_percent(furthest)} of what rounding explains"
        else:
            word, why = "equal", ""
        say(f"\nverdict: {judged(word, not bug)}{why}")
        return 1 if bug else 0

    def one_batch(self) -> dict[str, dict[str, Off]]:
        """Compare both layouts on the next batch of B's run, with B's weights."""
        o, step = self.o[1], _state(self.runs[1])["step"] + 1
        self.texts = texts = read_texts(
            o, self.config.context, self.work, open_tokenizer(self.newest, self.runs[1])
        )
        if texts.digests["digest"] != _state(self.runs[1])["digest"]:
            raise BadInput(f"{o.train_filename} is not the text that {self.names[1]} was trained on")
        inputs, targets, _ = self.batch(step)
        if self.config.activation == "relu":
            steps = max(self.logs[0].keys() & self.logs[1].keys(), default=1)
            self.kinks = kinks.find(self.newest, self.computed(), self.batch(step), self.limit, steps)
            self.room, self.norm = self.kinks.room, self.kinks.norm
        batch = self.work / "batch.npz"
        np.savez(
            batch, inputs=inputs, targets=targets, step=step, **(self.kinks.arrays() if self.kinks else {})
        )
        made = []
        for run, out in zip(self.runs, (self.work / "a.npz", self.work / "b.npz"), strict=True):
            with busy(f"computing the batch as {out.stem.upper()} does"):
                failed = measure(run, self.newest, batch, out)
            if failed:
                raise RunFailed(f"the ranks of {run} failed")
            with np.load(out) as file:
                made.append({name: file[name] for name in file})
        a, b = made
        # experts exchange rows, so their ReLUs are not steered
        room = self.kinks.room if self.kinks and self.config.experts else {}
        norm = self.kinks.norm * float(b["number/gradient norm"]) if room else 0.0
        found: dict[str, dict[str, Off]] = {}
        for path in b:
            kind, name = path.split("/")
            layer = f"gradient/{name.rpartition('.')[0]}."
            near = max((np.abs(b[p]).max() for p in b if p.startswith(layer)), default=0.0)
            more = norm if name == "gradient norm" else room.get(name, 0.0) if kind == "gradient" else 0.0
            found.setdefault(kind, {})[name] = off(a[path], b[path], self.limit, near, more)
        say(f"\n{f'the batch of step {step} in both layouts, with the weights of B':<{WIDE}}{verdict.HEAD}")
        for name, x in found["number"].items():
            both = ", ".join(f"{run[f'number/{name}']:.8g}" for run in made)
            say(f"{f'  {name}: {both}':<{WIDE}}{x}")
        _rows("outputs", found["output"])
        _rows("gradients", found["gradient"])
        return found

    def training(self) -> tuple[str, dict[str, dict[str, Off]]]:
        """Compare weights and optimizer state at the first common checkpoint that is wrong, else at the last.

        Both runs start from the same weights. Later steps start from slightly different weights, so each
        step's tolerance includes how much a correct model's gradients differ between them.
        """
        a, b = (run_folder.checkpoints(run).keys() for run in self.runs)
        free: dict[str, np.ndarray] = {}
        last = 0
        for step in sorted(a & b):
            folders = self.runs[0] / f"step-{step}", self.runs[1] / f"step-{step}"
            rates = sum(r["lr"] for s, r in self.logs[1].items() if last < s <= step)
            limit = self.limit * step
            made = verdict.trained(folders, self.o[1], rates, limit, step, self.room, free)
            if made.wrong and step > 1:
                self.carry(step, made.moved)
                made = verdict.trained(folders, self.o[1], rates, limit, step, self.room, free)
            if step == max(a & b) or made.wrong:
                return f"training, after step {step}", made.found
            self.carry(step, made.moved)
            last, free = step, made.free
        return "no step has a checkpoint in both runs", {}

    def computed(self) -> Options:
        """The dtype and the clip of B, as kinks.py needs them."""
        return Options(dtype=self.o[1].dtype, clip=self.clip)

    def batch(self, step: int) -> kinks.Batch:
        """The batch of this step in B's run."""
        o = self.o[1]
        inputs, targets, _ = batches(o, self.texts)(step)
        return kinks.Batch(inputs, targets, random.key(o.seed, "step", step))

    def carry(self, step: int, moved: dict[str, np.ndarray]) -> None:
        """Add to the tolerance how much the next step's gradients differ between A's weights and B's."""
        weights = self.runs[1] / f"step-{step}"
        room, norm = kinks.carried(weights, moved, self.computed(), self.batch(step + 1))
        self.room = {name: max(r, self.room.get(name, 0.0)) for name, r in room.items()}
        self.norm = max(norm, self.norm)

    def logged(self) -> dict[str, tuple[int, Off]]:
        """Loss and gradient norm in both logs: the first step beyond rounding, else the largest ratio."""
        a, b = self.logs
        found: dict[str, tuple[int, Off]] = {}
        for name, key in (("loss", "loss"), ("gradient norm", "grad_norm")):
            room = self.norm if key == "grad_norm" else 0.0
            for step in sorted(a.keys() & b.keys()):
                x = off(a[step][key], b[step][key], self.limit * step, room=room * abs(b[step][key]))
                if name not in found or (x.share > found[name][1].share and not found[name][1].wrong):
                    found[name] = step, x
        return found


def _rows(what: str, row: dict[str, Off]) -> None:
    """Print the largest ratio, then up to SHOWN others beyond rounding."""
    if not row:
        return
    furthest = max(row, key=lambda name: row[name].share)
    say(f"{f'  {len(row)} {what}, largest: {furthest}':<{WIDE}}{row[furthest]}")
    for name in [name for name, x in row.items() if x.wrong and name != furthest][:SHOWN]:
        say(f"{f'    also {name}':<{WIDE}}{row[name]}")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "1%"


def _state(run: Path) -> dict:
    return run_folder.read_state(run_folder.newest(run))


def _log(path: Path) -> dict[int, dict]:
    """The steps of a log, without those that the loss scale skipped (see precision.py)."""
    records, lost = log.read(path)
    if lost:
        say(log.skipped(path, lost))
    return {r["step"]: r for r in records if None not in map(r.get, ("loss", "grad_norm", "lr"))}
