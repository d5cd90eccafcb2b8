"""`minimega sheet`: a page on which people rate texts of several runs or files, blinded, and its key."""

import json
from pathlib import Path
from types import SimpleNamespace as Options

from minimega.commands import sources
from minimega.commands.notes import counted
from minimega.errors import BadInput, naming
from minimega.judging import files
from minimega.judging.sheet import sheet
from minimega.parallel.grid import Grid, grid
from minimega.parallel.layout import Layout
from minimega.ranks.group import SELF
from minimega.ranks.streams import say


def run(o: Options) -> int:
    """Write the page and the key; return the exit status.

    Raises BadInput if the numbers of texts and prompts differ, or another sheet's key would be lost.
    """
    if not o.systems:
        raise BadInput("sheet needs a file of texts or a run for each system: minimega sheet FILE-or-RUN...")
    page, key = Path(o.sheet_filename), Path(o.key or Path(o.sheet_filename).with_suffix(".key.json"))
    if page == key:
        raise BadInput(f"--key and --sheet-filename are both {page}: the raters must not get the key")
    names = [name.rstrip("/") or name for name in o.systems]
    if len(set(names)) < len(names):
        raise BadInput("a file or run is named twice: name each once")
    asked = None
    if o.prompts:
        asked = [row.prompt for row in files.read(o.prompts, "prompt")]
        if None in asked:
            raise BadInput(f"{o.prompts}, line {asked.index(None) + 1} has no prompt")
    whole = grid(SELF, Layout())
    systems = {name: _texts(name, asked, o, whole) for name in names}
    shown = [text if isinstance(text, str) else "\n".join(text or ()) for text in asked or ()]
    html, answers = sheet(systems, shown or None, o.samples, o.seed)
    _write(key, json.dumps(answers, indent=1, ensure_ascii=False), answers["sheet"])
    _write(page, html)
    count = counted(len(answers["samples"]), "text")
    say(f"{page}: {count} to rate; open it in a browser, or send it to people")
    say(f"{key}: who wrote which; keep it from them")
    say(f"then: minimega ratings ratings-*.json --key {key}")
    return 0


def _texts(name: str, asked: list | None, o: Options, whole: Grid) -> list[str]:
    if not sources.is_run(name):
        return files.texts(name)
    return sources.answered(name, asked or [""] * o.samples, o, whole)


def _write(path: Path, text: str, sheet_id: str = "") -> None:
    if sheet_id and path.exists():
        try:
            same = json.loads(path.read_bytes()).get("sheet") == sheet_id
        except (ValueError, AttributeError, OSError):
            same = False
        if not same:
            raise BadInput(
                f"{path} exists and is not the key of this sheet: choose another --key, or remove it"
            )
    try:
        with naming(path):
            path.write_text(text, encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, PermissionError, NotADirectoryError) as why:
        raise BadInput(f"{path} cannot be written: {why.strerror}") from None
