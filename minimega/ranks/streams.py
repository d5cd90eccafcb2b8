"""Standard input, output and error, made safe for every command and every rank."""

import errno
import os
import sys
from typing import TextIO

from minimega.errors import OUTPUT

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def make_usable() -> None:
    """Open closed streams on the null device, and write characters that cannot be encoded as escapes.

    If a stream is closed, Python sets it to None, and the next file opened takes its number: what a library
    prints would go into that file.
    """
    try:
        while (free := os.open(os.devnull, os.O_RDWR)) < len(STREAMS):
            os.set_inheritable(free, True)  # child processes need it too
        os.close(free)
    except OSError:
        pass  # there is no null device
    for number, (name, mode) in enumerate(STREAMS):
        stream = getattr(sys, name)
        if stream is None:
            opened = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, opened)
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(text: str = "", end: str = "\n") -> None:
    """Print and flush; a write error raises OSError with standard output as its file name.

    If the terminal is gone, print nothing, so that a run can still save.
    """
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise  # the reader has closed the pipe
    except OSError as why:
        if why.errno != errno.EIO:
            why.filename = OUTPUT
            raise
        _give_up(sys.stdout)


def tell(text: str) -> None:
    """Write a line to standard error, after what was printed; do nothing if it cannot be written."""
    give_up_broken()
    try:
        sys.stderr.write(f"{text}\n")  # one call, so lines of different ranks do not interleave
        sys.stderr.flush()
    except OSError:
        give_up_broken()


def give_up_broken() -> None:
    """Redirect a broken output stream, and what it still buffers, to the null device.

    Otherwise Python would flush it again at exit, and end with a traceback and another exit status.
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
