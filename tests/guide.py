"""Runs a page of the guides as a reader does, and compares what is printed.

    python -m tests.guide docs/first-hour.md

`console` blocks go to a shell, `pycon` blocks to one Python session, and a `python` block whose first line is
the name of a file becomes that file. `...` matches anything, as in doctests. Before a block, a comment
`<!-- instead: COMMAND -->` says what the test runs in its place.
"""

import contextlib
import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.job import minimega

ROOT = Path(__file__).resolve().parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(
    r"(?:<!-- instead: (.*) -->\n)?^```(console|pycon|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
LIMIT = 300  # seconds for a command


def shell(command: str, folder: Path) -> str:
    """What a command prints, with the environment active. `minimega plan` needs no process of its own."""
    if command.startswith("minimega plan ") and not set(command) & set("|<>&;$"):
        with contextlib.chdir(folder):
            ended = minimega(*shlex.split(command)[1:])
        return ended.stdout + ended.stderr
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
    )
    return ended.stdout


def differences(page: Path, folder: Path) -> list[str]:
    """Each command of a page whose output is not what the page shows, with both."""
    found, names = [], {}
    for instead, kind, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "console":
            for command, wanted in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
                said = shell(instead or command, folder)
                active = instead or command.startswith("source ")
                if not active and not doctest.OutputChecker().check_output(wanted, said, FLAGS):
                    found.append(f"$ {command}\nexpected:\n{wanted}got:\n{said}")
        elif kind == "pycon":
            test = doctest.DocTestParser().get_doctest(block, names, page.name, str(page), 0)
            runner, said = doctest.DocTestRunner(optionflags=FLAGS), []
            with contextlib.chdir(folder):
                runner.run(test, out=said.append, clear_globs=False)
            names |= test.globs
            found += ["".join(said)] * bool(said)
        elif name := re.match(r"# ([\w.]+)\n", block):
            (folder / name[1]).write_text(block, encoding="utf-8")
    return found


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "docs").symlink_to(ROOT / "docs")
        print(*differences(Path(sys.argv[1]), Path(place)), sep="\n" + 78 * "-" + "\n")
