"""One run at a time writes into a folder: a lock of the operating system's, which ends with its process.

RUN/minimega.lock says who holds it. A file that a killed run left holds nothing.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EAGAIN, EDEADLK, EWOULDBLOCK
from pathlib import Path

from minimega.checkpoint import run_folder
from minimega.errors import BadInput
from minimega.ranks.group import SELF, Group, first_text
from minimega.ranks.launch import ranks_given
from minimega.ranks.streams import say

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None

NAME = "minimega.lock"
HELD = {EACCES, EAGAIN, EDEADLK, EWOULDBLOCK}
FAR = 2**30  # on Windows nobody may read what is locked, so that is a byte far behind the words


@contextmanager
def writing(folder: Path | None, world: Group = SELF) -> Iterator[None]:
    """Keep every other process from writing into a folder meanwhile; BadInput says which one does already.

    Of several ranks the first one holds the lock, and removes what a killed run left there.
    """
    file, told = None, ""
    if folder and world.rank == 0:
        try:
            file = _take(folder)
        except BadInput as why:
            told = str(why)
        else:
            _begin(folder, file)
    try:
        if told := first_text(told, world):
            raise BadInput(told)
        yield
    finally:
        if file is not None:
            _let_go(folder / NAME, file)


def check_free(folder: Path) -> None:
    """BadInput where another process writes into a folder; for a process alone, before it starts ranks."""
    if folder.is_dir() and ranks_given() is None:
        file = _take(folder)
        if file is not None:
            _let_go(folder / NAME, file)


def _begin(folder: Path, file: int | None) -> None:
    if file is None:
        say(f"{folder} is on a file system without locks: start no second run in it")
        return
    with suppress(OSError):  # on a full disk the lock holds without words
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()} since {time.ctime()}\n".encode())
    with suppress(OSError):
        run_folder.sweep(folder)


def _take(folder: Path) -> int | None:
    """The locked file; None where there are no locks."""
    path = folder / NAME
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as why:
            raise BadInput(f"{folder} cannot be written into: {why.strerror}") from None
        try:
            _lock(file)
        except OSError as why:
            holder = os.read(file, 200).decode(errors="replace").partition("\n")[0]
            os.close(file)
            if why.errno in HELD:
                raise BadInput(
                    f"{folder} is in use: {holder or 'another process'} writes into it; "
                    f"wait until it ends, or choose another --save-dir"
                ) from None
            path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        os.close(file)  # who held it removed the file between our opening and locking it


def _lock(file: int) -> None:
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        os.lseek(file, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(file, 0, os.SEEK_SET)


def _let_go(path: Path, file: int) -> None:
    """Remove the file while it is locked, so that nobody's new one is removed; Windows wants it closed."""
    for act in (path.unlink, lambda: os.close(file)) if fcntl else (lambda: os.close(file), path.unlink):
        with suppress(OSError):  # a folder that is gone, or on Windows a file that the next one has opened
            act()
