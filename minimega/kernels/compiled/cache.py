"""Where compiled code is kept: in a folder of the user's cache, a new one for each text of the sources.

Only its owner may write there, since whoever writes there decides what code runs. Ranks that start together
take turns: the first compiles, the others read what it kept.
"""

import contextlib
import functools
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba

try:
    import fcntl
except ImportError:  # Windows: ranks that start together may compile twice
    fcntl = None  # type: ignore[assignment]


def sources() -> str:
    """A name for the present text of the compiled versions: numba itself looks at one file at a time."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


@functools.cache
def folder() -> Path:
    """The folder of the compiled code; one that ends with the process if the user's cannot be used."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = root / "minimega" / f"kernels-{sources()}"
    try:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        if private(kept) and os.access(kept, os.W_OK):
            return kept
    except OSError:
        pass
    return Path(_until_exit().name)


@functools.cache
def _until_exit() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="minimega-kernels-", ignore_cleanup_errors=True)


def private(path: Path) -> bool:
    """Whether this is a folder of this user's, no link, which no other user may write to."""
    found = path.lstat()
    mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return stat.S_ISDIR(found.st_mode) and mine and not (os.name == "posix" and found.st_mode & 0o022)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """What is decorated inside is kept in the folder; other functions of this process are not."""
    config: Any = numba.config  # its settings are made at run time
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder())
    try:
        yield
    finally:
        config.CACHE_DIR = before


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Only one process or thread at a time is inside; on a file system without locks, all are."""
    with open(folder() / "lock", "w") as file:
        if fcntl:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
