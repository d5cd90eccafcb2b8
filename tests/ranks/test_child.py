"""Child processes find Python's own modules, and the commands that messages suggest work."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import minimega as mm
from minimega.commands.cli import main
from minimega.commands.options import complete
from minimega.commands.run import Run
from minimega.errors import pip
from minimega.ranks import child, launch

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((ROOT / "minimega").rglob("*.py"))
T = "--tales 60 --d-model 16 --nhead 2 --num-layers 1 --context 32 --train-batch-size 4"
ALONE = {key: text for key, text in os.environ.items() if key not in sum(launch.GIVEN, ())}
LIMIT = 90  # seconds
LEARN = """
from minimega.learn import ranks
print(ranks({}, "import mine; print(mine.x + group.rank)"))
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A user's folder with files named like Python's modules."""
    for name in ("random", "copy", "types", "enum", "tempfile"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    return tmp_path


def python(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """What a script in another folder, such as the installed `minimega`, starts in this folder."""
    env = ALONE | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-P", *words]
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT)


def needs_mpi() -> None:
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")


def test_ranks_start_in_a_folder_with_a_module_of_pythons_name(folder):
    needs_mpi()
    words = f"train {T} --num-steps 2 --dp 2 --save-dir".split()
    ended = python(folder, "-m", "minimega", *words, "a run")
    assert (ended.returncode, ended.stderr) == (0, "")
    # the line that resumes can be typed as it is, on ranks too
    assert ended.stdout.splitlines()[-1].endswith(
        f"{sys.executable} -m minimega generate --model-filename 'a run'"
    )


def test_compare_and_doctor_start_there(folder):
    needs_mpi()
    ended = python(folder, "-m", "minimega", "compare", f"train {T} --dp 2", f"train {T}")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert python(folder, "-m", "minimega", "doctor").returncode == 0


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_learners_cell_finds_pythons_modules_and_the_learners_own(folder, ranks):
    if ranks > 1:
        needs_mpi()
    (folder / "mine.py").write_text("import random, copy\nx = 5")
    ended = python(folder, "-c", LEARN.format(ranks))
    said = "".join(f"rank {r} | {5 + r}\n" for r in range(ranks))
    assert (ended.returncode, ended.stdout) == (0, f"{said}{[{}] * ranks}\n"), ended.stderr


def test_python_m_leaves_the_folder_where_it_is(tmp_path):
    """Also under the user's own mpirun; a module that Python itself needs before it comes to us is lost."""
    for name in ("random", "copy", "tempfile"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    line = [sys.executable, "-m", "minimega", "train", *T.split(), "--num-steps", "1"]
    env = ALONE | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=LIMIT)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_checkout_needs_no_installation(tmp_path):
    """A child process runs the package that started it, wherever another copy may be."""
    code = f"import sys; sys.path[0] = {str(ROOT)!r}; import minimega.ranks.child as c, subprocess; "
    code += "subprocess.run(c.python('-m', 'minimega', '--version'))"
    env = ALONE | {"PYTHONPATH": str(ROOT)}
    other = tmp_path / "minimega"
    other.mkdir()
    (other / "__init__.py").write_text("raise SystemExit('another minimega')")
    line = [sys.executable, "-c", code]
    ended = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=LIMIT)
    assert ended.stdout.startswith("minimega "), ended.stderr


def test_every_process_is_started_by_the_one_helper():
    """A command line that names the interpreter itself would bypass `child.python`."""
    uses = {path.name for path in PACKAGE if "sys.executable" in path.read_text(encoding="utf-8")}
    # pip's own line; launch restarts its own program; `learn open` becomes Jupyter
    assert uses == {"errors.py", "child.py", "launch.py", "learn.py"}


def test_nobody_is_told_to_install_a_package_that_is_not_this_one():
    """The name on the public index is that of an unrelated package."""
    texts = [
        *PACKAGE,
        *(ROOT / "lessons").glob("*.*"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("*.md"),
        *ROOT.glob("*.toml"),
        *(ROOT / "examples").glob("*.py"),
        *(ROOT / ".github").rglob("*.yml"),
        *(ROOT / name for name in ("Makefile", "CITATION.cff", ".ci/run")),
    ]
    texts += [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install[^\n`]*minimega\b|minimega\[|pip\([\"']minimega", text), path
    assert re.search(r'^name = "minimegatron"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert mm.__version__ == metadata.version("minimegatron")


def test_pip_is_that_of_this_interpreter(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/my envs/a/bin/python")
    assert pip("mpi4py", "mpich") == "'/my envs/a/bin/python' -m pip install mpi4py mpich"


@pytest.mark.parametrize(
    ("argv0", "orig", "told", "says"),
    [
        ("/x y/bin/minimega", ["/x y/bin/python", "/x y/bin/minimega", "train"], "", "'/x y/bin/minimega'"),
        ("/a/minimega/__main__.py", ["../env/python", "-m", "minimega"], "", "../env/python -m minimega"),
        ("/a/ipykernel_launcher.py", ["python3", "-m", "ipykernel_launcher"], "", "/my/python -m minimega"),
        ("/a/minimega/__main__.py", ["/b/python", "-P", "ranks/begin.py"], "minimega", "minimega"),
    ],
)
def test_the_program_is_named_as_it_was_typed(monkeypatch, argv0, orig, told, says):
    monkeypatch.setattr(sys, "argv", [argv0])
    monkeypatch.setattr(sys, "orig_argv", orig)
    monkeypatch.setattr(sys, "executable", "/my/python")
    monkeypatch.setenv(child.PROGRAM, told)
    assert child.program() == says


def test_what_is_left_can_be_typed():
    run = Run.__new__(Run)
    run.saved, run.folder = 3, Path("my runs/it's mine")
    assert run.what_is_left().endswith("""train --save-dir 'my runs/it'"'"'s mine' --resume""")


CROWDS = (
    "train --dp 500 --train-batch-size 500",
    "train --tp 25 --pp 20 --d-model 100 --nhead 25 --num-layers 20 --train-batch-size 20",
    "timeline --pp 500 --num-layers 500 --train-batch-size 500",
    "generate --tp 500 --model-filename no-such-run",
    "doctor --ranks 500",
)


@pytest.mark.parametrize("words", CROWDS)
def test_more_ranks_than_the_cores_can_serve_are_refused(monkeypatch, capsys, words):
    monkeypatch.setattr(launch, "cores", lambda: 2)
    monkeypatch.setattr(launch, "start", lambda *_: pytest.fail("ranks were started"))
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert said == "minimega: 500 ranks are more than 8 per core (2 here); --oversubscribe allows it\n"


def test_oversubscribe_starts_them(monkeypatch):
    monkeypatch.setattr(launch, "cores", lambda: 2)
    monkeypatch.setattr(launch, "start", lambda words, ranks, threads: ranks)
    for name in sum(launch.GIVEN, ()):
        monkeypatch.delenv(name, raising=False)
    assert main(["train", "--dp", "500", "--train-batch-size", "500", "--oversubscribe"]) == 500
    assert complete("train", {}).oversubscribe is False


LOADED = """
import atexit, os, sys
name = os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "launcher"))
@atexit.register
def note():
    if "minimega.commands.train" in sys.modules:
        with open(os.path.join(os.path.dirname(__file__), name), "w") as file:
            file.write("yes" if "matplotlib" in sys.modules else "no")
"""


def test_only_the_rank_that_draws_loads_the_pictures_library(tmp_path):
    needs_mpi()
    (tmp_path / "sitecustomize.py").write_text(LOADED)
    env = ALONE | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    words = f"train {T} --num-steps 1 --dp 2 --save-dir".split()
    line = [sys.executable, "-m", "minimega", *words, str(tmp_path / "run")]
    subprocess.run(line, env=env, check=True, capture_output=True, timeout=LIMIT)
    loaded = {name: (tmp_path / name).read_text() for name in ("launcher", "0", "1")}
    assert loaded == {"launcher": "no", "0": "yes", "1": "no"}
    code = "import json, sys, minimega.commands.train, minimega.commands.timeline\n"
    code += "print(json.dumps(list(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "tqdm", "tokenizers", "cupy"} & set(json.loads(ended.stdout))
