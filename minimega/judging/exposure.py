"""Does a model give away a secret of its training text? Exposure, by Carlini et al. 2019.

"The Secret Sharer", section 4: a secret is one of |R| equally plausible candidates. If the model's loss on it
is the k-th lowest of all, then

    exposure = log2 |R| - log2 k        (definition 4)

bits: guessing in the order of the model's losses saves that many bits over guessing blindly. A model that
never saw the secret gives about 1.4 bits on average; log2 |R| says that it is the model's first guess.

B candidates at once, T tokens, V vocabulary.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log2, prod
from typing import Any

import numpy as np

from minimega import random
from minimega.autograd import no_grad
from minimega.backend import library, to_numpy
from minimega.data.tokens import Tokenizer
from minimega.errors import BadInput, shown
from minimega.layer import place
from minimega.model import Model

SETS = ["0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
TOGETHER = 64


@dataclass(frozen=True)
class Secret:
    """A text in which some parts are secret. Each slot has its options, the true one first.

    >>> secret = Secret.parse("The code is [47].")
    >>> secret.text, secret.candidates, secret.candidate([9, 0])
    ('The code is 47.', 100, 'The code is 37.')
    >>> Secret.parse("Anna hid the [ring|key|map].").candidates
    3
    """

    parts: tuple[str, ...]  # the text around the slots, one part more than there are slots
    slots: tuple[tuple[str, ...], ...]

    @classmethod
    def parse(cls, text: str) -> "Secret":
        """Read a secret: the parts in square brackets are secret.

        In `[ring|key|map]` the options are named, the true one first. Otherwise each digit and each ASCII
        letter in the brackets stands for any digit or letter of its case, and the rest for itself. Raises
        BadInput for brackets that do not match, hold nothing to guess, or name an option twice.
        """
        pieces = re.split(r"\[([^\[\]]*)\]", text)
        if len(pieces) == 1 or any(c in "[]" for piece in pieces for c in piece):
            raise BadInput(f"{shown(text)} has no secret: put its secret part in brackets: 'code [4711]'")
        parts, slots = [pieces[0]], []
        for inside, after in zip(pieces[1::2], pieces[2::2], strict=True):
            before = len(slots)
            for options in cls._options(inside):
                if len(options) > 1:
                    slots.append(options)
                    parts.append("")
                else:
                    parts[-1] += options[0]
            if len(slots) == before:
                raise BadInput(
                    f"[{inside}] has nothing to guess: put digits, letters or a|b|c in the brackets"
                )
            if any(len(set(options)) < len(options) for options in slots):
                raise BadInput(f"[{inside}] names an option twice: name each once, the true one first")
            parts[-1] += after
        return cls(tuple(parts), tuple(slots))

    @staticmethod
    def _options(inside: str) -> Iterator[tuple[str, ...]]:
        if "|" in inside:
            yield tuple(inside.split("|"))
            return
        for c in inside:
            known = next((s for s in SETS if c in s), c)
            at = known.index(c)
            yield tuple(known[at:] + known[:at])

    @property
    def candidates(self) -> int:
        """|R|: how many texts there are."""
        return prod(map(len, self.slots))

    @property
    def text(self) -> str:
        """The text with the secret in it."""
        return self.candidate([0] * len(self.slots))

    def candidate(self, choice: Iterable[Any]) -> str:
        """The text with these options; zeros give the secret itself."""
        chosen = [options[i] for options, i in zip(self.slots, choice, strict=True)]
        return "".join(a + b for a, b in zip(self.parts, [*chosen, ""], strict=True))

    def others(self, most: int, seed: int = 0) -> Iterator[str]:
        """All other candidates if there are at most `most`, else `most` drawn ones (perhaps some twice)."""
        sizes = [len(options) for options in self.slots]
        if self.candidates - 1 <= most:
            for n in range(1, self.candidates):
                yield self.candidate(np.unravel_index(n, sizes))
            return
        for n, i in ((n, 0) for n in range(most)):
            choice = np.zeros(len(sizes), int)
            while not choice.any():  # the secret itself does not count as another candidate
                u = random.uniform(random.key(seed, "exposure"), n, i, np.arange(len(sizes)))
                choice, i = (u * sizes).astype(int), i + 1
            yield self.candidate(choice)


def exposure(
    model: Model, tokenizer: Tokenizer, secret: Secret, most: int = 10_000, seed: int = 0
) -> dict[str, float]:
    """How far the model's loss gives a secret away.

    Returns `exposure` (bits), `highest` (the most that it can be), `rank` of the secret among the `compared`
    candidates (equal losses before it), `candidates` (|R|), and `nats`, the loss of the secret.

    With more than `most` candidates, `most` are drawn: exposure is then -log2 of the share of candidates with
    an equal or lower loss (section 4.3), estimated: log2(most + 1) at most. Raises BadInput if the
    candidates are longer than the context, or have words that the vocabulary lacks.
    """
    if model.config.kind != "gpt":
        raise BadInput("an encoder-decoder says how likely a target is, not a text: ask a GPT for its secret")
    texts = [secret.text, *secret.others(most, seed)]
    rows = []
    for text in texts:
        if lacks := tokenizer.lacks(text):
            raise BadInput(
                f"the vocabulary has no {lacks[0]!r}, so the model cannot tell {shown(text)} from others: "
                f"name words that it knows, as in [ring|key|map]"
            )
        rows.append([tokenizer.start, *map(int, tokenizer.encode(text))])
    nats = losses(model, rows)
    rank = int((nats[1:] <= nats[0]).sum()) + 1
    return {
        "exposure": log2(len(texts)) - log2(rank),
        "highest": log2(len(texts)),
        "rank": rank,
        "compared": len(texts),
        "candidates": secret.candidates,
        "nats": float(nats[0]),
    }


def losses(model: Model, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """The loss in nats of each text, summed over its tokens after the first: float64, one per row of ids.

    Rows of equal length are batched together. Raises BadInput if a row has more tokens than the context.
    """
    xp = library(next(iter(model.parameters().values())).data)
    found = np.empty(len(rows))
    by_length: dict[int, list[int]] = {}
    for n, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(n)
    if max(by_length) - 1 > model.config.context:
        raise BadInput(
            f"a text of {max(by_length) - 1} tokens is longer than the context of {model.config.context}: "
            f"shorten the text"
        )
    for which in by_length.values():
        for first in range(0, len(which), TOGETHER):
            batch = which[first : first + TOGETHER]
            tokens = np.array([rows[n] for n in batch])  # (B, T + 1)
            inputs = xp.asarray(tokens[:, :-1])
            with no_grad():
                logits = to_numpy(model(inputs, place(inputs)).data).astype(np.float64)  # (B, T, V)
            top = logits.max(axis=-1, keepdims=True)
            logs = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]  # (B, T)
            picked = np.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
            found[batch] = (logs - picked).sum(axis=-1)
    return found
