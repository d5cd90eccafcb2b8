"""Commands whose standard streams are closed, full, or cannot write every character."""

import os
import subprocess
import sys

import pytest

from tests.job import minimega

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the shell of Unix")
SHAPE = ["--d-model", "16", "--nhead", "2", "--num-layers", "1", "--context", "32"]
TRAIN = ["train", "--tales", "60", *SHAPE, "--train-batch-size", "4", "--num-steps", "1"]


def shell(line: str, *words: str, **env: str) -> subprocess.CompletedProcess:
    """Run the words after `minimega` with the redirections of the line."""
    command = [sys.executable, "-m", "minimega", *words]
    line = ["sh", "-c", f'"$@" {line}', "sh", *command]
    return subprocess.run(line, capture_output=True, env=os.environ | env, timeout=300)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "status"), [(["--version"], 0), (["train", "--lr", "0"], 2)])
def test_closed_streams_are_no_failure(closed, words, status):
    ended = shell(closed, *words)
    assert ended.returncode == status
    assert b"Traceback" not in ended.stderr and b"Exception" not in ended.stderr


def test_a_run_without_any_stream_writes_its_files_and_nothing_else_into_them(tmp_path):
    assert shell("<&- >&- 2>&-", *TRAIN, "--save-dir", str(tmp_path / "run")).returncode == 0
    assert (tmp_path / "run" / "log.jsonl").read_text().startswith("{")
    shown = shell("", "generate", "--model-filename", str(tmp_path / "run"), "--generate-num-sentences", "1")
    assert (shown.returncode, shown.stderr) == (0, b"")


FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux's device that is always full")


@FULL
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--version"], ["train", "--help"], ["learn"], TRAIN])
def test_a_full_output_is_named(words, unbuffered):
    ended = shell(">/dev/full", *words, PYTHONUNBUFFERED=unbuffered)
    assert ended.returncode == 1
    said = ended.stderr.decode()
    assert "standard output" in said and "No space left" in said and "--save-dir or" not in said
    assert len(said.splitlines()) <= 3 and "Exception" not in said


@FULL
def test_a_full_error_stream_keeps_the_status():
    assert shell("2>/dev/full", "train", "--lr", "0").returncode == 2
    assert shell(">/dev/full 2>/dev/full", "--version").returncode == 1


def test_characters_that_the_screen_lacks_are_escaped():
    ended = shell("", "train", "a\u2019b", PYTHONIOENCODING="ascii")
    assert ended.returncode == 2 and b"a\\u2019b" in ended.stderr
    ended = shell("", "learn", "hint", "02", PYTHONIOENCODING="ascii")
    assert ended.returncode == 0 and ended.stdout


def test_generated_texts_are_written_whatever_the_encoding(tmp_path):
    text = "caf\u00e9 \u2019 na\u00efve\n" * 40
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    words = [*TRAIN, "--train-filename", str(tmp_path / "text.txt"), "--tokenizer", "char", "--context", "8"]
    assert shell("", *words, "--save-dir", str(tmp_path / "run")).returncode == 0
    words = ["generate", "--model-filename", str(tmp_path / "run"), "--prompt", "caf\u00e9"]
    ended = shell("", *words, PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.count(b"caf\\xe9") == 3
    assert shell("", *words, LC_ALL="C").stdout.count("caf\u00e9".encode()) == 3


@FULL
def test_ranks_do_with_the_same_streams():
    pytest.importorskip("mpi4py")
    full = shell(">/dev/full", *TRAIN, "--dp", "2")
    assert (full.returncode, full.stderr.count(b"\n")) == (1, 1) and b"standard output" in full.stderr
    assert shell("<&- >&- 2>&-", *TRAIN, "--dp", "2").returncode == 0


def test_a_limit_that_leaves_ranks_no_shared_memory_is_named(tmp_path):
    """MPI itself would print nine lines about it."""
    pytest.importorskip("mpi4py")
    limited = ["sh", "-c", 'ulimit -f 8; "$@"', "sh", sys.executable, "-m", "minimega", *TRAIN, "--dp", "2"]
    ended = subprocess.run(limited, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert "shared memory is a file" in ended.stderr and "ulimit -f unlimited" in ended.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full") / "run"
    assert shell("", *TRAIN, "--save-dir", str(folder)).returncode == 0
    return folder


TIMELINE = ["timeline", *SHAPE, "--num-layers", "2", "--pp", "2", "--num-steps", "1"]
WRITES = {
    "generate": ["generate", "--generate-num-sentences", "1", "--generate-filename"],
    "trace": [*TIMELINE, "--trace"],
    "picture": [*TIMELINE, "--picture"],
}


@FULL
@pytest.mark.parametrize("what", WRITES)
def test_a_file_that_cannot_be_written_is_named(run, tmp_path, what):
    """The system names the file only if it cannot be opened."""
    (file := tmp_path / ("a.png" if what == "picture" else "a.json")).symlink_to("/dev/full")
    words = [*WRITES[what], str(file), *["--model-filename", str(run)] * (what == "generate")]
    ended = minimega(*words)
    assert ended.returncode == 1
    assert f"minimega: {file}: No space left on device" in ended.stderr


def test_a_tokenizer_that_cannot_be_written_is_named(tmp_path):
    limited = ["sh", "-c", 'ulimit -f 1; "$@"', "sh", sys.executable, "-m", "minimega"]
    ended = subprocess.run([*limited, *TRAIN], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert ended.returncode == 1 and "tokenizer.json: File too large" in ended.stderr, ended.stderr
