"""`minimega compare`: two runs side by side. Rounding, or a bug, and where it begins.

The second run, B, is held to be right. One batch goes through the model twice, cut as A's run cuts it and as
B's does, both times at the weights of B: this compares two ways of computing, with nothing else between them.
Weights, what the optimizer remembers, and the logs compare what the two runs made of it.
"""

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace as Options

import numpy as np

from minimega import checkpoint, launch, log, options, run_folder, table, tokens, verdict
from minimega.errors import BadInput, RunFailed
from minimega.measure import measure
from minimega.parallel.grid import layout
from minimega.progress import say
from minimega.texts import open_tokenizer, read_texts
from minimega.verdict import Off, off

STEPS = 3  # of a run that is given as a command
ROUNDS = {"dtype"}  # it may differ beside MAY_CHANGE: it changes the rounding alone


def run_comparison(o: Options) -> int:
    """Compare two run folders, or two commands in quotes: 0 for equal and for rounding, 1 for a bug.

    A command ("train --tp 2 ...") is run for 3 steps into a temporary folder. BadInput for runs that differ
    in more than their layout: another option, vocabulary or text.
    """
    if (launch.ranks_given() or 1) > 1:
        raise BadInput("compare starts the ranks that it needs itself: leave mpirun out")
    with tempfile.TemporaryDirectory(prefix="minimega-") as work:
        a, b = (_folder(run, Path(work) / name) for run, name in ((o.run_a, "a"), (o.run_b, "b")))
        return Comparison(a, b, Path(work), (o.run_a, o.run_b)).report()


def _folder(run: str, target: Path) -> Path:
    """The run's folder; of a command, after a few steps of it."""
    if run.split()[:1] != ["train"]:
        run_folder.newest(Path(run))
        return Path(run)
    more = ["--save-dir", str(target), "--num-steps", str(STEPS), "--save-every", "1", "--keep", str(STEPS)]
    words = [sys.executable, "-m", "minimega", *shlex.split(run), *more]
    ended = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if ended.returncode:
        error = BadInput if ended.returncode == 2 else RunFailed
        raise error(f"{run}: {ended.stderr.strip().removeprefix('minimega: ')}")
    return target


class Comparison:
    """All that can be told of two runs. Findings: for each kind ("gradient", "weight"...) Off by name."""

    def __init__(self, run_a: Path, run_b: Path, work: Path, names: tuple[str, str]):
        self.runs, self.work, self.names = (run_a, run_b), work, names
        self.o = [options.complete("train", options.read(str(run / "config.toml"))) for run in self.runs]
        self.logs = [_log(run / "log.jsonl") for run in self.runs]
        self.check_comparable()
        o, self.newest = self.o[1], run_folder.newest(run_b)
        self.config = checkpoint.open_model(self.newest)[1]
        dtype = max((o.dtype for o in self.o), key=verdict.eps)  # the coarser one
        self.limit, self.formula = verdict.explained(dtype, self.config, o.train_batch_size)

    def check_comparable(self) -> None:
        """BadInput where the runs must differ."""
        a, b = self.o
        both = f"{self.names[0]} and {self.names[1]} cannot be equal"
        for name, option in table.of_command("train").items():
            x, y = getattr(a, option.key), getattr(b, option.key)
            if option.key not in table.MAY_CHANGE | ROUNDS and x != y:
                raise BadInput(f"{both}: --{name} is {x} in one and {y} in the other")
        if len({(run / "tokenizer.json").read_bytes() for run in self.runs}) > 1:
            raise BadInput(f"{both}: their vocabularies differ")
        if len({_state(run)["digest"] for run in self.runs}) > 1:
            raise BadInput(f"{both}: they learned from different texts")
        for step in sorted(self.logs[0].keys() & self.logs[1].keys()):
            if self.logs[0][step]["lr"] != self.logs[1][step]["lr"]:
                raise BadInput(
                    f"{both}: their learning rates differ at step {step} (give both one --num-steps)"
                )

    def report(self) -> int:
        """Write what is found, and give the exit status."""
        for letter, name, o in zip("AB", self.names, self.o, strict=True):
            say(f"{letter}: {name} ({layout(o)}, {o.dtype})")
        say(
            f"rounding explains distances (max|A - B| / max|B|) of {self.limit:.1e} a step ({self.formula})\n"
        )
        found = self.one_batch()
        at, trained = self.training()
        logged, part = self.logged()
        rows = {"gradient": found["gradient"], **trained}
        say(f"\n{f'gradients of that batch; {at}':<50}" + "".join(f"{kind:>10} " for kind in rows))
        for name in found["gradient"]:
            say(f"{name:<50}" + "".join(f"{row[name]!s:>11}" for row in rows.values()))
        bug = verdict.begins(found | trained) or (
            part and "No checkpoint of an early step is left to say where."
        )
        say(f"\n{logged}")
        furthest = max(x.share for kind in (found | trained).values() for x in kind.values())
        if bug:
            say(f"verdict: a bug (! is beyond rounding). {bug}")
        elif furthest:
            say(f"verdict: rounding (at most {furthest:.0%} of what it explains)")
        else:
            say("verdict: equal")
        return 1 if bug else 0

    def one_batch(self) -> dict[str, dict[str, Off]]:
        """The next batch of B's run through both, at B's weights."""
        o, step = self.o[1], _state(self.runs[1])["step"] + 1
        texts = read_texts(o, self.config.context, self.work, open_tokenizer(self.newest, self.runs[1]))
        if texts.digests["digest"] != _state(self.runs[1])["digest"]:
            raise BadInput(f"{o.train_filename} is not the text that {self.names[1]} began with")
        inputs, targets, _ = tokens.Batches(texts.train, o.train_batch_size, o.seed)(step)
        batch = self.work / "batch.npz"
        np.savez(batch, inputs=inputs, targets=targets, step=step)
        made = []
        for run, out in zip(self.runs, (self.work / "a.npz", self.work / "b.npz"), strict=True):
            if measure(run, self.newest, batch, out):
                raise RunFailed(f"the ranks of {run} failed")
            with np.load(out) as file:
                made.append({name: file[name] for name in file})
        a, b = made
        found: dict[str, dict[str, Off]] = {}
        for path in b:
            kind, name = path.split("/")
            layer = f"gradient/{name.rpartition('.')[0]}."
            near = max((np.abs(b[p]).max() for p in b if p.startswith(layer)), default=0.0)
            found.setdefault(kind, {})[name] = off(a[path], b[path], self.limit, near)
        say(f"{f'the batch of step {step}, at the weights of B':<50}{'A':>14}{'B':>14}   distance")
        for name, x in found["number"].items():
            say(f"{name:<50}{a[f'number/{name}']:>14.8g}{b[f'number/{name}']:>14.8g}{x!s:>12}")
        name, x = max(found["output"].items(), key=lambda item: item[1].share)
        say(f"{f'outputs of the layers; furthest: {name}':<78}{x!s:>12}")
        return found

    def training(self) -> tuple[str, dict[str, dict[str, Off]]]:
        """Weights and the optimizer's arrays at the first common checkpoint that is wrong, or at the last."""
        a, b = (run_folder.checkpoints(run).keys() for run in self.runs)
        for step in sorted(a & b):
            folders = (run / f"step-{step}" for run in self.runs)
            rates = sum(r["lr"] for s, r in self.logs[1].items() if s <= step)
            found = verdict.trained(*folders, self.o[1], rates, self.limit * step)
            if step == max(a & b) or any(x.wrong for kind in found.values() for x in kind.values()):
                return f"training after step {step}", found
        return "no checkpoint of one step is in both", {}

    def logged(self) -> tuple[str, bool]:
        """What the logs say, and whether they part."""
        a, b = self.logs
        steps, furthest = sorted(a.keys() & b.keys()), 0.0
        for step in steps:
            for key in ("loss", "grad_norm"):
                x = off(a[step][key], b[step][key], self.limit * step)
                furthest = max(furthest, x.distance)
                if x.wrong:
                    return (
                        f"logs: they part at step {step}: {key} {a[step][key]:.8g} and {b[step][key]:.8g}",
                        True,
                    )
        return f"logs: {len(steps)} common steps, losses and norms within {furthest:.1e}", False


def _state(run: Path) -> dict:
    return run_folder.read_state(run_folder.newest(run))


def _log(path: Path) -> dict[int, dict]:
    """The steps of a log that were made (see precision.py for those that were not)."""
    records, lost = log.read(path)
    if lost:
        say(log.skipped(path, lost))
    return {r["step"]: r for r in records if None not in map(r.get, ("loss", "grad_norm", "lr"))}
