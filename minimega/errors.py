"""The two ways in which minimega stops: the input is at fault, or the run is; words for their sentences."""

import difflib
import errno
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike

CURES = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EACCES: "choose a place that you may write to",
    errno.EROFS: "choose a place that you may write to",
}

OUTPUT = "standard output"  # what an error of it has as its file


class BadInput(ValueError):
    """What was asked for cannot be done as asked: says what, where and what to do (exit status 2)."""


class RunFailed(RuntimeError):
    """The run could not go on: says why, and what is left whole (exit status 1)."""


def in_words(error: OSError) -> str:
    """What the system refused: the file, the reason, and what to do where that is known.

    >>> in_words(OSError(errno.ENOSPC, "No space left on device", "run/log.jsonl"))
    'run/log.jsonl: No space left on device; free some space, or write elsewhere'
    """
    cure = f"; {CURES[error.errno]}" if error.errno in CURES and error.filename != OUTPUT else ""
    return f"{error.filename or 'the system'}: {error.strerror or error}{cure}"


@contextmanager
def naming(path: str | PathLike) -> Iterator[None]:
    """Around the writing of a file: the system names none where a write fails, as on a full disk."""
    try:
        yield
    except OSError as why:
        if why.filename is None:
            why.filename = str(path)
        raise


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A question that offers the known name nearest to this one; nothing where none is near.

    >>> nearest("num-step", ["num-steps", "lr"], "--")
    '; did you mean --num-steps?'
    """
    begun = [k for k in known if k.startswith(name)] if len(name) > 2 else []
    near = begun[:1] or difflib.get_close_matches(name, list(known), 1, 0.7)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def shown(value) -> str:
    """A value as an error repeats it: in quotes where it is a text, and no longer than a line.

    >>> shown(10**300)
    '1000000000000000000000000000... (301 characters)'
    """
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 200 else f"{text[:28]}... ({len(str(value))} characters)"


def pip(*packages: str) -> str:
    """What to type to install packages for this very interpreter."""
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])
