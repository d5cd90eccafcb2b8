"""Corpora: the built-in tales, and `open_corpus` for all (documents.py: Python's documentation, files).

A corpus is a list of documents, split into a training part and a held-out part. A document is a str, or, if
it comes from a file, an iterator of str pieces.

A grammar writes the tales. Each of its choices has n equally likely options and shows in the very next word,
because no two options begin with the same word. A perfect reader, who knows the grammar, therefore loses
log n nats at that word and nothing elsewhere: the lowest possible loss is known exactly.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log

import numpy as np

from minimega import random
from minimega.data.documents import Texts, pydoc, read

WOMEN = "Anna|Amina|Clara|Greta|Ida|Julia|Mei|Nora|Olga|Priya|Rosa|Vera"
MEN = "Adam|Boris|David|Felix|Hugo|Jonas|Kofi|Leo|Omar|Peter|Ravi|Simon"
FORMS = {"she": ("she", "he"), "her": ("her", "him")}

# {rule}: an option of the rule. {role=rule}: the same, stored under the role; no option is stored twice.
# {role}: the stored option. {role=$other}: an option of the rule whose name is stored under `other`.
# {she:role}: the pronoun for the person stored under the role. A | separates options.
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
# each option split into text, slot, text, slot, ..., text
_RULES = {rule: [re.split(r"\{(.*?)\}", o) for o in options.split("|")] for rule, options in GRAMMAR.items()}
_NUMBERS = np.arange(40)  # more than any tale has choices
_WORD = re.compile(r" ?\w+|[^\w\s]")  # the tokens of the tokenizer "word" in a tale
BUILT_IN = "tales", "pydoc"


def tell(numbers: Iterator[float]) -> tuple[str, list[tuple[int, int]]]:
    """Write one tale; each choice takes the next number in [0, 1).

    Returns the text and, per choice, the index of the character where it shows and the number of options.

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
    """A perfect reader's loss at each word of a tale and at its end: -log p in nats, (words + 1,).

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
    """`count` tales from number `first` on, of the endless sequence of a seed; the held-out ones come next.

    >>> learned, held_out = Tales(count=200, seed=1).split()
    >>> len(list(learned.documents())), len(list(held_out.documents())), held_out.first
    (200, 10, 200)
    """

    count: int
    seed: int = 0
    first: int = 0

    def told(self) -> Iterator[tuple[str, list[tuple[int, int]]]]:
        """Each tale and its choices, as `tell` returns them."""
        for i in range(self.first, self.first + self.count):
            yield tell(iter(random.uniform(random.key(self.seed, "tales", i), _NUMBERS).tolist()))

    def documents(self) -> Iterator[str]:
        """The texts of the tales."""
        return (text for text, _ in self.told())

    def split(self, share: float = 0.05) -> tuple["Tales", "Tales"]:
        """All of these to train on, and `share` times as many further tales (at least 1), held out."""
        further = max(1, round(self.count * share))
        return self, replace(self, count=further, first=self.first + self.count)

    def floor(self) -> float:
        """The lowest possible loss in nats per token: a perfect reader's mean over all words and ends."""
        return float(np.concatenate([surprises(*tale) for tale in self.told()]).mean())


Corpus = Tales | Texts  # both: documents(), the same at each call; split() -> training, held out; floor()


def open_corpus(name: str, seed: int = 0, tales: int = 12_000) -> Corpus:
    """Open a corpus: "tales" (`tales` of them, drawn from the seed), "pydoc", or a file or folder.

    Raises BadInput if the path is missing or empty.

    >>> learned, held_out = open_corpus("tales", tales=200).split()
    >>> next(learned.documents())[:9], len(list(held_out.documents()))
    ('When the ', 10)
    """
    if name == "tales":
        return Tales(tales, seed)
    return pydoc() if name == "pydoc" else read(name)


def bigram_floor(inputs: np.ndarray, targets: np.ndarray) -> float:
    """The lowest loss of any bigram model on these targets, in nats per token (targets below 0: not counted).

    It is the entropy of the next token given the current one, from their counts in this text.

    >>> bigram_floor(np.array([1, 1, 2, 2]), np.array([2, 2, 1, 3])) == log(2) / 2
    True
    """
    inputs, targets = inputs[targets >= 0], targets[targets >= 0].astype(np.int64)
    pairs = np.unique(inputs * (targets.max() + 1) + targets, return_counts=True)[1]
    ones = np.unique(inputs, return_counts=True)[1]
    return float(((ones * np.log(ones)).sum() - (pairs * np.log(pairs)).sum()) / len(targets))
