"""A trained model at work: how well it predicts a text, and what it writes."""

import math
import zlib
from pathlib import Path
from types import SimpleNamespace as Options

import numpy as np

from minimega import checkpoint, options, run_folder, tokens
from minimega.backend import device, keep_memory
from minimega.errors import BadInput, RunFailed, naming
from minimega.model import Model
from minimega.notes import doubt, notes, unknown
from minimega.on_ranks import on_ranks
from minimega.parallel import threads
from minimega.parallel.grid import Grid
from minimega.parallel.team import team_of
from minimega.progress import say
from minimega.sample import generate
from minimega.streams import tell
from minimega.texts import check_found, open_held_out, open_texts, open_tokenizer, unknown_share, workspace
from minimega.train import perplexity

TOGETHER = 64  # texts written at once: as many as memory surely holds


def load(o: Options, grid: Grid) -> tuple[Model, tokens.Tokenizer, Path]:
    """The model that `--model-filename` names, cut as the grid says, its tokenizer and its checkpoint."""
    keep_memory()
    source = run_folder.find(o.model_filename)
    tokenizer = open_tokenizer(source, run_folder.run_of(source))
    model = checkpoint.load_model(source, None, device(o.device), grid.shares, grid.pipeline)
    return model, tokenizer, source


def run_evaluation(o: Options) -> int:
    """`minimega evaluate`: the loss on a text, by default on what the model's run held out."""
    return on_ranks(o, lambda grid: _evaluate(o, grid))


def _evaluate(o: Options, grid: Grid) -> int:
    model, tokenizer, source = load(o, grid)
    threads.settle(o, grid.world, model.config, o.eval_batch_size * model.config.context)
    digest = None
    if o.eval_filename:
        text = open_held_out(o.eval_filename, o)
    else:
        run = options.complete("train", options.read(run_folder.run_of(source) / "config.toml"))
        state = source.parent if source.is_file() else source
        if (state / "state.json").exists():
            digest = run_folder.read_state(state).get("held_out")  # older checkpoints do not say
        for name in (run.train_filename, run.eval_filename):
            check_found(name, "--eval-filename names the text to evaluate on")
        text = open_texts(run)[1]
    with workspace() as work:
        stream = tokens.tokenize(text.documents(), tokenizer, work / "text.npy")
        if digest not in (None, zlib.crc32(stream)):
            raise BadInput(
                "the text of this run has changed since, and what it held out is no longer there\n"
                "--eval-filename names a text to evaluate on."
            )
        share = unknown_share(stream)
        with np.errstate(all="ignore"):  # what is not finite is said below
            windows = tokens.Windows(stream, model.config.context)
            loss = team_of(model, grid).evaluate(model, windows, o.eval_batch_size)
    if not math.isfinite(loss):
        raise RunFailed(f"the loss is not finite: the weights of {source} are damaged, or too large")
    if grid.first:
        say(f"loss {loss:.4f} nats a token, perplexity {perplexity(loss):.2f}{unknown(share)}")
        for line in doubt(share, "this text"):
            say(line)
    return 0


def run_generation(o: Options) -> int:
    """`minimega generate`: texts that continue the prompt, to the screen or one a line to a file."""
    return on_ranks(o, lambda grid: _generate(o, grid))


def _generate(o: Options, grid: Grid) -> int:
    model, tokenizer, _ = load(o, grid)
    threads.settle(o, grid.world, model.config, min(TOGETHER, o.generate_num_sentences))
    if grid.first and (lacks := tokenizer.lacks(o.prompt or "")):
        named = ", ".join(map(repr, lacks[:8])) + ", ..." * (len(lacks) > 8)
        tell(f"minimega: the vocabulary has no {named}: in the prompt, each is an unknown word (<unk>)")
    if grid.first:
        for line in notes(o, words=tokenizer.size):
            tell(line)
    texts = []
    for first in range(0, o.generate_num_sentences, TOGETHER):
        numbers = range(first, min(first + TOGETHER, o.generate_num_sentences))
        texts += write(model, tokenizer, numbers, o)
    lines = [" ".join(text.split()) for text in texts]
    if not grid.first:
        return 0
    if o.generate_filename:
        try:
            with naming(o.generate_filename):
                Path(o.generate_filename).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        except (FileNotFoundError, IsADirectoryError, PermissionError) as why:
            raise BadInput(f"--generate-filename {o.generate_filename}: {why.strerror}") from None
        say(f"{len(lines)} texts in {o.generate_filename}")
    else:
        say("\n\n".join(lines))
    return 0


def write(model: Model, tokenizer: tokens.Tokenizer, numbers: range, o: Options) -> list[str]:
    """The texts with these numbers, each up to its first start token (the end of a document) or `--stop`."""
    prompt = [tokenizer.start, *(tokenizer.encode(o.prompt) if o.prompt else [])]
    choice = {"temperature": o.temperature, "top_k": o.top_k, "top_p": o.top_p}
    never = (tokenizer.unknown,)
    rows: list[list[int]] = [[] for _ in numbers]
    ended = [False] * len(rows)
    for chosen in generate(model, prompt, o.generate_sentence_length, numbers, o.seed, never, **choice):
        for n, token in enumerate(chosen.tolist()):
            ended[n] = ended[n] or token == tokenizer.start
            if not ended[n]:
                rows[n].append(token)
                ended[n] = bool(o.stop) and o.stop in tokenizer.decode(rows[n])
        if all(ended):
            break
    texts = [tokenizer.decode(prompt + row) for row in rows]
    begun = len(tokenizer.decode(prompt))  # the prompt may hold the stop text itself
    return [t[:begun] + t[begun:].split(o.stop)[0] if o.stop else t for t in texts]
