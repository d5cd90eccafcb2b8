"""BERT's objective: some tokens are hidden, and a model that sees both sides predicts them.

B batch, T time, N tokens of a text.
"""

from dataclasses import dataclass

import numpy as np

from minimega import random
from minimega.data.augment import spans
from minimega.data.tokens import START, Tokenizer
from minimega.errors import BadInput

MASK, GAP = "<mask>", "[MASK]"  # the special token; how a person writes a gap
CHOSEN, HIDDEN, REPLACED = 0.15, 0.8, 0.1  # the rest of the chosen tokens stay as they are


@dataclass(frozen=True)
class Masking:
    """Hides tokens of a batch and makes them its targets (Devlin et al. 2018, section 3.1).

    Each token is chosen with probability `share`, or is in a span (`spans`: see augment.py). Of the chosen
    ones 80% become the mask token, 10% another token at random, and 10% stay, so that the model cannot
    trust what it sees. Start tokens are never chosen; of each window at least one other token is.

    >>> from minimega.data.tokens import train
    >>> masking = masking_for(train("char", ["abcdefgh"], specials=["<mask>"]))
    >>> ids = np.array([[0, 3, 4, 5, 6, 7, 8, 9, 10]])
    >>> inputs, targets = masking(ids[:, :-1], ids[:, 1:], key=2, which=[0])
    >>> inputs.tolist(), targets.tolist()
    ([[0, 3, 4, 5, 6, 2, 8, 9]], [[-1, -1, -1, -1, -1, 7, -1, -1]])
    """

    mask: int  # the id of the mask token
    ordinary: np.ndarray  # the ids that a chosen token may become
    share: float = CHOSEN
    spans: bool = False

    def __call__(self, inputs, targets, key: int, which) -> tuple[np.ndarray, np.ndarray]:
        """The inputs (B, T) with tokens hidden, and the targets (B, T): the chosen tokens, elsewhere -1.

        `inputs` and `targets` are those of `Windows.take(which)`, which say what counts in these windows. So
        each token of the text may be chosen in exactly one window of an epoch.
        """
        places = np.asarray(which)[:, None], np.arange(inputs.shape[1])

        def draw(name: str) -> np.ndarray:
            return random.uniform(random.key(key, name), *places)  # (B, T)

        # A token belongs to the window in which the token after it counts: there is exactly one.
        counted = (targets >= 0) & (inputs != START)
        u = np.where(counted, draw("masked"), 2)
        chosen = spans(self.share, key, which, inputs.shape[1]) if self.spans else u < self.share
        chosen &= counted
        chosen |= (u == u.min(axis=-1, keepdims=True)) & counted & ~chosen.any(axis=-1, keepdims=True)
        how = draw("hidden")
        other = self.ordinary[(draw("replaced") * len(self.ordinary)).astype(np.int64)]
        seen = np.where(how < HIDDEN, self.mask, np.where(how < HIDDEN + REPLACED, other, inputs))
        return np.where(chosen, seen, inputs), np.where(chosen, inputs, -1)


def masking_for(tokenizer: Tokenizer, share: float = CHOSEN, spans: bool = False) -> Masking:
    """The masking of a tokenizer's ids. Raises BadInput if it has no mask token."""
    ordinary = np.setdiff1d(np.arange(tokenizer.size), tokenizer.special_ids)
    return Masking(tokenizer.special(MASK), ordinary, share, spans)


def around_gaps(text: str, tokenizer: Tokenizer) -> list[str]:
    """The parts of a text before, between and after its gaps, each gap written [MASK].

    A space before a gap belongs to the missing token, unless each character is a token. Raises BadInput if
    there is no gap.
    """
    *parts, last = text.split(GAP)
    if not parts:
        raise BadInput(f"the text has no gap: write {GAP} where a word is missing")
    return [*(part if tokenizer.kind == "char" else part.removesuffix(" ") for part in parts), last]


def with_gaps(text: str, tokenizer: Tokenizer) -> np.ndarray:
    """The ids of a text (N,), with the mask token at each [MASK]. Raises BadInput if there is no gap.

    >>> from minimega.data.tokens import train
    >>> with_gaps("a [MASK] c", train("word", ["a b c"], specials=["<mask>"])).tolist()
    [5, 2, 4]
    """
    first, *rest = (tokenizer.encode(part) for part in around_gaps(text, tokenizer))
    mask = np.array([tokenizer.special(MASK)])
    return np.concatenate([first, *(ids for part in rest for ids in (mask, part))])
