"""The words and the script of a text: what the other measures count in.

Scripts that put no spaces between words (Chinese, Japanese, Thai, ...) are counted by character.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from unicodedata import name

# Han, kana, Thai, Lao, Khmer, Burmese: no spaces between words.
UNSPACED = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
WORD = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])\w)+(?:['\u2019](?:(?![{UNSPACED}])\w)+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """The words of a text and its punctuation, each a token; unspaced scripts by character.

    >>> words("Who didn't sing?"), words("小猫 sat。")
    (['Who', "didn't", 'sing', '?'], ['小', '猫', 'sat', '。'])
    """
    return WORD.findall(text)


def script(texts: Iterable[str]) -> str:
    """The script of most letters: "latin", "han", "kana" (Japanese), "cyrillic", ...; "" without letters.

    >>> script(["A cat"]), script(["小猫坐在垫子上"]), script(["猫が座った"]), script(["Кот"]), script(["12"])
    ('latin', 'han', 'kana', 'cyrillic', '')
    """
    letters: Counter[str] = Counter()
    for text in texts:
        letters.update(c for c in text if c.isalpha())
    counts: Counter[str] = Counter()
    for letter, count in letters.items():
        first = name(letter, "").partition(" ")[0].partition("-")[0].lower()
        counts[{"cjk": "han", "hiragana": "kana", "katakana": "kana"}.get(first, first)] += count
    if counts["kana"] * 10 > counts["han"] + counts["kana"]:  # Japanese mixes both
        counts["kana"] += counts.pop("han", 0)
    return counts.most_common(1)[0][0] if counts else ""


def streamed(pieces: str | Iterable[str]) -> Iterator[list[str]]:
    """The words of a document that comes in pieces, as lists; no word is cut where a piece ends."""
    carry = ""
    for piece in [pieces] if isinstance(pieces, str) else pieces:
        text = carry + piece
        cut = max(text.rfind(" "), text.rfind("\n")) + 1
        yield words(text[:cut])
        carry = text[cut:]
    yield words(carry)
