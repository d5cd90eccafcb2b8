"""Documents in memory and in files, and how to hold out the end of them.

A document from a file is an iterator of str pieces: a text can be larger than memory.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from minimega.errors import BadInput

BLOCK = 2**20  # bytes that are read at once


def check_several(documents) -> None:
    """Raise BadInput for one text in the place of documents: each of its characters would be one."""
    if isinstance(documents, str | bytes):
        raise BadInput("documents are a list of texts, and this is a single one: put it into a list, [text]")


@dataclass(frozen=True)
class Document:
    """Part of a text or of a file, from `begin` to `end`: characters of a text, bytes of a file."""

    source: str | Path
    begin: int
    end: int

    def pieces(self) -> str | Iterator[str]:
        """The text; of a file, an iterator of its pieces. Raises BadInput if the file is not UTF-8."""
        return self.source[self.begin : self.end] if isinstance(self.source, str) else _read(self)

    def line_end(self, at: int) -> int:
        """Where to cut, at or after `at`: after a line end if there is one, else between two characters."""
        if isinstance(self.source, str):
            return self.source.find("\n", at, min(at + BLOCK, self.end - 1)) + 1 or at
        with open(self.source, "rb") as file:
            file.seek(at)
            block = file.read(min(BLOCK, self.end - at))
        first = next((i for i, byte in enumerate(block) if byte & 0xC0 != 0x80), len(block))  # in UTF-8
        return at + (block.find(b"\n", 0, self.end - 1 - at) + 1 or first)


@dataclass(frozen=True)
class Texts:
    """Existing documents. The end of their text is held out, starting after a line end."""

    rows: tuple[Document, ...]

    def documents(self) -> Iterator[str | Iterator[str]]:
        """The text of each document, or an iterator of its pieces."""
        return (document.pieces() for document in self.rows)

    def split(self, share: float = 0.05) -> tuple["Texts", "Texts"]:
        """The text to train on, and about the last `share` of it, held out."""
        left = int(sum(d.end - d.begin for d in self.rows) * (1 - share))
        row = 0
        while left >= (length := self.rows[row].end - self.rows[row].begin) and row < len(self.rows) - 1:
            left, row = left - length, row + 1
        cut = self.rows[row]
        at = cut.line_end(cut.begin + left)
        rows = (*self.rows[:row], replace(cut, end=at)), (replace(cut, begin=at), *self.rows[row + 1 :])
        learned, held_out = (Texts(tuple(d for d in part if d.begin < d.end)) for part in rows)
        return learned, held_out

    def floor(self) -> None:
        """None: the lowest possible loss is unknown."""


def pydoc() -> Texts:
    """Python's own documentation, which comes with every Python: its topics by name (700 kB)."""
    from pydoc_data.topics import topics

    return Texts(tuple(Document(topics[name], 0, len(topics[name])) for name in sorted(topics)))


def read(path: str | Path) -> Texts:
    """A UTF-8 file, or all files under a folder in the order of their names, except hidden ones.

    Raises BadInput if it is missing or empty, and later, while it is read, if it is not UTF-8.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"there is no file or folder {path}. The built-in texts are: tales, tales-zh, pydoc.")
    files = [path]
    if path.is_dir():
        names = sorted(f.relative_to(path) for f in path.rglob("*") if f.is_file())
        files = [path / name for name in names if not any(part.startswith(".") for part in name.parts)]
    sizes = {file: file.stat().st_size for file in files}
    if not any(sizes.values()):
        raise BadInput(f"{path} is empty. Give a file with text in it.")
    return Texts(tuple(Document(file, 0, size) for file, size in sizes.items() if size))


def _read(document: Document) -> Iterator[str]:
    file, at = document.source, document.begin
    decoder = codecs.getincrementaldecoder("utf-8")()
    cure = "Give a text file in UTF-8; an editor or iconv can convert one."
    try:
        with open(file, "rb") as opened:
            opened.seek(at)
            while at < document.end and (block := opened.read(min(BLOCK, document.end - at))):
                if 0 in block:
                    raise BadInput(f"{file} is not text: byte {at + block.index(0)} is zero. {cure}")
                at += len(block)
                text = decoder.decode(block, final=at >= document.end)
                yield text.removeprefix("\ufeff") if at == len(block) else text  # some editors write a BOM
    except UnicodeDecodeError as wrong:
        bad = at - len(wrong.object) + wrong.start
        raise BadInput(f"{file} is not UTF-8: byte {bad} is invalid. {cure}") from None
    except OSError as why:
        raise BadInput(f"{file} cannot be read: {why.strerror}.") from None
