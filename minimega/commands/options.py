"""The options of one call: read from a file, filled in, and checked together.

Precedence, highest first: the command line, the TOML file, the shape of `--model-type`, `--size`, the
defaults.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from minimega.commands.dial import RULE, dial, sizes
from minimega.commands.hints import here
from minimega.commands.option import ABOVE_0, PATH, Option
from minimega.commands.option_table import BUILD, GROUPS, OF_ONE_CALL, PIPE, TABLE, USE, of_command
from minimega.data.chat import is_dialogues
from minimega.data.corpus import BUILT_IN
from minimega.errors import BadInput, shown
from minimega.model import SHAPES, Config
from minimega.optim import OPTIMIZERS
from minimega.parallel.layout import FEATURES, REFUSED, Layout
from minimega.precision import check_eps
from minimega.ranks import launch
from minimega.seq2seq.model import EncoderDecoder


def read(path: str | Path) -> dict[str, object]:
    """Read and check a TOML file of options. Keys get underscores; the file may use hyphens too.

    One file may serve several commands. Raises BadInput if the file cannot be read, or has an unknown name, a
    wrong type or a value out of range.
    """
    import tomllib  # its regular expressions take 3 ms

    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise BadInput(f"{path} cannot be read as a file of options: {error.strerror}") from None
    except ValueError as error:  # invalid TOML or UTF-8
        raise BadInput(f"{path} is not a TOML file: {error}") from None
    values = {}
    for name, value in content.items():
        option = TABLE.get(name.replace("_", "-"))
        if option is None or option.name == "config":
            raise BadInput(f"{path} sets {name}, which is not an option{here(name, prefix='')}")
        if option.kind is float and type(value) is int and abs(value) <= sys.float_info.max:
            value = float(value)
        if value != option.also and type(value) is not (
            str if isinstance(option.kind, tuple) else option.kind
        ):
            raise BadInput(f"{name} in {path} is {shown(value)}; it must be {option.wanted}")
        values[option.key] = option.check(value, f"{name} in {path}")
    return values


def shape_from(given: dict[str, Any]) -> dict[str, Any]:
    """What the given `--size` and `--model-type` set; the latter wins.

    >>> found = shape_from({"size": 12, "model_type": "gpt2-medium"})
    >>> found["num_layers"], found["context"], found["train_batch_size"]
    (24, 1024, 96)
    """
    size = dial(given["size"]) if given.get("size") else {}
    return size | (SHAPES[given["model_type"]] if "model_type" in given else {})


def merged(from_file: dict[str, object], typed: dict[str, object]) -> dict[str, object]:
    """The options of a file and those that were typed, which win.

    So does a typed `--size` or `--model-type` over all that the file says of what it sets, since the
    config.toml of a run has every option.

    >>> merged({"size": 2, "num_layers": 2, "lr": 0.1, "clip": 2.0}, {"size": 4})
    {'clip': 2.0, 'size': 4}
    """
    less = {"size", "model_type"} if "size" in typed else set()
    return {k: v for k, v in from_file.items() if k not in less | shape_from(typed).keys()} | typed


def complete(command: str, given: dict[str, object]) -> SimpleNamespace:
    """All options of a call, filled in and checked together.

    The result has an attribute for each option (with underscores), `command`, and `given`, the set of names
    that were given. Raises BadInput if the options contradict each other.

    >>> options = complete("train", {"num_layers": 3})
    >>> options.num_layers, options.d_model, options.given
    (3, 128, frozenset({'num_layers'}))
    """
    values = {option.key: option.default_of(command) for option in TABLE.values()}
    values |= SHAPES[values["model_type"]] | shape_from(given) | given
    o = SimpleNamespace(command=command, given=frozenset(given), words=[], **values)
    if command in BUILD.split() and not (o.resume or o.init_from):  # those bring their own shape
        model_config(o, o.vocab_size or 1)
    if command in USE.split() and not o.model_filename:
        raise BadInput(f"{command} needs --model-filename: a run folder, or a .safetensors file in one")
    if command == "gradcheck" and not o.shapes:
        raise BadInput("gradcheck needs --shapes: the shapes of the arguments, such as --shapes 3x4,4x5")
    steps = command in PIPE.split() and not o.resume  # a resumed run brings its own batch
    if steps and o.train_batch_size % o.accumulate:
        parts = f"cannot be cut into {o.accumulate} equal parts: --accumulate must divide it"
        raise BadInput(f"--train-batch-size {o.train_batch_size} {parts}")
    if command == "timeline" and o.pp == 1:
        raise BadInput("timeline shows a pipeline: choose --pp 2 or more, as in --pp 2 --micro-batches 8")
    if "oversubscribe" in of_command(command) and launch.ranks_given() is None:
        launch.check_crowd(layout_of(o).ranks, o.oversubscribe)  # before what takes time for each rank
    if steps:
        check_layout(o)
    if command in ("reshard", "import-hf", "export-hf") and not o.save_dir:
        raise BadInput(f"{command} needs --save-dir: the new folder to write")
    if command == "train" and o.schedule != "constant" and o.min_lr > o.lr and not o.resume:
        raise BadInput(f"--min-lr {o.min_lr} is above --lr {o.lr}: lower --min-lr or raise --lr")
    if command in BUILD.split():
        _check_sizes(o)
    if command == "train" and OPTIMIZERS[o.optimizer].divides:
        check_eps(o.eps, o.dtype)
    pairs = "--objective translate" if o.objective == "translate" else "--loss-on answers"
    asked = o.objective == "translate" or o.loss_on == "answers"
    if command == "train" and asked and not (o.resume or is_dialogues(o.train_filename)):
        raise BadInput(f"{pairs} needs a text of dialogues: --train-filename FILE.jsonl")
    if o.resume and not o.save_dir:
        raise BadInput("--resume needs --save-dir: the folder of the run to resume")
    if o.vectors and o.init_from:
        raise BadInput("--init-from brings its own word vectors: leave out --vectors")
    if o.freeze_vectors and not (o.vectors or o.init_from or o.resume):
        raise BadInput("--freeze-vectors needs vectors: --vectors FILE, or --init-from RUN")
    if o.resume and (o.overwrite or o.init_from):
        other = "--overwrite" if o.overwrite else "--init-from"
        raise BadInput(f"--resume continues a run and {other} starts a new one: choose one of them")
    return o


def _check_sizes(o: SimpleNamespace) -> None:
    """Raise BadInput if a number becomes 0 or infinite in the dtype of a training step."""
    info = np.finfo("float64" if o.dtype == "float64" else "float32")
    least, most = float(info.tiny), float(info.max)
    for option in of_command(o.command).values():
        value = getattr(o, option.key)
        if option.kind is float and option.name != "eps" and value:  # check_eps checks eps
            if value < least:
                zero = "" if option.within is ABOVE_0 else "0, or "
                raise BadInput(
                    f"--{option.name} {value} is 0 in {info.dtype}: choose {zero}at least {1.05 * least:.1e}"
                )
            if value > most:
                raise BadInput(
                    f"--{option.name} {value} is infinite in {info.dtype}: choose at most {most:.0e}"
                )


def layout_of(o: SimpleNamespace) -> Layout:
    """How the options cut a model over ranks. `--dp auto` counts as one replica until it is resolved."""
    dp = 1 if o.dp == "auto" else o.dp
    order = o.micro_batches or 0, o.pipeline, o.virtual_stages or 0, o.recompute
    return Layout(o.tp, dp, o.sequence_parallel, o.pp, o.cp, o.ep, o.zero, o.accumulate, *order)


def check_layout(o: SimpleNamespace, config: Config | None = None) -> None:
    """Raise BadInput if the layout does not fit the batch or, if given, the model."""
    cut = layout_of(o)
    if o.dp == "auto":  # will be a multiple of --ep
        cut = replace(cut, ep=1) if config is None else replace(cut, dp=o.ep)
    cut.check(config, None if config else o.train_batch_size, o.dtype)


def model_config(options: SimpleNamespace, vocab_size: int) -> Config:
    """The Config that the options describe, for a vocabulary of this size.

    >>> model_config(complete("train", {"untied": True}), vocab_size=100).tied
    False
    """
    o = options
    same = (
        "context",
        "d_model",
        "d_embedding",
        "nhead",
        "num_layers",
        "dropout",
        "activation",
        "norm_position",
        "positions",
        "experts",
        "top_k_experts",
        "balance",
        "norm_eps",
    )
    kind: type[Config] = Config
    own: dict[str, Any] = {}
    if o.objective == "translate":
        own = {"source_length": o.source_length or 0, "encoder_layers": o.encoder_layers or 0}
        kind = EncoderDecoder
    return kind(
        vocab_size=vocab_size,
        d_hidden=o.d_hidden or 0,
        tied=not o.untied,
        head_bias=o.head_bias,
        attention=not o.no_attention,
        causal=o.objective != "masked",
        **own,
        **{name: getattr(o, name) for name in same},
    )


def to_toml(options: SimpleNamespace) -> str:
    """The options of a run as TOML for `--config`, without those that are None.

    Paths are absolute, so they stay valid if the run is resumed elsewhere or its folder is moved. Raises
    BadInput if a path is not UTF-8.
    """
    import tomli_w  # only here: what writes no run can do without it

    kept = (o for o in of_command(options.command).values() if o.key not in OF_ONE_CALL)
    values = {o.name: _absolute(o, getattr(options, o.key)) for o in kept}
    for name, value in values.items():
        if isinstance(value, str) and value.encode("utf-8", "replace").decode("utf-8") != value:
            raise BadInput(f"--{name} {value!r} is not UTF-8, so config.toml cannot hold it: rename it")
    return tomli_w.dumps({name: value for name, value in values.items() if value is not None})


def _absolute(option: Option, value):
    built_in = option in GROUPS["text"] and value in BUILT_IN
    return os.path.abspath(value) if value and option.within is PATH and not built_in else value


INTRODUCTION = """# Options

Made from `minimega/commands/option_table.py`: `python -m minimega.commands.options > docs/options.md`.

Names may also be written with underscores. Abbreviations are not accepted. A TOML file (`--config FILE`) uses
the same names, and one file may serve several commands. The command line wins over the file (a `--size` or
`--model-type` typed there over all that the file says of what it sets), the file over the shape of
`--model-type`, that over `--size`, and `--size` over the defaults. `--flag false` turns off a flag that the
file turned on.

`minimega COMMAND --help` shows the same for one command: two examples, the common options, then the others.

The Tab key completes commands, options and their values. In bash:

    minimega completion bash > ~/.minimega.bash
    echo 'source ~/.minimega.bash' >> ~/.bashrc

In zsh, where the second line has to come after `compinit`:

    minimega completion zsh > ~/.minimega.zsh
    echo 'eval "$(<~/.minimega.zsh)"' >> ~/.zshrc

Then open a new terminal. After an update of minimega, repeat the first line.

On a terminal, what takes over a second shows how far it is, and headings, errors and verdicts are in colour.
`NO_COLOR=1` turns colour off; `FORCE_COLOR=1` keeps it in a pipe. Files and pipes get neither."""


def as_markdown() -> str:
    """The text of docs/options.md."""

    def table(title: str, *rows: tuple, before: str = "") -> str:
        first, *rest = (f"| {' | '.join(map(str, row))} |" for row in rows)
        head = ["", f"## {title.capitalize()}", "", *([before] if before else [])]
        return "\n".join([*head, first, "|---" * len(rows[0]) + "|", *rest])

    parts = [INTRODUCTION]
    together = [
        "\n## What combines\n",
        "Any two of these combine, and the tests compare each pair with the model that one rank trains: "
        + ", ".join(f"`{name}`" for name in FEATURES)
        + ". The exceptions:\n",
        *(f"- `{a}` and `{b}` do not combine: {why}." for (a, b), why in REFUSED.items()),
    ]
    for title, group in GROUPS.items():
        rows = (
            (f"`--{o.name}`", o.wanted, o.default_text(), o.commands.replace(" ", ", "), o.text)
            for o in group
        )
        parts.append(table(title, ("option", "value", "default", "commands", "meaning"), *rows))
    parts.append(table("what --size sets", *sizes(), before=RULE))
    columns = ("num-layers", "d-model", "nhead", "context", "vocab-size")
    shapes = ((f"`{n}`", *(s.get(c.replace("-", "_"), "any") for c in columns)) for n, s in SHAPES.items())
    parts.append(table("shapes of --model-type", ("name", *columns), *shapes))
    return "\n".join(parts + together)


if __name__ == "__main__":
    print(as_markdown())
