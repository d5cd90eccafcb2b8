"""Augmentation: hides some input tokens in training. Targets stay the same: the model still predicts them.

What is hidden depends only on the key (the seed and the step), the number of the window and the position in
it. Start tokens and the special tokens of a task are never hidden.

B batch, T time.
"""

from collections.abc import Iterable

import numpy as np

from minimega import random
from minimega.data.tokens import START, UNKNOWN

LONGEST, ENDS = 10, 0.2  # SpanBERT: a span ends after each token with probability 0.2, and after 10 at most


def word_dropout(inputs, p: float, key: int, which, fixed: Iterable[int] = ()) -> np.ndarray:
    """Inputs (B, T) of the windows `which` (B,), each token the unknown one with probability p.

    A model that cannot rely on the word just before learns to use the others (Iyyer et al. 2015, section 3.1;
    Bowman et al. 2016, section 3.1). `fixed` ids stay, as start tokens do.

    >>> word_dropout(np.array([[0, 5, 6, 7, 8, 9]]), 0.5, key=1, which=[0]).tolist()
    [[0, 1, 1, 7, 8, 9]]
    """
    places = np.asarray(which)[:, None], np.arange(inputs.shape[1])
    return hidden(inputs, random.uniform(random.key(key, "word dropout"), *places) < p, fixed)


def span_mask(inputs, p: float, key: int, which, fixed: Iterable[int] = ()) -> np.ndarray:
    """Inputs (B, T) of the windows `which` (B,) with whole spans unknown, a share p of all tokens.

    >>> span_mask(np.array([[0, 5, 6, 7, 8, 9]]), 0.3, key=4, which=[0]).tolist()
    [[0, 1, 1, 1, 8, 9]]
    """
    return hidden(inputs, spans(p, key, which, inputs.shape[1]), fixed)


def hidden(inputs, where, fixed: Iterable[int] = ()) -> np.ndarray:
    """Inputs (B, T) with the unknown token where `where` (B, T) says, except at start tokens and `fixed`."""
    return np.where(where & ~np.isin(inputs, [START, *fixed]), UNKNOWN, inputs)


def spans(p: float, key: int, which, length: int) -> np.ndarray:
    """Which tokens are in a span: bool (B, T), each True with probability p.

    Lengths are geometric, 3.8 tokens on average and at most 10 (Joshi et al. 2019, section 3.1). Spans may
    begin anywhere, so they may overlap, and one may begin before the window.
    """
    before = LONGEST - 1
    places = np.asarray(which)[:, None], np.arange(length + before)
    begins = random.uniform(random.key(key, "spans"), *places) < _rate(p)
    # the inverse of P(n tokens or fewer) = (1 - 0.8^n) / (1 - 0.8^10)
    u = random.uniform(random.key(key, "lengths"), *places) * (1 - (1 - ENDS) ** LONGEST)
    lengths = np.ceil(np.log1p(-u) / np.log1p(-ENDS))  # 0 if u is 0
    inside = np.zeros((len(begins), length), bool)
    for n in range(LONGEST):  # spans that began n tokens earlier
        here = slice(before - n, before - n + length)
        inside |= begins[:, here] & (np.maximum(lengths[:, here], 1) > n)
    return inside


def _rate(p: float) -> float:
    """The probability that a span begins at a token, such that a token is in one with probability p."""
    longer = ((1 - ENDS) ** np.arange(LONGEST) - (1 - ENDS) ** LONGEST) / (1 - (1 - ENDS) ** LONGEST)
    low, high = 0.0, 1.0
    for _ in range(60):  # 1 - p = prod over n of (1 - rate P(longer than n)), which falls with the rate
        middle = (low + high) / 2
        low, high = (middle, high) if np.prod(1 - middle * longer) > 1 - p else (low, middle)
    return low
