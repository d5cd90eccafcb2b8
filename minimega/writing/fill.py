"""Filling the gaps of a text with a masked model.

M gaps, N tokens, V vocabulary.
"""

import numpy as np

from minimega.autograd import no_grad
from minimega.backend import library, to_numpy
from minimega.errors import BadInput
from minimega.model import Model


def fill(model: Model, tokens, mask: int, top: int = 5, never: tuple[int, ...] = ()) -> tuple:
    """The most likely tokens for each gap of a text: tokens (N,) -> ids (M, top), probabilities (M, top).

    A gap is a token `mask`, M of them; each is filled independently. Tokens in `never` are left out. Raises
    BadInput if the model is causal, or the text is longer than its context.

    >>> from minimega import Config, gpt
    >>> model = gpt(Config(vocab_size=9, d_model=8, nhead=2, causal=False)).draw(seed=0)
    >>> ids, p = fill(model, np.array([0, 3, 2, 2, 5]), mask=2, top=3)
    >>> ids.shape, bool((p[:, 0] >= p[:, 1]).all())
    ((2, 3), True)
    """
    if model.config.causal:
        raise BadInput("this model sees only what precedes each token, so it cannot fill a gap")
    xp = library(next(iter(model.parameters().values())).data)
    tokens = np.asarray(tokens)
    with no_grad():
        logits = to_numpy(model(xp.asarray(tokens[None])).data)[0, tokens == mask].astype(np.float64)
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))  # (M, V)
    p /= p.sum(axis=-1, keepdims=True)
    p[:, list(never)] = -1
    ids = np.argsort(-p, axis=-1, kind="stable")[:, : min(top, p.shape[1] - len(never))]
    return ids, np.take_along_axis(p, ids, axis=-1)
