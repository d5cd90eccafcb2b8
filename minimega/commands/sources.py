"""Where the texts to judge come from: files, a run's own answers, and the text that a run learned from."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace as Options

from minimega.checkpoint import run_folder
from minimega.commands import options, threads
from minimega.commands.evaluate import load_causal
from minimega.commands.notes import counted
from minimega.commands.progress import busy
from minimega.commands.start import replace_options
from minimega.commands.texts import check_found, open_texts
from minimega.data import corpus
from minimega.data.tokens import Documents
from minimega.errors import BadInput
from minimega.judging import files
from minimega.judging.words import WORD
from minimega.parallel.grid import Grid
from minimega.ranks.streams import tell
from minimega.writing.answers import TOGETHER, answers
from minimega.writing.prompt import prompt_ids


def is_run(name: str | None) -> bool:
    """Whether a name is a run (a folder, or a .safetensors file) and not a file of texts."""
    return bool(name) and (Path(name).is_dir() or Path(name).suffix == ".safetensors")


def references(o: Options) -> list[list[str]] | None:
    """The references that the options name: separate files, or fields beside the hypotheses."""
    if o.references:
        return files.references(files.split_paths(o.references))
    rows = files.read(o.hypotheses) if o.hypotheses else []
    if not any(row.references for row in rows):
        return None
    for n, row in enumerate(rows, 1):
        if not any(text.strip() for text in row.references):
            raise BadInput(f"{o.hypotheses}, line {n} has no reference, and other lines have one")
    return [[text for text in row.references if text.strip()] for row in rows]


def prompts(o: Options) -> tuple[list[str | tuple[str, ...]], list[list[str]] | None]:
    """What a run is asked, and the references of its answers.

    The prompts are those of `--prompts`, else of the JSON lines in `--references`, else the first half of the
    words of each reference; the rest is then the reference. Of a dialogue, the prompt is its turns.
    Raises BadInput if there are none, or if their number is not that of the references.
    """
    wanted = references(o)
    if o.prompts:
        found = [
            _asked(row, f"{o.prompts}, line {n}") for n, row in enumerate(files.read(o.prompts, "prompt"), 1)
        ]
        if wanted is not None and len(found) != len(wanted):
            raise BadInput(
                f"{o.prompts} has {len(found)} prompts and {o.references} {len(wanted)} references: "
                f"line n of one belongs to line n of the other"
            )
        return found, wanted
    if not o.references:
        raise BadInput(
            f"{o.command} has no prompts for the run to answer: give --prompts FILE, or --references FILE"
        )
    names = files.split_paths(o.references)
    rows = files.read(names[0], "reference")
    if any(row.prompt is not None for row in rows):
        return [_asked(row, f"{names[0]}, line {n}") for n, row in enumerate(rows, 1)], wanted
    if len(names) > 1 or names[0].endswith(".jsonl"):
        raise BadInput(f"there are no prompts to these references ({o.references}): give --prompts FILE")
    halves = [halved(row[0]) for row in wanted]
    if short := [n for n, (begun, rest) in enumerate(halves, 1) if not begun or not rest]:
        raise BadInput(
            f"{names[0]}, line {short[0]} is one word: the first half of a reference is the prompt; "
            f"else give --prompts FILE"
        )
    return [begun for begun, _ in halves], [[rest] for _, rest in halves]


def halved(text: str) -> tuple[str, str]:
    """A text cut after half of its words.

    >>> halved("The cat sat on the mat.")
    ('The cat sat', 'on the mat.')
    """
    ends = [word.end() for word in WORD.finditer(text)]
    cut = ends[len(ends) // 2 - 1] if len(ends) > 1 else 0
    return text[:cut].rstrip(), text[cut:].strip()


def _asked(row: files.Row, where: str) -> str | tuple[str, ...]:
    if row.prompt is None:
        raise BadInput(f"{where} has no prompt")
    return row.prompt


def answered(run: str, asked: Sequence[str | tuple[str, ...]], o: Options, grid: Grid) -> list[str]:
    """What a run answers to these prompts."""
    o = replace_options(o, model_filename=run)
    model, tokenizer, _ = load_causal(o, grid)
    threads.settle(o, grid.world, model.config, min(TOGETHER, len(asked)))
    lacks = sum(tokenizer.unknown in prompt_ids(tokenizer, text, model.config) for text in asked)
    if lacks and grid.first:
        tell(f"minimega: {lacks} of {len(asked)} prompts have words that the vocabulary of {run} lacks")
    choice = {"temperature": o.temperature, "top_k": o.top_k, "top_p": o.top_p}
    with busy(f"answering {counted(len(asked), 'prompt')}", grid.first):
        return answers(model, tokenizer, asked, o.generate_sentence_length, o.stop, o.seed, **choice)


def learned(name: str) -> Documents:
    """The training text of a run folder; or the documents of tales, pydoc, a file or a folder of texts."""
    if name not in corpus.BUILT_IN and is_run(name):
        try:
            config = run_folder.run_of(run_folder.find(name)) / "config.toml"
        except BadInput:
            config = Path(name) / "config.toml"
        if config.exists():
            run = options.complete("train", options.read(config))
            check_found(run.train_filename, "Choose another text with --copied-from.")
            return open_texts(run)[0].documents()
    return corpus.open_corpus(name).documents()
