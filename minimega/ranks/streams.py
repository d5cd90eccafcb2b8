"""Standard input, output and error that every command and every rank can rely on."""

import errno
import os
import sys
from typing import TextIO

from minimega.errors import OUTPUT

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def make_usable() -> None:
    """Open closed streams on the null device, and let an encoding that lacks a character write its escape.

    Without the first, Python has None in place of a stream, and a file opened later takes its number: what a
    library prints would go into that file.
    """
    try:
        while (free := os.open(os.devnull, os.O_RDWR)) < len(STREAMS):
            os.set_inheritable(free, True)  # ranks and other processes started here need it as well
        os.close(free)
    except OSError:
        pass  # no null device here
    for number, (name, mode) in enumerate(STREAMS):
        stream = getattr(sys, name)
        if stream is None:
            opened = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, opened)
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(text: str = "", end: str = "\n") -> None:
    """Print at once; an error of the system names standard output, as that of a file names the file.

    To a terminal that is gone nothing is said, and a run goes on to save.
    """
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise  # nobody reads on
    except OSError as why:
        if why.errno != errno.EIO:
            why.filename = OUTPUT
            raise
        _give_up(sys.stdout)


def tell(text: str) -> None:
    """Write a line to the error stream after all that was printed; where nobody can read it, do nothing."""
    give_up_broken()
    try:
        sys.stderr.write(f"{text}\n")  # one call: lines of several ranks do not mix
        sys.stderr.flush()
    except OSError:
        give_up_broken()


def give_up_broken() -> None:
    """Send what a broken output stream still holds to the null device.

    Python would try once more at its end, and end with a traceback and a status of its own.
    """
    for stream in (sys.stderr, sys.stdout):
        try:
            stream.flush()
        except OSError:
            _give_up(stream)


def _give_up(stream: TextIO) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
