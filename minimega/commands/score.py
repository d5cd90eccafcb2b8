"""`minimega score`: BLEU, ROUGE and other scores of texts, with intervals; two lists of texts compared."""

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace as Options
from typing import Any

from minimega.commands import sources
from minimega.commands.evaluate import load_causal
from minimega.commands.generate import write_lines
from minimega.commands.notes import counted
from minimega.commands.on_ranks import on_ranks
from minimega.commands.progress import busy
from minimega.commands.theirs import load_function, theirs
from minimega.errors import BadInput
from minimega.judging import copying, files
from minimega.judging.exposure import Secret, exposure
from minimega.judging.report import Judged, judge, rounded, versus
from minimega.parallel.grid import Grid
from minimega.ranks.streams import say


def run(o: Options) -> int:
    """Judge the texts of a file, or a run's answers; print a table or JSON. Returns the exit status.

    Raises BadInput if the numbers of texts and references differ, or a file or run cannot be read.
    """
    if not (o.hypotheses or o.model_filename):
        raise BadInput(
            "score needs --hypotheses (a file with a text per line, or .jsonl) or --model-filename"
        )
    if o.secret and not o.model_filename:
        raise BadInput("--secret asks a run: give --model-filename too")
    if o.model_filename or sources.is_run(o.compare):
        return on_ranks(o, _score)
    return _score(o, None)


def _score(o: Options, grid: Grid | None) -> int:
    found: dict[str, Any] = {}
    lines: list[str] = []
    secret: dict[str, float] | None = None
    other = None
    if o.secret:
        hidden = Secret.parse(o.secret)  # before the model is read
        model, tokenizer, _ = load_causal(o, grid)
        with busy("comparing the secret with candidates", grid.first):
            secret = exposure(model, tokenizer, hidden, o.candidates, o.seed)
    judges = o.hypotheses or o.references or o.prompts or not secret
    if judges:
        texts = files.texts(o.hypotheses) if o.hypotheses else None
        asked, wanted = (None, sources.references(o)) if texts else sources.prompts(o)
        texts = texts or sources.answered(o.model_filename, asked, o, grid)
        if sources.is_run(o.compare):
            if asked is None:
                asked, wanted = sources.prompts(o)
            other = sources.answered(o.compare, asked, o, grid)
        elif o.compare:
            other = files.texts(o.compare)
        for name, rows in ((o.hypotheses, texts), (o.compare, other)):
            if name and rows is not None and wanted is not None and len(rows) != len(wanted):
                raise BadInput(
                    f"{name} has {counted(len(rows), 'text')} and {o.references or o.hypotheses} has "
                    f"{len(wanted)}: line n of one is judged by line n of the other"
                )
    if grid is not None and not grid.first:
        return 0
    if judges:
        if o.generate_filename:
            write_lines(texts, o.generate_filename)
        with busy(f"scoring {counted(len(texts), 'text')}"):
            judged = _judge(texts, wanted, o)
            found |= judged.as_dict(o.resamples, o.seed)
            if o.compare:
                found["compare"] = versus(judged, _judge(other, wanted, o), o.resamples, o.seed)
        lines += table(judged, found)
    if secret:
        found["secret"] = secret
        lines.append(_told(secret))
    say(json.dumps(found, ensure_ascii=False) if o.json else "\n".join(lines))
    return 0


def _judge(texts: list[str], references: list[list[str]] | None, o: Options) -> Judged:
    own = _own(o.metric) if o.metric else None
    judged = judge(texts, references, own, o.bleu_tokenize, o.rouge_tokenize, o.seed)
    if not o.copied_from:
        return judged
    found = copying.copied(texts, sources.learned(o.copied_from), o.copied_words)
    longest = max(found, key=lambda one: one.longest)
    return replace(judged, figures=judged.figures | copying.figures(found), copied=longest.run)


def _own(target: str) -> Callable:
    """The user's metric; its errors become one sentence."""
    function = load_function(target)

    def measure(hypotheses, references):
        with theirs(f"{target} fails on these texts"):
            return function(hypotheses, references)

    measure.__name__ = target.rpartition(":")[2]
    return measure


def table(judged: Judged, found: dict) -> list[str]:
    """The scores as lines of text."""
    lines = [counted(judged.texts, "text")]
    if judged.tokenizers:
        chosen = judged.tokenizers
        lines[0] += f"; tokenizer of BLEU: {chosen['bleu']}, of ROUGE: {_rouge(chosen['rouge'])}"
    intervals = found.get("intervals", {})
    for name, value in judged.values.items():
        line = f"{name:12} {rounded(value):>8}"
        if name in intervals:
            line += "   95% interval {} to {}".format(*map(rounded, intervals[name]))
        lines.append(line)
    if judged.copied:
        lines.append(f"the longest run of words from the training text: {judged.copied}")
    if "compare" in found:
        lines += [
            "",
            f"{'':12} {'other':>8} {'difference':>11}   95% interval           the first is higher in",
        ]
        for name, other in found["compare"].items():
            line = f"{name:12} {rounded(other['value']):>8} {rounded(other['difference']):>11}"
            if "interval" in other:
                spread = "{} to {}".format(*map(rounded, other["interval"]))
                line += f"   {spread:20}   {other['won']:.1%} of resamples"
            lines.append(line)
    return lines


def _rouge(chosen: str) -> str:
    return "rouge-score's own" if chosen == "library" else "words of any script"


def _told(secret: dict) -> str:
    some = "" if secret["compared"] == secret["candidates"] else f", {secret['compared']:,} of them compared"
    return (
        f"the secret's exposure is {secret['exposure']:.2f} of at most {secret['highest']:.2f} bits: "
        f"its loss is number {secret['rank']:,} among {secret['candidates']:,} candidates{some}"
    )
