"""A run's folder: which files a run wrote, where a new run may begin, which checkpoint is the newest.

    RUN/config.toml, tokenizer.json, log.jsonl, loss.png, latest
    RUN/step-N/          a checkpoint, if it holds a state.json
    RUN/step-N.tmp/, tokens-XXXXXXXX/, config.toml.tmp ...     left by a run that was killed

Only what a run wrote is ever removed: known names, in folders with known names. Other files stay, and so do
their folders. A symbolic link is removed, never its target.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from minimega.errors import BadInput, naming

FILES = "latest", "config.toml", "log.jsonl", "loss.png", "tokenizer.json"  # the last one marks a run
STEP = re.compile(r"step-(0|[1-9][0-9]*)")
# safetensors writes .tmpXXXXXX first
PART = re.compile(r"state\.json(\.tmp)?|(model|optimizer)(-[0-9]{5,})?\.safetensors|\.tmp\w{6}")
LEFT = {  # folders of a run that was killed, and what it wrote into them
    re.compile(STEP.pattern + r"\.tmp"): PART,
    re.compile(r"tokens-\w{8}"): re.compile(
        r"(train|held_out)\.npy(\.tmp)?|vectors-(ids|rows|factor)\.npy|tokenizer\.json"
    ),
}


def checkpoints(run: Path) -> dict[int, Path]:
    """The checkpoints in a folder, by step, the newest last."""
    named = ((STEP.fullmatch(path.name), path) for path in run.iterdir())
    found = {int(name[1]): path for name, path in named if name and (path / "state.json").is_file()}
    return dict(sorted(found.items()))


def remove_checkpoint(folder: Path) -> None:
    """Remove the files that a run wrote for a checkpoint, complete or not."""
    if folder.is_symlink():
        folder.unlink()
    else:
        _remove(folder, PART)


def put_checkpoint(work: Path, folder: Path) -> None:
    """Rename a finished checkpoint to its final name, replacing an earlier one of that name."""
    if folder.is_dir():
        remove_checkpoint(folder)
    files = [path for path in _state_last(work) if PART.fullmatch(path.name)]
    if not folder.is_dir() and len(files) == len(list(work.iterdir())):
        work.rename(folder)
        return
    folder.mkdir(exist_ok=True)  # one of the two holds someone else's file
    for path in files:
        path.replace(folder / path.name)
    with suppress(OSError):
        work.rmdir()


def prune(run: Path, step: int, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints up to this step.

    Later ones exist if someone set `latest` back: the run overwrites them when it gets there.
    """
    for old in [path for n, path in checkpoints(run).items() if n <= step][:-keep]:
        with suppress(OSError):
            remove_checkpoint(old)


def _remove(folder: Path, ours: re.Pattern) -> None:
    """Remove the files whose names match, and the folder if nothing else is in it."""
    for path in _state_last(folder):
        if ours.fullmatch(path.name) and not (path.is_dir() and not path.is_symlink()):
            path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _state_last(folder: Path) -> list[Path]:
    """The files of a checkpoint's folder; state.json, which makes it a checkpoint, comes last."""
    return sorted(folder.iterdir(), key=lambda path: path.name == "state.json")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, then rename it to `path`: the file appears atomically.

    If the block fails, the temporary file is removed; an OSError names `path`.
    """
    work = path.with_name(f"{path.name}.tmp")
    try:
        with naming(path):
            yield work
        work.replace(path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise


def replace_text(path: Path, text: str) -> None:
    """Write a text file atomically. Raises as `whole` does."""
    with whole(path) as work:
        work.write_text(text, encoding="utf-8")


def holds_run(folder: Path) -> bool:
    """Whether a run was begun here: it has left its tokenizer or a checkpoint."""
    with suppress(OSError), (folder / "tokenizer.json").open("rb") as file:
        if b'"minimega tokenizer"' in file.read(100):
            return True
    return bool(checkpoints(folder))


def clear(folder: Path) -> None:
    """Remove an earlier run's files."""
    if holds_run(folder):
        (folder / "latest").unlink(missing_ok=True)  # first: a half-removed run must not look complete
        for path in checkpoints(folder).values():
            remove_checkpoint(path)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)


def put_run(folder: Path, files: Mapping[str, Callable[[Path], object]], work: Path | None = None) -> None:
    """Replace an earlier run with a new one, once its first files are written; they appear last to first.

    `files` maps each file's name to the function that writes it. `work` is the folder step-N.tmp of a
    checkpoint to begin with.
    """
    with ExitStack() as stack:
        for name, write in files.items():
            write(stack.enter_context(whole(folder / name)))
        clear(folder)
        if work:
            put_checkpoint(work, work.with_suffix(""))


def sweep(folder: Path) -> None:
    """Remove what a killed run left. The caller holds the folder's lock."""
    for path in list(folder.iterdir()):
        for name, ours in LEFT.items():
            if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                _remove(path, ours)
    if holds_run(folder):
        for name in FILES:
            (folder / f"{name}.tmp").unlink(missing_ok=True)


def make(folder: Path) -> None:
    """Make the folder of a new run if it does not exist. Raises BadInput if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"`save_dir` {folder} is a file, not a folder") from None
    except OSError as why:
        raise BadInput(f"`save_dir` {folder} cannot be made: {why.strerror}") from None


def open_folder(folder: Path, overwrite: bool) -> None:
    """Make a new run's folder. Raises BadInput if it holds a run and not `overwrite`, or a file in the way.

    With `overwrite` the old run stays until `put_run` replaces it.
    """
    make(folder)
    if holds_run(folder):
        if not overwrite and not checkpoints(folder):
            raise BadInput(
                f"{folder} holds a run that saved no checkpoint; train with `overwrite` replaces it, "
                f"another `save_dir` leaves it alone"
            )
        if not overwrite:
            raise BadInput(
                f"{folder} already holds a run; train with `resume` continues it, `overwrite` replaces it, "
                f"another `save_dir` leaves it alone"
            )
    elif taken := [name for name in FILES if (folder / name).exists()]:
        raise BadInput(
            f"{folder}/{taken[0]} is in the way: no run wrote it, and a run would replace it; "
            f"move it, or choose another `save_dir`"
        )


def newest(run: Path) -> Path:
    """The newest checkpoint of a run's folder, which `latest` names. Raises BadInput if there is none."""
    if run.is_file():
        raise BadInput(f"{run} is no model: give a run's folder or a .safetensors in one")
    if not run.is_dir():
        raise BadInput(f"{run}: no such run folder")
    try:
        name = (run / "latest").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise BadInput(f"{run} holds no finished checkpoint (no file `latest` in it)") from None
    except OSError as why:
        raise BadInput(f"{run}/latest cannot be read: {why.strerror}") from None
    except ValueError:
        name = "something that is not text"
    # Neither a path nor a copy: the rest of a name such as step-6-copy would be lost when the run continues.
    if not STEP.fullmatch(name):
        wrong = f"names {name}, not a checkpoint such as step-6" if name else "is empty"
        raise BadInput(f"{run}/latest {wrong}{_instead(run)}")
    if not (run / name / "state.json").is_file():
        raise BadInput(f"{run}/latest names {name}, which is not there{_instead(run)}")
    return run / name


def _instead(run: Path) -> str:
    there = checkpoints(run)
    return f"; write one of these into it: {', '.join(p.name for p in there.values())}" if there else ""


def find(model_filename: str) -> Path:
    """What `--model-filename` names: a .safetensors file, a checkpoint, or a run's newest checkpoint.

    Raises BadInput if there is none.
    """
    path = Path(model_filename)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise BadInput(f"{path}: no such file; give a run's folder or a .safetensors in one")
        return path
    return path if any((path / f).exists() for f in ("state.json", "model.safetensors")) else newest(path)


def run_of(weights: Path) -> Path:
    """The folder that has the tokenizer of these weights (a file, or a folder with one). BadInput if none."""
    above = *weights.absolute().parents[:2], *weights.resolve().parents[:2]  # a link?
    for folder in (weights, *above):
        if (folder / "tokenizer.json").is_file():
            return folder
    raise BadInput(f"{weights}: no tokenizer.json beside it or one folder up, as a run's folder has")


def read_state(folder: Path) -> dict:
    """The content of state.json: the step and, if given, the names of the parts and the loss scale.

    Raises BadInput if it cannot be read or is damaged.
    """
    path = folder / "state.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as why:
        words = getattr(why, "strerror", None) or why
        raise BadInput(f"{path} cannot be read ({words})") from None
    if not _is_state(state):
        raise BadInput(f"{path} is damaged: its step, parts or loss_scale are not what a run writes")
    return state


def _is_state(state: object) -> bool:
    if not isinstance(state, dict) or type(state.get("step")) is not int:
        return False
    parts, scale = state.get("parts", {}), state.get("loss_scale", {})
    if not isinstance(parts, dict) or not isinstance(scale, dict):
        return False
    names = [name for found in parts.values() for name in (found if isinstance(found, list) else [None])]
    return all(isinstance(name, str) and PART.fullmatch(name) for name in names) and all(parts.values())
