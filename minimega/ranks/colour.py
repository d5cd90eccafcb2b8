"""Colour, sparingly, where the terminal has it."""

import os
import sys
from typing import TextIO

from minimega.ranks import lifeline

CODES = {"bold": "1", "green": "32", "red": "31", "yellow": "33"}


def coloured(stream: TextIO) -> bool:
    """Whether this stream is shown in colour: a terminal that has it, unless the user's shell says otherwise.

    A NO_COLOR that is not empty turns it off (no-color.org), a FORCE_COLOR that is not empty or 0 turns it on
    in a pipe too. If both are set, NO_COLOR wins. A rank's errors go to the terminal of its launcher.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if force := os.environ.get("FORCE_COLOR"):
        return force != "0"
    shown = stream.isatty() or (stream is sys.stderr and lifeline.columns() > 0)
    return shown and os.environ.get("TERM") != "dumb"


def judged(text: str, ok: bool, stream: TextIO | None = None) -> str:
    """A verdict: green if all is well, else red."""
    return paint(text, "green" if ok else "red", stream or sys.stdout)


def error(message: str) -> str:
    """An error as it is written to standard error, with the program's name in red."""
    before, name, after = message.partition("minimega:")
    return f"{before}{paint(name, 'red', sys.stderr)}{after}"


def paint(text: str, how: str, stream: TextIO) -> str:
    """The text in bold, green, red or yellow, if the stream is shown in colour; else the text.

    >>> import io
    >>> paint("passed", "green", io.StringIO())
    'passed'
    """
    return f"\033[{CODES[how]}m{text}\033[0m" if text and coloured(stream) else text
