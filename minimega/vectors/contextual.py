"""Contextual vectors: a model's hidden state at each token of a text (Peters et al. 2018).

N tokens of a text, D width. A word's vector in the embedding is always the same; its hidden state after a few
blocks depends on the words around it (in a causal model, on those before it).
"""

from collections.abc import Sequence

import numpy as np

from minimega.autograd import no_grad
from minimega.backend import library, to_numpy
from minimega.data.special import START
from minimega.errors import BadInput
from minimega.layer import Place
from minimega.model import Model
from minimega.precision import wide
from minimega.sample import window_start

POOLS = {
    "none": lambda rows: rows,
    "mean": lambda rows: rows.mean(axis=0),
    "last": lambda rows: rows[-1],
}


def hidden_states(model: Model, tokens, layer: int | None = None):
    """The hidden states of a window of tokens: (B, T) -> (B, T, D), on every rank that splits the layers.

    `layer` 0 is the embedding's output, n what block n returns; the last one (the default) has also passed
    the final norm and is what the head reads. Raises BadInput if there is no such layer, or the window is
    longer than the context.

    >>> from minimega import Config, gpt
    >>> model = gpt(Config(vocab_size=9, d_model=8, nhead=2)).draw(seed=0)
    >>> hidden_states(model, np.array([[0, 3, 5]])).shape
    (1, 3, 8)
    """
    last = model.config.num_layers
    layer = last if layer is None else layer
    if not 0 <= layer <= last:
        raise BadInput(f"there is no layer {layer}: choose 0 (the embedding) to {last} (the last block)")
    if tokens.shape[1] > model.config.context:
        raise BadInput(
            f"a window of {tokens.shape[1]} tokens is longer than the context {model.config.context}"
        )
    xp = library(tokens)
    x, at = tokens, Place(xp.arange(len(tokens)), xp.arange(tokens.shape[1]))
    names = ["embedding", *(f"block{i}" for i in range(layer)), *(["norm"] * (layer == last))]
    with no_grad():
        for name in names:
            if name in model.layers:
                x = model.layers[name](x, at)
    return x.data


def contextual(model: Model, texts: Sequence[np.ndarray], layer: int | None = None) -> list[np.ndarray]:
    """The hidden states of texts of any length: (N,) ids each -> (N, D) each, float32 or wider.

    A start token before each text gives its first token something to see; it has no row. A text longer than
    the context is read as generation reads it: in windows that overlap by half, each token in the first one
    that ends at it or later, so it sees at least half a context of tokens before it.

    >>> from minimega import Config, gpt
    >>> model = gpt(Config(vocab_size=9, d_model=8, nhead=2, context=4)).draw(seed=0)
    >>> [rows.shape for rows in contextual(model, [np.array([3, 5]), np.arange(1, 8)])]
    [(2, 8), (7, 8)]
    """
    xp = library(next(iter(model.parameters().values())).data)
    found: list = [None] * len(texts)
    lengths: dict[int, list[int]] = {}
    for i, ids in enumerate(texts):
        lengths.setdefault(len(ids), []).append(i)
    for length, which in lengths.items():  # texts of equal length are batched together
        for some in (which[k : k + 64] for k in range(0, len(which), 64)):
            rows = np.array([[START, *texts[i]] for i in some], np.int64).reshape(len(some), length + 1)
            states = _in_windows(model, xp.asarray(rows), layer)
            for i, state in zip(some, to_numpy(wide(states)), strict=True):
                found[i] = state[1:]
    return found


def _in_windows(model: Model, tokens, layer: int | None):
    xp, count, context = library(tokens), tokens.shape[1], model.config.context
    parts, done = [], 0
    while done < count:
        start = window_start(done + 1, context)
        end = min(start + context, count)
        parts.append(hidden_states(model, tokens[:, start:end], layer)[:, done - start :])
        done = end
    return xp.concatenate(parts, axis=1)
