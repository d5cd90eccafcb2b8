"""`minimega evaluate`: a trained model's loss, perplexity and bits per byte on a text."""

import json
import math
import zlib
from pathlib import Path
from types import SimpleNamespace as Options

import numpy as np

from minimega.backend import device, keep_memory
from minimega.checkpoint import checkpoint, run_folder
from minimega.checkpoint.front import open_tokenizer
from minimega.commands import options, threads
from minimega.commands.notes import doubt
from minimega.commands.on_ranks import on_ranks
from minimega.commands.progress import busy, say, taking
from minimega.commands.text_size import Size, counted_targets, figures, inexact, loss_in_words
from minimega.commands.texts import (
    check_found,
    checked,
    evaluated,
    open_held_out,
    open_texts,
    unknown_share,
    windows_of,
    workspace,
)
from minimega.data import tokens
from minimega.data.foreign import check_script
from minimega.data.masked import GAP
from minimega.errors import BadInput, RunFailed
from minimega.model import Model
from minimega.parallel.grid import Grid
from minimega.parallel.team import team_of
from minimega.ranks.child import typed
from minimega.ranks.streams import tell


def load(o: Options, grid: Grid) -> tuple[Model, tokens.Tokenizer, Path]:
    """Load `--model-filename` in the layout of the grid: the model, its tokenizer, its checkpoint's path."""
    keep_memory()
    source = run_folder.find(o.model_filename)
    tokenizer = open_tokenizer(source, run_folder.run_of(source))
    grid.layout.check(checkpoint.open_model(source)[1])
    with busy(f"reading {source}", grid.first):
        model = checkpoint.load_model(source, None, device(o.device), grid.shares, grid.pipeline)
    return model, tokenizer, source


def load_causal(o: Options, grid: Grid) -> tuple[Model, tokens.Tokenizer, Path]:
    """As `load`, for work that continues a text. Raises BadInput if the model is masked."""
    model, tokenizer, source = load(o, grid)
    if not model.config.causal:
        raise BadInput(
            f"{source} is a masked model: it saw both sides of each token, so it cannot continue a text\n"
            f"It fills gaps: {typed('fill', o.model_filename, f'some text with a {GAP}')}"
        )
    return model, tokenizer, source


def run(o: Options) -> int:
    """Print the loss on a text, by default the held-out text of the model's run; return the exit status.

    Raises BadInput if the text or the model cannot be used, and RunFailed if the loss is not finite.
    """
    return on_ranks(o, _evaluate)


def _evaluate(o: Options, grid: Grid) -> int:
    model, tokenizer, source = load(o, grid)
    threads.settle(o, grid.world, model.config, o.eval_batch_size * model.config.context)
    digest = None
    loss_on = o.loss_on
    if o.eval_filename:
        text = checked(open_held_out(o.eval_filename, o), tokenizer)
    else:
        run = options.complete("train", options.read(run_folder.run_of(source) / "config.toml"))
        loss_on = loss_on if "loss_on" in o.given else run.loss_on
        state = source.parent if source.is_file() else source
        if (state / "state.json").exists():
            known = run_folder.read_state(state)
            digest = known.get("held_out")  # older checkpoints do not say
            if "imported" in known:
                raise BadInput("an imported model has no training text: choose one with --eval-filename")
        for name in (run.train_filename, run.eval_filename):
            check_found(name, "Choose another text with --eval-filename.")
        text = open_texts(run)[1]
    size = Size(loss_on == "answers" or model.config.kind != "gpt")
    with workspace() as work:
        with busy("reading the text", grid.first):
            stream = tokens.tokenize(size.of(text.documents()), tokenizer, work / "text.npy")
        if digest not in (None, zlib.crc32(stream.data)):
            raise BadInput(
                "the text of this run has changed, so its held-out part is lost\n"
                "Choose another text with --eval-filename."
            )
        share = unknown_share(stream, tokenizer)
        strange = check_script(text.documents(), stream, tokenizer, "this text")
        with np.errstate(all="ignore"):  # non-finite values are reported below
            windows = windows_of(text, stream, tokenizer, model.config, loss_on)
            seen = evaluated(windows, tokenizer, model.config.causal)
            with taking(seen, "evaluating", grid.data.size, grid.first) as shown:
                loss = team_of(model, grid).evaluate(model, shown, o.eval_batch_size)
    if not math.isfinite(loss):
        raise RunFailed(f"the loss is not finite: the weights of {source} are damaged or too large")
    causal, counted = model.config.causal, counted_targets(windows, stream)
    found = {"loss": loss, **figures(loss, counted, size.bytes, share, causal)}
    if not causal:
        counted = sum(int((seen.take([n])[1] >= 0).sum()) for n in range(len(seen)))
    found |= {"tokens": counted, "bytes": size.bytes}
    if grid.first and o.json:
        for line in strange:
            tell(line)
        say(json.dumps(found))
    elif grid.first:
        say(f"loss {loss_in_words(loss, found)}")
        for line in (*doubt(share, "this text"), *strange, *(inexact(share, tokenizer) if causal else [])):
            say(line)
    return 0
