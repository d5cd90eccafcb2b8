"""The help of the command line: `minimega --help`, and the parser of each command with its help."""

import argparse
import re
import shutil
import sys
import textwrap
from typing import Any

from minimega.commands.command_table import CHAPTERS, COMMANDS
from minimega.commands.option import PATH, Option
from minimega.commands.option_table import GROUPS, of_command
from minimega.errors import BadInput
from minimega.ranks.colour import paint

WIDEST = 110  # characters of a line, however wide the terminal is
SHORT = 24  # characters of allowed words that are shown beside the name of an option
LONGEST = 40  # characters of an argument's words that are shown in place of its name
BEGIN = (
    "minimega train --save-dir runs/demo",
    "minimega generate --model-filename runs/demo",
    "minimega learn",
)


def overview() -> str:
    """The text that `minimega` prints without arguments: the commands in groups, and where to begin."""
    lines = [_title("usage:") + " minimega COMMAND [options]"]
    for title, chapter in CHAPTERS.items():
        lines += ["", _title(f"{title}:")]
        for name, command in chapter.items():
            words = textwrap.wrap(command.sentence, max(_width() - 14, 20))
            lines += [f"  {name:<10}  {words[0]}", *(f"{'':14}{more}" for more in words[1:])]
    ends = "minimega COMMAND --help shows its options and examples; minimega --version, the version."
    first = [_title("To begin:"), *(f"  {line}" for line in BEGIN)]
    return "\n".join([*lines, "", *first, "", *textwrap.wrap(ends, _width())])


class Parser(argparse.ArgumentParser):
    """An argument parser that raises BadInput instead of exiting."""

    color = False  # Python 3.14 would paint the help in its own colours

    def error(self, message: str):
        """Raise argparse's message as BadInput."""
        if no_value := re.search(r"argument (--[\w-]+): expected one argument", message):
            name = no_value[1]
            raise BadInput(f"{name} needs a value; write {name}=-... if it begins with a hyphen")
        if "-h/--help" in message:  # -help, --help=...
            raise BadInput(f"unexpected argument; did you mean --help? Type {self.prog} --help")
        raise BadInput(f"{message}; see {self.prog} --help")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Argparse's help with painted headings, as wide as the terminal."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=34, width=_width())

    def start_section(self, heading: str | None) -> None:
        super().start_section(heading and _title(heading))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)  # an option's name stays whole

    def add_usage(self, usage, actions, groups, prefix=None) -> None:
        super().add_usage(usage, actions, groups, _title("usage:") + " ")


def parser(command: str) -> Parser:
    """The parser of one command, made from the tables. It returns only the options typed, as text."""
    about, mine = COMMANDS[command], of_command(command)
    made = Parser(
        prog=f"minimega {command}",
        usage=" ".join(["minimega", command, *(_named(*names) for *names, _ in about.targets), "[options]"]),
        description=textwrap.fill(f"{about.sentence}.", _width()),
        allow_abbrev=False,
        add_help=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=_Formatter,
    )
    made.add_argument_group("examples", "\n".join(about.examples))
    arguments = made.add_argument_group("arguments")
    for key, name, text in about.targets:
        several = "*" if "..." in name else "?"
        if len(name) > LONGEST:
            text += f": {name.strip('[].').replace('|', ', ')}"
        arguments.add_argument(key, metavar=_named(key, name).strip("[]."), help=text, nargs=several)
    common = {name: mine.pop(name) for name in about.common.split()}
    section = made.add_argument_group("common options" if mine else "options")
    for option in common.values():
        _add(section, option, command)
    section.add_argument("-h", "--help", action="help", help="show this text")
    for title, group in GROUPS.items():
        section = made.add_argument_group(title)
        for option in (o for o in group if o.name in mine):
            _add(section, option, command)
    return made


def _named(key: str, name: str) -> str:
    """An argument as the usage shows it: a long list of words is one word there."""
    return name if len(name) <= LONGEST else re.sub(r"[\w|-]+", key.upper(), name, count=1)


def _add(section, option: Option, command: str) -> None:
    text, words, metavar = option.text, option.words, _metavar(option)
    if words and metavar == "NAME":
        text += f": {', '.join(words)}"
    text = f"{text} (default: {option.default_text(command)})".replace("%", "%%")
    value: dict[str, Any] = {"nargs": "?", "const": "true"} if option.kind is bool else {}
    section.add_argument(f"--{option.name}", metavar=metavar, help=text, **value)


def _metavar(option: Option) -> str:
    if option.words:
        beside = "|".join(option.words)
        return beside if len(beside) <= SHORT else "NAME"
    if option.within is PATH:
        return "PATH"
    assert isinstance(option.kind, type)
    number = {int: "N", float: "X", str: "TEXT"}[option.kind]
    return f"{number}|{option.also}" if option.also else number


def _width() -> int:
    return max(40, min(WIDEST, shutil.get_terminal_size().columns - 2))


def _title(text: str) -> str:
    return paint(text, "bold", sys.stdout)
