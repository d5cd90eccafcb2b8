"""Tales that a grammar writes, and the lowest loss that any model can have on them.

Each choice of a grammar has n equally likely options and shows in the very next token, because no two options
begin with the same token (a word, or a Chinese character). A perfect reader, who knows the grammar, therefore
loses log n nats at that token and nothing elsewhere: the lowest possible loss is known exactly.

A grammar is a dict of rules. A rule is its options, separated by |, and an option is text with slots:

    {rule}             an option of the rule
    {role=rule}        the same, stored under the role; no option is stored twice
    {role}             the stored option
    {role=$other}      an option of the rule whose name is stored under `other`
    {role=$other+x}    the same for the name with "+x" at its end: one stored option chooses several rules
    {form:role}        a form (as a pronoun) that fits the person stored under the role
"""

import re
from collections.abc import Collection, Iterator
from itertools import chain, repeat
from math import log

import numpy as np

from minimega.data.tokens import WORD


class Grammar:
    """The rules of one language's tales, which begin at the rule "tale".

    `forms` has, for each form, that of a woman and that of a man; `men` lists the options that are men.

    >>> g = Grammar("demo", {"tale": "{who=person} {did}.", "person": "Ann|Bob", "did": "ran|sang|slept"})
    >>> g.tell(iter([0.9, 0.5]))
    ('Bob sang.', [(0, 2), (4, 3)])
    """

    def __init__(
        self,
        name: str,
        rules: dict[str, str],
        forms: dict[str, tuple[str, str]] | None = None,
        men: Collection[str] = (),
    ):
        self.name, self.forms, self.men = name, forms or {}, frozenset(men)
        # each option split into text, slot, text, slot, ..., text
        self.rules = {
            rule: [re.split(r"\{(.*?)\}", o) for o in options.split("|")] for rule, options in rules.items()
        }

    def tell(self, numbers: Iterator[float]) -> tuple[str, list[tuple[int, int]]]:
        """Write one tale; each choice takes the next number in [0, 1).

        Returns the text and, per choice, the index of the character where it shows and the number of options.
        """
        return self.write("tale", numbers)[:2]

    def write(
        self, rule: str, numbers: Iterator[float], facts: dict[str, str] | None = None
    ) -> tuple[str, list[tuple[int, int]], dict[str, str]]:
        """Write an option of a rule: the text, its choices (see `tell`), and the facts that are stored.

        `facts` are those that are stored before: role -> option.

        >>> g = Grammar("demo", {"ask": "Did {who} {what=did}?", "did": "run|sleep"})
        >>> g.write("ask", iter([0.9]), {"who": "Ann"})
        ('Did Ann sleep?', [(8, 2)], {'who': 'Ann', 'what': 'sleep'})
        """
        text, choices = "", []
        kept: dict[str, list[str]] = {role: [option] for role, option in (facts or {}).items()}

        def choose(rule: str) -> list[str]:
            options = [option for option in self.rules[rule] if option not in kept.values()]
            choices.append((len(text), len(options)))
            return options[int(next(numbers) * len(options))]

        def put(parts: list[str]) -> None:
            nonlocal text
            for i, part in enumerate(parts):
                role, _, rule = part.partition("=")
                form, _, who = part.partition(":")
                if i % 2 == 0:
                    text += part
                elif who:
                    text += self.forms[form][kept[who][0] in self.men]
                elif role in kept:
                    put(kept[role])
                else:
                    other, plus, more = rule.partition("+")
                    option = choose(
                        kept[other[1:]][0] + plus + more if rule.startswith("$") else rule or role
                    )
                    if "=" in part:
                        kept[role] = option
                    put(option)

        put(choose(rule) if len(self.rules[rule]) > 1 else self.rules[rule][0])
        return text, choices, {role: option[0] for role, option in kept.items()}

    def first_error(self, text: str) -> int | None:
        """The index of the first character after which no tale goes on as this text does; None: it is a tale.

        >>> g = Grammar("demo", {"tale": "{who=person} {did}.", "person": "Ann|Bob", "did": "ran|sang|slept"})
        >>> g.first_error("Bob sang."), g.first_error("Bob sings."), g.first_error("Bob")
        (None, 5, 3)
        """
        numbers, far = [], 0
        while True:
            told, choices = self.tell(chain(numbers, repeat(0.0)))
            far = max(far, _common(told, text))
            if len(numbers) == len(choices):
                return None if told == text else far
            options = choices[len(numbers)][1]
            for i in range(options):
                tried = [*numbers, (i + 0.5) / options]
                told, choices = self.tell(chain(tried, repeat(0.0)))
                end = choices[len(tried)][0] if len(tried) < len(choices) else len(told)
                far = max(far, _common(told[:end], text))
                if told[:end] == text[:end]:
                    numbers = tried
                    break
            else:
                return far

    def fillings(self, before: str, after: str) -> dict[str, float]:
        """The tokens that can stand between two parts of a tale, each with its probability given both.

        This is what the best reader of both sides knows. Empty if no tale has these parts.

        >>> g = Grammar("demo", {"tale": "{who=person} {did}. {who}!", "person": "Ann|Bob", "did": "ran|sat"})
        >>> g.fillings("", " ran. Bob!"), g.fillings("Bob", ". Bob!")
        ({'Bob': 1.0}, {' ran': 0.5, ' sat': 0.5})
        """
        found: dict[str, float] = {}

        def go_on(todo, text: str, kept: dict, p: float) -> None:
            while todo:
                (slot, part), todo = todo
                role, _, rule = part.partition("=")
                form, _, who = part.partition(":")
                if not slot:
                    text += part
                elif who:
                    text += self.forms[form][kept[who][0] in self.men]
                elif role in kept:
                    todo = _followed(kept[role], todo)
                else:
                    other, plus, more = rule.partition("+")
                    rule = kept[other[1:]][0] + plus + more if rule.startswith("$") else rule or role
                    options = [option for option in self.rules[rule] if option not in kept.values()]
                    for option in options:
                        known = kept | {role: option} if "=" in part else kept
                        go_on(_followed(option, todo), text, known, p / len(options))
                    return
                if not _fits(text, before, after):
                    return
            word = WORD.match(text, len(before))
            if word and text == before + word[0] + after:
                found[word[0]] = found.get(word[0], 0.0) + p

        go_on(_followed(self.rules["tale"][0], None), "", {}, 1.0)
        total = sum(found.values())
        return {word: p / total for word, p in found.items()}


def _followed(parts: list[str], rest):
    """The parts of an option as a chain of ((is it a slot, part), what follows), then the rest."""
    for i in reversed(range(len(parts))):
        rest = (i % 2, parts[i]), rest
    return rest


def _fits(text: str, before: str, after: str) -> bool:
    """Whether the beginning of a tale can have these parts with one token between them."""
    if not text.startswith(before):
        return before.startswith(text)
    word = WORD.match(text, len(before))
    return word is None or word.end() == len(text) or after.startswith(text[word.end() :])


def _common(a: str, b: str) -> int:
    """The length of the longest beginning of both texts."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def surprises(text: str, choices: list[tuple[int, int]]) -> np.ndarray:
    """A perfect reader's loss at each word of a tale and at its end: -log p in nats, (words + 1,).

    Words are those of the tokenizer "word": in Chinese, characters.

    >>> surprises("Once it rained.", [(0, 4), (8, 2)]).round(2).tolist()
    [1.39, 0.0, 0.69, 0.0, 0.0]
    """
    ends = [word.end() for word in WORD.finditer(text)]
    nats = np.zeros(len(ends) + 1)
    for place, options in choices:
        nats[np.searchsorted(ends, place, "right")] += log(options)
    return nats
