"""A case: a command, its folder, and what happens meanwhile. Pure data, so it can be replayed and reduced."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

Pair = tuple[str, str | None]
USUAL = ("--tales=60", "--d-model=16", "--nhead=2", "--num-layers=1", "--context=32", "--train-batch-size=4")

SMALL = {
    *(tuple(word[2:].split("=")) for word in USUAL),
    ("num-steps", "4"),
    ("num-steps", "8"),
    ("resume", None),
}


@dataclass(frozen=True)
class Case:
    """`options`: a flag alone has the value None. `environment`: None removes the variable.

    A stream is "open", "closed" or "full" (no space left); stdout also "head" (the reader leaves after one
    line). `damages` and `shadows` are names that world.py knows. `signal`: its name, and when it comes, in
    seconds.
    """

    name: str
    command: str
    options: tuple[Pair, ...] = ()
    damages: tuple[str, ...] = ()
    shadows: tuple[str, ...] = ()
    environment: tuple[Pair, ...] = ()
    stdin: str = "open"
    stdout: str = "open"
    stderr: str = "open"
    umask: int = 0o022
    limits: tuple[tuple[str, int], ...] = ()
    signal: tuple[str, float] | None = None

    def value(self, name: str) -> str | None:
        """The last value typed for an option; None if there is none."""
        return dict(self.options).get(name)

    def has(self, flag: str) -> bool:
        return any(name == flag and value in (None, "true") for name, value in self.options)

    @property
    def words(self) -> list[str]:
        """What follows the program's name."""
        typed = [f"--{name}" if value is None else f"--{name}={value}" for name, value in self.options]
        return [self.command, *typed]

    def smaller(self) -> Iterator["Case"]:
        """The cases that lack one oddness of this one."""
        for name in ("limits", "environment", "damages", "shadows", "options"):
            held = getattr(self, name)
            for i in range(len(held)):
                if name == "options" and held[i] in SMALL:
                    continue  # without it the case would take long
                yield replace(self, **{name: held[:i] + held[i + 1 :]})
        for field in fields(self):
            one = field.name in ("stdin", "stdout", "stderr", "umask", "signal")
            if one and getattr(self, field.name) != field.default:
                yield replace(self, **{field.name: field.default})

    @property
    def redirections(self) -> str:
        """The streams that are not open, as a shell writes them; all but "head"."""
        words = {"closed": "{}&-", "full": "{}/dev/full"}
        said = (("<", self.stdin), (">", self.stdout), ("2>", self.stderr))
        return " ".join(words[state].format(sign) for sign, state in said if state in words)

    def ulimits(self, block: int) -> list[str]:
        """The limits as a shell sets them, which counts files in blocks of this many bytes."""
        sizes = {"AS": ("-v", 1024), "FSIZE": ("-f", block)}
        return [f"ulimit {sizes[name][0]} {size // sizes[name][1]}" for name, size in self.limits]

    def line(self, folder: str) -> str:
        """A line for bash; the case was prepared in `folder`."""
        first = [f"cd {quote(folder)}", f"umask {self.umask:03o}", *self.ulimits(1024)]
        gone = [f"-u {k}" for k, v in self.environment if v is None]
        given = [f"{k}={quote(v)}" for k, v in self.environment if v is not None]
        env = ["env", *gone, *given] if self.environment else []
        typed = [*env, "minimega", *map(quote, self.words), self.redirections]
        run = " ".join(typed).rstrip() + " | head -1" * (self.stdout == "head")
        if self.signal:
            run = f"{{ {run} & sleep {self.signal[1]}; kill -{self.signal[0]} $!; wait $!; }}"
        return f"({'; '.join([*first, run])})"


def quote(text: str) -> str:
    """The word as a shell reads it, even if it has bytes that are not text."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(rf"\x{byte:02x}" if byte < 33 or byte > 126 or byte in b"'\\" else chr(byte)
                          for byte in os.fsencode(text)) + "'"  # fmt: skip
