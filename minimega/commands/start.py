"""Where a run starts: the options of a resumed run, or the model shape of `--init-from`."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace as Options

from minimega.checkpoint import checkpoint, run_folder
from minimega.commands import option_table as table
from minimega.commands import options
from minimega.commands.texts import check_found
from minimega.data.tokens import Tokenizer
from minimega.errors import BadInput


def resumed(folder: Path, o: Options) -> tuple[Path, Options]:
    """The newest checkpoint of a run, and its options with the changes in `o`.

    Raises BadInput if an option differs that a resumed run cannot change.
    """
    newest = run_folder.newest(folder)
    if "imported" in run_folder.read_state(newest):
        raise BadInput(
            f"{folder} was imported, not trained: --init-from {folder} starts a run from its weights"
        )
    kept = options.complete("train", options.read(folder / "config.toml"))
    for name in sorted(o.given - table.MAY_CHANGE):
        if getattr(o, name) != getattr(kept, name):
            now = "not set" if getattr(kept, name) is None else getattr(kept, name)
            raise BadInput(
                f"--{name.replace('_', '-')} is {now} in this run and cannot change; "
                f"--init-from {folder} starts a new run from its weights"
            )
    changes = {name: getattr(o, name) for name in o.given & table.MAY_CHANGE}
    if "num_epochs" in changes and "num_steps" not in changes:
        changes["num_steps"] = None
    if any(name in changes and changes[name] != getattr(kept, name) for name in ("tp", "cp", "dp", "pp")):
        changes = {"threads": None} | changes  # with another number of ranks, choose again
    # Ranks are started with the same command line.
    o = replace_options(kept, words=o.words, given=o.given, **changes)
    for name in {"train_filename", "eval_filename"} - o.given:
        check_found(getattr(o, name), f"If it was moved, give the new path: --{name.replace('_', '-')} PATH")
    options.check_layout(o)
    return newest, o


def replace_options(o: Options, **changes) -> Options:
    """A copy of the options with these changes."""
    return Options(**{**vars(o), **changes})


FREE = "dropout", "balance"  # the new run may change these


def shape_of(source: Path, tokenizer: Tokenizer, o: Options) -> Options:
    """The options with the shape of the model in `source`, as the new run's config.toml records them.

    Raises BadInput if an option asks for another shape or tokenizer.
    """
    config = checkpoint.open_model(source)[1]
    theirs = {field.name: getattr(config, field.name) for field in fields(config)} | {
        "untied": not config.tied,
        "no_attention": not config.attention,
        "tokenizer": tokenizer.kind,
    }
    theirs = {name: theirs[name] for name in vars(o).keys() & theirs.keys() - set(FREE)}
    translates = config.kind != "gpt"
    if "objective" not in o.given or translates or o.objective == "translate":
        theirs["objective"] = "translate" if translates else "causal" if config.causal else "masked"
    size = theirs.pop("vocab_size")
    asked = o.given | options.shape_from({name: getattr(o, name) for name in o.given}).keys()
    differ = sorted(name for name in asked & theirs.keys() if theirs[name] != getattr(o, name))
    if o.vocab_size and size > o.vocab_size:
        differ, theirs["vocab_size"] = [*differ, "vocab_size"], size
    for name in differ:
        by, cure = "", "this option"
        for whose in {"model_type", "size"} & o.given:
            if name not in o.given and name in options.shape_from({whose: getattr(o, whose)}):
                by, cure = f", as `{whose}` {getattr(o, whose)} says", f"`{whose}`"
        raise BadInput(
            f"--init-from {source}: its {name} is {theirs[name]}, not {getattr(o, name)}{by}; omit {cure}"
        )
    return replace_options(o, **theirs)
