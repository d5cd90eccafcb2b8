"""Which words are near which: neighbours by cosine, analogies, and files of questions.

N words, E width of a vector.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minimega.data.documents import read as read_text
from minimega.errors import BadInput, nearest, shown
from minimega.vectors.table import Vectors


def neighbours(
    vectors: Vectors, plus: Iterable[str], minus: Iterable[str] = (), top: int = 10
) -> list[tuple[str, float]]:
    """The `top` words nearest to a sum of words, each with its cosine; the words of the sum are left out.

    Each word of the sum counts with length 1 (Mikolov et al. 2013, "Linguistic regularities"; gensim's
    `most_similar`). Raises BadInput if a word has no vector.

    >>> v = Vectors(["sun", "star", "stone"], np.array([[1, 0], [1, 1], [0, 1]], np.float32))
    >>> [(word, round(cosine, 4)) for word, cosine in neighbours(v, ["sun"])]
    [('star', 0.7071), ('stone', 0.0)]
    """
    plus, minus = list(plus), list(minus)
    places = [place_of(vectors, word) for word in (*plus, *minus)]
    signs = np.array([1.0] * len(plus) + [-1.0] * len(minus), np.float32)
    aim = signs @ vectors.unit[places]
    length = np.linalg.norm(aim)
    cosines = vectors.unit @ (aim / length if length else aim)  # (N,)
    cosines[places] = -np.inf
    best = np.argsort(-cosines, kind="stable")[:top]
    return [(vectors.words[i], float(cosines[i])) for i in best if np.isfinite(cosines[i])]


def place_of(vectors: Vectors, word: str) -> int:
    """The row of a word, or else of the word in lower case. Raises BadInput if it has none."""
    for spelt in (word, word.lower()):
        if spelt in vectors:
            return vectors.place[spelt]
    raise BadInput(f"there is no vector for {shown(word)}{nearest(word, vectors.words[:50_000])}")


def terms(text: str) -> tuple[list[str], list[str]]:
    """The words that are added and subtracted: "king - man + woman", with spaces around each sign.

    >>> terms("king - man + woman"), terms("well-known")
    ((['king', 'woman'], ['man']), (['well-known'], []))
    """
    begun = text.strip() if text.strip().startswith(("- ", "+ ")) else f"+ {text.strip()}"
    parts = re.split(r"(?:^|\s)([+-])\s", begun)
    signed = list(zip(parts[1::2], (word.strip() for word in parts[2::2]), strict=True))
    if not text.strip() or any(w[:2] in ("+ ", "- ") or w[-2:] in (" +", " -") for _, w in signed):
        raise BadInput(f"{shown(text)} is not a sum of words; write it as in 'king - man + woman'")
    return [w for sign, w in signed if sign == "+"], [w for sign, w in signed if sign == "-"]


@dataclass
class Section:
    """A section of a file of questions: how many were asked, answered right, and left out."""

    name: str
    asked: int = 0
    right: int = 0
    left_out: int = 0  # a word of them has no vector

    share = property(lambda self: self.right / self.asked if self.asked else 0.0)


def questions(vectors: Vectors, path: str | Path, most: int = 300_000) -> list[Section]:
    """Score a file of analogies by section; the last section is the total.

    Each line has four words, "Athens Greece Baghdad Iraq": the word nearest to Greece - Athens + Baghdad, of
    all but these three, should be Iraq. Lines that begin with ":" name sections. Letter case does not count,
    and a question with a word that is not among the `most` first is left out (Mikolov et al. 2013, "Efficient
    estimation"; gensim's `evaluate_word_analogies`).

    Raises BadInput if the file cannot be read, has no questions, or a line has another number of words.
    """
    words = [word.upper() for word in vectors.words[:most]]
    unit, rows_of = vectors.unit[:most], defaultdict(list)  # (N, E); words may differ in letter case alone
    for i, word in enumerate(words):
        rows_of[word].append(i)
    sections = []
    for n, line in _lines(path):
        if line.startswith(":"):
            sections.append(Section(line[1:].strip()))
            continue
        asked = line.upper().split()
        if len(asked) != 4:
            raise BadInput(
                f"{path}: line {n} has {len(asked)} words; a question has 4, and ':' begins a section's name"
            )
        if not sections:
            sections.append(Section("questions"))
        here, (*given, answer) = sections[-1], asked
        if not all(word in rows_of for word in asked):
            here.left_out += 1
            continue
        a, b, c = (unit[rows_of[word][0]] for word in given)
        cosines = unit @ (b - a + c)
        cosines[[i for word in given for i in rows_of[word]]] = -np.inf
        here.asked += 1
        here.right += words[np.argmax(cosines)] == answer
    if not any(s.asked + s.left_out for s in sections):
        raise BadInput(f"{path} has no questions; a line is four words, as in: Athens Greece Baghdad Iraq")
    sums = (sum(getattr(s, what) for s in sections) for what in ("asked", "right", "left_out"))
    return [*sections, Section("total", *sums)]


def _lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not empty, with their numbers."""
    if Path(path).is_dir():
        raise BadInput(f"{path} is a folder; give a file of questions")
    text = "".join("".join(pieces) for pieces in read_text(path).documents())
    return ((n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip())
