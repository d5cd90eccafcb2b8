"""docs/coming-from.md: the right column of each table runs, from top to bottom."""

import contextlib
import re
import shlex
from pathlib import Path

import pytest

from tests.job import minimega

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/coming-from.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
SHORT = {  # the same commands, as short as they can be
    r"--num-steps 4000": "--num-steps 3",
    r"--num-steps \d{3,}": "--num-steps 2",
    r"--generate-sentence-length \d+": "--generate-sentence-length 5",
    r"minimega train (?=--dp|--accumulate)": "minimega train --tales 60 ",
    r"minimega bench$": "minimega bench --num-steps 1 --train-batch-size 2",
}


def rows(section: str) -> list[tuple[str, list[str], list[str]]]:
    """What to do, and the lines of code there and here."""
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    assert all(len(row) == 3 for row in cells)
    return [
        (row[0], *(re.findall("`([^`]+)`", cell.replace("\u00a0", " ")) for cell in row[1:])) for row in cells
    ]


def typed(line: str) -> None:
    """Run a command of minimega, as a shell would split it; its ranks are threads."""
    for long, short in SHORT.items():
        line = re.sub(long, short, line)
    ended = minimega(*shlex.split(line)[1:])
    assert ended.returncode == 0, line + "\n" + ended.stdout + ended.stderr


def model_to_read() -> None:
    """Write the folder of a GPT-2 model that the column of transformers begins with."""
    typed("minimega train --tales 60 --tokenizer bpe --d-model 16 --nhead 2 --num-steps 2 --save-dir a")
    typed("minimega export-hf a --save-dir gpt2-folder")


def test_there_are_forty_actions():
    found = {name: rows(section) for name, section in SECTIONS.items()}
    assert list(found) == ["PyTorch", "nanoGPT", "transformers", "Keras", "tinygrad"]
    assert sum(map(len, found.values())) == 40
    assert all(there and here for table in found.values() for _, there, here in table)


@pytest.mark.parametrize("name", SECTIONS)
def test_what_is_typed_here_runs(name, tmp_path, capsys):
    if name == "nanoGPT":
        (tmp_path / "input.txt").write_text("ROMEO:\nIt was the lark, the herald of the morn.\n\n" * 80)
    names: dict = {}
    with contextlib.chdir(tmp_path):
        if name == "transformers":
            model_to_read()
        for block in re.findall(r"```python\n(.*?)```", SECTIONS[name], re.DOTALL):
            exec(block, names)
        for _, _, here in rows(SECTIONS[name]):
            commands = [line for line in here if line.startswith("minimega ")]
            for command in commands:
                typed(command)
            exec("\n".join(line for line in here if line not in commands), names)
    if name == "PyTorch":
        assert names["mm"].check(names["square"], names["a"]).ok
        assert names["net"].count() == 82 and names["x"].grad.shape == (8, 2)
