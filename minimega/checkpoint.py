"""Checkpoints: a folder for each, renamed when it is whole; safetensors, never pickle.

RUN/config.toml, tokenizer.json, log.jsonl, loss.png
RUN/step-200/model.safetensors        weights; the header holds format, version and the model's
configuration RUN/step-200/optimizer.safetensors    what the optimizer remembers RUN/step-200/state.json
the step, and all else that a resumed run must find as it was RUN/latest                            the
name of the newest whole checkpoint
"""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from minimega.backend import library, to_numpy
from minimega.errors import BadInput
from minimega.model import Config, Model, gpt
from minimega.optim import Optimizer
from minimega.parallel.comm import SELF, Group
from minimega.parallel.pipeline import staged
from minimega.parallel.tensor import ALONE, Shares

FORMAT, VERSION = "minimega", 1


def save(
    run: Path, step: int, model: Model, optimizer: Optimizer, state: dict, keep: int = 2, world: Group = SELF
) -> None:
    """Write RUN/step-N whole or not at all, point `latest` at it, and remove all but the newest `keep`.

    All ranks enter: what is cut is made whole, and the first rank writes it, so that any layout can read
    it. An OSError (a full disk) leaves what was there before.
    """
    weights = gathered(model, {name: p.data for name, p in model.parameters().items()})
    slots = {
        f"{name}/{slot}": a
        for slot in optimizer.kept
        for name, a in gathered(model, {n: kept[slot] for n, kept in optimizer.state.items()}).items()
    }
    if world.rank == 0:
        header = {"format": FORMAT, "version": str(VERSION), "config": json.dumps(model.config.as_dict())}
        files = {"model": (weights, header), "optimizer": (slots, {"steps": str(optimizer.steps)})}
        _write_folder(run, f"step-{step}", files, {"version": VERSION, "step": step, **state})
        for old in sorted(run.glob("step-*[0-9]"), key=lambda f: int(f.name[5:]))[:-keep]:
            shutil.rmtree(old, ignore_errors=True)
    world.barrier()


def gathered(model: Model, arrays: dict) -> dict[str, np.ndarray]:
    """What the stages of a pipeline have for their parameters, whole, on the first stage."""
    group, found = model.pipeline, {}
    like = next(iter(arrays.values()))
    for name, p in model.entire.parameters().items():
        home = model.home(name)
        if group.rank == home:
            array = p.whole(arrays[name])
            if home:
                group.start_send(array, 0, "checkpoint")()
        elif group.rank == 0:
            array = group.start_receive(library(like).empty(p.whole_shape, like.dtype), home)()
        if group.rank == 0:
            found[name] = to_numpy(array)
    return found


def _write_folder(run: Path, name: str, files: dict[str, tuple[dict, dict]], state: dict) -> None:
    folder, work = run / name, run / f"{name}.tmp"
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir()
        for file, (arrays, header) in files.items():
            _write(work / f"{file}.safetensors", arrays, header)
        (work / "state.json").write_text(json.dumps(state, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
        (run / "latest.tmp").write_text(name)
        (run / "latest.tmp").rename(run / "latest")
    except (OSError, SafetensorError) as why:
        shutil.rmtree(work, ignore_errors=True)
        raise why if isinstance(why, OSError) else OSError(str(why)) from None


def _write(path: Path, arrays: dict[str, np.ndarray], header: dict[str, str]) -> None:
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, path, metadata=header)


def _found(folder: Path) -> list[Path]:
    """What an earlier run left in this folder."""
    names = ("config.toml", "tokenizer.json", "log.jsonl", "loss.png", "latest", "step-*")
    return [path for name in names for path in folder.glob(name)]


def clear_folder(folder: Path) -> None:
    """Remove an earlier run, and nothing else that the folder holds."""
    for path in _found(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def open_folder(folder: Path, overwrite: bool) -> None:
    """Make a new run's folder; a run that it holds is refused, or left until the new one can begin."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"--save-dir {folder} is a file, not a folder") from None
    except (PermissionError, FileNotFoundError) as why:
        raise BadInput(f"--save-dir {folder} cannot be made: {why.strerror}") from None
    if _found(folder) and not overwrite:
        raise BadInput(
            f"{folder} holds a run already; --resume goes on with it, --overwrite removes it, "
            f"another --save-dir leaves it alone"
        )


def newest(run: Path) -> Path:
    """The newest whole checkpoint of a run's folder."""
    if not run.is_dir():
        raise BadInput(f"{run}: there is no such run folder")
    try:
        folder = run / (run / "latest").read_text().strip()
    except OSError:
        raise BadInput(f"{run} holds no finished checkpoint (no file `latest` in it)") from None
    if not folder.is_dir():
        raise BadInput(f"{run}/latest names {folder.name}, which is not there")
    return folder


def weights_file(model_filename: str) -> Path:
    """The .safetensors that `--model-filename` means: itself, or the newest of a run's folder."""
    path = Path(model_filename)
    if path.suffix != ".safetensors":
        path = (path if (path / "model.safetensors").exists() else newest(path)) / "model.safetensors"
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; give a run's folder or a .safetensors in one")
    return path


def run_folder(weights: Path) -> Path:
    """The run's folder that a weights file lies in: the one with the tokenizer."""
    for folder in weights.resolve().parents[:2]:
        if (folder / "tokenizer.json").is_file():
            return folder
    raise BadInput(f"{weights}: no tokenizer.json beside it or one folder up, as a run's folder has")


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a .safetensors file by name, and what its header says."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as why:
        raise BadInput(f"{path} cannot be read as a checkpoint; it may be cut short ({why})") from None


def load_model(
    weights: Path, dtype: str | None = None, xp=np, shares: Shares = ALONE, pipeline: Group = SELF
) -> Model:
    """The model in a .safetensors that minimega wrote, its numbers as they are or in another dtype.

    `shares` and `pipeline` say how it is cut now, whatever it was when it was written.
    """
    arrays, header = read(weights)
    if header.get("format") != FORMAT:
        raise BadInput(f"{weights} was not written by minimega (its header does not say so)")
    if header.get("version") != str(VERSION):
        raise BadInput(
            f"{weights} has version {header.get('version')}; this minimega reads version {VERSION}"
        )
    try:
        model = staged(gpt(Config(**json.loads(header["config"])), shares), pipeline)
    except (KeyError, TypeError, ValueError) as why:
        raise BadInput(f"{weights}: the configuration in its header is damaged ({why})") from None
    fill(model, arrays, weights, dtype, xp)
    return model


def fill(model: Model, arrays: dict[str, np.ndarray], source: Path, dtype: str | None = None, xp=np) -> None:
    """Give every parameter its piece of the array of its name, if names and shapes agree."""
    if odd := sorted(model.entire.parameters().keys() ^ arrays.keys()):
        raise BadInput(f"{source} holds another model: {odd[0]} is in only one of the two")
    for name, p in model.parameters().items():
        if arrays[name].shape != p.whole_shape:
            raise BadInput(
                f"{source} holds another model: {name} is {arrays[name].shape}, not {p.whole_shape}"
            )
        piece = arrays[name][p.piece]
        p.data, p.grad = xp.asarray(np.array(piece, dtype or piece.dtype)), None


def resume(folder: Path, model: Model, optimizer: Optimizer) -> dict:
    """Fill a model and its optimizer from a checkpoint of the same shape, and give the rest of its state."""
    xp = library(next(iter(model.parameters().values())).data)
    try:
        state = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError) as why:
        raise BadInput(f"{folder}/state.json cannot be read ({why})") from None
    fill(model, read(folder / "model.safetensors")[0], folder, xp=xp)
    slots, header = read(folder / "optimizer.safetensors")
    optimizer.steps, optimizer.state = int(header["steps"]), {}
    for path, array in slots.items():
        name, slot = path.rsplit("/", 1)
        if name in model.parameters():  # not of another stage
            piece = model.parameters()[name].piece
            optimizer.state.setdefault(name, {})[slot] = xp.asarray(array[piece])
    return state
