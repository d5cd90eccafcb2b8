"""Texts to judge, from files: a text per line, or JSON lines with prompts, answers and references."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minimega.data import chat
from minimega.errors import BadInput, shown

FIELDS = "hypothesis", "prompt", "completion", "reference", "references", "messages", "text"


@dataclass(frozen=True)
class Row:
    """One line of a file: a text (a hypothesis), its references, and the prompt that they answer.

    `prompt` is a text or, of a dialogue, the texts of its turns before the last answer.
    """

    text: str | None = None
    references: tuple[str, ...] = ()
    prompt: str | tuple[str, ...] | None = None


def lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file, empty ones too. Raises BadInput if it is missing, empty or not text."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as why:
        raise BadInput(f"{path} cannot be read: {why.strerror}") from None
    if 0 in content:
        raise BadInput(
            f"{path} is not text: byte {content.index(0)} is zero; give one text per line, in UTF-8"
        )
    try:
        text = content.decode("utf-8-sig")  # some editors write a BOM
    except UnicodeDecodeError as wrong:
        raise BadInput(f"{path} is not UTF-8: byte {wrong.start} is invalid; iconv can convert it") from None
    rows = [row.removesuffix("\r") for row in text.split("\n")]
    rows = rows[:-1] if rows[-1] == "" else rows
    if not any(row.strip() for row in rows):
        raise BadInput(f"{path} is empty: give one text per line")
    return rows


def read(path: str | Path, mean: str = "text") -> list[Row]:
    """The rows of a file of texts, or of JSON lines (`.jsonl`).

    `mean` is what a line of text is: "text" (a hypothesis), "reference" or "prompt". A JSON line has some of:
    hypothesis (or text); reference, or references (a list); prompt; completion (a reference, if references
    are wanted, else a hypothesis); or messages (see data/chat.py), whose last one is the completion. Raises
    BadInput, with the line, for anything else.
    """
    if Path(path).suffix != ".jsonl":
        wrap = {
            "text": lambda t: Row(t),
            "reference": lambda t: Row(None, (t,)),
            "prompt": lambda t: Row(prompt=t),
        }
        return [wrap[mean](line) for line in lines(path)]
    return [_row(line, f"{path}, line {n}", mean) for n, line in enumerate(lines(path), 1)]


def _row(line: str, where: str, mean: str) -> Row:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as why:
        raise BadInput(f"{where} is not JSON: {why}") from None
    if not isinstance(found, dict) or not found.keys() & set(FIELDS):
        raise BadInput(f"{where} must be an object with some of {', '.join(FIELDS)}, not {shown(found)}")
    text, prompt, completion = (_text(found, name, where) for name in ("hypothesis", "prompt", "completion"))
    text = _text(found, "text", where) if text is None else text  # as `minimega generate` writes it
    if "messages" in found:
        *turns, completion = [content for _, content in chat.parse(line, where)]
        prompt = tuple(turns)
    references = [_text(found, "reference", where)]
    if "references" in found:
        many = found["references"]
        if not isinstance(many, list) or not all(isinstance(t, str) for t in many):
            raise BadInput(f"{where}: references must be a list of texts, not {shown(many)}")
        references += many
    if mean == "text":
        text = completion if text is None else text
    else:
        references.append(completion)
    return Row(text, tuple(t for t in references if t is not None), prompt)


def _text(found: dict, name: str, where: str) -> str | None:
    text = found.get(name)
    if not isinstance(text, str | None):
        raise BadInput(f"{where}: {name} must be a text, not {shown(text)}")
    return text


def texts(path: str | Path) -> list[str]:
    """The hypotheses of a file. Raises BadInput if a JSON line has none."""
    found = []
    for n, row in enumerate(read(path), 1):
        if row.text is None:
            raise BadInput(f"{path}, line {n} has no hypothesis: give it a field of this name")
        found.append(row.text)
    return found


def references(paths: Sequence[str | Path]) -> list[list[str]]:
    """The references of each text, from one or more files whose line n belongs to text n.

    An empty line is no reference. Raises BadInput if the files differ in length, or a text has none.
    """
    files = [read(path, "reference") for path in paths]
    for path, rows in zip(paths, files, strict=True):
        if len(rows) != len(files[0]):
            raise BadInput(
                f"{path} has {len(rows)} lines and {paths[0]} has {len(files[0])}: "
                f"line n of each must be a reference of the same text"
            )
    found = [[t for rows in files for t in rows[n].references if t.strip()] for n in range(len(files[0]))]
    for n, row in enumerate(found, 1):
        if not row:
            raise BadInput(f"{' and '.join(map(str, paths))}: line {n} has no reference for text {n}")
    return found


def split_paths(names: str) -> list[str]:
    """The files that an option names, separated by commas; one with a comma in its name is given alone.

    >>> split_paths("a.txt,b.txt")
    ['a.txt', 'b.txt']
    """
    return [names] if Path(names).exists() else [name for name in names.split(",") if name.strip()] or [names]
