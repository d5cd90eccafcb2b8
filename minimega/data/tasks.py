"""Tasks about tales, written by the tales' own grammar: questions, reports of records in a style, summaries.

The grammar that writes a tale knows its facts: who found what, where, who received it, the receiver's trade,
the gift. So every answer can be checked exactly. A task is a pair of prompt and completion (see chat.py).
"""

import re

import numpy as np

from minimega import random
from minimega.data.grammar import Grammar
from minimega.data.tales_en import ENGLISH
from minimega.data.tales_en import GRAMMAR as TALES

# Each question has one answer and some phrasings, mostly in words that the tales have too.
QUESTIONS = {
    "finder": "Who found the {thing}?|Who found it?|Who was it found by?",
    "thing": "What was found?|What was {where} the {spot}?|What was it?",
    "spot": "Where was the {thing}?|Where was it found?|Where was it?",
    "receiver": "Who keeps the {thing} now?|Who keeps it now?|Who was given it?",
    "trade": "Who was {receiver}?|What was {receiver}?|{receiver} was the ...?",
    "gift": "What was {finder} given?|What did {finder} take for it?|What was {finder} thanked with?",
}
ANSWERS = {
    "finder": "{finder} found it.",
    "thing": "It was a {look} {thing}.",
    "spot": "It was {where} the {spot}.",
    "receiver": "{receiver} keeps it.",
    "trade": "{receiver} was the {trade}.",
    "gift": "A {gift}.",
}
STYLES = {
    "plain": "{finder} found a {look} {thing} {where} the {spot}. {receiver} the {trade} received it."
    " {finder} received a {gift}.",
    "news": "News: a {look} {thing} was found {where} the {spot} by {finder}."
    " It went to {receiver}, a {trade}, for a {gift}.",
    "letter": "Dear {receiver}, I found your {look} {thing} {where} the {spot}."
    " A {gift} from a {trade} is fair. Yours, {finder}",
    "song": "Sing of {finder}, sing of {receiver}, of the {look} {thing} {where} the {spot},"
    " of a {gift} that the {trade} had got.",
}
SUMMARY = "{finder} found a {look} {thing} {where} the {spot} and gave it to {receiver} for a {gift}."
FACTS = "finder", "look", "thing", "where", "spot", "receiver", "trade", "gift"
# What the questions are about: a tale without the sentences that say a fact twice.
SHORT = (
    "{opening} {finder=person} {finding} a {look=look} {thing=$look} {where=where} the {spot=$where}."
    " {giving} {thanks}"
)
_TASKS = {f"ask {name}": text for name, text in QUESTIONS.items()}
_TASKS |= {f"answer {name}": text for name, text in ANSWERS.items()}
GRAMMAR = Grammar(
    "tasks", {**TALES, **_TASKS, **STYLES, "short": SHORT, "summary": SUMMARY}, ENGLISH.forms, ENGLISH.men
)
_NUMBERS = np.arange(40)


def _numbers(seed: int, what: str, number: int) -> list[float]:
    return random.uniform(random.key(seed, what, number), _NUMBERS).tolist()


def short_tale(number: int, seed: int = 0) -> tuple[str, dict[str, str]]:
    """A tale of three sentences, and its facts.

    >>> text, facts = short_tale(0)
    >>> facts["finder"] in text, sorted(facts) == sorted(FACTS)
    (True, True)
    """
    text, _, facts = GRAMMAR.write("short", iter(_numbers(seed, "short", number)))
    return text, facts


def questions(number: int, seed: int = 0) -> list[tuple[str, str]]:
    """A question about each fact of a short tale, in a drawn order and drawn phrasings, and its answer.

    >>> [answer for question, answer in questions(0)][:2]
    ['Ida was the painter.', 'It was behind the stable.']
    """
    facts, drawn = short_tale(number, seed)[1], _numbers(seed, "questions", number)
    order = sorted(QUESTIONS, key=lambda name: drawn[20 + list(QUESTIONS).index(name)])
    found = []
    for n, name in enumerate(order):
        question = GRAMMAR.write(f"ask {name}", iter(drawn[n:]), facts)[0]
        found.append((question, GRAMMAR.write(f"answer {name}", iter(()), facts)[0]))
    return found


def dialogue(number: int, seed: int = 0, turns: int = 3) -> list[tuple[str, str]]:
    """A dialogue about a short tale: the tale with a question, its answer, further questions and answers.

    >>> [role for role, content in dialogue(0, turns=2)]
    ['user', 'assistant', 'user', 'assistant']
    """
    found, text = [], f"{short_tale(number, seed)[0]} "
    for question, answer in questions(number, seed)[:turns]:
        found += ("user", text + question), ("assistant", answer)
        text = ""
    return found


def style(number: int, seed: int = 0) -> str:
    """The style in which the report of a record is wanted."""
    return list(STYLES)[int(_numbers(seed, "style", number)[0] * len(STYLES))]


def record(number: int, seed: int = 0) -> tuple[str, str]:
    """The style of the report that is wanted, with a short tale's facts; and the report.

    >>> [text[:31] for text in record(0)]
    ['song finder: Vera look: painted', 'Sing of Vera, sing of Ida, of t']
    """
    facts, wanted = short_tale(number, seed)[1], style(number, seed)
    known = " ".join(f"{name}: {facts[name]}" for name in FACTS)
    return f"{wanted} {known}", GRAMMAR.write(wanted, iter(()), facts)[0]


def summary(number: int, seed: int = 0) -> tuple[str, str]:
    """A whole tale, and one sentence that says its facts.

    >>> summary(0)[1][:25]
    'Mei found a painted mirro'
    """
    text, _, facts = GRAMMAR.write("tale", iter(_numbers(seed, ENGLISH.name, number)))
    return text, GRAMMAR.write("summary", iter(()), facts)[0]


def read(style: str, report: str) -> dict[str, str]:
    """The facts that a report states, if it has this style; {} if it has not.

    >>> read("song", record(0)[1])["finder"], read("news", record(0)[1])
    ('Vera', {})
    """
    parts = GRAMMAR.rules[style][0]
    pattern, seen = "", set()
    for n, part in enumerate(parts):
        if n % 2 == 0:
            pattern += re.escape(part)
        else:
            pattern += f"(?P={part})" if part in seen else f"(?P<{part}>[\\w ]+?)"
            seen.add(part)
    found = re.fullmatch(pattern, report)
    return found.groupdict() if found else {}
