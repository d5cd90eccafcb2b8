"""The two errors of minimega, bad input and a failed run, and helpers for their messages."""

import errno
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from os import PathLike
from types import ModuleType

CURES = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EACCES: "choose a path that you can write to",
    errno.EROFS: "choose a path that you can write to",
}

OUTPUT = "standard output"  # the file name in its errors


class BadInput(ValueError):
    """The request is wrong. The message says what, where, and what to do (exit status 2).

    It names options as fields, in backquotes: the commands print `save_dir` as --save-dir.
    """


class RunFailed(RuntimeError):
    """The run cannot continue. The message says why, and what is left intact (exit status 1)."""


def in_words(error: OSError) -> str:
    """The message for a system error: the file, the reason, and what to do if that is known.

    >>> in_words(OSError(errno.ENOSPC, "No space left on device", "run/log.jsonl"))
    'run/log.jsonl: No space left on device; free some space, or write elsewhere'
    """
    cure = f"; {CURES[error.errno]}" if error.errno in CURES and error.filename != OUTPUT else ""
    return f"{error.filename or 'the system'}: {error.strerror or error}{cure}"


@contextmanager
def naming(path: str | PathLike) -> Iterator[None]:
    """Add the path to an OSError raised inside that names no file, as when the disk is full."""
    try:
        yield
    except OSError as why:
        if why.filename is None:
            why.filename = str(path)
        raise


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A question that suggests the known name closest to this one; "" if none is close.

    >>> nearest("num-step", ["num-steps", "lr"], "--")
    '; did you mean --num-steps?'
    """
    import difflib  # takes 2 ms: only after a mistake

    begun = [k for k in known if k.startswith(name)] if len(name) > 2 else []
    near = begun[:1] or difflib.get_close_matches(name, list(known), 1, 0.7)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def shown(value) -> str:
    """A value as an error message shows it: a text in quotes, anything long cut to one line.

    >>> shown(10**300)
    '1000000000000000000000000000... (301 characters)'
    """
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 200 else f"{text[:28]}... ({len(str(value))} characters)"


def pip(*packages: str) -> str:
    """The pip command that installs packages for this interpreter."""
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])


def extra(name: str, package: str = "") -> ModuleType:
    """A module of a library that only some work needs. Raises BadInput if its package is not installed.

    >>> extra("json").dumps([1])
    '[1]'
    """
    try:
        return import_module(name)
    except ImportError:
        package = package or name
        raise BadInput(f"this needs {package}, which is not installed: {pip(package)}") from None
