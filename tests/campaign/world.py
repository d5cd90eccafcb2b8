"""The folder in which a case runs: a user's files, good and odd texts, run folders; and how to damage one.

BOX/work   the current folder: texts, TOML files, the runs R and B, an empty folder E
BOX/home   HOME          BOX/tmp   TMPDIR
"""

import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.campaign.case import USUAL

LINES = [f"the {a} fox sees the {b} dog and the {c} bird ." for a in ("red", "old", "sly") for b in
         ("big", "small", "brown", "quick") for c in ("blue", "shy", "loud", "tiny")] * 3  # fmt: skip
GOOD = "\n".join(LINES) + "\n"
ODD = "e\u0301 \u05e9\u05dc\u05d5\u05dd "
ODD += "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \U0001f9d1\u200d\U0001f680 \u202e\ufeff\u0000x\n"
TEXTS: dict[str, bytes] = {
    "good.txt": GOOD.encode(),
    "a text.txt": GOOD.encode(),
    "-dash.txt": GOOD.encode(),
    "empty.txt": b"",
    "newlines.txt": b"\n" * 50,
    "one-letter.txt": b"a",
    "nul.txt": GOOD.replace("fox", "f\0x").encode(),
    "crlf.txt": GOOD.replace("\n", "\r\n").encode(),
    "one-line.txt": GOOD.replace("\n", " ").encode() * 3,
    "no-spaces.txt": GOOD.replace("\n", "").replace(" ", "").encode(),
    "latin1.txt": GOOD.replace("fox", "f\xf6x").encode("latin-1"),
    "bom.txt": b"\xef\xbb\xbf" + GOOD.encode(),
    "binary.bin": bytes(range(256)) * 20,
    "unicode.txt": ODD.encode() * 60,
    os.fsdecode(b"na\xefve.txt"): GOOD.encode(),
    "folder/a.txt": GOOD.encode(),
    "folder/b.txt": GOOD.encode(),
    "folder/c.bin": b"\0\xff" * 100,
    "notes.md": b"the user's notes\n",
}
TOMLS: dict[str, bytes] = {
    "good.toml": b"lr = 0.01\nnum-steps = 3\n",
    "empty.toml": b"",
    "broken.toml": b"lr = = 3\n",
    "unknown.toml": b"learning_rate = 3\n",
    "types.toml": b'num-steps = "3"\n',
    "float.toml": b"lr = nan\n",
    "huge.toml": b"num-steps = 99999999999999999999999999\n",
    "table.toml": b"[train]\nlr = 0.01\n",
    "array.toml": b"lr = [1, 2]\n",
    "date.toml": b"lr = 2020-01-01\n",
    "resume.toml": b"resume = true\n",
    "latin1.toml": b'prompt = "\xf6"\n',
    "nested.toml": b'config = "good.toml"\n',
    "twice.toml": b"num-steps = 3\nnum_steps = 4\n",
}
LINKS = {"link.txt": "good.txt", "dangling.txt": "nowhere.txt", "loop.txt": "loop.txt", "L": "R"}
USERS_IN_A_RUN = {"notes.md": "keep me\n", "step-notes/a.txt": "keep me\n", "step-by-step.md": "keep me\n"}


def template(folder: Path, program: list[str]) -> Path:
    """Make the world once; every case gets a copy."""
    work = folder / "work"
    for part in (work / "E", work / "with space", folder / "home", folder / "tmp"):
        part.mkdir(parents=True)
    for name, content in (TEXTS | TOMLS).items():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_bytes(content)
    for name, target in LINKS.items():
        (work / name).symlink_to(target)
    for run, more in (
        ("R", ["--num-steps=6", "--save-every=3"]),
        ("B", ["--num-steps=4", "--train-filename=good.txt", "--tokenizer=bpe", "--vocab-size=280"]),
    ):
        line = [*program, "train", *USUAL, *more, f"--save-dir={run}"]
        subprocess.run(line, cwd=work, check=True, capture_output=True, timeout=120)
    for name, content in USERS_IN_A_RUN.items():
        (work / "R" / name).parent.mkdir(exist_ok=True)
        (work / "R" / name).write_text(content)
    return folder


def prepare(source: Path, box: Path, damages: tuple[str, ...], shadows: tuple[str, ...]) -> None:
    """A copy of the world for one case."""
    shutil.copytree(source, box, symlinks=True)
    for name in damages:
        DAMAGES[name](box / "work" / "R")
    for name in shadows:
        (box / "work" / name).write_text("raise SystemExit('the file of the user was imported')\n")


def _put(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(content)


def _cut(name: str, share: float) -> Callable[[Path], None]:
    return lambda run: os.truncate(run / name, int((run / name).stat().st_size * share))


def _gone(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def _folder(name: str) -> Callable[[Path], None]:
    def act(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()
        (run / name / "mine.txt").write_text("keep me\n")

    return act


def _insert(name: str, line: bytes) -> Callable[[Path], None]:
    def act(run: Path) -> None:
        lines = (run / name).read_bytes().splitlines(keepends=True)
        (run / name).write_bytes(b"".join([*lines[:2], line, *lines[2:]]))

    return act


def _with_nan(run: Path) -> None:
    lines = (run / "log.jsonl").read_text().splitlines(keepends=True)
    lines[1] = json.dumps({**json.loads(lines[1]), "loss": math.nan}) + "\n"
    (run / "log.jsonl").write_text("".join(lines))


def _linked(run: Path) -> None:
    (run / "step-6").rename(run.parent / "elsewhere")
    (run / "step-6").symlink_to("../elsewhere")


def _swapped(run: Path) -> None:
    model, optimizer = (run / "step-6" / f"{kind}.safetensors" for kind in ("model", "optimizer"))
    content = model.read_bytes()
    optimizer.replace(model)
    optimizer.write_bytes(content)


def _other(kind: str) -> Callable[[Path], None]:
    name = f"{kind}.safetensors"
    return lambda run: shutil.copy(run.parent / "B" / "step-4" / name, run / "step-6" / name)


def _flipped(run: Path) -> None:
    path = run / "step-6" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


# Each gets a run folder with checkpoints 3 and 6.
DAMAGES: dict[str, Callable[[Path], None]] = {
    "tokenizer of another run": lambda run: shutil.copy(run.parent / "B" / "tokenizer.json", run),
    "tokenizer gone": _gone("tokenizer.json"),
    "tokenizer empty": _put("tokenizer.json", b""),
    "tokenizer binary": _put("tokenizer.json", b"\xff\0\x80"),
    "tokenizer a list": _put("tokenizer.json", b"[1, 2]"),
    "tokenizer an empty object": _put("tokenizer.json", b"{}"),
    "model cut": _cut("step-6/model.safetensors", 0.5),
    "model cut in its header": _cut("step-6/model.safetensors", 0.01),
    "model empty": _cut("step-6/model.safetensors", 0),
    "model a byte flipped": _flipped,
    "model length absurd": _put("step-6/model.safetensors", b"\xff" * 64),
    "model gone": _gone("step-6/model.safetensors"),
    "model of another run": _other("model"),
    "optimizer of another run": _other("optimizer"),
    "weights and optimizer swapped": _swapped,
    "optimizer cut": _cut("step-6/optimizer.safetensors", 0.5),
    "optimizer gone": _gone("step-6/optimizer.safetensors"),
    "log with a blank line": _insert("log.jsonl", b"\n"),
    "log with a damaged line": _insert("log.jsonl", b'{"step": 3, "lo\n'),
    "log with a number": _insert("log.jsonl", b"7\n"),
    "log with NaN": _with_nan,
    "log with binary": _insert("log.jsonl", b"\xff\xfe\0\n"),
    "log with no step": _insert("log.jsonl", b'{"loss": 1}\n'),
    "log cut": _cut("log.jsonl", 0.8),
    "log empty": _cut("log.jsonl", 0),
    "log gone": _gone("log.jsonl"),
    "log a folder": _folder("log.jsonl"),
    "config broken": _put("config.toml", b"lr = = 3"),
    "config empty": _put("config.toml", b""),
    "config gone": _gone("config.toml"),
    "config of another shape": _insert("config.toml", b"d_hidden = 8\n"),
    "state broken": _put("step-6/state.json", b'{"step": 6'),
    "state a list": _put("step-6/state.json", b"[]"),
    "state an empty object": _put("step-6/state.json", b"{}"),
    "state of wrong types": _put("step-6/state.json", b'{"step": "6", "digest": null, "parts": 3}'),
    "state gone": _gone("step-6/state.json"),
    "latest empty": _put("latest", b""),
    "latest gone": _gone("latest"),
    "latest set back": _put("latest", b"step-3"),
    "latest elsewhere": _put("latest", b"../B/step-4"),
    "latest absolute": _put("latest", b"/etc"),
    "latest binary": _put("latest", b"\xff\0step"),
    "latest a folder": _folder("latest"),
    "a copied checkpoint": lambda run: shutil.copytree(run / "step-6", run / "step-6-copy"),
    "a copied checkpoint, numbered": lambda run: shutil.copytree(run / "step-6", run / "step-6-copy2"),
    "a linked checkpoint": _linked,
    "a folder step-99 of the user": _folder("step-99"),
    "a folder step-9.tmp of the user": _folder("step-9.tmp"),
    "a file step-12": _put("step-12", b"keep me\n"),
    "picture a folder": _folder("loss.png"),
}
# With these the run cannot be used; a command that accepts it is wrong. One flipped byte is not noticed.
FATAL = {
    name
    for name in DAMAGES
    if name.split()[0] in ("tokenizer", "model", "weights", "state", "latest")
    and name not in ("model a byte flipped", "latest set back", "state gone")
}
