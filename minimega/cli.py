"""The commands: words on the command line become options, options go to the function that does the work.

What goes wrong is said in at most three lines: exit status 2 for bad input, 1 for a failure while running.
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib import metadata
from types import SimpleNamespace

from minimega import launch, signals
from minimega.errors import BadInput, RunFailed, in_words
from minimega.options import complete, read
from minimega.table import COMMANDS, GROUPS, TABLE, Option, nearest, of_command

# What stands on the line without the name of an option, by command: key, name, and what it is. What begins
# with a bracket may be left out.
TARGETS = {
    "gradcheck": [("target", "FILE.py:function", "a function that gives y and its backward")],
    "compare": [
        ("run_a", "RUN_A", 'a run folder, or a command in quotes: "train ..."'),
        ("run_b", "RUN_B", "the same, held to be right"),
    ],
    "reshard": [("run", "RUN", "a run folder")],
    "learn": [
        (
            "action",
            "[open|start|check|hint|solution",
            "copy (and show) a lesson, judge, help; alone: the list",
        ),
        ("lesson", "[NN]]", "the number or the name of a lesson"),
    ],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status.

    >>> main(["train", "--nhead", "0"])         # the sentence goes to the error stream
    2
    """
    try:
        with signals.ending():
            status = run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # a reader that went away shows here, not as a traceback at the very end
        return status
    except BadInput as error:
        return _say(str(error), 2)
    except RunFailed as error:
        return _say(str(error), 1)
    except KeyboardInterrupt as why:
        return _say(str(why) or "stopped", 128 + getattr(why, "number", signal.SIGINT))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more can be written there
        return 1
    except MemoryError as error:
        why = f": {error}" if str(error) else ""
        return _say(f"out of memory{why}\nA smaller batch, --context or model needs less.", 1)
    except OSError as error:
        return _say(in_words(error), 1)


def run(argv: list[str]) -> int:
    """Do what the words say; errors are raised."""
    match argv:
        case [] | ["-h" | "--help"]:
            print(overview())
            return 0
        case ["--version"]:
            print(f"minimega {metadata.version('minimega')}")
            return 0
        case [command, *_] if command not in COMMANDS:
            raise BadInput(
                f"{command!r} is no command{nearest(command, COMMANDS) or '; minimega --help lists them'}"
            )
        case [command, *rest] if {"-h", "--help"} & set(rest):
            print(parser(command).format_help(), end="")
            return 0
    return dispatch(parse(*argv[:1], argv[1:]))


def dispatch(options: SimpleNamespace) -> int:
    """Hand the options to the command's function, which is imported only now: --help stays quick."""
    match options.command:
        case "train":
            from minimega.run import run_training

            return run_training(options)
        case "evaluate":
            from minimega.use import run_evaluation

            return run_evaluation(options)
        case "generate":
            from minimega.use import run_generation

            return run_generation(options)
        case "bench":
            from minimega.bench import bench

            return bench(options)
        case "memory":
            from minimega.memory import run_memory

            return run_memory(options)
        case "timeline":
            from minimega.trace import run_timeline

            return run_timeline(options)
        case "reshard":
            from minimega.reshard import run_resharding

            return run_resharding(options)
        case "compare":
            from minimega.compare import run_comparison

            return run_comparison(options)
        case "doctor":
            from minimega.doctor import doctor

            return doctor(options)
        case "learn":
            from minimega.learn.command import run_learning

            return run_learning(options)
    from minimega.gradcheck import run_command

    return run_command(options.target, options.shapes, options.seed, options.picture)


def parse(command: str, argv: Sequence[str]) -> SimpleNamespace:
    """The options of a command from its words: `options.complete`, with the TARGETS of the command.

    >>> options = parse("train", ["--num_layers=3", "--lr", "0.01"])
    >>> options.num_layers, options.lr, sorted(options.given)
    (3, 0.01, ['lr', 'num_layers'])
    """
    argv = [re.sub(r"^--[^=]+", lambda name: name[0].replace("_", "-"), word) for word in argv]
    typed, unknown = parser(command).parse_known_args(argv)
    if unknown:
        raise BadInput(_about_unknown(command, unknown[0]))
    texts = vars(typed)
    targets = {key: texts.pop(key, None) for key, _, _ in TARGETS.get(command, ())}
    given = {key: _from_text(TABLE[key.replace("_", "-")], text) for key, text in texts.items()}
    from_file = read(given["config"]) if "config" in given else {}
    options = complete(command, from_file | given | targets)
    options.words = ["-m", "minimega", command, *argv]  # to start ranks with the same ones
    return options


def overview() -> str:
    """What `minimega` alone prints."""
    lines = ["usage: minimega COMMAND [options]", ""]
    lines += [f"  {name:10} {sentence}" for name, sentence in COMMANDS.items()]
    lines += ["", "minimega COMMAND --help shows the options of a command; minimega --version the version."]
    return "\n".join(lines)


class Parser(argparse.ArgumentParser):
    """Raises its errors, in words for a person."""

    def error(self, message: str):
        if no_value := re.search(r"argument (--[\w-]+): expected one argument", message):
            name = no_value[1]
            raise BadInput(f"{name} needs a value; one that begins with a hyphen is written {name}=-...")
        raise BadInput(f"{message}; {self.prog} --help shows what it takes")


def parser(command: str) -> Parser:
    """The parser of one command, made from the table; it gives only what was typed, as text."""
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
        made.add_argument(key, metavar=name.strip("[]"), help=text, nargs="?" if name[0] == "[" else None)
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


def _from_text(option: Option, text: str):
    where = f"--{option.name}"
    try:
        if option.kind is bool:
            return {"true": True, "false": False}[text]
        if option.also and text == option.also:
            return text
        value = text if isinstance(option.kind, tuple) else option.kind(text)
    except (ValueError, KeyError):
        raise BadInput(f"{where} is {text!r}; it must be {option.wanted}") from None
    return option.check(value, where)


def _about_unknown(command: str, word: str) -> str:
    typed, mine = word.partition("=")[0], of_command(command)
    name = typed.lstrip("-")
    if not name or not word.startswith("-"):
        return f"{word!r} belongs to no option; minimega {command} --help shows what {command} takes"
    if name in TABLE:
        return (
            f"{command} does not take --{name}: it is an option of {TABLE[name].commands.replace(' ', ', ')}"
        )
    return f"{command} has no option {typed}{nearest(name, mine, '--')}"


def _say(message: str, status: int) -> int:
    return launch.last_words("minimega: " + "\n".join(message.splitlines()[:3]), status)
