"""How much wording a text has in common with the training text: its longest run of copied words, exactly.

The texts to judge are few, the training text may be larger than memory. So the index is built from the texts
(a suffix automaton, Blumer et al. 1985) and the training text is read once, word by word: time is linear in
both, memory in the texts alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from minimega.data.tokens import Documents
from minimega.judging.bootstrap import Figure, mean_of
from minimega.judging.words import WORD, streamed

LEAST = 13  # words: the run that counts as copied (Brown et al. 2020, appendix C)


@dataclass(frozen=True)
class Copied:
    """What one text has in common with the training text.

    `longest` is the length of its longest common run in words, and `run` that run as the text writes it;
    `share` is the share of its words that are in a common run of at least `least` words.
    """

    longest: int
    run: str
    share: float


class Automaton:
    """All runs of words of some texts. Its states are sets of runs that end at the same places.

    A state holds the runs of `lengths[links[s]] + 1` to `lengths[s]` words; the shorter suffixes of these are
    in the state `links[s]`, and so on to state 0, the empty run.
    """

    def __init__(self, texts: Sequence[Sequence[str]]):
        self.ids: dict[str, int] = {}
        self.lengths, self.links, self.steps = [0], [-1], [{}]
        self.ends: list[list[int]] = []  # the state of each text's run from its start to each of its words
        last = 0
        for n, text in enumerate(texts):
            last = self._extend(last, -1 - n)  # a mark that no text has: no run crosses it
            self.ends.append([])
            for word in text:
                last = self._extend(last, self.ids.setdefault(word, len(self.ids)))
                self.ends[-1].append(last)
        self.met = [0] * len(self.lengths)  # per state, the longest of its runs that was read

    def _extend(self, last: int, word: int) -> int:
        lengths, links, steps = self.lengths, self.links, self.steps
        new = self._state(lengths[last] + 1, 0, {})
        at = last
        while at >= 0 and word not in steps[at]:
            steps[at][word] = new
            at = links[at]
        if at < 0:
            return new
        old = steps[at][word]
        if lengths[old] != lengths[at] + 1:  # part of its runs now end here too: split it
            old, whole = self._state(lengths[at] + 1, links[old], dict(steps[old])), old
            links[whole] = old
            while at >= 0 and steps[at].get(word) == whole:
                steps[at][word] = old
                at = links[at]
        links[new] = old
        return new

    def _state(self, length: int, link: int, steps: dict[int, int]) -> int:
        self.lengths.append(length)
        self.links.append(link)
        self.steps.append(steps)
        return len(self.lengths) - 1

    def read(self, document: Iterable[Sequence[str]]) -> None:
        """Read a document of the training text, its words in lists: note each run that occurs in it."""
        get, steps, links, lengths, met = self.ids.get, self.steps, self.links, self.lengths, self.met
        at = length = 0  # the longest run that ends at the word just read
        for part in document:
            for text in part:
                word = get(text)
                while at and word not in steps[at]:
                    at = links[at]
                    length = lengths[at]
                if word in steps[at]:
                    at, length = steps[at][word], length + 1
                    if length > met[at]:
                        met[at] = length

    def matches(self) -> list[list[int]]:
        """Per text and word, the length of the longest run that ends there and was read."""
        met = list(self.met)
        order = sorted(range(1, len(met)), key=self.lengths.__getitem__)
        for state in reversed(order):  # a run that occurs has suffixes that occur
            if met[state]:
                met[self.links[state]] = self.lengths[self.links[state]]
        for state in order:  # a run that does not occur may have a suffix that does
            met[state] = met[state] or met[self.links[state]]
        return [[met[state] for state in states] for states in self.ends]


def copied(texts: Sequence[str], documents: Documents, least: int = LEAST) -> list[Copied]:
    """What each text has in common with the training text, whose documents may come in pieces.

    Upper and lower case, punctuation and marks count; white space does not.

    >>> copied(["Now the cat sat down."], ["A dog. The cat sat.", "See the cat sat on a mat"], least=3)
    [Copied(longest=3, run='the cat sat', share=0.5)]
    """
    spans = [[word.span() for word in WORD.finditer(text)] for text in texts]
    found = Automaton([[text[a:b] for a, b in row] for text, row in zip(texts, spans, strict=True)])
    for document in documents:
        found.read(streamed(document))
    return [
        _copied(text, row, lengths, least)
        for text, row, lengths in zip(texts, spans, found.matches(), strict=True)
    ]


def _copied(text: str, spans: list[tuple[int, int]], lengths: list[int], least: int) -> Copied:
    if not spans:
        return Copied(0, "", 0.0)
    longest = max(lengths)
    end = lengths.index(longest)
    begun = spans[end - longest + 1][0] if longest else spans[end][1]
    inside, reach = 0, len(spans)  # from the end: `reach` is the first word that some run covers already
    for n in reversed(range(len(spans))):
        if lengths[n] >= least:
            first = n - lengths[n] + 1
            inside += max(0, min(n + 1, reach) - first)
            reach = min(reach, first)
    return Copied(longest, text[begun : spans[end][1]], inside / len(spans))


def figures(found: Sequence[Copied]) -> dict[str, Figure]:
    """The means of `longest` and `share` over the texts, by the names of `minimega score`."""
    return {
        "copied_run": mean_of([one.longest for one in found]),
        "copied_share": mean_of([one.share for one in found]),
    }
