"""The command line: parses the arguments of a command and calls its `run`.

An error prints at most three lines. The exit status is 2 for bad input and 1 for a failure while running.
"""

import re
import shlex
import signal
import sys
from collections.abc import Sequence
from contextvars import copy_context
from importlib import import_module
from types import SimpleNamespace

import minimega
from minimega.commands import names, signals
from minimega.commands.command_table import COMMANDS
from minimega.commands.help import overview, parser
from minimega.commands.hints import here
from minimega.commands.option import Option, check_text
from minimega.commands.option_table import TABLE, as_options, of_command
from minimega.commands.options import complete, merged, read
from minimega.errors import BadInput, RunFailed, in_words, nearest, shown
from minimega.ranks import launch, streams
from minimega.ranks.streams import say


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
        return _say(str(error), 2, error)
    except RunFailed as error:
        return _say(str(error), 1, error)
    except KeyboardInterrupt as why:
        return _say(str(why) or "stopped", 128 + getattr(why, "number", signal.SIGINT))
    except BrokenPipeError:
        streams.give_up_broken()  # the pipe is closed
        return 1
    except MemoryError as error:
        why = f": {error}" if str(error) else ""
        return _say(f"out of memory{why}\nUse a smaller batch, --context or model.", 1, error)
    except OSError as error:
        return _say(in_words(error), 1, error)


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
    options = parse(argv[0], argv[1:])
    # Import only this command, and only now, so that --help stays fast.
    command = import_module(f"minimega.commands.{options.command.replace('-', '_')}")
    return copy_context().run(command.run, options)  # the kernels that it chooses are not its caller's


def parse(command: str, argv: Sequence[str]) -> SimpleNamespace:
    """Parse the arguments of a command: `options.complete` plus the positional arguments.

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
    targets = {key: _target(command, key, name, texts) for key, name, _ in COMMANDS[command].targets}
    given = {key: _from_text(TABLE[key.replace("_", "-")], text) for key, text in texts.items()}
    from_file = read(given["config"]) if "config" in given else {}
    options = complete(command, merged(from_file, given) | targets)
    options.words = ["-m", "minimega", command, *argv]  # ranks are started with the same arguments
    return options


def _target(command: str, key: str, name: str, texts: dict) -> str | list[str] | None:
    text = texts.pop(key, None)
    if "..." in name:
        for word in text or []:
            check_text(word, name.strip("[]."))
        return text or []
    if not text and name[0] != "[":
        line = " ".join(["minimega", command, *(name for _, name, _ in COMMANDS[command].targets)])
        raise BadInput(f"{command} needs {name}: {line}; minimega {command} --help explains it")
    if text is not None:
        check_text(text, name.strip("[]"))
    if "|" in name and name[0] != "[" and text not in (words := name.split("|")):
        meant = nearest(names.plain(text), words)
        raise BadInput(f"{command} is for {' or '.join(words)}, not {shown(text)}{meant}")
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
        if meant := nearest(names.plain(word.lstrip("-")), ("help", "version"), "--"):
            return meant
        return "; the command comes first, as in minimega train --num-steps 100"
    meant = names.found(word, names.COMMANDS)
    return (
        f"; use {meant[0]}"
        if meant
        else nearest(names.plain(word), COMMANDS) or "; minimega --help lists them"
    )


# The options that an argument without a name may belong to, most likely first.
NAMELESS = {
    "train": ("train-filename",),
    "evaluate": ("model-filename", "eval-filename"),
    "generate": ("model-filename", "prompt"),
    "score": ("hypotheses", "references"),
}


def _about_unknown(command: str, word: str, argv: Sequence[str]) -> str:
    typed, mine = word.partition("=")[0], {*of_command(command), "help"}
    name = names.plain(typed.lstrip("-\u2012\u2013\u2014\u2212"))
    if name and name in mine:  # with one hyphen, another dash, or none
        return f"unexpected argument {shown(word)}; did you mean --{name}?"
    if set(word) == {"-"}:
        return f"unexpected argument {shown(word)}; see minimega {command} --help"
    if not name or not word.startswith("-"):
        taken = {w.partition("=")[0] for w in argv}
        free = [o for o in NAMELESS.get(command, ()) if f"--{o}" not in taken]
        if not free or COMMANDS[command].targets:
            return f"unexpected argument {shown(word)}; see minimega {command} --help"
        at = argv.index(word)
        line = shlex.join(["minimega", command, *argv[:at], f"--{free[0]}", *argv[at:]])
        return f"unexpected argument {shown(word)}: type {line}"
    meant = here(name, command) or nearest(name, ("help",), "--")
    if name in TABLE:
        commands = TABLE[name].commands.replace(" ", ", ")
        own = meant if meant.startswith("; use") else ""
        return f"{command} does not take --{name}{own or f'; it is an option of {commands}'}"
    return f"{command} has no option {typed[:60]}{meant}"


def _say(message: str, status: int, error: BaseException | None = None) -> int:
    # A rank that is a thread is named by a note: see ranks/threads.py.
    where = "".join(f"{note.removeprefix('on ')}: " for note in getattr(error, "__notes__", ()))
    return launch.last_words(f"{where}minimega: " + "\n".join(as_options(message).splitlines()[:3]), status)
