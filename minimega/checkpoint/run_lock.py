"""Only one run at a time writes into a folder: an operating system lock, released when its process ends.

RUN/minimega.lock names the process that holds it. A file left by a killed run locks nothing.
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

    fcntl = None  # type: ignore[assignment]

NAME = "minimega.lock"
HELD = {EACCES, EAGAIN, EDEADLK, EWOULDBLOCK}
FAR = 2**30  # Windows forbids reading a locked range: lock a byte far past the text


@contextmanager
def writing(folder: Path | None, world: Group = SELF) -> Iterator[None]:
    """Lock a folder against other processes. Raises BadInput, on all ranks, naming the process that has it.

    The first rank holds the lock, and removes what a killed run left in the folder.
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
        if folder and file is not None:
            _let_go(folder / NAME, file)


def check_free(folder: Path) -> None:
    """Raise BadInput if another process writes into a folder. Called before ranks start."""
    if folder.is_dir() and ranks_given() is None:
        file = _take(folder)
        if file is not None:
            _let_go(folder / NAME, file)


def _begin(folder: Path, file: int | None) -> None:
    if file is None:
        say(f"{folder} is on a file system without locks: start no second run in it")
        return
    with suppress(OSError):  # on a full disk the lock holds without its text
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()} since {time.ctime()}\n".encode())
    with suppress(OSError):
        run_folder.sweep(folder)


def _take(folder: Path) -> int | None:
    """The descriptor of the locked file; None if the file system has no locks."""
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
                    f"wait until it ends, or choose another `save_dir`"
                ) from None
            path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        os.close(file)  # its holder removed the file between our open and our lock


def _lock(file: int) -> None:
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        os.lseek(file, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        finally:
            os.lseek(file, 0, os.SEEK_SET)


def _let_go(path: Path, file: int) -> None:
    """Remove the file while it is locked, so as not to remove a newer one; Windows needs it closed first."""
    for act in (path.unlink, lambda: os.close(file)) if fcntl else (lambda: os.close(file), path.unlink):
        with suppress(OSError):  # the folder is gone, or on Windows the next run has the file open
            act()
