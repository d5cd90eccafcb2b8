"""Every example of the help runs, in a folder that has the runs and files that it names."""

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys

import pytest

from minimega.commands import cli
from minimega.commands.command_table import COMMANDS
from minimega.commands.help import BEGIN
from minimega.commands.option_table import of_command

# What makes an example short enough for a test, unless it says so itself.
SHORT = {
    "train": "--tales 60 --num-steps 2 --num-layers 1 --d-model 8 --nhead 2 --context 16 --overwrite true",
    "compare": "--tales 60 --num-layers 1 --d-model 8 --nhead 2 --context 16 --launch threads",
    "vectors": "--tales 60 --num-epochs 1 --vector-size 8 --threads 1",
    "generate": "--generate-sentence-length 5",
    "sheet": "--generate-sentence-length 5",
    "score": "--generate-sentence-length 5 --resamples 10",
    "bench": "--num-layers 1 --d-model 16 --nhead 1 --context 16 --num-steps 1",
    "memory": "--num-layers 1 --d-model 16 --nhead 2 --context 16",
    "timeline": "--context 16 --num-steps 1",
}
EXAMPLES = [line for command in COMMANDS.values() for line in command.examples]
# In this order, since some need what others write.
RUNS = (
    "train --save-dir runs/demo",
    "train --save-dir runs/again",
    "train --save-dir runs/masked --objective masked",
    "export-hf runs/demo --save-dir their-gpt2",
    "sheet answers.txt expected.txt",
)
FILES = {
    "book.txt": "The old king found a key.\n\nThe queen lost a key and the king found the queen.\n\n" * 90,
    "tales.txt": "Long ago a man and a woman met the king.\n\n" * 40,
    "prompts.txt": "the king\nthe old queen\n",
    "answers.txt": "the king found a key\nthe queen lost the king\n",
    "expected.txt": "the king found the key\nthe queen met the king\n",
    "words.vec": "4 3\nking 1 0 0.5\nqueen 0 1 0.5\nman 1 0 0\nwoman 0 1 0\n",
    "my_ops.py": "def square(x):\n    return x * x, lambda dy: 2 * x * dy\n",
}


def needs_mpi(line: str) -> bool:
    """Whether an example starts MPI. Ranks of the others are threads."""
    return "doctor" in line


def made(key: dict, rater: str, rows: list) -> dict:
    """What a rater downloads from the page with this key."""
    return {
        "format": "minimega ratings",
        "version": 1,
        "sheet": key["sheet"],
        "rater": rater,
        "ratings": rows,
    }


def words_of(line: str) -> list[str]:
    """The words of an example, made short."""
    _, command, *words = shlex.split(line.partition(" > ")[0])  # the shell's part is not ours
    short = shlex.split(SHORT.get(command, ""))
    if "launch" in of_command(command) and {"--tp", "--pp"} & {*words}:
        short += ["--launch", "threads"]
    pairs = zip(short[::2], short[1::2], strict=True)
    more = [word for name, value in pairs if name not in words for word in (name, value)]
    if command == "compare":
        return [command, *(f"{w} {' '.join(more)}" if w.startswith("train") else w for w in words)]
    return [command, *words, *more]


def run(words: list[str]) -> str:
    """Run a command that must succeed; returns what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = cli.main(words)
    assert status == 0, f"{shlex.join(words)}: {err.getvalue()}"
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with everything that the examples name; the tests run in it."""
    here, before = tmp_path_factory.mktemp("examples"), os.getcwd()
    os.chdir(here)
    try:
        for name, text in FILES.items():
            (here / name).write_text(text)
        for line in RUNS:
            run(words_of(f"minimega {line}"))
        key = json.loads((here / "sheet.key.json").read_text())
        for name in "ab":
            marks = [dict.fromkeys(key["scales"], 1 + n % 5) for n in range(len(key["samples"]))]
            (here / f"ratings-{name}.json").write_text(json.dumps(made(key, name, marks)))
        yield here
    finally:
        os.chdir(before)


@pytest.mark.parametrize("line", [e for e in EXAMPLES if needs_mpi(e)])
def test_every_example_of_mpi_runs(folder, line):
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
    ended = subprocess.run(
        [sys.executable, "-m", "minimega", *words_of(line)],
        capture_output=True,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("line", [e for e in EXAMPLES if not needs_mpi(e)])
def test_every_example_runs(folder, line):
    if line == "minimega learn start 01":
        pytest.importorskip("jupytext")
    said = run(words_of(line))
    assert said or "filename" in line


def test_where_to_begin_is_among_the_examples():
    assert set(BEGIN) <= set(EXAMPLES)


def test_every_command_has_two_examples_with_its_own_name():
    for name, command in COMMANDS.items():
        assert len(set(command.examples)) == 2
        assert all(line.split()[:2] == ["minimega", name] for line in command.examples)
