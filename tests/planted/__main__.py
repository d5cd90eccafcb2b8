"""python -m tests.planted [--only WORD] [--jobs N]: which planted mistakes do their tests notice?"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

from tests.planted import ROOT, Mistake, find_test, is_case
from tests.planted.table import MISTAKES

LIMIT = 180  # seconds for the tests of one mistake
IGNORED = shutil.ignore_patterns(".*", "__pycache__", "runs", "build", "*.egg-info")
CASE = """
import subprocess, sys
from minimega.ranks import launch
line, env = launch.command(sys.argv[2:], int(sys.argv[1]), threads=1)
sys.exit(subprocess.run(line, env=env).returncode)
"""
FAILED = 1  # pytest's status; any other means that the tests could not run


@contextmanager
def copy_of_the_project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copytree(ROOT, Path(folder, "project"), ignore=IGNORED))


def run_tests(project: Path, tests: list[str], limit: float = LIMIT) -> tuple[str, str]:
    """How the tests end in a copy: "passed", "failed", "hung" or "broken"; and what they wrote."""
    plain = [find_test(test, project) for test in tests if not is_case(test)]
    lines = [["-m", "pytest", "-x", "-p", "no:cacheprovider", *plain]] if plain else []
    for test in filter(is_case, tests):
        name, ranks = test.split()
        lines.append(["-c", CASE, ranks, str(project / "tests/mpi/ranks.py"), name])
    for line in lines:
        status, said = _run(project, line, limit)
        if status is None:
            return "hung", said
        if status:
            failed = status == FAILED if line[1] == "pytest" else "Error" in said or "Timeout" in said
            return ("failed" if failed else "broken"), said
    return "passed", ""


def _run(project: Path, line: list[str], limit: float) -> tuple[int | None, str]:
    here = {"PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
    job = subprocess.Popen(
        [sys.executable, *line],
        cwd=project,
        env=os.environ | here,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = job.communicate(timeout=limit)
        return job.returncode, said
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)  # the ranks of a launcher end with it
        with suppress(subprocess.TimeoutExpired):
            return None, job.communicate(timeout=10)[0]
        return None, ""


def verdict(project: Path, mistake: Mistake, test: Callable = run_tests) -> tuple[str, str]:
    """How a mistake planted in a copy ends: "caught", "survived", "hung" or "broken"."""
    path = mistake.place(project)
    right, wrong = path.read_text(encoding="utf-8"), mistake.planted(project)
    path.write_text(wrong, encoding="utf-8")
    try:
        ended, said = test(project, list(mistake.tests))
    finally:
        path.write_text(right, encoding="utf-8")
    if ended == "hung" and mistake.hangs:
        ended = "failed"
    return {"failed": "caught", "passed": "survived"}.get(ended, ended), said


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__.partition(": ")[2])
    parser.add_argument("--only", default="", help="those with this number, or this text in what they are")
    parser.add_argument("--jobs", type=int, default=1, help="mistakes tried at once")
    parser.add_argument(
        "--verbose", action="store_true", help="print what the tests of an uncaught one wrote"
    )
    o = parser.parse_args()
    numbered = list(enumerate(MISTAKES))
    chosen = [(n, m) for n, m in numbered if (o.only == str(n) if o.only.isdigit() else o.only in m.what)]
    copies: SimpleQueue[Path] = SimpleQueue()

    def one(n: int, mistake: Mistake) -> bool:
        project, began = copies.get(), time.monotonic()
        ended, said = verdict(project, mistake)
        copies.put(project)
        print(f"{n:3} {ended:9} {time.monotonic() - began:4.0f} s  {mistake.what}", flush=True)
        if ended != "caught" and o.verbose:
            print(said, flush=True)
        return ended == "caught"

    with copy_of_the_project() as first:
        ended, said = run_tests(first, sorted({test for _, m in chosen for test in m.tests}), 10 * LIMIT)
        if ended != "passed":
            print(f"without a mistake these tests {ended}:\n{said}")
            return 1
        for n in range(o.jobs):
            copies.put(Path(shutil.copytree(first, first.with_name(f"project{n}"))))
        with ThreadPoolExecutor(o.jobs) as pool:
            caught = list(pool.map(lambda pair: one(*pair), chosen))
    print(f"{sum(caught)} of {len(caught)} caught")
    return 0 if all(caught) else 1


if __name__ == "__main__":
    sys.exit(main())
