"""The built-in texts, and a file of one's own.

A corpus is a row of documents, split into a part to learn from and a part held out. A document is a str, or
an iterator of str pieces where it comes from a file, so that a text may be larger than memory.

The tales are written by a grammar. Each choice in it is one of n options, equally likely, and shows in the
very next word, because no two options begin with the same word. So a perfect reader who knows the grammar
loses log n nats at that word and none elsewhere: the loss that no model can beat is known exactly.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log
from pathlib import Path

import numpy as np

from minimega import random
from minimega.errors import BadInput

WOMEN = "Anna|Amina|Clara|Greta|Ida|Julia|Mei|Nora|Olga|Priya|Rosa|Vera"
MEN = "Adam|Boris|David|Felix|Hugo|Jonas|Kofi|Leo|Omar|Peter|Ravi|Simon"
FORMS = {"she": ("she", "he"), "her": ("her", "him")}

# {rule}: an option of the rule. {role=rule}: the same, kept under the name of the role, and no option is kept
# twice. {role}: what was kept. {role=$other}: an option of the rule that is named by what `other` keeps.
# {she:role}: the pronoun of whoever has the role. A | stands between options.
GRAMMAR = {
    "tale": "{opening} {finder=person} {finding} a {look=look} {thing=$look} {where=where} the {spot=$where}."
    " {turn} {giving} {thanks} {ending}",
    "person": WOMEN + "|" + MEN,
    "opening": "Once, on a {sky} {hour},|Long ago, in the {season},|One {sky} {hour},"
    "|Many {season}s ago,|When the {bird} sang,",
    "sky": "windy|misty|rainy|frosty|sunny|stormy",
    "hour": "morning|afternoon|evening|night",
    "season": "spring|summer|autumn|winter",
    "bird": "lark|owl|robin|raven",
    "finding": "found|noticed|discovered|spotted|saw",
    "look": "silver|golden|rusty|wooden|tiny|broken|painted|shining|strange|dusty",
    "silver": "key|ring|bell|spoon|coin",
    "golden": "ring|coin|crown|feather|bell",
    "rusty": "key|sword|lantern|bell",
    "wooden": "flute|spoon|horse|box|drum",
    "tiny": "bell|box|mirror|flute|horse|book",
    "broken": "mirror|sword|lantern|drum|flute",
    "painted": "horse|box|drum|spoon|mirror",
    "shining": "sword|coin|crown|mirror|lantern",
    "strange": "map|book|feather|key|drum",
    "dusty": "book|map|lantern|crown",
    "where": "under|behind|beside|near|in",
    "under": "bridge|oak|bench|stairs",
    "behind": "mill|church|stable|tower|fountain",
    "beside": "river|well|road|pond",
    "near": "harbour|castle|market|waterfall",
    "in": "garden|forest|meadow|cave|barn",
    "turn": "It {lay} there all alone.|Nobody told {finder} whose it was.|{finder} {smiled} and took it."
    "|No {neighbour} of {finder} missed it.",
    "lay": "lay|slept|waited",
    "smiled": "smiled|laughed|wondered|whistled",
    "neighbour": "neighbour|friend|cousin|teacher",
    "giving": "Then {finder} {brought} it to {receiver=person}, the {trade=trade}."
    "|At {noon} {she:finder} gave it to {receiver=person}, the {trade=trade}."
    "|Soon {receiver=person}, the {trade=trade}, was given the {thing}.",
    "brought": "brought|carried|offered",
    "noon": "noon|dusk|dawn|midnight",
    "trade": "baker|fisher|farmer|tailor|gardener|potter|miller|weaver|carpenter|cook|shepherd|painter",
    "baker": "warm loaf",
    "fisher": "fresh trout",
    "farmer": "sweet apple",
    "tailor": "woollen coat",
    "gardener": "white rose",
    "potter": "blue bowl",
    "miller": "big cake",
    "weaver": "soft blanket",
    "carpenter": "good chair",
    "cook": "hot soup",
    "shepherd": "grey lamb",
    "painter": "lovely picture",
    "thanks": "The {trade} thanked {finder} with a {gift=$trade}."
    "|{receiver} was {glad} and gave {finder} a {gift=$trade}."
    "|Gladly the {trade} gave {her:finder} a {gift=$trade}.",
    "glad": "glad|happy|proud|amazed",
    "ending": "Years later, {receiver} still {told} how {finder} had found"
    " the {look} {thing} {where} the {spot}."
    "|Who found the {thing}? {finder} did. Who keeps it now? {receiver} does."
    "|Now {receiver} keeps the {look} {thing}, and {finder} often {dreams} of the {gift}."
    "|Children ask who gave {receiver} the {thing}. It was {finder}, who found it {where} the {spot}."
    "|So {finder} and {receiver} became {friends}, thanks to a {look} {thing} {where} the {spot}.",
    "told": "told|wrote|sang|recalled",
    "dreams": "dreams|thinks|talks",
    "friends": "friends|partners|allies",
}
# each option taken apart: text, slot, text, slot, ..., text
_RULES = {rule: [re.split(r"\{(.*?)\}", o) for o in options.split("|")] for rule, options in GRAMMAR.items()}
_NUMBERS = np.arange(40)  # more than any tale has choices
_WORD = re.compile(r" ?\w+|[^\w\s]")  # what the tokenizer `word` makes of a tale
BLOCK = 2**20
BUILT_IN = "tales", "pydoc"


def tell(numbers: Iterator[float]) -> tuple[str, list[tuple[int, int]]]:
    """Write one tale; each choice takes the next number in [0, 1).

    Gives the text, and for each choice the place of the character where it shows and the number of options.

    >>> text, choices = tell(iter([0.5] * 40))
    >>> text[:46], choices[:2]
    ('One frosty evening, Adam discovered a broken l', [(0, 5), (4, 6)])
    """
    text, kept, choices = "", {}, []

    def write(parts: list[str]) -> None:
        nonlocal text
        for i, part in enumerate(parts):
            role, _, rule = part.partition("=")
            form, _, who = part.partition(":")
            if i % 2 == 0:
                text += part
            elif who:
                text += FORMS[form][kept[who][0] in MEN.split("|")]
            elif role in kept:
                write(kept[role])
            else:
                rule = kept[rule[1:]][0] if rule.startswith("$") else rule or role
                options = [option for option in _RULES[rule] if option not in kept.values()]
                choices.append((len(text), len(options)))
                option = options[int(next(numbers) * len(options))]
                if "=" in part:
                    kept[role] = option
                write(option)

    write(_RULES["tale"][0])
    return text, choices


def surprises(text: str, choices: list[tuple[int, int]]) -> np.ndarray:
    """What a perfect reader loses at each word of a tale, and at its end: -log p in nats, (words + 1,).

    >>> surprises("Once it rained.", [(0, 4), (8, 2)]).round(2).tolist()
    [1.39, 0.0, 0.69, 0.0, 0.0]
    """
    ends = [word.end() for word in _WORD.finditer(text)]
    nats = np.zeros(len(ends) + 1)
    for place, options in choices:
        nats[np.searchsorted(ends, place, "right")] += log(options)
    return nats


@dataclass(frozen=True)
class Tales:
    """Tales first, first + 1, ... of the endless row that a seed gives; the held-out ones follow on them.

    >>> learned, held_out = Tales(count=200, seed=1).split()
    >>> len(list(learned.documents())), len(list(held_out.documents())), held_out.first
    (200, 10, 200)
    """

    count: int
    seed: int = 0
    first: int = 0

    def told(self) -> Iterator[tuple[str, list[tuple[int, int]]]]:
        """Each tale and its choices, as `tell` gives them."""
        for i in range(self.first, self.first + self.count):
            yield tell(iter(random.uniform(random.key(self.seed, "tales", i), _NUMBERS).tolist()))

    def documents(self) -> Iterator[str]:
        return (text for text, _ in self.told())

    def split(self, share: float = 0.05) -> tuple["Tales", "Tales"]:
        further = max(1, round(self.count * share))
        return self, replace(self, count=further, first=self.first + self.count)

    def floor(self) -> float:
        """The mean loss of a perfect reader over all words and ends: what no model can beat."""
        return float(np.concatenate([surprises(*tale) for tale in self.told()]).mean())


@dataclass(frozen=True)
class Document:
    """A text, or a file, from a place to a place: characters of a text, bytes of a file."""

    source: str | Path
    begin: int
    end: int

    def pieces(self) -> str | Iterator[str]:
        return self.source[self.begin : self.end] if isinstance(self.source, str) else _read(self)

    def line_end(self, at: int) -> int:
        """A place from `at` on to cut: after a line end inside, or else between two characters."""
        if isinstance(self.source, str):
            return self.source.find("\n", at, min(at + BLOCK, self.end - 1)) + 1 or at
        with open(self.source, "rb") as file:
            file.seek(at)
            block = file.read(min(BLOCK, self.end - at))
        first = next((i for i, byte in enumerate(block) if byte & 0xC0 != 0x80), len(block))  # in UTF-8
        return at + (block.find(b"\n", 0, self.end - 1 - at) + 1 or first)


@dataclass(frozen=True)
class Texts:
    """Documents that are there: the last share of their text is held out, from a line end on."""

    rows: tuple[Document, ...]

    def documents(self) -> Iterator[str | Iterator[str]]:
        return (document.pieces() for document in self.rows)

    def split(self, share: float = 0.05) -> tuple["Texts", "Texts"]:
        left = int(sum(d.end - d.begin for d in self.rows) * (1 - share))
        row = 0
        while left >= (length := self.rows[row].end - self.rows[row].begin) and row < len(self.rows) - 1:
            left, row = left - length, row + 1
        cut = self.rows[row]
        at = cut.line_end(cut.begin + left)
        rows = (*self.rows[:row], replace(cut, end=at)), (replace(cut, begin=at), *self.rows[row + 1 :])
        return tuple(Texts(tuple(d for d in part if d.begin < d.end)) for part in rows)

    def floor(self) -> None:
        """Nobody knows it."""


Corpus = Tales | Texts  # both: documents(), the same at each call; split() -> learned, held out; floor()


def pydoc() -> Texts:
    """The documentation that every Python carries: its topics, in the order of their names (700 kB)."""
    from pydoc_data.topics import topics

    return Texts(tuple(Document(topics[name], 0, len(topics[name])) for name in sorted(topics)))


def read(path: str | Path) -> Texts:
    """A UTF-8 file, or all in a folder and its folders, hidden ones left out, in the order of their names.

    Raises BadInput where it is missing or empty; and while it is read, where it is not UTF-8.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"there is no file or folder {path}. Built in are: tales, pydoc.")
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
                    raise BadInput(f"{file} is no text: byte {at + block.index(0)} is zero. {cure}")
                at += len(block)
                text = decoder.decode(block, final=at >= document.end)
                yield text.removeprefix("\ufeff") if at == len(block) else text  # a mark of some editors
    except UnicodeDecodeError as wrong:
        bad = at - len(wrong.object) + wrong.start
        raise BadInput(f"{file} is not UTF-8: byte {bad} fits no character. {cure}") from None
    except OSError as why:
        raise BadInput(f"{file} cannot be read: {why.strerror}.") from None


def open_corpus(name: str, seed: int = 0, tales: int = 12_000) -> Corpus:
    """The corpus of this name: `tales` (so many of them, from the seed), `pydoc`, or a path.

    >>> next(open_corpus("tales").documents())[:9]
    'When the '
    """
    if name == "tales":
        return Tales(tales, seed)
    return pydoc() if name == "pydoc" else read(name)


def bigram_floor(inputs: np.ndarray, targets: np.ndarray) -> float:
    """The lowest mean loss, in nats, that any bigram model can reach on these targets (below 0: not counted).

    It is the entropy of the next token given the present one, by their counts in this very text.

    >>> bigram_floor(np.array([1, 1, 2, 2]), np.array([2, 2, 1, 3])) == log(2) / 2
    True
    """
    inputs, targets = inputs[targets >= 0], targets[targets >= 0].astype(np.int64)
    pairs = np.unique(inputs * (targets.max() + 1) + targets, return_counts=True)[1]
    ones = np.unique(inputs, return_counts=True)[1]
    return float(((ones * np.log(ones)).sum() - (pairs * np.log(pairs)).sum()) / len(targets))
