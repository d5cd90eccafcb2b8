"""From a wheel in an empty environment, outside the checkout: import, train, generate, load, check, lessons.

    python -m tests.wheel                                      this Python, without MPI (`make wheel`)
    python -m tests.wheel --mpi python3.11 python3.12          each of these Pythons, without and with MPI

Prints one line per step; exits with 1 at the first that fails. Not for pytest: it installs packages.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = "minimega", "lessons", "pyproject.toml", "README.md", "LICENSE"
SMALL = [
    "--tales",
    "200",
    "--num-steps",
    "3",
    "--d-model",
    "32",
    "--nhead",
    "2",
    "--train-batch-size",
    "4",
    "--context",
    "32",
]
LOAD = """
import numpy as np, minimega as mm
model, tokenizer = mm.load("run")
assert isinstance(model, mm.Model) and tokenizer.size == model.config.vocab_size
mm.save("copy", model, tokenizer)
again, _ = mm.load("copy")
assert all((again.state_dict()[name] == array).all() for name, array in model.state_dict().items())
print(mm.check(lambda x: (x * x, lambda dy: 2 * dy * x), np.array([3.0])))
"""
SQUARE = "def square(x):\n    return x * x, lambda dy: 2 * dy * x\n"
RANKS = """
import numpy as np, minimega as mm
with mm.on_ranks(2) as run:
    assert run(lambda group: float(group.all_reduce(np.array(group.rank + 1.0)))) == [3.0, 3.0]
"""


def build(folder: Path) -> Path:
    """The wheel, built from the source distribution, which holds all that it needs."""
    source = folder / "source"
    source.mkdir()
    for part in PARTS:
        path, skip = ROOT / part, shutil.ignore_patterns("__pycache__")
        shutil.copytree(path, source / part, ignore=skip) if path.is_dir() else shutil.copy(path, source)
    code = "from setuptools import build_meta as b; b.build_{0}('..')"
    run([sys.executable, "-c", code.format("sdist")], source)
    shutil.unpack_archive(next(folder.glob("*.tar.gz")), folder / "unpacked")
    (unpacked,) = (folder / "unpacked").iterdir()
    run([sys.executable, "-c", code.format("wheel").replace("'..'", "'../..'")], unpacked)
    return next(folder.glob("*.whl"))


def run(words: list, folder: Path, status: int = 0) -> str:
    """What a command printed. Raises RuntimeError if it ends with another status."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(list(map(str, words)), cwd=folder, env=env, capture_output=True, text=True)
    if ended.returncode != status or "Traceback" in ended.stderr:
        raise RuntimeError(f"{words} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def steps(python: str, wheel: Path, folder: Path, mpi: bool) -> Iterator[str]:
    """Install and use the wheel; yields the name of each step once it is done."""
    run([python, "-m", "venv", folder / "env"], folder)
    inside = folder / "env" / "bin" / "python"
    pip = [
        inside,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "-c",
        ROOT / "constraints.txt",
    ]
    run([*pip, f"{wheel}[mpi]" if mpi else wheel], folder)
    yield "install"
    run([inside, "-W", "error", "-c", "import minimega; minimega.__version__"], folder)
    yield "import"
    minimega = [folder / "env" / "bin" / "minimega"]
    said = run([*minimega, "doctor"], folder)
    assert "NumPy" in said and ": ok" in said, said
    yield "doctor"
    run([*minimega, "train", *SMALL, "--save-dir", "run", *(["--dp", "2"] if mpi else [])], folder)
    yield "train on 2 ranks" if mpi else "train"
    assert run([*minimega, "generate", "--model-filename", "run"], folder).strip()
    yield "generate"
    assert "the backward pass is right" in run([inside, "-c", LOAD], folder)
    yield "load, save, check"
    (folder / "square.py").write_text(SQUARE)
    assert "right" in run([*minimega, "gradcheck", "square.py:square", "--shapes", "3x4"], folder)
    yield "gradcheck"
    run([inside, "-c", RANKS], folder)
    yield "ranks as threads"
    assert "01" in run([*minimega, "learn"], folder)
    for number in ("03", "16") if mpi else ("03",):  # the second on four ranks
        run([*minimega, "learn", "start", number], folder)
        (copy,) = (folder / "my-lessons").glob(f"{number}_*.ipynb")
        answer(copy, run([*minimega, "learn", "solution", number], folder))
        run([*minimega, "learn", "check", number], folder)
    yield "lessons"


def answer(notebook: Path, solution: str) -> None:
    """Write a printed solution into the exercise's cell."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    (cell,) = (c for c in content["cells"] if "exercise" in c["metadata"].get("tags", []))
    cell["source"] = re.sub(r"^```.*$", "", solution, flags=re.MULTILINE)
    notebook.write_text(json.dumps(content), encoding="utf-8")


def main() -> int:
    """Build, then install and use the wheel with each Python."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="*", default=[sys.executable], help="interpreters to install into")
    parser.add_argument("--mpi", action="store_true", help="once more each, with MPI")
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        wheel = build(Path(name))
        with zipfile.ZipFile(wheel) as archive:
            assert "minimega/py.typed" in archive.namelist()
        print(f"built {wheel.name} from its source distribution")
        for n, (python, mpi) in enumerate((p, m) for p in o.pythons for m in (False, True)[: 1 + o.mpi]):
            version = run([python, "-c", "import sys; print(*sys.version_info[:3], sep='.')"], ROOT).strip()
            work, begun = Path(name) / f"work{n}", time.monotonic()
            work.mkdir()
            for step in steps(python, wheel, work, mpi):
                print(f"Python {version}, {'with MPI' if mpi else 'without'}: {step}", flush=True)
            print(f"Python {version}, {'with MPI' if mpi else 'without'}: {time.monotonic() - begun:.0f} s")
            shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
