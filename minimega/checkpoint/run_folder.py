"""A run's folder: which files in it a run wrote, where a new run may begin, which checkpoint is the newest.

    RUN/config.toml, tokenizer.json, log.jsonl, loss.png, latest
    RUN/step-N/          a checkpoint, if it holds a state.json
    RUN/step-N.tmp/, tokens-XXXXXXXX/, config.toml.tmp ...     left by a run that was killed

Only what a run wrote is ever removed: known names, in folders with known names. What else is there stays, and
the folder around it too. Of a symbolic link the link is removed, never what it leads to.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from minimega.errors import BadInput, naming

FILES = "latest", "config.toml", "log.jsonl", "loss.png", "tokenizer.json"  # the last one marks a run
STEP = re.compile(r"step-(0|[1-9][0-9]*)")
# safetensors writes .tmpXXXXXX first
PART = re.compile(r"state\.json(\.tmp)?|(model|optimizer)(-[0-9]{5,})?\.safetensors|\.tmp\w{6}")
LEFT = {  # folders of a run that was killed, and what it wrote into them
    re.compile(STEP.pattern + r"\.tmp"): PART,
    re.compile(r"tokens-\w{8}"): re.compile(r"(train|held_out)\.npy(\.tmp)?|tokenizer\.json"),
}


def checkpoints(run: Path) -> dict[int, Path]:
    """The checkpoints that lie in a folder, by their step, the newest last."""
    named = ((STEP.fullmatch(path.name), path) for path in run.iterdir())
    found = {int(name[1]): path for name, path in named if name and (path / "state.json").is_file()}
    return dict(sorted(found.items()))


def remove_checkpoint(folder: Path) -> None:
    """Remove what a run wrote of a checkpoint, whole or not."""
    if folder.is_symlink():
        folder.unlink()
    else:
        _remove(folder, PART)


def put_checkpoint(work: Path, folder: Path) -> None:
    """Give a checkpoint that is written its name; one of that name is replaced."""
    if folder.is_dir():
        remove_checkpoint(folder)
    files = [path for path in _state_last(work) if PART.fullmatch(path.name)]
    if not folder.is_dir() and len(files) == len(list(work.iterdir())):
        work.rename(folder)
        return
    folder.mkdir(exist_ok=True)  # somebody keeps a file in one of the two
    for path in files:
        path.replace(folder / path.name)
    with suppress(OSError):
        work.rmdir()


def prune(run: Path, step: int, keep: int) -> None:
    """Keep the newest `keep` checkpoints up to this step.

    Later ones are there where somebody set `latest` back: a run overwrites them when it gets there.
    """
    for old in [path for n, path in checkpoints(run).items() if n <= step][:-keep]:
        with suppress(OSError):
            remove_checkpoint(old)


def _remove(folder: Path, ours: re.Pattern) -> None:
    """Remove the files of these names, and the folder where nothing else is in it."""
    for path in _state_last(folder):
        if ours.fullmatch(path.name) and not (path.is_dir() and not path.is_symlink()):
            path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _state_last(folder: Path) -> list[Path]:
    """What is in a checkpoint's folder; the file that makes it one comes last."""
    return sorted(folder.iterdir(), key=lambda path: path.name == "state.json")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write a file under; the file gets its own when it is whole, and none if that fails."""
    work = path.with_name(f"{path.name}.tmp")
    try:
        with naming(path):
            yield work
        work.replace(path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole(path) as work:
        work.write_text(text, encoding="utf-8")


def holds_run(folder: Path) -> bool:
    """Whether a run was begun here: there is its tokenizer, or a checkpoint."""
    with suppress(OSError), (folder / "tokenizer.json").open("rb") as file:
        if b'"minimega tokenizer"' in file.read(100):
            return True
    return bool(checkpoints(folder))


def clear(folder: Path) -> None:
    """Remove an earlier run."""
    if holds_run(folder):
        (folder / "latest").unlink(missing_ok=True)  # from here on nothing half removed is taken for whole
        for path in checkpoints(folder).values():
            remove_checkpoint(path)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)


def put_run(folder: Path, files: dict[str, Callable[[Path], object]], work: Path | None = None) -> None:
    """Replace an earlier run by a new one, when its first files are written; they appear last to first.

    `files`: what writes each of them. `work`: the folder step-N.tmp of a checkpoint to begin with.
    """
    with ExitStack() as stack:
        for name, write in files.items():
            write(stack.enter_context(whole(folder / name)))
        clear(folder)
        if work:
            put_checkpoint(work, work.with_suffix(""))


def sweep(folder: Path) -> None:
    """Remove what a run left that was killed. To be called by who holds the folder's lock."""
    for path in list(folder.iterdir()):
        for name, ours in LEFT.items():
            if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                _remove(path, ours)
    if holds_run(folder):
        for name in FILES:
            (folder / f"{name}.tmp").unlink(missing_ok=True)


def make(folder: Path) -> None:
    """Make the folder of a new run, if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"--save-dir {folder} is a file, not a folder") from None
    except OSError as why:
        raise BadInput(f"--save-dir {folder} cannot be made: {why.strerror}") from None


def open_folder(folder: Path, overwrite: bool) -> None:
    """Make a new run's folder; a run that it holds is refused, or left until the new one can begin."""
    make(folder)
    if holds_run(folder):
        if not overwrite:
            raise BadInput(
                f"{folder} holds a run already; train --resume goes on with it, --overwrite removes it, "
                f"another --save-dir leaves it alone"
            )
    elif taken := [name for name in FILES if (folder / name).exists()]:
        raise BadInput(
            f"{folder}/{taken[0]} is in the way: no run wrote it, and a run would replace it; "
            f"move it, or choose another --save-dir"
        )


def newest(run: Path) -> Path:
    """The newest whole checkpoint of a run's folder."""
    if not run.is_dir():
        raise BadInput(f"{run}: there is no such run folder")
    try:
        name = (run / "latest").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise BadInput(f"{run} holds no finished checkpoint (no file `latest` in it)") from None
    except OSError as why:
        raise BadInput(f"{run}/latest cannot be read: {why.strerror}") from None
    except ValueError:
        name = "what is no text"
    # No path, nor a copy: what follows step-N in its name would be lost when the run goes on.
    if not STEP.fullmatch(name):
        wrong = f"names {name}, and not a checkpoint such as step-6" if name else "is empty"
        raise BadInput(f"{run}/latest {wrong}{_instead(run)}")
    if not (run / name / "state.json").is_file():
        raise BadInput(f"{run}/latest names {name}, which is not there{_instead(run)}")
    return run / name


def _instead(run: Path) -> str:
    there = checkpoints(run)
    return f"; write one of these into it: {', '.join(p.name for p in there.values())}" if there else ""


def find(model_filename: str) -> Path:
    """What `--model-filename` means: a .safetensors, a checkpoint's folder, or the newest one of a run's."""
    path = Path(model_filename)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise BadInput(f"{path}: there is no such file; give a run's folder or a .safetensors in one")
        return path
    return path if any((path / f).exists() for f in ("state.json", "model.safetensors")) else newest(path)


def run_of(weights: Path) -> Path:
    """The run's folder that a weights file lies in: the one with the tokenizer."""
    for folder in (*weights.absolute().parents[:2], *weights.resolve().parents[:2]):  # it may be a link
        if (folder / "tokenizer.json").is_file():
            return folder
    raise BadInput(f"{weights}: no tokenizer.json beside it or one folder up, as a run's folder has")


def read_state(folder: Path) -> dict:
    """What state.json says: the step, and where they are given the names of the files and the loss scale."""
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
