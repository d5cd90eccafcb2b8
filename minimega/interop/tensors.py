"""The arrays of model.safetensors, or of the shards that model.safetensors.index.json names."""

import stat
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from minimega.errors import BadInput, shown
from minimega.interop.settings import read_json

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
TYPES = "F64", "F32", "F16", "BF16"
OTHER_FORMATS = (
    "pytorch_model*.bin",
    "*.pt",
    "*.pth",
    "tf_model.h5",
    "flax_model.msgpack",
    "*.ckpt",
    "*.gguf",
)
PREFIX = "transformer."


class Tensors:
    """The arrays in a folder, by name without `transformer.`; opening them reads only the headers.

    Raises BadInput if a file is missing or damaged, if it does not hold what the index says, or if the
    weights are there in another format alone.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.stored: dict[str, tuple[str, Any]] = {}  # by name: the name in its file, and the open file
        for name, wanted in _files(folder).items():
            file = _open(folder / name)
            held = set(file.keys())
            for theirs in sorted(held if wanted is None else wanted):
                if theirs not in held:
                    raise BadInput(f"{folder / INDEX} says that {name} holds {theirs}; it does not")
                ours = theirs.removeprefix(PREFIX)
                if ours in self.stored:
                    raise BadInput(f"{folder} holds {ours} twice, with and without the prefix {PREFIX}")
                self.stored[ours] = theirs, file

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array; nothing is read."""
        theirs, file = self.stored[name]
        return tuple(file.get_slice(theirs).get_shape())

    def check_types(self, names) -> None:
        """Raise BadInput if these arrays have several types, or one that minimega does not have."""
        found = {self.stored[name][1].get_slice(self.stored[name][0]).get_dtype(): name for name in names}
        if odd := sorted(found.keys() - set(TYPES)):
            raise BadInput(
                f"{self.folder}: {found[odd[0]]} has the type {odd[0]}; minimega reads {', '.join(TYPES)}"
            )
        if len(found) > 1:
            some = " and ".join(f"{name} is {kind}" for kind, name in found.items())
            raise BadInput(f"{self.folder}: its arrays have several types ({some}); save it in one of them")

    def read(self, name: str) -> np.ndarray:
        """The array of this name. Raises BadInput if it cannot be read or is not finite."""
        theirs, file = self.stored[name]
        try:
            array = file.get_tensor(theirs)
        except (SafetensorError, OSError) as why:
            raise BadInput(f"{self.folder}: {name} cannot be read ({why})") from None
        if not np.isfinite(array).all():
            raise BadInput(f"{self.folder}: {name} holds numbers that are not finite: the file is damaged")
        return array


def _files(folder: Path) -> dict[str, set[str] | None]:
    """The names of the files, with the arrays that each must hold (None: there is no index)."""
    if (folder / ONE).exists():
        return {ONE: None}
    if not (folder / INDEX).exists():
        others = sorted(path.name for pattern in OTHER_FORMATS for path in folder.glob(pattern))
        if others:
            raise BadInput(
                f"{folder} has its weights only as {others[0]}; import-hf reads safetensors. Convert it "
                f"where transformers and torch are installed:\n"
                f'python -c "from transformers import GPT2LMHeadModel as M; '
                f"M.from_pretrained('{folder}').save_pretrained('{folder}-safe')\""
            )
        raise BadInput(f"{folder} has no {ONE} (nor {INDEX}): it is not the folder of a saved model")
    where = read_json(folder / INDEX).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise BadInput(f"{folder / INDEX} has no weight_map, which says which file holds which array")
    files: dict[str, set[str]] = {}
    for name, file in where.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise BadInput(
                f"{folder / INDEX}: {name} is in {shown(file)}, which is not a .safetensors file beside it"
            )
        files.setdefault(file, set()).add(name)
    if missing := sorted(name for name in files if not (folder / name).is_file()):
        raise BadInput(f"{folder / missing[0]} is missing: {INDEX} names {len(files)} files")
    return {**files}


def _open(path: Path):
    try:
        with path.open("rb") as file:
            begin = file.read(200)
    except OSError as why:
        raise BadInput(f"{path} cannot be read: {why.strerror}") from None
    if begin.startswith(b"version https://git-lfs"):
        raise BadInput(f"{path} is only a pointer of Git LFS: run `git lfs pull` in the folder")
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError, ValueError) as why:
        raise BadInput(f"{path} cannot be read; it may be cut short ({why})") from None


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write one .safetensors file, as transformers does. Raises OSError if that fails."""
    path.touch()
    mode = path.stat().st_mode  # by the umask; safetensors makes its file private to the owner
    try:
        save_file(arrays, path, metadata={"format": "pt"})
    except SafetensorError as why:
        raise OSError(f"{path}: {why}") from None
    path.chmod(stat.S_IMODE(mode))
