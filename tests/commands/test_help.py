"""The help: options are in groups, lines fit the terminal; colour where it is wanted."""

import io
import re

import pytest

from minimega.commands import cli
from minimega.commands.command_table import CHAPTERS, COMMANDS
from minimega.commands.help import BEGIN
from minimega.commands.option_table import TABLE, of_command
from minimega.ranks.colour import coloured, paint


def test_every_command_is_in_one_group_with_a_line_of_its_own(capsys):
    assert cli.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(map(len, CHAPTERS.values())) == len(COMMANDS)
    for name, command in COMMANDS.items():
        assert f"  {name:<10}  {command.sentence}" in lines
    assert all(f"  {line}" in lines for line in BEGIN) and max(map(len, lines)) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_common_options_come_first_and_every_option_once(command, capsys):
    assert cli.main([command, "--help"]) == 0
    names = re.findall(r"^  --([\w-]+)", capsys.readouterr().out, re.MULTILINE)
    common = COMMANDS[command].common.split()
    assert names[: len(common)] == common
    assert sorted(names) == sorted(of_command(command))


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_fits_the_terminal(command, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert cli.main([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    given = {f"  {line}" for line in COMMANDS[command].examples} | {lines[0]}  # typed as they stand
    assert max(len(line) for line in lines if line not in given) <= min(columns, 110)
    assert max(map(len, given)) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_the_defaults_are_those_of_the_command(command):
    needed = {
        "compare": ["a", "b"],
        "gradcheck": ["a.py:f", "--shapes", "3"],
        "generate": ["--model-filename", "a"],
        "evaluate": ["--model-filename", "a"],
        "timeline": ["--pp", "2"],
        "reshard": ["a", "--save-dir", "b"],
        "import-hf": ["a", "--save-dir", "b"],
        "export-hf": ["a", "--save-dir", "b"],
        "embed": ["a"],
        "fill": ["a", "b"],
        "vectors": ["a"],
        "neighbours": ["a"],
        "completion": ["bash"],
    }
    o = cli.parse(command, needed.get(command, []))
    for option in of_command(command).values():
        value = option.default_of(command)
        if option.key not in o.given and value is not None:
            assert getattr(o, option.key) == value
            assert option.kind is bool or option.default_text(command) == str(value)
    if command in ("reshard", "import-hf", "export-hf"):
        assert TABLE["save-dir"].default_text(command) == "required"
    assert TABLE["temperature"].default_text("score") == "0.0"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("variables", "terminal", "pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": "0"}, False, False),  # any text that is not empty
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"FORCE_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
    ],
)
def test_colour_where_the_terminal_has_it(variables, terminal, pipe, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert coloured(Terminal()) is terminal and coloured(io.StringIO()) is pipe
    assert paint("x", "red", Terminal()) == ("\033[31mx\033[0m" if terminal else "x")


def test_headings_alone_are_painted(capsys, monkeypatch):
    plain = [cli.main([*words, "--help"]) or capsys.readouterr().out for words in ([], ["train"])]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for words, expected in zip(([], ["train"]), plain, strict=True):
        assert cli.main([*words, "--help"]) == 0
        shown = capsys.readouterr().out
        assert re.sub(r"\033\[1m(.*?)\033\[0m", r"\1", shown) == expected != shown


def test_errors_and_verdicts_are_painted_and_nothing_else(capsys, monkeypatch, tmp_path):
    """In a pipe they have no codes at all; with colour, the same text with a word in red or green."""
    (tmp_path / "f.py").write_text(
        "def right(x):\n    return x * x, lambda dy: 2 * x * dy\n\n\n"
        "def wrong(x):\n    return x * x, lambda dy: x * dy\n"
    )
    monkeypatch.delenv("NO_COLOR", raising=False)
    cases = [
        (["trian"], 2, {"\033[31mminimega:\033[0m"}),
        (["gradcheck", f"{tmp_path}/f.py:right", "--shapes", "2x3"], 0, {"\033[32mright\033[0m"}),
        (["gradcheck", f"{tmp_path}/f.py:wrong", "--shapes", "2x3"], 1, {"\033[31mWRONG\033[0m"}),
    ]
    for words, status, painted in cases:
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert cli.main(words) == status
        coloured_text = "".join(capsys.readouterr())
        assert set(re.findall(r"\033\[3\dm.*?\033\[0m", coloured_text)) == painted
        monkeypatch.setenv("NO_COLOR", "1")
        assert cli.main(words) == status
        assert re.sub(r"\033\[\d+m", "", coloured_text) == "".join(capsys.readouterr())
        monkeypatch.delenv("NO_COLOR")
