"""`minimega generate`: generates texts with a trained model."""

from pathlib import Path
from types import SimpleNamespace as Options
from typing import NamedTuple

import numpy as np

from minimega.commands import threads
from minimega.commands.evaluate import load_causal
from minimega.commands.notes import counted, lacking, notes
from minimega.commands.on_ranks import on_ranks
from minimega.commands.progress import say
from minimega.data import chat, tokens
from minimega.data.foreign import check_script
from minimega.errors import BadInput, naming
from minimega.judging.answers import prompt_ids
from minimega.model import Model
from minimega.parallel.grid import Grid
from minimega.ranks.streams import tell
from minimega.sample import generate
from minimega.seq2seq.beam import beam_search

TOGETHER = 64  # texts generated at once: few enough for any memory


def run(o: Options) -> int:
    """Continue the prompt; print the texts or write them to a file, one per line. Returns the exit status.

    A model trained on dialogues takes the prompt as a user's turn, and only its answer is printed.

    Raises BadInput if the model cannot be used or the file cannot be written.
    """
    return on_ranks(o, lambda grid: _generate(o, grid))


def _generate(o: Options, grid: Grid) -> int:
    model, tokenizer, _ = load_causal(o, grid)
    threads.settle(o, grid.world, model.config, min(TOGETHER, o.generate_num_sentences))
    answers = model.config.kind != "gpt" or (chat.speaks(tokenizer) and not o.plain)
    prompt = chat.spaced(o.prompt) if o.prompt and answers else o.prompt or ""
    prompts = [o.prompt] if o.prompt else []
    for line in check_script(prompts, tokenizer.encode(prompt), tokenizer, "--prompt"):
        if grid.first:
            tell(line)
    if grid.first and (lacks := tokenizer.lacks(prompt)):
        tell(lacking(lacks, "prompt"))
    if grid.first:
        for line in notes(o, words=tokenizer.size):
            tell(line)
    texts = search(model, tokenizer, o) if o.beams else []
    for first in range(0, 0 if o.beams else o.generate_num_sentences, TOGETHER):
        numbers = range(first, min(first + TOGETHER, o.generate_num_sentences))
        texts += write(model, tokenizer, numbers, o)
    if not grid.first:
        return 0
    lines = in_lines(texts)
    if o.generate_filename:
        write_lines(lines, o.generate_filename)
        say(f"{counted(len(lines), 'text')} in {o.generate_filename}")
    else:
        say("\n\n".join(lines))
    return 0


def in_lines(texts: list[str]) -> list[str]:
    """Each text in one line: white space is one space."""
    return [" ".join(text.split()) for text in texts]


def write_lines(lines: list[str], path: str) -> None:
    """Write `--generate-filename`. Raises BadInput if no such file can be, OSError if the disk is full."""
    try:
        with naming(path):
            Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as why:
        raise BadInput(f"--generate-filename {path}: {why.strerror}") from None


def search(model: Model, tokenizer: tokens.Tokenizer, o: Options) -> list[str]:
    """The best texts that a beam search finds, the best first."""
    ask, length = asked(model, tokenizer, o), o.generate_sentence_length
    how = length, o.beams, o.length_penalty, ask.never, ask.end
    found = beam_search(model, np.array([ask.prompt]), *how)[0][: o.generate_num_sentences]
    return in_words(tokenizer, [f.tokens for f in found], ask, o)


def write(model: Model, tokenizer: tokens.Tokenizer, numbers: range, o: Options) -> list[str]:
    """Generate the texts with these numbers, each up to the next start token (end of document) or `--stop`.

    A number decides the randomness of its text, so texts do not depend on how many are generated at once. An
    answer (see `run`) also ends at its <end>.
    """
    ask, length = asked(model, tokenizer, o), o.generate_sentence_length
    choice = {"temperature": o.temperature, "top_k": o.top_k, "top_p": o.top_p}
    rows: list[list[int]] = [[] for _ in numbers]
    ended = [False] * len(rows)
    for chosen in generate(model, ask.prompt, length, numbers, o.seed, ask.never, **choice):
        for n, token in enumerate(chosen.tolist()):
            ended[n] = ended[n] or token in (tokenizer.start, ask.end)
            if not ended[n]:
                rows[n].append(token)
                ended[n] = bool(o.stop) and o.stop in tokenizer.decode(rows[n])
        if all(ended):
            break
    return in_words(tokenizer, rows, ask, o)


class Ask(NamedTuple):
    """The prompt's tokens, what is shown of them, the token that ends a text, those that never come."""

    prompt: list[int]
    shown: list[int]
    end: int
    never: tuple[int, ...]


def asked(model: Model, tokenizer: tokens.Tokenizer, o: Options) -> Ask:
    """The prompt as text that goes on or, if the model was trained on dialogues, as a user's turn."""
    never = () if tokenizer.unknown is None else (tokenizer.unknown,)
    if model.config.kind != "gpt":
        if not o.prompt:
            raise BadInput("this model answers a prompt, and there is none: give --prompt TEXT")
        ids, never = prompt_ids(tokenizer, o.prompt, model.config), tokenizer.special_ids[1:]
        return Ask(ids, [], tokenizer.start, never)
    if o.prompt and not o.plain and chat.speaks(tokenizer):
        never += tokenizer.special(chat.USER), tokenizer.special(chat.ASSISTANT)
        ids = prompt_ids(tokenizer, o.prompt, model.config)
        return Ask(ids, [], tokenizer.special(chat.END), never)
    ids = tokenizer.encode(o.prompt).tolist() if o.prompt else []
    return Ask(model.config.prompt(ids, tokenizer.start), ids, tokenizer.start, never)


def in_words(tokenizer: tokens.Tokenizer, rows: list[list[int]], ask: Ask, o: Options) -> list[str]:
    """The texts of generated tokens after what is shown of the prompt; up to `--stop`."""
    texts = [tokenizer.decode([*ask.shown, *row]) for row in rows]
    begun = len(tokenizer.decode(ask.shown))  # the prompt may contain the stop string
    return [t[:begun] + t[begun:].split(o.stop)[0] if o.stop else t for t in texts]
