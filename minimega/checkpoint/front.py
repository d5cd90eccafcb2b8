"""One line to load a model with its tokenizer, and one to save it."""

import hashlib
import json
from pathlib import Path

import numpy as np

from minimega.backend import device as library_of
from minimega.checkpoint import checkpoint, run_folder
from minimega.checkpoint.pieces import piece_of, write
from minimega.data import tokens
from minimega.data.tokens import Tokenizer
from minimega.errors import BadInput, shown
from minimega.model import Model

FLOATS = "float16", "bfloat16", "float32", "float64"


def load(path: str | Path, dtype: str | None = None, device: str = "cpu") -> tuple[Model, Tokenizer | None]:
    """A model and its tokenizer (None if there is none beside it).

    `path` is a run's folder, one of its checkpoints, what `save` wrote, or one model.safetensors. `dtype`
    converts the weights (None: as they are stored), `device` is "cpu" or "cuda". Raises BadInput if there is
    no model, its tokenizer belongs to another one, or dtype or device is none.
    """
    source = run_folder.find(str(_path("load reads", path)))
    if device not in ("cpu", "cuda"):
        raise BadInput(f"device is {shown(device)}; it must be cpu or cuda")
    model = checkpoint.load_model(source, dtype and _float(dtype), library_of(device))
    try:
        folder = run_folder.run_of(source)
    except BadInput:
        return model, None
    return model, open_tokenizer(source, folder)


def save(folder: str | Path, model: Model, tokenizer: Tokenizer | None = None) -> None:
    """Write a model, and its tokenizer if given, into a folder that `load` and the commands read.

    The folder is made if needed; model.safetensors and tokenizer.json in it are replaced.
    Raises BadInput if the folder holds a run, the vocabularies differ or the model has no values, OSError if
    writing fails.
    """
    folder = _path("save writes", folder)
    if folder.suffix == ".safetensors":
        raise BadInput(f"save writes a folder, with {folder.name} in it: give the folder, not {folder}")
    if not isinstance(model, Model) or not isinstance(tokenizer, Tokenizer | None):
        given = ", ".join(type(given).__name__ for given in (model, tokenizer))
        raise BadInput(f"save takes a folder, a model and a tokenizer (or None), not a {given}")
    if tokenizer and tokenizer.size != model.config.vocab_size:
        raise BadInput(
            f"the tokenizer has {tokenizer.size} tokens and the model {model.config.vocab_size}: "
            "they do not belong together"
        )
    digest = tokenizer_digest(tokenizer) if tokenizer else None
    header = checkpoint.headers_of(model.config, 0, 0, digest)["model"]
    arrays = {piece_of(p): p.data for p in model.parameters().values()}
    run_folder.make(folder)
    if run_folder.checkpoints(folder):
        raise BadInput(f"{folder} holds a run: choose another folder")
    with run_folder.whole(folder / "model.safetensors") as work:
        write(work, arrays, header)
    if tokenizer:
        with run_folder.whole(folder / "tokenizer.json") as work:
            tokenizer.save(work)
    else:  # that of an earlier model would be taken for this one's
        (folder / "tokenizer.json").unlink(missing_ok=True)


def _path(what: str, path: str | Path) -> Path:
    if not isinstance(path, str | Path) or not str(path).strip():
        raise BadInput(f"{what} a folder, named by a str or a Path, not {shown(path)}")
    return Path(path)


def _float(dtype) -> str:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in FLOATS:
        raise BadInput(f"dtype is {shown(name)}; it must be one of {', '.join(FLOATS)}")
    return name


def tokenizer_digest(tokenizer: tokens.Tokenizer) -> str:
    """A digest of a tokenizer: its kind, and the number of each token."""
    bpe = tokenizer.kind == "bpe"
    tokens = sorted(tokenizer.library.get_vocab().items()) if bpe else tokenizer.tokens
    known = [tokenizer.kind, tokens, *[tokenizer.named] * bool(tokenizer.named)]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def open_tokenizer(source: Path, run: Path) -> tokens.Tokenizer:
    """The tokenizer of a run. Raises BadInput if the model in `source` was not trained with it."""
    path, (parts, config) = run / "tokenizer.json", checkpoint.open_model(source)
    tokenizer = tokens.load(path)
    known = parts.header.get("tokenizer")  # older checkpoints do not say
    if tokenizer.size != config.vocab_size or (known and known != tokenizer_digest(tokenizer)):
        raise BadInput(
            f"{path} belongs to another run: {source} was not trained with it\n"
            f"Replace it with the tokenizer.json of the model's own run."
        )
    return tokenizer
