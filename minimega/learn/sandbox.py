"""Run a learner's code in its own process, always with a time limit; ranks are threads of it.

`apart` starts the process and reads the files that it leaves in a folder. `main` is what the process does: on
each rank run a program with a `group`, or define a learner's function and pass it to a judge. Each rank's
output goes to its own file, so it can be printed rank by rank.
"""

import ast
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minimega as mm
from minimega.errors import BadInput, RunFailed
from minimega.learn import shelf
from minimega.learn.cells import ABOVE, CELL, plain, remember
from minimega.learn.guard import guarded
from minimega.ranks import launch
from minimega.ranks.child import python
from minimega.ranks.group import Group
from minimega.ranks.job import line_for_ranks
from minimega.ranks.meeting import Apart, Ended
from minimega.ranks.prompts import Lines
from minimega.ranks.threads import on_ranks

APART = "ranks do not meet"  # how the error begins of a rank that the others have missed
PARSING = threading.Lock()  # ast.parse of Python 3.11 can fail when ranks call it at once (its issue 106905)


class Left(NamedTuple):
    """What one rank left: its output, kept arrays, verdict and error, and whether it ended normally."""

    said: str
    kept: dict[str, np.ndarray]
    verdict: list | None
    error: str
    ended: bool


def apart(job: dict, ranks: int = 1, limit: float = 30.0) -> tuple[list[Left], str]:
    """Run the job on `ranks` ranks; returns what each left, and a sentence about any failure (or "").

    The process does not outlive this call, even if it hangs, takes longer than `limit` seconds, or the cell
    is interrupted. Raises BadInput if there are too many ranks for the cores.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job | {"ranks": ranks}), encoding="utf-8")
        launch.check_crowd(ranks, cure=": use fewer")
        line = python("-m", "minimega.learn", name)
        with open(folder / "noise", "w", encoding="utf-8") as noise, line_for_ranks() as (_, told):
            how: dict[str, Any] = {
                "stdin": subprocess.DEVNULL,
                "stdout": noise,
                "stderr": noise,
                "start_new_session": True,
            }
            process = subprocess.Popen(line, env=os.environ | told, **how)
            late = False
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                late = True
            finally:
                _end(process)
        left = [_left(folder, rank) for rank in range(ranks)]
        return left, _trouble(left, limit if late else 0, (folder / "noise").read_text(errors="replace"))


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _left(folder: Path, rank: int) -> Left:
    def text(kind: str) -> str:
        path = folder / f"{rank}.{kind}"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    kept = folder / f"{rank}.npz"
    arrays = dict(np.load(kept)) if kept.exists() else {}
    return Left(text("said"), arrays, json.loads(text("verdict") or "null"), text("error"), kept.exists())


def _trouble(left: list[Left], limit: float, noise: str) -> str:
    ranks = len(left)
    errors = {rank: one.error for rank, one in enumerate(left) if one.error}
    # if one rank raises, others may report that it is missing: a consequence, so sort those last
    for rank, error in sorted(errors.items(), key=lambda item: item[1].startswith(APART)):
        whole = ranks == 1 or error.startswith(APART) or list(errors.values()) == [error] * ranks
        return error if whole else f"rank {rank} of {ranks}: {error}"
    late = [str(rank) for rank, one in enumerate(left) if not one.ended]
    if not late:
        return ""
    who = "" if ranks == 1 else f" of rank{'s' * (len(late) > 1)} {', '.join(late)}"
    if limit:
        why = "an endless loop?" if ranks == 1 else "waiting for a message that nobody sends?"
        return f"no end{who} within {limit:g} s: {why}"
    said = " ".join(noise.strip().splitlines()[-2:])
    return f"the process{who} ended without an error message" + (f"; last output: {said}" if said else "")


def what_happened(error: BaseException, file: str = CELL) -> str:
    """An exception as a sentence, with the line of `file` where it happened.

    >>> try:
    ...     define("def f(x):\\n    return x / 0\\n")["f"](1)
    ... except ZeroDivisionError as error:
    ...     print(what_happened(error))
    ZeroDivisionError at line 2, `return x / 0`: division by zero
    """
    if isinstance(error, SyntaxError):
        where, text, message = error.lineno, error.text or "", error.msg
    else:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        where, text = (frames[-1].lineno, frames[-1].line or "") if frames else (None, "")
        message = " ".join(str(error).split())
    if isinstance(error, BadInput | RunFailed):
        return str(error)
    if isinstance(error, NotImplementedError):
        return "not written yet"
    place = f" at line {where}, `{text.strip()}`" if where else ""
    if "ellipsis" in message:  # a stub's `...` was used as if it were a number
        return f"not written yet: a value is still `...`{place}"
    return f"{type(error).__name__}{place}" + (f": {message}" if message else "")


def define(source: str, given: dict | None = None, above: str = "") -> dict:
    """Execute a learner's cell without its bare calls; returns the names that it defines.

    The cell sees np, mm and op, the names in `given`, which come from the exercise, and what `above` defines.
    """
    names = {"np": np, "mm": mm, "op": mm.op, **(given or {})}
    ready = []
    with PARSING:
        for text, file in ((above, ABOVE), (plain(source), CELL)):
            remember(text, file)
            tree = ast.parse(text, file)
            tree.body = [part for part in tree.body if not isinstance(part, ast.Expr)]
            ready.append(compile(tree, file, "exec"))
    for code in ready:
        exec(code, names)
    return names


def watched(f: Any, exercise: Any) -> Any:
    """f, `guarded` unless this exercise's function may change its arguments in place."""
    return f if getattr(exercise, "IN_PLACE", False) else guarded(f)


said: ContextVar[Any] = ContextVar("said")  # the file of what this rank prints


class Said(Lines):
    """Standard output while ranks run: each writes to its own file."""

    def __init__(self):
        super().__init__(None)

    def write(self, text: str) -> int:
        """Write to this rank's file."""
        return said.get().write(text)

    def flush(self) -> None:
        """Flush this rank's file."""
        said.get().flush()

    def finish(self) -> None:
        """Nothing is kept back."""


def main(name: str) -> int:
    """Run the job in this folder, as the process of `apart`; the exit status."""
    folder = Path(name)
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    sys.path.append(os.getcwd())  # for a learner's own modules; last, so they hide no others
    launch.hold()
    module = None
    if "program" not in job:
        shelf.package()
        module = importlib.import_module(job["module"])
    try:
        with redirect_stdout(Said()), on_ranks(job["ranks"], job["patience"]) as run:
            run(lambda group: _on_rank(folder, job, module, group))
    except BaseException:  # each rank has told its own
        return 1
    return 0


def _on_rank(folder: Path, job: dict, module: Any, group: Group) -> None:
    kept: dict[str, Any] = {}
    with open(folder / f"{group.rank}.said", "w", encoding="utf-8") as file:
        said.set(file)
        try:
            if module is None:
                remember(job["program"], CELL)
                names = {"np": np, "mm": mm, "group": group, "keep": kept.update}
                exec(compile(job["program"], CELL, "exec"), names)
            else:
                cell, above = job["source"]
                names = define(cell, getattr(module, "GIVEN", None), above)
                if job["name"] not in names:
                    raise BadInput(f"the cell defines no {job['name']}")
                judge = getattr(module, job["judge"])
                f = watched(names[job["name"]], module)
                verdict = judge(f, group) if group.size > 1 else judge(f)
                (folder / f"{group.rank}.verdict").write_text(json.dumps(verdict), encoding="utf-8")
        except Ended:  # another rank has failed
            raise
        except BaseException as error:
            words = what_happened(error)
            if isinstance(error, Apart) and not words.startswith(APART):
                words = f"{APART}: {words}"
            (folder / f"{group.rank}.error").write_text(words, encoding="utf-8")
            raise
    np.savez(folder / f"{group.rank}.npz", **kept)
