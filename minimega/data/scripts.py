"""Scripts (writing systems) of a text, by its letters' code points.

The table follows the Unicode blocks: Unicode's own property has more exceptions than a share needs.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

# Han and kana: scripts without spaces between words. A class for regular expressions.
SPACELESS = (
    "\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
_BLOCKS = {
    "latin": "41-5a 61-7a aa-aa ba-ba c0-d6 d8-f6 f8-2af 1d00-1d25 1e00-1eff 2c60-2c7f a722-a7ff ab30-ab6f"
    " fb00-fb06 ff21-ff3a ff41-ff5a",
    "greek": "370-373 376-37d 37f-3ff 1f00-1fff",
    "cyrillic": "400-52f 1c80-1c8f 1d2b-1d2b 2de0-2dff a640-a69f",
    "armenian": "531-556 559-58a",
    "hebrew": "591-5f4 fb1d-fb4f",
    "arabic": "610-61a 620-65f 66e-6d3 6d5-6ff 750-77f 870-8ff fb50-fdff fe70-fefc",
    "devanagari": "900-963 970-97f a8e0-a8ff",
    "bengali": "980-9e5 9f0-9fe",
    "tamil": "b80-be5",
    "thai": "e01-e3a e40-e4e",
    "georgian": "10a0-10ff 1c90-1cbf 2d00-2d2f",
    "hangul": "1100-11ff 3131-318e a960-a97f ac00-d7ff ffa1-ffdc",
    "kana": "3041-3096 309d-309f 30a1-30fa 30fc-30ff 31f0-31ff ff66-ff9f",
    "han": "2e80-2fd5 3005-3007 3400-4dbf 4e00-9fff f900-faff 20000-3ffff",
}
SCRIPTS = (*_BLOCKS, "other")
_SPANS = sorted((*(int(x, 16) for x in span.split("-")), i) for i, name in enumerate(_BLOCKS)
                for span in _BLOCKS[name].split())  # fmt: skip
_FIRST, _LAST, _WHICH = map(np.array, zip(*_SPANS, strict=True))


def count(text: str) -> Counter:
    """The number of letters of each script in a text. A letter of none of these scripts counts as "other".

    >>> count("Hello, 世界! Привет 42")
    Counter({'cyrillic': 6, 'latin': 5, 'han': 2})
    """
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    span = np.searchsorted(_FIRST, points, "right") - 1
    inside = (span >= 0) & (points <= _LAST[span])
    found = np.bincount(_WHICH[span[inside]], minlength=len(_BLOCKS))
    counts = Counter({name: int(n) for name, n in zip(_BLOCKS, found, strict=True) if n})
    rest = points[~inside & (points > 0x2AF)]
    if other := sum(chr(point).isalpha() for point in rest.tolist()):
        counts["other"] = other
    return counts


def main_script(counts: Counter) -> tuple[str, float]:
    """The script of most letters, and its share of all letters; ("none", 0.0) if there are no letters.

    A text with kana is Japanese, so its Han characters count with the kana.

    >>> main_script(count("日本語のテキスト"))
    ('kana', 1.0)
    """
    counts = Counter(counts)
    if counts["kana"] > 0.1 * counts["han"]:
        counts["kana"] += counts.pop("han", 0)
    total = counts.total()
    if not total:
        return "none", 0.0
    name, most = min(counts.items(), key=lambda item: (-item[1], SCRIPTS.index(item[0])))
    return name, most / total


def count_all(documents: Iterable[str | Iterable[str]], limit: int = 10**7) -> Counter:
    """The letters of each script in the first `limit` characters, or a little more, of these documents."""
    counts, seen = Counter(), 0
    for document in documents:
        for piece in [document] if isinstance(document, str) else document:
            counts += count(piece)
            seen += len(piece)
            if seen >= limit:
                return counts
    return counts
