"""Option: one option of the command line, the values that it takes, and what it says to others."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from minimega.commands import names
from minimega.errors import BadInput, nearest, shown

Range = tuple[str, Callable[[float | str], bool]]  # valid values, in words and as a test
FROM_1 = ("of at least 1", lambda x: x >= 1)
FROM_0 = ("of 0 or more", lambda x: x >= 0)
ABOVE_0 = ("above 0", lambda x: x > 0)
BELOW_1 = ("of at least 0 and below 1", lambda x: 0 <= x < 1)
TO_3 = ("of 0 to 3", lambda x: 0 <= x <= 3)
TO_1000 = ("of 0 to 1000", lambda x: 0 <= x <= 1000)
TO_128 = ("of 1 to 128", lambda x: 1 <= x <= 128)
TO_100 = ("of 1 to 100", lambda x: 1 <= x <= 100)
TO_WIDEST = ("of 1 to 65536", lambda x: 1 <= x <= 65536)
SHARE = ("above 0 and at most 1", lambda x: 0 < x <= 1)
PATH = ("that names a file or a folder", lambda x: bool(x.strip()) and "\0" not in x)
SOME = ("of at least one character", lambda x: bool(x))
MOST = 2**63 - 1  # arrays count in int64


@dataclass(frozen=True)
class Option:
    """One option. `kind` is int, float, str, bool (a flag) or a tuple of allowed words.

    `commands` lists the commands that take it. `text` describes it. `shown` describes a default of None.
    Where a command has another default, `by` has its value, and `told` its description if it is None.
    """

    name: str
    kind: type | tuple[str, ...]
    default: object
    commands: str
    text: str
    within: Range | None = None
    shown: str = "none"
    also: str = ""  # a word allowed instead of a number
    by: Mapping[str, object] = field(default_factory=dict, hash=False)
    told: Mapping[str, str] = field(default_factory=dict, hash=False)

    key = property(lambda self: self.name.replace("-", "_"))

    @property
    def words(self) -> tuple[str, ...]:
        """The allowed values, if they are words; else nothing."""
        return ("true", "false") if self.kind is bool else self.kind if isinstance(self.kind, tuple) else ()

    @property
    def wanted(self) -> str:
        """The valid values, in words."""
        if isinstance(self.kind, tuple):
            return f"one of {', '.join(self.kind)}"
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[self.kind]
        words = f"{words} {self.within[0]}" if self.within else words
        return f"{words}, or {self.also}" if self.also else words

    def default_of(self, command: str):
        """The default of a command."""
        return self.by.get(command, self.default)

    def default_text(self, command: str = "") -> str:
        """The default of a command, in words; without one, that of all commands.

        >>> Option("n", int, None, "a b", "steps", shown="all", by={"b": 10}).default_text()
        'all; b: 10'
        """
        value = self.default_of(command)
        text = self.told.get(command, self.shown) if value is None else str(value)
        others = [] if command else [f"{c}: {self.default_text(c)}" for c in {**self.by, **self.told}]
        return "; ".join(["off" if self.kind is bool else text, *others])

    def check(self, value, where: str):
        """Return the value if it is valid, else raise BadInput; `where` begins the message."""
        if self.also and value == self.also:
            return value
        if isinstance(self.kind, tuple) and value not in self.kind:
            raise BadInput(f"{where} is {shown(value)}; it must be {self.wanted}{self.meant(value)}")
        if self.kind is int and value > MOST:
            raise BadInput(f"{where} is {shown(value)}; it must be {self.wanted}, and at most {MOST}")
        if self.within and not ((isinstance(value, str) or math.isfinite(value)) and self.within[1](value)):
            raise BadInput(f"{where} is {shown(value)}; it must be {self.wanted}")
        if self.kind is str:
            check_text(value, where)
        return value

    def meant(self, text: str) -> str:
        """The end of an error message: the value that was probably meant, or "".

        >>> from minimega.commands.option_table import TABLE
        >>> TABLE["device"].meant("gpu"), TABLE["num-steps"].meant("1e3")
        ('; did you mean cuda?', '; did you mean 1000?')
        """
        if self.kind in (int, float):
            number = _number(text, self.kind)
            fits = number is not None and (not self.within or self.within[1](number))
            return f"; did you mean {number}?" if fits and str(number) != text else ""
        if not self.words:
            return ""
        if names.plain(text) in self.words:
            return f"; did you mean {names.plain(text)}?"
        others = names.SWITCH if self.kind is bool else names.VALUES.get(self.name, {})
        said = names.found(text, others)
        return f"; did you mean {said[0]}?" if said else nearest(text, self.words)


def check_text(text: str, where: str) -> None:
    """Raise BadInput if a text contains a NUL character or is not UTF-8."""
    if "\0" in text:
        raise BadInput(f"{where} contains a NUL character: leave it out")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput(
            f"{where} is not UTF-8 text: {shown(text)}; type it again, or rename the file"
        ) from None


def _number(text: str, kind: type) -> float | int | None:
    """
    >>> _number("1,000", int), _number("20k", int), _number("0,001", float)
    (1000, 20000, 0.001)
    """
    plain, times = text.lower().replace(" ", ""), 1
    if plain[-1:] in {"k", "m"}:
        plain, times = plain[:-1], {"k": 1000, "m": 1000**2}[plain[-1]]
    try:
        number = float(plain.replace(",", "" if kind is int else ".")) * times
    except ValueError:
        return None
    if not math.isfinite(number) or abs(number) >= MOST or (kind is int and number % 1):
        return None
    return kind(number)
