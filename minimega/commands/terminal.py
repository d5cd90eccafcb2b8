"""A text on a terminal as it comes: wrapped at words, and safe to print."""

import shutil
import sys
from unicodedata import category, east_asian_width

from minimega.ranks.streams import say

NOT_FIRST, NOT_LAST = {"Pe", "Pf", "Po", "Lm"}, {"Ps", "Pi"}  # of a line, among wide characters


def on_terminal() -> bool:
    """Whether standard output is a terminal, not a pipe or a file."""
    return sys.stdout.isatty()


def width(text: str) -> int:
    """The columns that a text takes on a terminal: two for a wide character, none for a combining one.

    >>> width("Anna"), width("安娜"), width("e\\u0301")
    (4, 4, 1)
    """
    return sum(
        0 if category(c) in ("Mn", "Me", "Cf") else 2 if east_asian_width(c) in "WF" else 1 for c in text
    )


class Wrapped:
    """A text that comes in pieces, broken into lines between words, or between characters of Chinese.

    `take` returns what can be printed: everything up to the last word, which may go on. White space at which
    a line is broken is left out; a word longer than a line is left to the terminal. Control characters, which
    could move the cursor or worse, are shown as a replacement character.

    >>> text = Wrapped(columns=12)
    >>> [text.take(piece) for piece in ("Long a", "go, a ba", "ker\\nfound")], text.finish()
    (['Long', ' ago, a', '\\nbaker\\n'], 'found')
    """

    def __init__(self, columns: int):
        self.columns, self.at = columns, 0  # the columns of a line; those that are taken
        self.space = self.word = ""

    def take(self, new: str) -> str:
        """Add a piece; returns what can be printed."""
        return "".join(map(self._put, new))

    def finish(self) -> str:
        """End the text; returns the last word."""
        return self._end_word()

    def _put(self, c: str) -> str:
        if c == "\n":
            out, self.at, self.space = self._end_word() + "\n", 0, ""
            return out
        if c.isspace() and c != "\N{NO-BREAK SPACE}":
            out = self._end_word()
            self.space += " " * (4 if c == "\t" else 1)
            return out
        if category(c) == "Cc":
            c = "\N{REPLACEMENT CHARACTER}"
        out = self._end_word() if self.word and breaks(self.word[-1], c) else ""
        self.word += c
        return out

    def _end_word(self) -> str:
        if not self.word:
            return ""
        space, word, takes = self.space, self.word, width(self.word)
        self.space = self.word = ""
        if self.at and self.at + len(space) + takes > self.columns:
            self.at = takes
            return "\n" + word
        self.at = (self.at + len(space) + takes - 1) % self.columns + 1
        return space + word


def breaks(a: str, b: str) -> bool:
    """Whether a line may be broken between two characters that are not white space.

    Between wide ones, but not before a mark that closes or after one that opens.

    >>> [breaks(*pair) for pair in ("安娜", "娜。", "「安", "an")]
    [True, False, False, False]
    """
    if not (east_asian_width(a) in "WF" or east_asian_width(b) in "WF"):
        return False
    return not (width(b) == 0 or category(b) in NOT_FIRST or category(a) in NOT_LAST)


def show(pieces) -> None:
    """Print a text as its pieces come, wrapped at the terminal's width, and end its last line."""
    text = Wrapped(shutil.get_terminal_size().columns)
    try:
        for piece in pieces:
            if out := text.take(piece):
                say(out, end="")
        say(text.finish(), end="")
    finally:
        say()  # also after Ctrl-C
