"""Runs the parts of `bash tests/gpu/run`, each in a process of its own, until the time is up.

A part is a function of parts.py. It prints its figures as JSON, which go into one file as soon as the part
ends: a session that is cut off has shown what ended before.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# the part, and the seconds that it may take; the most valuable first
PARTS = {
    "machine": 40,
    "float32": 120,
    "float16": 120,
    "bfloat16": 120,
    "float64": 120,
    "training": 70,
    "gpt2": 60,
    "speed": 80,
    "tests": 80,
    "ranks": 60,
    "pieces": 60,
    "tf32": 60,
    "command": 60,
    "nccl": 60,
}
# These run at once: CuPy compiles kernels most of the time, on one core each; later parts find them on disk.
TOGETHER = {"float32", "float16", "bfloat16", "float64"}
SECONDS = 465


def gpu() -> str:
    """Why there is no GPU to use; empty if there is one."""
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed"
    try:
        return "" if cupy.is_available() else "CuPy finds no GPU"
    except Exception as error:  # a driver that does not fit
        return f"CuPy: {error}"


def one(command: list[str], seconds: float) -> dict:
    """Run a part; returns its state (ok, failed, skipped, too long), seconds, sentence and figures."""
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT, start_new_session=True)
        try:
            process.wait(seconds)
            state = {0: "ok", 3: "skipped"}.get(process.returncode, "failed")
        except subprocess.TimeoutExpired:
            state = "too long"
        except BaseException:
            _end(process)
            raise
        _end(process)  # with whatever it started
        out.seek(0), err.seek(0)
        lines, errors = out.read().strip().splitlines(), err.read().strip().splitlines()
    said: dict = {"figures": {}, "says": ""}
    for line in lines:  # each replaces the one before: a part that is cut off has said what it knew
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and found.keys() >= {"figures", "says"}:
            said = found
    if state == "failed" and not said["says"].startswith("failed"):
        said["says"] = errors[-1] if errors else f"exit {process.returncode}"
    return {"state": state, "seconds": round(time.monotonic() - begun, 1), **said, "stderr": errors[-40:]}


def within(part: str, left: float, rehearse: bool) -> dict:
    """Run a part of parts.py in the seconds that are left, or in fewer if its own limit is lower."""
    if left < 5:
        return {"state": "no time", "seconds": 0, "figures": {}, "says": "", "stderr": []}
    command = [sys.executable, "-m", "tests.gpu.parts", part, *["--rehearse"] * rehearse]
    return one(command, min(PARTS[part], left))


def _end(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(args: list[str] | None = None) -> int:
    """Run the parts in order; returns 0 unless one failed."""
    parser = argparse.ArgumentParser(prog="tests/gpu/run", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="only these")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with a stand-in and tiny shapes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for all of it ({SECONDS})")
    parser.add_argument("--list", action="store_true", help="name the parts and their limits in seconds")
    o = parser.parse_args(args)
    if unknown := [part for part in o.parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]}: {' '.join(PARTS)}")
    if o.list:
        print(*(f"{part:9} {limit} s" for part, limit in PARTS.items()), sep="\n")
        return 0
    if not o.rehearse and (why := gpu()):
        print(f"no GPU here ({why}): nothing to do; --rehearse runs every part on the CPU")
        return 0
    end, found = time.monotonic() + o.seconds, {}
    file = Path(os.environ.get("OUT") or ROOT / "build") / (
        "gpu-rehearsal.json" if o.rehearse else "gpu.json"
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    for _, some in groupby(o.parts or PARTS, lambda part: part if part not in TOGETHER else "together"):
        some = list(some)
        with ThreadPoolExecutor(len(some)) as pool:
            running = pool.map(lambda part: within(part, end - time.monotonic(), o.rehearse), some)
            for part, about in zip(some, running, strict=True):
                found[part] = about
                print(f"{part:9} {about['state']}, {about['seconds']:.0f} s: {about['says']}", flush=True)
                file.write_text(json.dumps({"rehearsal": o.rehearse, "parts": found}, indent=1) + "\n")
    print(f"figures: {file}")
    return int(any(about["state"] in ("failed", "too long") for about in found.values()))


if __name__ == "__main__":
    sys.exit(main())
