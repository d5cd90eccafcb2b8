"""`minimega generate`: line breaks, the prompt on standard input, what a terminal, a pipe and a file get."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from struct import pack

import pytest

import minimega as mm
from minimega.commands.cli import main
from minimega.commands.generate import write_lines
from minimega.commands.terminal import Wrapped, width
from minimega.data import tokens
from minimega.judging import files
from tests.job import minimega

TEXT = "Long ago\n\na fox\\nran.\r\n"
MORE = ["--generate-sentence-length", "12", "--temperature", "1.5"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model of characters, many of which are line breaks: untrained, so it writes anything."""
    folder = tmp_path_factory.mktemp("generate") / "run"
    tokenizer = tokens.train("char", [TEXT])
    shape = {"d_model": 8, "nhead": 2, "num_layers": 1, "context": 32}
    mm.save(folder, mm.gpt(mm.Config(vocab_size=tokenizer.size, **shape)).draw(seed=0), tokenizer)
    return str(folder)


def generate(run, *words, **how):
    line = [sys.executable, "-m", "minimega", "generate", "--model-filename", run, *MORE, *words]
    return subprocess.run(line, capture_output=True, timeout=120, **how)


def generate_here(monkeypatch, run, *words, content: bytes):
    """The same in this process; its ranks are threads."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    return minimega("generate", "--model-filename", run, *MORE, *words)


@pytest.fixture
def texts(run):
    """What the front door writes: the same model, prompt, seed."""
    model, tokenizer = mm.load(run)
    return [mm.write(model, tokenizer, "a\n\nfox", length=12, temperature=1.5)]


def test_a_pipe_gets_the_text_that_write_gives(run, texts, capsys):
    one = ["generate", "--model-filename", run, *MORE, "--generate-num-sentences", "1"]
    assert main([*one, "--prompt", "a\n\nfox"]) == 0
    assert capsys.readouterr().out == texts[0] + "\n"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_the_prompt_on_standard_input(run, texts, ending, monkeypatch):
    """With its line breaks, but without the one at its end, which `echo` adds."""
    content = f"a\n\nfox{ending}".encode()
    words = [run, "--generate-num-sentences", "1", "--prompt", "-"]
    said = generate_here(monkeypatch, *words, content=content)
    assert (said.returncode, said.stdout, said.stderr) == (0, texts[0] + "\n", "")


def test_the_prompt_on_standard_input_of_a_process(run, texts):
    said = generate(run, "--generate-num-sentences", "1", "--prompt", "-", input=b"a\n\nfox\n")
    assert (said.returncode, said.stdout.decode(), said.stderr) == (0, texts[0] + "\n", b"")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "there is nothing"),
        (b"\n", "there is nothing"),
        (b"fox \xff", "is not UTF-8: byte 4 is invalid"),
        (b"fox\0", "contains a NUL character"),
        (b"a" * (2**20 + 1), "has over 1,048,576 bytes"),
    ],
)
def test_standard_input_that_is_no_prompt(run, content, says, monkeypatch):
    said = generate_here(monkeypatch, run, "--prompt", "-", content=content)
    assert said.returncode == 2 and said.stdout == ""
    assert says in said.stderr and said.stderr.count("\n") == 1


def test_a_closed_standard_input_is_no_prompt(run):
    line = ["sh", "-c", '"$@" <&-', "sh", sys.executable, "-m", "minimega", "generate", "--prompt", "-"]
    said = subprocess.run([*line, "--model-filename", run], capture_output=True, timeout=60)
    assert said.returncode == 2 and b"there is nothing" in said.stderr


def test_several_ranks_get_the_prompt_of_standard_input(run, texts, monkeypatch):
    pytest.importorskip("mpi4py", reason="needs mpi4py and an MPI: pip install mpi4py mpich")
    one = ["--generate-num-sentences", "1", "--prompt", "-", "--tp", "2"]
    said = generate(run, *one, input=b"a\n\nfox\n")
    assert (said.returncode, said.stdout.decode(), said.stderr) == (0, texts[0] + "\n", b"")
    said = generate_here(monkeypatch, run, *one, content=b"a" * 70000)
    assert said.returncode == 2 and "cannot be passed to several ranks" in said.stderr
    from minimega.ranks import launch

    line, env = launch.command(["-m", "minimega", "generate", "--model-filename", run, *MORE, *one], 2, 1)
    for content, expected in ((b"a\n\nfox\n", (0, texts[0] + "\n")), (b"", (2, ""))):
        said = subprocess.run(line, input=content, capture_output=True, timeout=120, env=env)
        assert (said.returncode, said.stdout.decode()) == expected, said.stderr
    assert said.stderr.count(b"there is nothing") == 1


def test_a_file_has_a_text_per_line_that_can_be_read_back(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ["generate", "--model-filename", run, *MORE, "--generate-num-sentences", "4"]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert main([*line, "--generate-filename", "texts.jsonl"]) == 0
    assert capsys.readouterr() == ("4 texts in texts.jsonl\n", "")
    with open("texts.jsonl", encoding="utf-8") as file:
        texts = [json.loads(row)["text"] for row in file]
    assert "\n\n".join(texts) + "\n" == said and any("\n" in text for text in texts)
    assert files.texts("texts.jsonl") == texts
    assert main([*line, "--generate-filename", "texts.txt"]) == 0
    err = capsys.readouterr().err
    assert err.startswith(r"note: texts.txt has line breaks as \n") and err.count("\n") == 1
    with open("texts.txt", encoding="utf-8", newline="") as file:
        rows = file.read().removesuffix("\n").split("\n")
    plain = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}
    assert [read_back(row, plain) for row in rows] == texts and rows != texts


def read_back(row: str, plain: dict[str, str]) -> str:
    found, at = "", 0
    while at < len(row):
        step = 2 if row[at] == "\\" else 1
        found, at = found + plain.get(row[at : at + step], row[at : at + step]), at + step
    return found


def test_texts_of_one_line_are_written_as_they_are(tmp_path, capsys):
    write_lines(["one  two ", "drei"], str(tmp_path / "a.txt"))
    assert (tmp_path / "a.txt").read_bytes() == b"one  two \ndrei\n" and capsys.readouterr().err == ""


def on_terminal(run, *words, columns=20, until=None, stop=None) -> tuple[str, int]:
    """What a terminal of this width shows; `stop` is a signal that is sent when it shows `until`."""
    first, second = pty.openpty()
    ioctl(second, termios.TIOCSWINSZ, pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | {"NO_COLOR": "1"}
    line = [sys.executable, "-m", "minimega", "generate", "--model-filename", run, *words]
    job = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=second, stderr=second, env=env)
    os.close(second)
    said, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([first], [], [], 1)[0]:
            try:
                said += os.read(first, 4096)
            except OSError:  # the other end is closed
                break
        if until and until in said:
            job.send_signal(stop)
            until = None
    os.close(first)
    status = job.wait(timeout=30)
    return said.decode().replace("\r\n", "\n"), status


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A model of words with spaces between them."""
    folder = tmp_path_factory.mktemp("words") / "run"
    tokenizer = tokens.train("word", [" a fox ran to the Hague and sang there, too."])
    shape = {"d_model": 8, "nhead": 2, "num_layers": 1, "context": 32}
    mm.save(folder, mm.gpt(mm.Config(vocab_size=tokenizer.size, **shape)).draw(seed=0), tokenizer)
    return str(folder)


def test_a_terminal_shows_lines_of_its_width(words):
    more = ["--generate-sentence-length", "30", "--prompt", " the fox\n\n ran", "--temperature", "2"]
    model, tokenizer = mm.load(words)
    said, status = on_terminal(words, *more, "--generate-num-sentences", "2")
    assert status == 0 and said.endswith("\n") and not said.endswith("\n\n")
    with pytest.warns(UserWarning, match="has no"):
        text = mm.write(model, tokenizer, " the fox\n\n ran", length=30, temperature=2.0)
    said = said.removeprefix("minimega: the vocabulary has no '\\n': the prompt has <unk> instead\n")
    assert said.startswith(" the fox\n\n ran")
    assert " ".join(said.split()).startswith(" ".join(text.split()))
    assert 15 < max(len(line) for line in said.split("\n")) <= 20
    more = ["--generate-sentence-length", "30", "--prompt", " the fox", "--generate-num-sentences", "1"]
    beams, status = on_terminal(words, *more, "--beams", "2")
    assert status == 0 and max(len(line) for line in beams.split("\n")) <= 20


@pytest.mark.parametrize("ranks", [(), ("--tp", "2", "--launch", "threads")])
def test_a_terminal_shows_a_text_as_it_is_written(words, ranks):
    """Ctrl-C after its first words: what was written stays, and the message has a line of its own."""
    more = ["--generate-sentence-length", "1000000", "--temperature", "2", "--generate-num-sentences", "1"]
    said, status = on_terminal(words, *more, *ranks, until=b"fox", stop=signal.SIGINT)
    assert status == 128 + signal.SIGINT
    assert "fox" in said and said.endswith("\nminimega: stopped\n") and "Traceback" not in said


@pytest.mark.parametrize(
    ("columns", "pieces", "shown"),
    [
        (10, ["Long ago a fox"], "Long ago a\nfox"),
        (9, ["Long ago a fox"], "Long ago\na fox"),
        (10, ["Lo", "ng a", "go", "  ", "a fox"], "Long ago\na fox"),
        (10, ["  if x:\n    run it"], "  if x:\n    run it"),
        (10, ["one\n\n\ntwo \n"], "one\n\n\ntwo\n"),
        (4, ["a wonderful day"], "a\nwonderful\nday"),
        (10, ["从前，有一个人找到了"], "从前，有一\n个人找到了"),
        (5, ["从前，有"], "从\n前，\n有"),
        (6, ["他说「好"], "他说\n「好"),
        (6, ["abc从前"], "abc从\n前"),
        (3, ["e\u0301e\u0301e\u0301 e\u0301"], "e\u0301e\u0301e\u0301\ne\u0301"),
        (20, ["\x1b[2Jred\x07"], "\ufffd[2Jred\ufffd"),
        (20, ["a\r\nb\tc"], "a\nb    c"),
    ],
)
def test_lines_are_broken_between_words(columns, pieces, shown):
    for cut in (pieces, list("".join(pieces))):
        text = Wrapped(columns)
        got = [*map(text.take, cut), text.finish()]
        assert "".join(got) == shown, got
    assert all(width(line) <= columns for line in shown.split("\n") if " " in line)


def test_wrapping_loses_nothing_but_white_space(rng):
    signs = list("ab \n，从「」。-\u0301\u3000") + ["  ", "word"]
    for _ in range(300):
        pieces = [signs[i] for i in rng.integers(len(signs), size=40)]
        text = Wrapped(int(rng.integers(2, 12)))
        shown = "".join([*map(text.take, pieces), text.finish()])
        assert "".join(shown.split()) == "".join("".join(pieces).split())
