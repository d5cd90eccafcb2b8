"""The words of a text: the unit that the metrics count.

Scripts that put no spaces between words (Chinese, Japanese, Thai, ...) are counted by character.
"""

from collections.abc import Iterable, Iterator

from minimega.data.pattern import later
from minimega.data.scripts import SPACELESS

UNSPACED = SPACELESS + "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # and Thai, Lao, Burmese, Khmer
WORD = later(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])\w)+(?:['\u2019](?:(?![{UNSPACED}])\w)+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """The words of a text and its punctuation, each a token; unspaced scripts by character.

    >>> words("Who didn't sing?"), words("小猫 sat。")
    (['Who', "didn't", 'sing', '?'], ['小', '猫', 'sat', '。'])
    """
    return WORD.findall(text)


def streamed(pieces: str | Iterable[object]) -> Iterator[list[str]]:
    """The words of a document that comes in pieces, as lists; no word is cut where a piece ends."""
    carry = ""
    for piece in [pieces] if isinstance(pieces, str) else pieces:
        if not isinstance(piece, str):  # a mark between the turns of a dialogue
            yield words(carry)
            carry = ""
            continue
        text = carry + piece
        cut = max(text.rfind(" "), text.rfind("\n")) + 1
        yield words(text[:cut])
        carry = text[cut:]
    yield words(carry)
