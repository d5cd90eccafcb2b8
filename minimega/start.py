"""What a run starts from: the options of one to go on with, or the shape of another's model."""

from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace as Options

from minimega import checkpoint, options, run_folder, table
from minimega.errors import BadInput
from minimega.model import Config
from minimega.texts import check_found


def resumed(folder: Path, o: Options) -> tuple[Path, Options]:
    """The newest checkpoint of the folder, and its options with what may change on the way."""
    newest = run_folder.newest(folder)
    kept = options.complete("train", options.read(folder / "config.toml"))
    for name in sorted(o.given - table.MAY_CHANGE):
        if getattr(o, name) != getattr(kept, name):
            raise BadInput(
                f"--{name.replace('_', '-')} is {getattr(kept, name)} in this run, and cannot change in it; "
                f"--init-from {folder} starts a new run from its weights"
            )
    changes = {name: getattr(o, name) for name in o.given & table.MAY_CHANGE}
    if "num_epochs" in changes and "num_steps" not in changes:
        changes["num_steps"] = None
    if any(name in changes and changes[name] != getattr(kept, name) for name in ("tp", "cp", "dp", "pp")):
        changes = {"threads": None} | changes  # another number of ranks has other shares of the cores
    # Ranks are started with the same words.
    o = replace_options(kept, words=o.words, given=o.given, **changes)
    for name in {"train_filename", "eval_filename"} - o.given:
        check_found(getattr(o, name), f"if it was moved, name it anew: --{name.replace('_', '-')} PATH")
    options.check_batch(o)
    return newest, o


def replace_options(o: Options, **changes) -> Options:
    return Options(**{**vars(o), **changes})


FREE = "dropout", "balance"  # what another run may change of a model


def shape_of(source: Path, o: Options) -> Config:
    """The shape of the model to start from; an option that asks for another one is refused."""
    config = checkpoint.open_model(source)[1]
    asked = options.model_config(o, config.vocab_size)
    for field in fields(Config):
        theirs, ours = getattr(config, field.name), getattr(asked, field.name)
        if field.name in o.given and field.name not in FREE and theirs != ours:
            raise BadInput(
                f"--init-from {source}: its {field.name} is {theirs}, not {ours}; leave the option out"
            )
    return replace(config, **{name: getattr(asked, name) for name in FREE})
