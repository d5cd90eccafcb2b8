"""A model by its name, downloaded from huggingface.co, where there is a network."""

import re
from pathlib import Path

from minimega.errors import BadInput, RunFailed, pip

NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
WANTED = [
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
]


def folder_of(name: str) -> Path:
    """The folder of this path; if there is none, that of the model of this name, downloaded once.

    Raises BadInput if there is no such model, or nothing to download with; RunFailed if there is no network.
    """
    if Path(name).is_dir():
        return Path(name)
    if Path(name).exists() or not NAME.fullmatch(name):
        raise BadInput(f"{name} is not a folder, nor a name such as gpt2 that could be downloaded")
    elsewhere = f"where there is a network, `hf download {name} --local-dir FOLDER`, then import-hf FOLDER"
    try:
        import huggingface_hub as hub
    except ImportError:
        raise BadInput(
            f"there is no folder {name}; to download the model of this name: {pip('huggingface_hub')}\n"
            f"Or {elsewhere}."
        ) from None
    try:
        return Path(hub.snapshot_download(name, allow_patterns=WANTED))
    except Exception as why:  # of many libraries, by what is wrong
        if type(why).__name__ in ("RepositoryNotFoundError", "HFValidationError", "GatedRepoError"):
            raise BadInput(
                f"there is no folder {name}, and huggingface.co gives no model of this name"
            ) from None
        raise RunFailed(
            f"there is no folder {name}, and the model of this name cannot be downloaded "
            f"({type(why).__name__}): this machine does not reach huggingface.co\nInstead, {elsewhere}."
        ) from None
