"""The two ways in which minimega stops: the input is at fault, or the run is."""

import errno

CURES = {
    errno.ENOSPC: "free some space or choose another --save-dir",
    errno.EDQUOT: "free some space or choose another --save-dir",
    errno.EACCES: "choose a place that you may write to",
    errno.EROFS: "choose a place that you may write to",
}


class BadInput(ValueError):
    """What was asked for cannot be done as asked: says what, where and what to do (exit status 2)."""


class RunFailed(RuntimeError):
    """The run could not go on: says why, and what is left whole (exit status 1)."""


def in_words(error: OSError) -> str:
    """What the system refused: the file, the reason, and what to do where that is known.

    >>> in_words(OSError(errno.ENOSPC, "No space left on device", "run/log.jsonl"))
    'run/log.jsonl: No space left on device; free some space or choose another --save-dir'
    """
    cure = f"; {CURES[error.errno]}" if error.errno in CURES else ""
    return f"{error.filename or 'the system'}: {error.strerror or error}{cure}"
