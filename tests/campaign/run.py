"""One case: set up in its own folder, run, judged; a failing one is reduced."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.campaign import oracle, world
from tests.campaign.case import Case
from tests.campaign.oracle import Ended, Violation

MARK = "CAMPAIGN_CASE"  # in the environment of every process of a case, so that processes left over are found
PATIENCE, GRACE, LAST = 20.0, 20.0, 10.0  # seconds: until Ctrl-C, after it, and for processes to end
MEMORY = 6 << 30  # per process, so that an odd size does not bring the machine down


def installed() -> list[str]:
    """The command as a user has it, next to this interpreter."""
    script = Path(sys.executable).with_name("minimega")
    return [str(script)] if script.exists() else [sys.executable, "-P", "-m", "minimega"]


@dataclass
class Campaign:
    """Where cases run: each gets a copy of the world in `base`."""

    base: Path
    program: list[str]

    @classmethod
    @contextmanager
    def begun(cls, program: list[str] | None = None) -> Iterator["Campaign"]:
        base = Path(tempfile.mkdtemp(prefix="campaign-"))
        try:
            made = cls(base, program or installed())
            world.template(base / "world", installed())
            yield made
        finally:
            shutil.rmtree(base, ignore_errors=True)

    def check(self, case: Case, patience: float = PATIENCE, keep: Path | None = None) -> list[Violation]:
        """Run a case in a fresh copy of the world and say what was wrong. `keep`: where the copy stays."""
        box = keep or self.base / "box"
        shutil.rmtree(box, ignore_errors=True)
        world.prepare(self.base / "world", box, case.damages, case.shadows)
        before = oracle.snapshot(box)
        ended = self.run(case, box, patience)
        self.last = ended
        found = oracle.judge(case, ended, before, box)
        found += self._again(case, ended, box)
        if not keep:
            shutil.rmtree(box, ignore_errors=True)
        return found

    def run(self, case: Case, box: Path, patience: float = PATIENCE) -> Ended:
        mark = uuid.uuid4().hex
        job = subprocess.Popen(
            [*_behind_a_shell(case), *self.program, *case.words],
            cwd=box / "work",
            env=self._environment(case, box, mark),
            umask=case.umask,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        reader = None
        if case.stdout == "head":
            reader = subprocess.Popen(["head", "-1"], stdin=job.stdout, stdout=subprocess.DEVNULL)
            job.stdout.close()
            job.stdout = None
        try:
            status, out, err, sent = _wait(job, case.signal, patience)
        finally:
            left = _left(mark, LAST if case.signal else 3.0)
            for pid, _ in left:
                _kill(pid)
            if reader:
                reader.wait()
        if status is None:
            left = []
            more = job.communicate()
            out, err = more[0] or b"", more[1] or b""
        texts = ((b or b"").decode(errors="replace") for b in (out, err))
        return Ended(status, *texts, [line for _, line in left], tuple(sent))

    def _environment(self, case: Case, box: Path, mark: str) -> dict[str, str]:
        bins = os.pathsep.join([str(Path(self.program[0]).parent), os.path.dirname(sys.executable)])
        cache = self.base / "matplotlib"
        cache.mkdir(exist_ok=True)
        env: dict[str, str | None] = {
            "PATH": bins + os.pathsep + os.environ.get("PATH", os.defpath),
            "HOME": str(box / "home"),
            "TMPDIR": str(box / "tmp"),
            "LANG": "C.UTF-8",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "MPLCONFIGDIR": str(cache),
            MARK: mark,
        }
        env |= dict(case.environment)
        return {k: v for k, v in env.items() if v is not None}

    def _again(self, case: Case, ended: Ended, box: Path) -> list[Violation]:
        """A run that was stopped or failed continues from its last checkpoint."""
        run = oracle.run_folder(case, box)
        if case.command != "train" or not run or ended.status in (0, 2, None) or case.damages:
            return []
        if not (run / "latest").is_file() or not (run / "config.toml").is_file():
            return []
        try:
            step = int((run / "latest").read_text().strip().removeprefix("step-"))
        except ValueError as why:
            return [Violation("resume", f"latest is damaged: {why}")]
        how = (("save-dir", case.value("save-dir")), ("resume", None), ("num-steps", str(step + 2)))
        after = self.run(Case(f"{case.name}, resumed", "train", how), box)
        if after.status != 0:
            return [Violation("resume", f"exit status {after.status}: {after.err[-300:]}")]
        return [replace_kind(v, "resume") for v in oracle.trained(run)]

    def shrink(self, case: Case, kind: str, patience: float = PATIENCE, tries: int = 40) -> Case:
        """The smallest case that fails in the same way."""
        smaller = True
        while smaller:
            smaller = False
            for candidate in case.smaller():
                if tries == 0:
                    return case
                tries -= 1
                if any(v.kind == kind for v in self.check(candidate, patience)):
                    case, smaller = candidate, True
                    break
        return replace(case, name=f"{case.name}, smaller")


def replace_kind(violation: Violation, kind: str) -> Violation:
    return Violation(kind, f"{violation.kind}: {violation.text}")


def _behind_a_shell(case: Case) -> list[str]:
    """The shell that sets limits, closes streams, and becomes what follows it."""
    limits = replace(case, limits=(("AS", MEMORY), *case.limits)).ulimits(512)
    return ["/bin/sh", "-c", "; ".join([*limits, f'exec "$0" "$@" {case.redirections}'])]


def _wait(job: subprocess.Popen, planned: tuple[str, float] | None, patience: float):
    """Status (None: no end), both texts, and the signals sent: the planned one, then Ctrl-C twice."""
    sent: list[int] = []
    plan = [(getattr(signal, f"SIG{planned[0]}"), planned[1])] if planned else []
    for number, wait in [*plan, (signal.SIGINT, patience), (signal.SIGINT, GRACE), (None, GRACE)]:
        try:
            out, err = job.communicate(timeout=wait)
            return job.returncode, out, err, sent
        except subprocess.TimeoutExpired:
            if number and job.poll() is None:
                job.send_signal(number)
                sent.append(number)
            elif job.poll() is not None:
                return job.returncode, *_said(job), sent
    return None, b"", b"", sent


def _said(job: subprocess.Popen) -> tuple[bytes, bytes]:
    """The output of a process that has ended; nothing if processes that it left hold its streams."""
    try:
        return job.communicate(timeout=1)
    except subprocess.TimeoutExpired:
        return b"", b""


def _left(mark: str, wait: float) -> list[tuple[int, str]]:
    """The processes that carry the mark, after some time to end."""
    until = time.monotonic() + wait
    while (found := _marked(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def _marked(mark: str) -> list[tuple[int, str]]:
    found, sought = [], f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if sought in (folder / "environ").read_bytes():
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append((int(folder.name), words.strip()[:120]))
        except OSError:
            continue
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
