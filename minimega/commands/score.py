"""`minimega score`: BLEU, ROUGE and other scores of texts, with intervals; two lists of texts compared."""

import json
from collections.abc import Callable
from types import SimpleNamespace as Options

from minimega.commands.notes import counted
from minimega.commands.theirs import load_function, theirs
from minimega.errors import BadInput
from minimega.judging import files
from minimega.judging.report import Judged, judge, rounded, versus
from minimega.ranks.streams import say


def run(o: Options) -> int:
    """Judge the texts of a file; print a table or, with --json, one object. Returns the exit status.

    Raises BadInput if texts and references do not fit, or a file cannot be read.
    """
    if not o.hypotheses:
        raise BadInput("score needs --hypotheses: a file with a text per line, or .jsonl")
    texts, references = files.texts(o.hypotheses), wanted(o)
    judged = _judge(texts, references, o)
    found = judged.as_dict(o.resamples, o.seed)
    if o.compare:
        found["compare"] = versus(judged, _judge(files.texts(o.compare), references, o), o.resamples, o.seed)
    say(json.dumps(found, ensure_ascii=False) if o.json else table(judged, found))
    return 0


def wanted(o: Options) -> list[list[str]] | None:
    """The references that the options name: files of their own, or fields beside the hypotheses."""
    if o.references:
        return files.references(files.split_paths(o.references))
    rows = files.read(o.hypotheses)
    if not any(row.references for row in rows):
        return None
    for n, row in enumerate(rows, 1):
        if not any(text.strip() for text in row.references):
            raise BadInput(f"{o.hypotheses}, line {n} has no reference, and other lines have one")
    return [[text for text in row.references if text.strip()] for row in rows]


def _judge(texts: list[str], references: list[list[str]] | None, o: Options) -> Judged:
    own = _own(o.metric) if o.metric else None
    return judge(texts, references, own, o.bleu_tokenize, o.rouge_tokenize, o.seed)


def _own(target: str) -> Callable:
    """The user's measure; its errors become one sentence."""
    function = load_function(target)

    def measure(hypotheses, references):
        with theirs(f"{target} fails on these texts"):
            return function(hypotheses, references)

    measure.__name__ = target.rpartition(":")[2]
    return measure


def table(judged: Judged, found: dict) -> str:
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
    if "compare" in found:
        lines += ["", f"{'':12} {'other':>8} {'difference':>11}   95% interval           resamples won"]
        for name, other in found["compare"].items():
            line = f"{name:12} {rounded(other['value']):>8} {rounded(other['difference']):>11}"
            if "interval" in other:
                spread = "{} to {}".format(*map(rounded, other["interval"]))
                line += f"   {spread:20}   {other['won']:.1%}"
            lines.append(line)
    return "\n".join(lines)


def _rouge(chosen: str) -> str:
    return "rouge-score's own" if chosen == "library" else "words of any script"
