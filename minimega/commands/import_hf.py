"""`minimega import-hf`: turns a GPT-2 that transformers saved into a run folder."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace as Options

from minimega.checkpoint import checkpoint, run_folder, run_lock
from minimega.commands import options
from minimega.commands.notes import counted
from minimega.commands.option_table import of_command
from minimega.commands.progress import busy, say
from minimega.commands.texts import tokenizer_digest
from minimega.interop import gpt2, hub
from minimega.model import Config
from minimega.optim import AdamW
from minimega.parallel.layout import Layout
from minimega.ranks.child import typed


def run(o: Options) -> int:
    """Write the run folder, with a checkpoint of step 0; returns 0.

    Raises BadInput if the model cannot be read, RunFailed if it has to be downloaded and cannot be.
    """
    target = Path(o.save_dir)
    run_lock.check_free(target)
    if target.exists():
        run_folder.open_folder(target, o.overwrite)  # raises now rather than after a download
    folder = hub.folder_of(o.source)
    with busy(f"reading {o.source}"):
        model, tokenizer, known = gpt2.read(folder)
    dtype = gpt2.type_of(model)
    run_folder.make(target)
    with run_lock.writing(target):
        run_folder.open_folder(target, o.overwrite)
        kept = training(model.config, tokenizer.kind, dtype)
        files = {
            "config.toml": lambda path: path.write_text(options.to_toml(kept), encoding="utf-8"),
            "tokenizer.json": tokenizer.save,
        }
        run_folder.put_run(target, files)
        state = {"step": 0, "epoch": 0, "layout": str(Layout()), "imported": o.source}
        with busy(f"writing {target}"):
            checkpoint.save(target, model, AdamW(), state | {"tokenizer": tokenizer_digest(tokenizer)})
    c = model.config
    say(
        f"{model.count():,} parameters in {dtype}: {counted(c.num_layers, 'layer')} of width {c.d_model}, "
        f"vocabulary {c.vocab_size}, context {c.context}"
    )
    for remark in known.remarks:
        say(f"note: {remark}")
    say(f"to generate: {typed('generate', '--model-filename', target)}")
    say(
        "to train on: "
        + typed("train", "--init-from", target, "--train-filename", "TEXT", "--save-dir", "NEW")
    )
    return 0


def training(config: Config, tokenizer: str, dtype: str) -> Options:
    """The options of a training run of such a model, for its config.toml."""
    mine = {option.key for option in of_command("train").values()}
    same = {field.name: getattr(config, field.name) for field in fields(Config) if field.name in mine}
    return options.complete(
        "train", same | {"untied": not config.tied, "tokenizer": tokenizer, "dtype": dtype}
    )
