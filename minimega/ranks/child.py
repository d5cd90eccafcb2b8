"""How this program starts another Python process, and how it was started itself."""

import os
import shlex
import shutil
import sys
from pathlib import Path

PROGRAM = "MINIMEGA_PROGRAM"  # tells ranks what the user typed


def python(*words: str) -> list[str]:
    """The command line of this interpreter with these arguments; the current folder is not on its path.

    Modules of this package (`-m minimega...`) run through ranks/begin.py.
    """
    if words[:1] == ("-m",) and words[1].split(".")[0] == "minimega":
        words = (str(Path(__file__).with_name("begin.py")), *words[1:])
    return [sys.executable, "-P", *words]


def typed(*words: object) -> str:
    """A command of this program for the user to type, quoted if necessary.

    >>> typed("train", "--save-dir", "my runs/1").partition(" train")[2]
    " --save-dir 'my runs/1'"
    """
    return f"{program()} {shlex.join(map(str, words))}"


def program() -> str:
    """How the user called this program: `minimega`, its path, or `python -m minimega`, quoted."""
    if told := os.environ.get(PROGRAM):
        return told
    called = sys.argv[0]
    if Path(called).stem != "minimega":
        typed = sys.orig_argv[0] if "-m" in sys.orig_argv[1:] and "minimega" in sys.orig_argv else ""
        return shlex.join([typed or sys.executable, "-m", "minimega"])
    found = shutil.which("minimega")
    return "minimega" if found and os.path.samefile(found, called) else shlex.quote(called)
