"""`minimega completion`: a script with which bash or zsh completes commands, options and values.

shtab makes it from the parsers of argparse. The shell then needs no Python to complete a word.
"""

import argparse
from types import SimpleNamespace as Options
from typing import Any, cast

import shtab

from minimega.commands.command_table import COMMANDS
from minimega.commands.help import parser
from minimega.commands.option import PATH
from minimega.commands.option_table import GROUPS, TABLE
from minimega.data.corpus import BUILT_IN
from minimega.ranks.streams import say

WORDS = " ".join(BUILT_IN)
# A text is a file, a folder or the name of a built-in one.
TEXTS = {"bash": "_minimega_files_or_texts", "zsh": "_minimega_texts"}
PREAMBLE = {
    "bash": f'_minimega_files_or_texts() {{ compgen -W "{WORDS}" -- "$1"; compgen -f -- "$1"; }}',
    "zsh": f"_minimega_texts() {{ compadd {WORDS}; _files }}",
}
NO_FILE = "WORD", "TEXT", "NN"  # positional arguments that are no path


def run(o: Options) -> int:
    """Print the script for the shell `o.shell`; returns 0."""
    say(shtab.complete(whole(), o.shell, preamble=cast(Any, PREAMBLE)))
    return 0


def whole() -> argparse.ArgumentParser:
    """One parser with all commands, which know how their values are completed."""
    made = argparse.ArgumentParser(prog="minimega")
    made.add_argument("--version", "-V", action="version", version="", help="print the version")
    commands = made.add_subparsers()
    for name, command in COMMANDS.items():
        one = parser(name)
        # Without its own help, since the parser has one.
        commands.add_parser(name, help=command.sentence, parents=[one], add_help=False)
        for action in one._actions:  # argparse has no public list of them
            _complete(action, name)
    return made


def _complete(action: Any, command: str) -> None:
    """Tell an argument how it is completed: by its words, or as a path."""
    option = TABLE.get(action.dest.replace("_", "-")) if action.option_strings else None
    if option is None:
        names = {key: name.strip("[].") for key, name, _ in COMMANDS[command].targets}
        words = names.get(action.dest, "").split("|")
        if len(words) > 1:
            action.choices = words
        elif words[0] and words[0] not in NO_FILE:
            texts = (command, words[0]) in {("prepare", "FILE-OR-FOLDER"), ("vectors", "FILE-OR-TEXT")}
            action.complete = TEXTS if texts else shtab.FILE
    elif option.kind is bool:
        action.nargs = 0  # a flag: after it comes the next option, seldom true or false
    elif option.words:
        action.choices = option.words
    elif option.within is PATH:
        action.complete = TEXTS if option in GROUPS["text"] else shtab.FILE
