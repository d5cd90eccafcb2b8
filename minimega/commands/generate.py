"""`minimega generate`: generates texts with a trained model."""

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace as Options
from typing import Any

import numpy as np

from minimega.commands import threads
from minimega.commands.evaluate import load_causal
from minimega.commands.notes import counted, notes
from minimega.commands.on_ranks import on_ranks
from minimega.commands.option import check_text
from minimega.commands.options import layout_of
from minimega.commands.progress import busy, say
from minimega.commands.terminal import on_terminal, show
from minimega.data.tokens import Tokenizer
from minimega.errors import BadInput, naming
from minimega.model import Model
from minimega.parallel.grid import Grid
from minimega.ranks import launch
from minimega.ranks.group import first_text
from minimega.ranks.streams import tell
from minimega.seq2seq.beam import beam_search
from minimega.writing.prompt import Ask, ask
from minimega.writing.spelling import Spelling
from minimega.writing.write import pieces

TOGETHER = 64  # texts generated at once: few enough for any memory
STDIN = "-"
LONGEST = 2**20  # bytes of a prompt on standard input: no model here reads more
PASSED = 2**16  # bytes of a prompt that one rank can pass to others


def run(o: Options) -> int:
    """Continue the prompt; print the texts or write them to a file. Returns the exit status.

    A terminal shows a text as it is written, and lines are broken between words at its width. A pipe or a
    file gets the texts as they are. A model trained on dialogues takes the prompt as a user's turn, and only
    its answer is printed.

    Raises BadInput if the model cannot be used or the file cannot be written.
    """
    if o.prompt == STDIN and launch.ranks_given() is None:
        o.prompt = read_prompt()
        if len(o.prompt.encode()) > PASSED and layout_of(o).ranks > 1:
            raise BadInput(f"a prompt of over {PASSED:,} bytes cannot be passed to several ranks: shorten it")
        o.words = [*o.words, f"--prompt={o.prompt}"]  # the ranks that we start have no standard input
        return on_ranks(o, lambda o, grid: _generate(o, grid, o.prompt))
    mpirun = o.prompt == STDIN
    return on_ranks(o, lambda o, grid: _generate(o, grid, shared_prompt(grid) if mpirun else o.prompt))


def read_prompt() -> str:
    """Standard input, without the line break at its end. Raises BadInput if it is no prompt."""
    if sys.stdin.isatty():
        tell("the prompt ends with Ctrl-D in a line of its own:")
    content = sys.stdin.buffer.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise BadInput(f"the prompt on standard input has over {LONGEST:,} bytes: shorten it")
    try:
        text = content.decode("utf-8-sig")  # some editors write a BOM
    except UnicodeDecodeError as wrong:
        raise BadInput(f"the prompt on standard input is not UTF-8: byte {wrong.start} is invalid") from None
    check_text(text, "the prompt on standard input")
    text = text.replace("\r\n", "\n").removesuffix("\n")
    if not text:
        raise BadInput("--prompt - reads standard input, and there is nothing: pipe a text into it")
    return text


def shared_prompt(grid: Grid) -> str:
    """The prompt on the standard input of the first of mpirun's ranks, on all of them."""
    told = ""
    if grid.first:
        try:
            told = f"+{read_prompt()}"
        except BadInput as why:
            told = f"-{why}"
    told = first_text(told, grid.world)
    if told[0] == "-":
        raise BadInput(told[1:])
    return told[1:]


def _generate(o: Options, grid: Grid, prompt: str | None) -> int:
    model, tokenizer, _ = load_causal(o, grid)
    live = bool(first_text("live" * (grid.first and not o.generate_filename and on_terminal()), grid.world))
    threads.settle(o, grid.world, model.config, 1 if live else min(TOGETHER, o.generate_num_sentences))
    asked = ask(model.config, tokenizer, prompt or "", o.plain)
    if grid.first:
        for line in (*asked.remarks, *notes(o, words=tokenizer.size)):
            tell(line)
    if live and not o.beams:
        for n in range(o.generate_num_sentences):
            one = (piece for [piece] in write(model, tokenizer, asked, range(n, n + 1), o))
            put(one, grid, last=n == o.generate_num_sentences - 1)
        return 0
    with busy(f"writing {counted(o.generate_num_sentences, 'text')}", grid.first):
        texts = search(model, tokenizer, asked, o) if o.beams else []
        for first in range(0, 0 if o.beams else o.generate_num_sentences, TOGETHER):
            numbers = range(first, min(first + TOGETHER, o.generate_num_sentences))
            texts += map("".join, zip(*write(model, tokenizer, asked, numbers, o), strict=True))
    if not grid.first:
        return 0
    if o.generate_filename:
        write_lines(texts, o.generate_filename)
        say(f"{counted(len(texts), 'text')} in {o.generate_filename}")
    elif live:
        for n, text in enumerate(texts, 1):
            put([text], grid, last=n == len(texts))
    else:
        say("\n\n".join(texts))
    return 0


def put(pieces: Iterable[str], grid: Grid, last: bool) -> None:
    """Show a text on the first rank's terminal as it comes; an empty line follows, except after the last."""
    if not grid.first:
        deque(pieces, maxlen=0)  # the other ranks compute it too
        return
    show(pieces)
    if not last:
        say()


def write(model: Model, tokenizer: Tokenizer, asked: Ask, numbers: range, o: Options) -> Iterator[list[str]]:
    """The pieces of the texts with these numbers: see `pieces`."""
    choice = {"temperature": o.temperature, "top_k": o.top_k, "top_p": o.top_p}
    length = o.generate_sentence_length
    return pieces(model, tokenizer, asked, numbers, length, stop=o.stop, seed=o.seed, **choice)


def search(model: Model, tokenizer: Tokenizer, asked: Ask, o: Options) -> list[str]:
    """The best texts that a beam search finds, the best first."""
    how = o.generate_sentence_length, o.beams, o.length_penalty, asked.never, asked.end
    found = beam_search(model, np.array([asked.ids]), *how)[0][: o.generate_num_sentences]
    texts = []
    for tokens in (f.tokens for f in found):
        text = Spelling(tokenizer, asked, o.stop)
        texts.append("".join([text.begin(), *map(text.take, tokens), text.finish()]))
    return texts


ESCAPED: dict[str, Any] = {
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
}  # as in the text format of PostgreSQL's COPY


def write_lines(texts: list[str], path: str) -> None:
    """Write `--generate-filename`, a text per line: in a .jsonl file, as an object with `text`.

    In other files a line break is written as \\n (a carriage return as \\r, a backslash as two), and a note
    says so. Raises BadInput if no such file can be, OSError if the disk is full.

    """
    if path.endswith(".jsonl"):
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    else:
        lines = [text.translate(str.maketrans(ESCAPED)) for text in texts]
    try:
        with naming(path):
            Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as why:
        raise BadInput(f"--generate-filename {path}: {why.strerror}") from None
    if not path.endswith(".jsonl") and lines != texts:
        how = "line breaks as \\n and backslashes as \\\\"
        tell(f"note: {path} has {how}; a name ending in .jsonl keeps texts as they are")
