"""Reads files of word vectors: word2vec (text and binary), GloVe, FastText; all but FastText's .bin also .gz.

    word2vec text, FastText .vec   a line "N E", then a line per word: the word and E numbers
    GloVe                          the same without the first line
    word2vec binary                a line "N E", then per word: the word, a space, E float32, maybe a line end
    FastText .bin                  see fasttext.py

The formats are those of word2vec.c (Mikolov et al. 2013) and GloVe (Pennington et al. 2014). A file's first
bytes say which it is, not its name. It is read as a stream: only the rows of wanted words are kept, and no
number in a header decides how much memory is used.

N words, E width of a vector.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from minimega.errors import BadInput, shown
from minimega.vectors import fasttext
from minimega.vectors.table import Vectors, checked

LONGEST = 2**21  # bytes of a line
WIDEST = 2**16  # numbers of a vector
HEADER = re.compile(rb"[ \t]*([0-9]{1,20})[ \t]+([0-9]{1,20})\s*")
NUMBERS = set(b"0123456789+-.eE \t\r\n")

Rows = Iterator[tuple[str, Callable[[], np.ndarray]]]  # each word, and a function that reads its vector


def read(path: str | Path, wanted: Iterable[str] | None = None, limit: int | None = None) -> Vectors:
    """The vectors of the wanted words (None: of all), in the file's order; of its first `limit` words only.

    A word that is not in the file is left out, unless FastText's .bin makes its vector from subwords. Of a
    word that comes twice the first counts, as in gensim. In a text format a word may hold spaces, as in
    GloVe's largest file.

    Raises BadInput if the file cannot be read, is in none of these formats, is not UTF-8, is cut short, has
    rows of several widths, another number of words than its header says, or a number that is not finite.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "few.txt"
    ...     _ = path.write_text("sun 0.5 1\\nmoon -1 0\\n")
    ...     read(path, {"moon", "mars"})["moon"].tolist()
    [-1.0, 0.0]
    """
    wanted = None if wanted is None else set(wanted)
    with _opened(path) as file:
        kind, count, width = _kind(file, path)
        if kind == "fasttext":
            return fasttext.read(file, path, wanted, limit)
        found: dict[str, np.ndarray] = {}
        n = twice = 0
        for n, (word, vector) in enumerate(
            _of_binary(file, path, count or 0, width)
            if kind == "binary"
            else _of_text(file, path, count, width),
            1,
        ):
            if word in found:
                twice += 1
            elif wanted is None or word in wanted:
                found[word] = vector()
            if n == limit:
                break
        else:
            _check_count(path, count, n)
    notes = (f"{path}: {twice} of its words are repeated; the first one counts",) if twice else ()
    return checked(found, np.array(list(found.values()), np.float32).reshape(-1, width), path, notes=notes)


def _check_count(path: str | Path, said: int | None, found: int) -> None:
    if said is not None and found < said:
        raise BadInput(
            f"{path} is cut short, or its header is wrong: it says {said} words, and {found} follow"
        )
    if not found:
        raise BadInput(f"{path} has no words")


def width_of(path: str | Path) -> int:
    """The width of a file's vectors, from its first bytes. Raises BadInput as `read` does."""
    with _opened(path) as file:
        return _kind(file, path)[2]


def is_vectors(path: str | Path) -> bool:
    """Whether a file holds vectors, not a text, by its first lines. Raises BadInput if it is not there.

    A text may begin with a word and a number; vectors have two such lines at least, of equal width.
    """
    try:
        with _opened(path) as file:
            kind, count, width = _kind(file, path)
            rows = [_fields(_line(file, path, n)) for n in (1, 2)] if kind == "text" else []
    except BadInput:
        if Path(path).is_file():
            return False
        raise
    if kind != "text":
        return True
    numbers = [[_number(part) for part in row[-width:]] for row in rows if len(row) > width]
    return len(numbers) >= (1 if count else 2) and not any(None in row for row in numbers)


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    """The file, unpacked if its first bytes say gzip. Raises BadInput if it cannot be read."""
    path = Path(path)
    if not path.is_file():
        what = (
            "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "is not there"
        )
        raise BadInput(f"{path} {what}; give a file of word vectors")
    try:
        with open(path, "rb") as packed:
            if packed.peek(2)[:2] == b"\x1f\x8b":
                with gzip.open(packed) as file:
                    yield cast(BinaryIO, file)
            else:
                yield packed
    except (EOFError, zlib.error, gzip.BadGzipFile) as why:
        raise BadInput(f"{path} is damaged or cut short: it cannot be unpacked ({why})") from None
    except OSError as why:
        raise BadInput(f"{path} cannot be read: {why.strerror or why}") from None


def _kind(file: BinaryIO, path: str | Path) -> tuple[str, int | None, int]:
    """What a file is ("text", "binary" or "fasttext"), its number of words if it says so, and its width.

    Leaves the file at the first word.
    """
    start = file.read(8)
    file.seek(0)
    if not start:
        raise BadInput(f"{path} is empty; give a file of word vectors")
    if fasttext.begins(start):
        if isinstance(file, gzip.GzipFile):  # its rows are read where they lie in the file
            raise BadInput(f"{path} is a packed FastText .bin: unpack it first, with gunzip -k")
        return "fasttext", None, fasttext.width_of(file, path)
    if start[:4] == b"PK\x03\x04":
        raise BadInput(f"{path} is a zip archive: unpack it and give the file inside")
    line = _line(file, path, 1)
    if not (header := HEADER.fullmatch(line)):
        file.seek(0)
        return "text", None, _width_of_row(line, path)
    count, width = (int(number) for number in header.groups())
    if not (count and 0 < width <= WIDEST):
        raise BadInput(
            f"{path}: line 1 says {shown(count)} words of {shown(width)} numbers; "
            f"there must be at least one word, and from 1 to {WIDEST} numbers"
        )
    at = file.tell()
    sample = file.readline(LONGEST)
    file.seek(at)
    return "text" if _is_text(sample) else "binary", count, width


def _is_text(row: bytes) -> bool:
    """Whether the first row after the header is text: readable, or numbers after its first word."""
    if set(row[row.find(b" ") :]) <= NUMBERS:
        return True
    try:
        return row.decode().strip("\r\n\t").isprintable()
    except UnicodeDecodeError:
        return False


def _width_of_row(line: bytes, path: str | Path) -> int:
    """The number of numbers at the end of a file's first row."""
    parts, width = _fields(line), 0
    while width < len(parts) - 1 and _number(parts[-1 - width]) is not None:
        width += 1
    if not 0 < width <= WIDEST:
        raise BadInput(
            f"{path} is not a file of word vectors: "
            f"its first line is neither two numbers nor a word with numbers"
        )
    return width


def _number(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _fields(line: bytes) -> list[bytes]:
    return line.rstrip(b" \t\r\n").replace(b"\t", b" ").split(b" ")


def _line(file: BinaryIO, path: str | Path, number: int) -> bytes:
    line = file.readline(LONGEST)
    if len(line) == LONGEST:
        raise BadInput(f"{path}: line {number} is longer than {LONGEST} bytes: not a file of word vectors")
    return line


def _of_text(file: BinaryIO, path: str | Path, count: int | None, width: int) -> Rows:
    """The words of a text format; `count` is that of its header, None if it has none."""
    first = 1 if count is None else 2
    n = first - 1
    while line := _line(file, path, n + 1):
        n += 1
        parts = _fields(line)
        if parts == [b""]:
            continue
        if len(parts) <= width or (len(parts) > width + 1 and _number(parts[-1 - width]) is not None):
            known = "line 1" if count is None else "the header"
            raise BadInput(f"{path}: line {n} has {len(parts) - 1} numbers; {known} says {width}")

        def vector(parts=parts, n=n) -> np.ndarray:
            numbers = [_number(part) for part in parts[-width:]]
            if None in numbers:
                wrong = shown(parts[len(parts) - width + numbers.index(None)].decode(errors="replace"))
                raise BadInput(f"{path}: line {n} has {wrong} where a number should be")
            with np.errstate(over="ignore"):  # becomes infinite, which `checked` reports
                return np.array(numbers, np.float64).astype(np.float32)

        yield _text(b" ".join(parts[:-width]), path, f"line {n}"), vector
        if n - first + 1 == count:
            _check_end(file, path, count)
            return


def _check_end(file: BinaryIO, path: str | Path, count: int) -> None:
    """Raise BadInput unless nothing but white space follows the last word that the header counts."""
    if file.read(LONGEST).strip():
        raise BadInput(f"{path}: its header is wrong: it says {count} words, and more follow")


def _floats(row: bytes) -> np.ndarray:
    return np.frombuffer(row, "<f4").astype(np.float32)


def _of_binary(file: BinaryIO, path: str | Path, count: int, width: int) -> Rows:
    """The words of word2vec's binary format."""
    for n in range(count):
        letters = bytearray()
        while (letter := file.read(1)) not in (b" ", b""):
            letters += letter
            if len(letters) > 2**16:
                raise BadInput(f"{path}: word {n + 1} has no end: not a file of word vectors")
        row = file.read(4 * width)
        if len(row) < 4 * width:
            return  # cut short: `_check_count` says so
        word = _text(bytes(letters).lstrip(b"\n"), path, f"word {n + 1}")
        yield word, partial(_floats, row)
    _check_end(file, path, count)


def _text(word: bytes, path: str | Path, where: str) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError:
        raise BadInput(
            f"{path}: {where} is not UTF-8: {shown(bytes(word[:40]).decode(errors='backslashreplace'))}. "
            f"Convert the file with iconv, or check its format"
        ) from None
