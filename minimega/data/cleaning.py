"""Cleans a text as it streams by: normal form, control characters, broken lines. Counts what it finds.

In memory at once: one paragraph, at most PARAGRAPH characters and one piece of the text.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from minimega.data.scripts import SPACELESS

PARAGRAPH = 2**18  # characters; a longer one is cleaned in parts, and its lines are not rejoined
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
INVISIBLE = re.compile(
    "[\u00ad\u200b\u2060\ufeff]"
)  # soft hyphen, zero-width space, word joiner, byte order mark
# UTF-8 that was read as Latin-1 or Windows-1252: a first byte, then as many further bytes as it announces
_FURTHER = "[\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u2122\u20ac]"
MOJIBAKE = re.compile(
    rf"[\u00c2-\u00df]{_FURTHER}|[\u00e0-\u00ef]{_FURTHER}{{2}}|[\u00f0-\u00f4]{_FURTHER}{{3}}"
)
_WIDE = re.compile(rf"[{SPACELESS}\u3000-\u303f\uff00-\uff60\uac00-\ud7a3]")  # takes two columns
_COMPOUND = re.compile(r"(?<![\w-])[^\W\d_]+-[^\W\d_]+(?![\w-])")
_BROKEN = re.compile(r"(?:^|[\W_])([^\W\d_]+)-$")
_REST = re.compile(r"([^\W\d_]+)[ \t]*")
_MARKED = re.compile(
    r"[\s\u3000]|[-*+\u2022>|#]|\(?\d+[.)]|[^\w\s]{3}"
)  # an indent, a list, a heading, a rule
_FIRST = re.compile(rf"[{SPACELESS}][\u3001-\u3011\uff01-\uff1f]{{0,2}}|\S[^\s{SPACELESS}]*")


def clean(pieces: Iterable[str], counts: Counter, form: str = "NFC", layout: "Layout | None" = None):
    """Yield a cleaned text paragraph by paragraph, with the empty lines after each; adds to `counts`.

    `form` is a Unicode normal form or "none". `layout` says how the lines of the text are broken (`Layout.of`
    reads that); without it, they are kept.

    >>> counts, text = Counter(), "A hyphen-\\nated word.\\x00\\r\\n"
    >>> "".join(clean([text], counts, layout=Layout.of([text])))
    'A hyphenated\\nword.\\n'
    >>> counts["hyphenated"], counts["nul"], counts["carriage_returns"]
    (1, 1, 1)
    """
    for lines in paragraphs(_clean_line(line, counts, form) for line in lines_of(pieces, counts)):
        yield "".join(layout.rejoin(lines, counts) if layout and lines[-1].endswith("\n") else lines)


def lines_of(pieces: Iterable[str], counts: Counter) -> Iterator[str]:
    """The lines of a text, each with its "\\n"; one above PARAGRAPH characters in parts."""
    rest = ""
    for piece in pieces:
        text = rest + piece
        held = "\r" if text.endswith("\r") else ""  # its "\n" may be in the next piece
        text = text.removesuffix("\r")
        counts["carriage_returns"] += text.count("\r")
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        yield from (line + "\n" for line in lines)
        while len(rest) > PARAGRAPH:
            cut = max(rest.rfind(" ", 1, PARAGRAPH), 0) or _between(rest)
            yield rest[:cut]
            rest = rest[cut:]
        rest += held
    if rest.endswith("\r"):
        counts["carriage_returns"] += 1
        rest = rest[:-1] + "\n"
    if rest:
        yield rest


def _between(text: str) -> int:
    """Where a text without spaces may be cut: before a character that never joins the one before it."""
    stable = (
        i
        for i in range(PARAGRAPH, PARAGRAPH // 2, -1)
        if text[i].isascii() or "\u4e00" <= text[i] <= "\u9fff"
    )
    return next(stable, PARAGRAPH)


def paragraphs(lines: Iterable[str]) -> Iterator[list[str]]:
    """Lines up to and including the empty ones after them; at most PARAGRAPH characters at once."""
    found, size, ended = [], 0, False
    for line in lines:
        empty = not line.strip()
        if found and ((ended and not empty) or size + len(line) > PARAGRAPH):
            yield found
            found, size = [], 0
        found.append(line)
        size, ended = size + len(line), empty
    if found:
        yield found


def _clean_line(line: str, counts: Counter, form: Any) -> str:
    counts["replacement_characters"] += line.count("\ufffd")
    if not line.isascii():
        counts["mojibake"] += len(MOJIBAKE.findall(line))
        line, found = INVISIBLE.subn("", line)
        counts["invisible"] += found
    if CONTROL.search(line):
        counts["nul"] += (nul := line.count("\0"))
        line, found = CONTROL.subn("", line)
        counts["control"] += found - nul
    if form != "none" and not unicodedata.is_normalized(form, line):
        line = unicodedata.normalize(form, line)
        counts["normalized_lines"] += 1
    return line


def columns(line: str) -> int:
    """The width of a line in columns: a Chinese character takes two."""
    return len(line) + (0 if line.isascii() else len(_WIDE.findall(line)))


class Layout:
    """How the lines of a text are broken: its width if they are wrapped, and its words with hyphens.

    A line is wrapped at a width if the next line's first word would not have fitted. A paragraph is wrapped
    if all its lines except the last are. Lines of verse, of code and of lists are not.
    """

    def __init__(self, width: int | None, compounds: set[str]):
        self.width, self.compounds = width, compounds

    @classmethod
    def of(cls, pieces: Iterable[str]) -> "Layout":
        """Read the layout of a text: the usual width of its wrapped paragraphs of four or more lines."""
        widths, compounds, ignored = Counter(), set(), Counter()
        for lines in paragraphs(_clean_line(line, ignored, "NFC") for line in lines_of(pieces, ignored)):
            for line in lines:
                compounds.update(word.lower() for word in _COMPOUND.findall(line))
            rows = [line.rstrip() for line in lines if line.strip()]
            if len(rows) >= 4 and _wrapped(rows, width := max(map(columns, rows[:-1]))):
                widths[width] += 1
        often = [width for width, times in widths.items() if times >= 0.1 * widths.total()]
        return cls(max(often, default=None), compounds)

    def rejoin(self, lines: list[str], counts: Counter) -> list[str]:
        """The lines of a paragraph with hyphenated words whole, and in one line if they were wrapped."""
        rows = [line.rstrip() for line in lines if line.strip()]
        if len(rows) < 2:
            return lines
        if self.width and _wrapped(rows, self.width):
            text = rows[0]
            for row in rows[1:]:
                text = self._hyphenated(text, row, counts) or text + _gap(text, row) + row
            counts["wrapped"] += len(rows) - 1
            return [text + "\n", *(line for line in lines[len(rows) :] if not line.strip())]
        kept = lines[:1]
        for line in lines[1:]:
            if whole := self._hyphenated(kept[-1].rstrip(), line, counts):
                cut = len(whole) - len(line) + _length(_REST, line)
                kept[-1], line = whole[:cut].rstrip() + "\n", whole[cut:]
            if line.strip() or not whole:
                kept.append(line)
        return kept

    def _hyphenated(self, before: str, after: str, counts: Counter) -> str | None:
        begun, rest = _BROKEN.search(before[-100:]), _REST.match(after)
        if not (begun and rest and rest[1][0].islower()):
            return None
        counts["hyphenated"] += 1
        compound = f"{begun[1]}-{rest[1]}".lower() in self.compounds  # elsewhere it is on one line
        return before[: None if compound else -1] + after


def _length(pattern: re.Pattern, text: str) -> int:
    """How much of a text the pattern takes, from its beginning."""
    found = pattern.match(text)
    return found.end() if found else 0


def _gap(before: str, after: str) -> str:
    wide = [bool(_WIDE.match(c)) for c in (before[-1:], after[:1])]
    return "" if any(wide) or not before else " "


def _wrapped(rows: list[str], width: int) -> bool:
    """Whether each row but the last has no room, within the width, for the next row's first word."""
    if not 40 <= width <= 200 or any(_MARKED.match(row) for row in rows[1:]):
        return False
    for row, after in pairwise(rows):
        used, first = columns(row), after[: _length(_FIRST, after)]
        room = used - 1 if row.endswith("-") else used + len(_gap(row, after))
        if room + columns(first) <= width or used > width + 20:
            return False
    return True
