"""The special tokens of every tokenizer: the start of a document, and a piece of text without a token."""

from typing import NamedTuple

START, UNKNOWN = 0, 1
NAMES = ["<start>", "<unk>"]


class Special(NamedTuple):
    """A special token among the pieces of a document, by its name. It is not text: no text can forge it."""

    name: str

    def __str__(self) -> str:
        return self.name
