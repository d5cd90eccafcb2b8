"""The command line: parses the arguments of a command and calls its `run`.

An error prints at most three lines. The exit status is 2 for bad input and 1 for a failure while running.
"""

import argparse
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import SimpleNamespace

import minimega
from minimega.commands import names, signals
from minimega.commands.option import Option, check_text
from minimega.commands.option_table import COMMANDS, GROUPS, TABLE, as_options, here, of_command
from minimega.commands.options import complete, read
from minimega.errors import BadInput, RunFailed, in_words, nearest, shown
from minimega.ranks import launch, streams
from minimega.ranks.streams import say

# Positional arguments by command: key, name, description. Names that begin with a bracket are optional; one
# with dots takes any number of words.
TARGETS = {
    "gradcheck": [("target", "FILE.py:function", "a function that returns y and its backward")],
    "compare": [
        ("run_a", "RUN_A", 'a run folder, or a command in quotes: "train ..."'),
        ("run_b", "RUN_B", "the same: the reference"),
    ],
    "neighbours": [
        ("source", "RUN-or-FILE", "a run folder, or a file of word vectors"),
        ("asked", "[WORD...]", "words, or a sum of words such as: king - man + woman"),
    ],
    "prepare": [("texts", "FILE-OR-FOLDER...", "texts: files, folders, or the name of a built-in one")],
    "sheet": [("systems", "FILE-or-RUN...", "texts, one per line or .jsonl, or run folders: one per system")],
    "ratings": [("files", "FILE...", "what the raters downloaded")],
    "vectors": [("source", "FILE-OR-TEXT", "a text to train on (tales, pydoc, a path), a run, or vectors")],
    "reshard": [("run", "RUN", "a run folder")],
    "embed": [("run", "RUN", "a run folder, or a .safetensors in one")],
    "import-hf": [("source", "DIR", "a folder that transformers saved, or a name to download, such as gpt2")],
    "export-hf": [("run", "RUN", "a run folder")],
    "fill": [
        ("model_filename", "RUN", "a run folder, or a .safetensors file in one"),
        ("text", "TEXT", 'a text in which [MASK] marks each gap: "Long ago [MASK] found"'),
    ],
    "learn": [
        (
            "action",
            "[open|start|check|hint|solution",
            "open or copy a lesson, check an answer, show help; without it, list",
        ),
        ("lesson", "[NN]]", "number or name of a lesson"),
    ],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Errors are printed, not raised.

    >>> main(["train", "--nhead", "0"])         # the message goes to stderr
    2
    """
    streams.make_usable()
    try:
        with signals.ending():
            status = run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # a closed pipe raises here, not at exit
        return status
    except BadInput as error:
        return _say(str(error), 2)
    except RunFailed as error:
        return _say(str(error), 1)
    except KeyboardInterrupt as why:
        return _say(str(why) or "stopped", 128 + getattr(why, "number", signal.SIGINT))
    except BrokenPipeError:
        streams.give_up_broken()  # the pipe is closed
        return 1
    except MemoryError as error:
        why = f": {error}" if str(error) else ""
        return _say(f"out of memory{why}\nUse a smaller batch, --context or model.", 1)
    except OSError as error:
        return _say(in_words(error), 1)


def run(argv: list[str]) -> int:
    """Run the command in `argv` and return its exit status. Raises BadInput, RunFailed, OSError, ..."""
    match argv:
        case [] | ["-h" | "--help" | "help"]:
            say(overview())
            return 0
        case ["-V" | "--version" | "version"]:
            say(f"minimega {minimega.__version__}")
            return 0
        case ["-h" | "--help" | "help", command, *_] if command in COMMANDS:
            return run([command, "--help"])
        case ["-h" | "--help" | "help", command, *_] | [command, *_] if command not in COMMANDS:
            raise BadInput(f"unknown command {shown(command)}{_command_meant(command)}")
        case [command, *rest] if {"-h", "--help"} & set(rest):
            say(parser(command).format_help(), end="")
            return 0
    options = parse(*argv[:1], argv[1:])
    # Import only this command, and only now, so that --help stays fast.
    return import_module(f"minimega.commands.{options.command.replace('-', '_')}").run(options)


def parse(command: str, argv: Sequence[str]) -> SimpleNamespace:
    """Parse the arguments of a command: `options.complete` plus the positional TARGETS.

    Raises BadInput if an argument is unknown, missing or invalid.

    >>> options = parse("train", ["--num_layers=3", "--lr", "0.01"])
    >>> options.num_layers, options.lr, sorted(options.given)
    (3, 0.01, ['lr', 'num_layers'])
    """
    argv = [re.sub(r"^--[^=]+", lambda name: name[0].replace("_", "-"), word) for word in argv]
    typed, unknown = parser(command).parse_known_intermixed_args(argv)
    if unknown:
        raise BadInput(_about_unknown(command, unknown[0], argv))
    texts = vars(typed)
    targets = {key: _target(command, key, name, texts) for key, name, _ in TARGETS.get(command, ())}
    given = {key: _from_text(TABLE[key.replace("_", "-")], text) for key, text in texts.items()}
    from_file = read(given["config"]) if "config" in given else {}
    options = complete(command, from_file | given | targets)
    options.words = ["-m", "minimega", command, *argv]  # ranks are started with the same arguments
    return options


def overview() -> str:
    """The text that `minimega` prints without arguments."""
    lines = ["usage: minimega COMMAND [options]", ""]
    lines += [f"  {name:10} {sentence}" for name, sentence in COMMANDS.items()]
    lines += ["", "minimega COMMAND --help lists its options; minimega --version prints the version."]
    return "\n".join(lines)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises BadInput instead of exiting."""

    def error(self, message: str):
        """Raise argparse's message as BadInput."""
        if no_value := re.search(r"argument (--[\w-]+): expected one argument", message):
            name = no_value[1]
            raise BadInput(f"{name} needs a value; write {name}=-... if it begins with a hyphen")
        raise BadInput(f"{message}; see {self.prog} --help")


def parser(command: str) -> Parser:
    """The parser of one command, made from the table. It returns only the options typed, as text."""
    targets = TARGETS.get(command, [])
    usage = " ".join(["minimega", command, *(name for _, name, _ in targets), "[options]"])
    made = Parser(
        prog=f"minimega {command}",
        usage=usage,
        description=f"{COMMANDS[command]}.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=110),
    )
    for key, name, text in targets:
        made.add_argument(key, metavar=name.strip("[]."), help=text, nargs="*" if "..." in name else "?")
    mine = of_command(command)
    for title, group in GROUPS.items():
        section = made.add_argument_group(title)
        for option in (o for o in group if o.name in mine):
            words = f"{option.text} (default: {option.default_text})".replace("%", "%%")
            value = {"nargs": "?", "const": "true"} if option.kind is bool else {}
            section.add_argument(f"--{option.name}", metavar=_metavar(option), help=words, **value)
    return made


def _metavar(option: Option) -> str:
    if isinstance(option.kind, tuple):
        return "|".join(option.kind)
    return {int: "N", float: "X", str: "TEXT", bool: "true|false"}[option.kind]


def _target(command: str, key: str, name: str, texts: dict) -> str | list[str] | None:
    text = texts.pop(key, None)
    if "..." in name:
        for word in text or []:
            check_text(word, name.strip("[]."))
        return text or []
    if not text and name[0] != "[":
        line = " ".join(["minimega", command, *(name for _, name, _ in TARGETS[command])])
        raise BadInput(f"{command} needs {name}: {line}; minimega {command} --help explains it")
    if text is not None:
        check_text(text, name.strip("[]"))
    return text


def _from_text(option: Option, text: str):
    where = f"--{option.name}"
    try:
        if option.kind is bool:
            return {"true": True, "false": False}[text]
        if option.also and text == option.also:
            return text
        value = text if isinstance(option.kind, tuple) else option.kind(text)
    except (ValueError, KeyError):
        near = option.meant(text)
        if option.kind is bool and not near:
            folder = option.name in ("resume", "overwrite")
            near = ", or no value" + "; --save-dir names the folder" * folder
        raise BadInput(f"{where} is {shown(text)}; it must be {option.wanted}{near}") from None
    return option.check(value, where)


def _command_meant(word: str) -> str:
    if word.startswith("-"):
        return "; the command comes first, as in minimega train --num-steps 100"
    meant = names.found(word, names.COMMANDS)
    return f"; use {meant[0]}" if meant else nearest(word, COMMANDS) or "; minimega --help lists them"


# The options that an argument without a name may belong to, most likely first.
NAMELESS = {
    "train": ("train-filename",),
    "evaluate": ("model-filename", "eval-filename"),
    "generate": ("model-filename", "prompt"),
    "score": ("hypotheses", "references"),
}


def _about_unknown(command: str, word: str, argv: Sequence[str]) -> str:
    typed, mine = word.partition("=")[0], of_command(command)
    name = names.plain(typed.lstrip("-\u2012\u2013\u2014\u2212"))
    if name and name in mine:  # with one hyphen, another dash, or none
        return f"unexpected argument {shown(word)}; did you mean --{name}?"
    if not name or not word.startswith("-"):
        taken = {w.partition("=")[0] for w in argv}
        free = [o for o in NAMELESS.get(command, ()) if f"--{o}" not in taken]
        if not free or TARGETS.get(command):
            return f"unexpected argument {shown(word)}; see minimega {command} --help"
        at = argv.index(word)
        line = shlex.join(["minimega", command, *argv[:at], f"--{free[0]}", *argv[at:]])
        return f"unexpected argument {shown(word)}: type {line}"
    meant = here(name, command)
    if name in TABLE:
        commands = TABLE[name].commands.replace(" ", ", ")
        own = meant if meant.startswith("; use") else ""
        return f"{command} does not take --{name}{own or f'; it is an option of {commands}'}"
    return f"{command} has no option {typed[:60]}{meant}"


def _say(message: str, status: int) -> int:
    return launch.last_words("minimega: " + "\n".join(as_options(message).splitlines()[:3]), status)
