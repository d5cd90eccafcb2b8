"""Prepares texts for training: cleans documents, and removes duplicates, evaluation text, other scripts.

The originals are only read. A document is a file, or a text of a built-in corpus (documents.py). Documents
stream by: in memory are a paragraph, about 6 kB per document that is kept (for the near duplicates), and 9
bytes per run of words of the evaluation text.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minimega.data import cleaning, corpus
from minimega.data.documents import BLOCK, Document, read
from minimega.data.duplicates import Overlap, Runs, Twins
from minimega.data.scripts import SCRIPTS, count, main_script
from minimega.errors import BadInput, naming, nearest

FORMS = "nfc", "nfkc", "none"
STRANGE = 0.1  # a file with a larger share of control characters and invalid bytes is not UTF-8 text
# What is counted, and what becomes of it; --json has the keys.
FOUND = {
    "carriage_returns": ("carriage returns", "became line ends"),
    "normalized_lines": ("lines in another normal form", "normalized"),
    "control": ("control characters", "removed"),
    "nul": ("NUL characters", "removed"),
    "invisible": ("invisible characters", "removed"),
    "hyphenated": ("words hyphenated over two lines", "rejoined"),
    "wrapped": ("line ends inside wrapped paragraphs", "became spaces"),
    "invalid_bytes": ("bytes that are not UTF-8", "became U+FFFD"),
    "replacement_characters": ("replacement characters (U+FFFD)", "kept"),
    "mojibake": ("probable mojibake, such as \u00c3\u00a9", "kept"),
}
DROPPED = {
    "not_text": "not text in UTF-8",
    "empty": "empty",
    "exact_duplicates": "exact duplicates",
    "near_duplicates": "near duplicates",
    "script": "of another script",
    "overlap": "with evaluation text",
}


@dataclass(frozen=True)
class Rules:
    """What `prepare` does. `form`: a Unicode normal form or "none"; `near`: similarity of near duplicates.

    `scripts`: those to keep (all if none); `evaluation`: documents to look for in runs of `overlap_words`
    words, and to drop where `drop_overlap`.
    """

    form: str = "nfc"
    rejoin: bool = True
    near: float = 0.8
    scripts: Sequence[str] = ()
    evaluation: Iterable[Any] | None = None
    overlap_words: int = 13
    drop_overlap: bool = False


@dataclass
class Report:
    """What was found: counts of documents, characters, findings (FOUND), and reasons to drop (DROPPED)."""

    documents: int = 0
    kept: int = 0
    characters: int = 0
    kept_characters: int = 0
    found: Counter = field(default_factory=Counter)
    dropped: Counter = field(default_factory=Counter)
    scripts: Counter = field(default_factory=Counter)  # letters of kept and dropped documents
    main_scripts: Counter = field(default_factory=Counter)  # documents by their main script
    overlapping: int = 0  # documents with evaluation text
    evaluation_share: float | None = None  # of the evaluation text's runs
    names: list[tuple[str, str, str]] = field(default_factory=list)  # (document, reason, the one before)

    def as_dict(self) -> dict:
        """All of it, for JSON."""
        letters = max(1, self.scripts.total())
        return {
            "documents": {"read": self.documents, "kept": self.kept, **{k: self.dropped[k] for k in DROPPED}},
            "characters": {"read": self.characters, "kept": self.kept_characters},
            "found": {key: self.found[key] for key in FOUND},
            "scripts": {
                name: {"documents": self.main_scripts[name], "share_of_letters": self.scripts[name] / letters}
                for name in (*SCRIPTS, "none")
                if self.scripts[name] or self.main_scripts[name]
            },
            "overlap": {"documents": self.overlapping, "share_of_evaluation_text": self.evaluation_share},
            "left_out": [dict(zip(("document", "why", "as"), row, strict=True)) for row in self.names],
        }


def prepare(
    paths: Sequence[str | Path], folder: str | Path | None = None, rules: Rules | None = None
) -> Report:
    """Prepare the documents of these files, folders or built-in texts; write those kept to a new `folder`.

    Without a folder, only count. It holds a file per document; `open_corpus` and `train` read it. It is
    written beside its place and renamed at the end, so it is never incomplete. Raises BadInput if a text
    cannot be read, if the folder exists or lies inside a text, or if no document is left.
    """
    rules = rules or Rules()
    check_scripts(rules.scripts)
    named = name_all(paths)
    if folder is None:
        return _all(named, None, rules)
    folder = Path(folder)
    _check_new(folder, paths)
    work = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(work, ignore_errors=True)
    try:
        with naming(work):
            work.mkdir(parents=True)
        report = _all(named, work, rules)
        if not report.kept:
            raise BadInput("no document is left, so nothing is written; `dry_run` counts the reasons")
        if folder.exists():
            folder.rmdir()
        os.rename(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report


def open_text(path: str | Path) -> corpus.Corpus:
    """A built-in corpus, or files; of dialogues (.jsonl) their lines. Raises BadInput as `read` does."""
    return corpus.open_corpus(str(path)) if str(path) in corpus.BUILT_IN else read(path)


def check_scripts(scripts: Sequence[str]) -> None:
    """Raise BadInput for a script that the table does not have."""
    for name in scripts:
        if name not in SCRIPTS:
            raise BadInput(
                f"there is no script {name!r}{nearest(name, SCRIPTS)}\nThe scripts are: {', '.join(SCRIPTS)}"
            )


def _check_new(folder: Path, paths: Sequence[str | Path]) -> None:
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} exists; choose a new folder as `save_dir`")
    inside = Path(os.path.realpath(folder))
    for path in paths:
        if str(path) not in corpus.BUILT_IN and Path(os.path.realpath(path)) in (inside, *inside.parents):
            raise BadInput(f"{folder} lies inside {path}; choose a folder outside as `save_dir`")


def name_all(paths: Sequence[str | Path]) -> list[tuple[str, Document | str]]:
    """Each document with the name of the file to write: as in its folder, or a number; all are different."""
    found, taken = [], set()
    for path in paths:
        opened = open_text(path)
        under = f"{Path(path).name}/" if len(paths) > 1 and str(path) not in corpus.BUILT_IN else ""
        rows = getattr(opened, "rows", None) or [*opened.documents()]
        for n, row in enumerate(rows, 1):
            if isinstance(source := getattr(row, "source", ""), Path):
                name = under + str(source.relative_to(path)) if Path(path).is_dir() else source.name
            else:
                name = f"{path}/{n:05}.txt"
            while name in taken:
                stem, suffix = os.path.splitext(name)
                name = f"{stem}-{len(taken)}{suffix}"
            taken.add(name)
            found.append((name, row))
    return found


def _all(named: list[tuple[str, Document | str]], work: Path | None, rules: Rules) -> Report:
    report, twins = Report(), Twins(rules.near)
    overlap = Overlap(rules.evaluation, rules.overlap_words) if rules.evaluation is not None else None
    for name, document in named:
        report.documents += 1
        out = work / name if work else None
        why, before = _one(document, name, out, report, rules, twins, overlap)
        if why:
            report.dropped[why] += 1
            report.names.append((name, why, before))
            if out:
                out.unlink(missing_ok=True)
    if overlap:
        report.evaluation_share = overlap.share
    return report


def _one(document, name, out, report, rules, twins, overlap) -> tuple[str, str]:
    """Clean one document into its file; ("", "") if it stays, else why not and which came before."""
    if _strange(document):
        return "not_text", ""
    reader, words = twins.reader(), Runs(rules.overlap_words)
    letters, hits, size = Counter(), 0, 0
    rejoin = rules.rejoin and not name.endswith(".jsonl")  # whose lines are what counts
    layout = cleaning.Layout.of(_pieces(document, Counter())) if rejoin else None
    pieces = _pieces(document, report.found, report)
    form = "none" if rules.form == "none" else rules.form.upper()
    with _opened(out) as file:
        for part in _together(cleaning.clean(pieces, report.found, form, layout)):
            file.write(part)
            reader.add(part)
            letters += count(part)
            hits += overlap.look(words.add(part)) if overlap else 0
            size += len(part)
    if not reader.words:
        return "empty", ""
    report.scripts += letters
    main = main_script(letters)[0]
    report.main_scripts[main] += 1
    report.overlapping += bool(hits)
    if rules.scripts and main not in rules.scripts:
        return "script", ""
    if hits and rules.drop_overlap:
        return "overlap", ""
    if twin := twins.before(reader, name):
        return f"{twin[0]}_duplicates", twin[1]
    report.kept += 1
    report.kept_characters += size
    return "", ""


def _together(parts: Iterable[str], size: int = 2**16) -> Iterator[str]:
    """The same text in parts of about `size` characters: small ones take time."""
    held, length = [], 0
    for part in parts:
        held.append(part)
        if (length := length + len(part)) >= size:
            yield "".join(held)
            held, length = [], 0
    yield "".join(held)


def _opened(out: Path | None):
    if out is None:
        return open(os.devnull, "w", encoding="utf-8")
    with naming(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        return open(out, "w", encoding="utf-8", newline="\n")


def _strange(document: Document | str) -> bool:
    """Whether the beginning of a file shows that it is not UTF-8 text: a picture, UTF-16, GBK, ..."""
    if isinstance(document, str) or not isinstance(document.source, Path):
        return False
    with naming(document.source), open(document.source, "rb") as file:
        text = file.read(BLOCK).decode("utf-8", "surrogateescape")
    odd = len(cleaning.CONTROL.findall(text)) + sum("\udc80" <= c <= "\udcff" for c in text)
    return odd > max(3, STRANGE * len(text))  # the block's last character may be cut


def _pieces(document: Document | str, found: Counter, report: Report | None = None) -> Iterator[str]:
    """The text of a document; bytes that are not UTF-8 become U+FFFD, and are counted."""
    source = document if isinstance(document, str) else document.source
    for piece in [source] if isinstance(source, str) else _file(source, found):
        if report:
            report.characters += len(piece)
        yield piece


def _file(path: Path, found: Counter) -> Iterator[str]:
    with naming(path), open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        while text := file.read(BLOCK):
            if not text.isascii():
                bad = [c for c in text if "\udc80" <= c <= "\udcff"]
                found["invalid_bytes"] += len(bad)
                found["replacement_characters"] -= len(bad)  # that became one just now
                for c in set(bad):
                    text = text.replace(c, "\ufffd")
            yield text
