"""What the examples of fine-tuning share: quiet training, files of dialogues, the answers of a run."""

import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from minimega.checkpoint import checkpoint, run_folder
from minimega.commands import cli
from minimega.data import chat, tokens
from minimega.writing.answers import answers

FIRST = 100_000  # the number of the first held-out tale


def train(*words) -> None:
    """`minimega train`, without what it prints; ends this program if it fails."""
    with redirect_stdout(StringIO()):
        status = cli.main(["train", *map(str, words), "--eval-every", "1000000", "--save-every", "1000000"])
    if status:
        sys.exit(status)


def write(path: Path, dialogues: Iterable[chat.Turns]) -> Path:
    """A file of dialogues."""
    path.write_text("".join(map(chat.line, dialogues)), encoding="utf-8")
    return path


def answers_of(run: Path, prompts: list[str], length: int) -> list[str]:
    """The greedy answers of a run's newest checkpoint, of at most `length` tokens."""
    model, tokenizer = checkpoint.load_model(run_folder.newest(run)), tokens.load(run / "tokenizer.json")
    return answers(model, tokenizer, prompts, length=length)
