"""The launcher's side of a job: it forwards signals and output, and reports how the ranks end."""

import contextlib
import errno
import os
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from minimega.errors import OUTPUT
from minimega.ranks import bar, child, lifeline
from minimega.ranks.banners import Banners
from minimega.ranks.colour import error
from minimega.ranks.lifeline import Rank, signal_name

PATIENCE = 4.0  # seconds without progress after a signal until all ranks are killed
CLEANUP = 2.0  # seconds for mpirun to end once its ranks are gone
TICK = 0.25
SIGNALS = [getattr(signal, s) for s in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, s)]


@contextlib.contextmanager
def line_for_ranks() -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A listening socket for the ranks, and the environment that tells them its address (see lifeline.py)."""
    folder = tempfile.mkdtemp(prefix="minimega-")
    if len(folder) > 90:  # a socket's path has at most about 100 bytes
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="minimega-", dir="/tmp")
    try:
        with socket.socket(socket.AF_UNIX) as server:
            address = str(Path(folder, "line"))
            server.bind(address)
            server.listen(socket.SOMAXCONN)
            told = {lifeline.ADDRESS: address, child.PROGRAM: child.program()}
            yield server, told | {lifeline.COLUMNS: str(bar.columns())}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Job:
    """mpirun and its ranks, from their start to the exit `status`; creating a Job runs it to its end."""

    def __init__(self, line: list[str], env: dict[str, str], ranks: int):
        self.size, self.asked, self.since = ranks, [], 0.0
        self.ranks: list[Rank] = []
        self.stuck, self.screen = "", bar.Screen()
        self.unwritten: OSError | None = None
        self.selector = selectors.DefaultSelector()
        # Linux lists the sockets in the order in which they were closed, however late we look at it.
        self.closings, self.closed = select.epoll() if hasattr(select, "epoll") else None, []
        with line_for_ranks() as (self.server, told):
            # In a new session mpirun gets no Ctrl-C from the terminal: it would kill the ranks before they
            # can save.
            self.mpirun = subprocess.Popen(
                line,
                env=env | told,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            self.status = self._run()

    def _run(self) -> int:
        before = {s: signal.signal(s, self._hand_on) for s in SIGNALS if _heard(s)}
        try:
            self._follow()
            self._hear_out()
            if self.unwritten:
                raise self.unwritten
        finally:
            self.screen.draw("")
            if self.closings:
                self.closed = [file for file, _ in self.closings.poll(0)]
                self.closings.close()
            self.ranks.sort(key=self._end_of)
            for rank in self.ranks:
                rank.line.close()  # ends ranks that still run
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.mpirun.wait(CLEANUP)
            self.mpirun.kill()
            status = self.mpirun.wait()
            for pipe in (self.mpirun.stdout, self.mpirun.stderr, self.selector):
                if pipe:
                    pipe.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._last_words(status)

    def _hand_on(self, number: int, _frame) -> None:
        """The first signal asks the ranks to save and stop; a second one kills them."""
        self.asked.append(number)
        if len(self.asked) > 1:
            self.kill()
            return
        self.since = time.monotonic()
        for rank in self.ranks:
            rank.send(number)
        self.mpirun.send_signal(signal.SIGUSR1)  # every mpirun forwards this one

    def kill(self) -> None:
        """Kill all ranks, even those that are stopped or stuck."""
        for rank in self.ranks:
            if not rank.closed and "pid" in rank.state:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rank.state["pid"], signal.SIGKILL)
        self.mpirun.send_signal(signal.SIGTERM)

    def _follow(self) -> None:
        """Pass on output and read the ranks' sockets until mpirun and all ranks have ended."""
        sys.stdout and sys.stdout.flush()
        self.banners = {1: Banners(), 2: Banners()}
        assert self.mpirun.stdout and self.mpirun.stderr  # both are pipes
        open_pipes = {1: self.mpirun.stdout, 2: self.mpirun.stderr}
        for target, pipe in open_pipes.items():
            self.selector.register(pipe, selectors.EVENT_READ, target)
        self.selector.register(self.server, selectors.EVENT_READ, self.server)
        ended = 0.0
        while open_pipes:
            for key, _ in self.selector.select(TICK):
                if key.data is self.server:
                    self._accept()
                elif isinstance(key.data, Rank):
                    open_still = key.data.read()
                    self.screen.take(key.data.state)
                    if not open_still:
                        key.data.closed = time.monotonic()
                        self.selector.unregister(key.data.line)
                elif not self._pass_on(key.fileobj, key.data):
                    self.selector.unregister(open_pipes.pop(key.data))
            if len(self.ranks) < self.size:
                self.screen.wait(f"starting {self.size} ranks")
            if self.asked and not self.stuck:
                self._check_that_ranks_get_on()
            if self.mpirun.poll() is not None:
                ended = ended or time.monotonic()
                if time.monotonic() - ended > CLEANUP:  # mpirun was killed, and its ranks hold the pipes open
                    return

    def _hear_out(self) -> None:
        """Read what is left in the ranks' sockets: the pipes of mpirun may close first."""
        for rank in self.ranks:
            rank.line.setblocking(False)
            while not rank.closed and rank.read():
                pass

    def _accept(self) -> None:
        rank = Rank(self.server.accept()[0])
        self.ranks.append(rank)
        self.selector.register(rank.line, selectors.EVENT_READ, rank)
        if self.closings:
            self.closings.register(rank.line, select.EPOLLHUP)  # not EPOLLIN: unread messages change no order
        if self.asked:
            rank.send(self.asked[0])
        if len(self.ranks) == self.size:
            self.screen.draw("")
            self.selector.unregister(self.server)
            shutil.rmtree(Path(self.server.getsockname()).parent, ignore_errors=True)

    def _end_of(self, rank: Rank) -> float:
        """Sorts ranks by when their sockets were closed; those that still run come last."""
        if rank.line.fileno() in self.closed:
            return self.closed.index(rank.line.fileno()) - self.size
        return rank.closed or time.monotonic()

    def _pass_on(self, pipe, target: int) -> bool:
        """Write new output without mpirun's banners; returns False at the end of the pipe."""
        data = os.read(pipe.fileno(), 1 << 16)
        banners = self.banners[target]
        text = banners.feed(data) if data else banners.end()
        try:
            if text and not self.unwritten:
                with self.screen.above():
                    _write(target, text)
        except OSError as why:  # ask the ranks to stop, so that they clean up
            self.unwritten = why
            if not self.asked:
                self._hand_on(signal.SIGTERM, None)
        return bool(data)

    def _check_that_ranks_get_on(self) -> None:
        """Kill the job if a rank does not answer, or all ranks wait for one another."""
        now = time.monotonic()
        alive = [rank for rank in self.ranks if not rank.closed and "bye" not in rank.state]
        for rank in alive:
            rank.send(0)
        silent = [r.state["rank"] for r in alive if now - max(r.answered, self.since) > PATIENCE]
        if silent:
            self.stuck = f"{_named(sorted(silent))} did not answer for {PATIENCE:g} s"
        elif alive and now - max(self.since, *(max(r.moved, r.closed) for r in self.ranks)) > PATIENCE:
            self.stuck = f"no rank made progress for {PATIENCE:g} s"
        if self.stuck:
            self.kill()

    def _last_words(self, status: int) -> int:
        """Report what the ranks could not report themselves; returns the exit status."""
        said = any(rank.state.get("said") for rank in self.ranks)
        lost = [rank for rank in self.ranks if "bye" not in rank.state]
        text = ""
        if self.asked and (lost or self.stuck or not self.ranks):
            why = f": {self.stuck}; all {self.size} ranks were killed" if self.stuck else ": stopped"
            text = f"minimega: {signal_name(self.asked[0])}{why}{self._place()}"
            status = 128 + self.asked[0]
        elif self.asked and status == 128 + signal.SIGUSR1:
            status = 128 + self.asked[0]
        elif lost and not said:
            text, status = self._death(lost, status)
        left = next((r.state["left"] for r in self.ranks if "left" in r.state), "")
        if left and (text or (said and not any(left in r.state.get("said", "") for r in self.ranks))):
            text = "\n".join(filter(None, [text, left]))
        if text:
            _write(2, f"{error(text)}\n".encode())
        return status if status >= 0 else 128 - status

    def _death(self, lost: list[Rank], status: int) -> tuple[str, int]:
        """Name the rank whose socket closed first: mpirun may name one that it killed afterwards."""
        first = lost[0]
        who = f"rank {first.state.get('rank', '?')} of {self.size}"
        number = first.fault or next(
            (b.signal_of(first.state.get("pid", 0)) for b in self.banners.values() if b.signal), 0
        )
        if status < 0 and not number:
            who, number = "mpirun", -status
        how = f"ended with exit status {status}" if status else "ended without an error message"
        if cause := next((b.cause for b in self.banners.values() if b.cause), ""):
            return f"minimega: MPI failed on {who}{self._place()} Its error: {cause}", 1
        if number in set(signal.Signals):
            out_of_memory = ": out of memory?" if number == signal.SIGKILL else "."
            how = f"was killed by {signal.Signals(number).name}"
            return f"minimega: {who} {how}{self._place(out_of_memory)}", 1
        return f"minimega: {who} {how}{self._place()}", 1

    def _place(self, end: str = ".") -> str:
        steps = [rank.state["step"] for rank in self.ranks if "step" in rank.state]
        return (f" after step {max(steps)}" if steps else "") + end


def _heard(number: int) -> bool:
    """Whether to forward a signal: under nohup SIGHUP is ignored."""
    return number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN


def _named(ranks: list[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _write(target: int, data: bytes) -> None:
    """Write bytes to standard output (1) or error (2); if the terminal is gone, they are lost."""
    while data:
        try:
            data = data[os.write(target, data) :]
        except BlockingIOError:
            select.select([], [target], [])
        except OSError as why:
            if target == 2 or why.errno == errno.EIO:
                return
            if why.errno != errno.EPIPE:
                why.filename = OUTPUT
            raise
