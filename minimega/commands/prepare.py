"""`minimega prepare`: cleans texts for training, removes duplicates and evaluation text, and counts."""

import json
from types import SimpleNamespace as Options

from minimega.commands.notes import counted
from minimega.commands.progress import busy
from minimega.data.prepare import DROPPED, FOUND, Report, Rules, open_text, prepare
from minimega.errors import BadInput
from minimega.ranks.streams import say


def run(o: Options) -> int:
    """Prepare the texts; print what was found as a table or, with --json, as one object. Returns 0.

    Raises BadInput if a text cannot be read, or the new folder cannot be written.
    """
    if not o.texts:
        raise BadInput("prepare needs a text: minimega prepare FILE-OR-FOLDER... --save-dir DIR")
    if not o.save_dir and not o.dry_run:
        raise BadInput("prepare needs --save-dir, a new folder for the texts, or --dry-run to only count")
    rules = Rules(
        form=o.normal_form,
        rejoin=not o.keep_lines,
        near=o.near_duplicates,
        scripts=[name.strip().lower() for name in o.script.split(",")] if o.script else (),
        evaluation=open_text(o.eval_filename).documents() if o.eval_filename else None,
        overlap_words=o.overlap_words,
        drop_overlap=o.overlap == "drop",
    )
    with busy("preparing the texts"):
        report = prepare(o.texts, None if o.dry_run else o.save_dir, rules)
    say(json.dumps(report.as_dict(), ensure_ascii=False) if o.json else table(report, o))
    return 0


def table(report: Report, o: Options) -> str:
    """The counts in lines: documents, what was found in them, scripts, and where the texts are."""
    found = report.as_dict()
    lines = [f"{'documents read':44}{report.documents:>12,}"]
    for key, words in DROPPED.items():
        if report.dropped[key]:
            lines.append(f"  {words:42}{report.dropped[key]:>12,}  left out")
    lines += [
        f"{'documents kept':44}{report.kept:>12,}",
        f"{'characters read':44}{report.characters:>12,}",
        f"{'characters kept':44}{report.kept_characters:>12,}",
    ]
    lines += [
        f"  {words:42}{report.found[key]:>12,}  {change}"
        for key, (words, change) in FOUND.items()
        if report.found[key]
    ]
    for name, share in found["scripts"].items():
        documents = counted(share["documents"], "document")
        lines.append(f"  {f'script: {name}':42}{share['share_of_letters']:>12.1%}  of letters; {documents}")
    if report.evaluation_share is not None:
        lines.append(f"{'documents with evaluation text':44}{report.overlapping:>12,}")
        lines.append(f"  {'share of the evaluation text in them':42}{report.evaluation_share:>12.1%}")
    said = "nothing is written (--dry-run)" if o.dry_run else f"the texts: {o.save_dir}"
    return "\n".join([*lines, said])
