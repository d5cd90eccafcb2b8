"""Commands whose standard streams are closed, full, or cannot write every character."""

import os
import subprocess
import sys

import pytest

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
