"""Generation: one token at a time, with a cache of the keys and values of earlier tokens.

B texts, N tokens so far, T window, V vocabulary, H heads, C width of a head.
"""

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from minimega import random
from minimega.autograd import no_grad
from minimega.backend import library, to_numpy
from minimega.errors import BadInput
from minimega.kernels import replaceable
from minimega.layer import Place
from minimega.model import Config, Model


def window_start(count: int, context: int) -> int:
    """The index of the first token in the window that ends at the last of `count` tokens.

    While all tokens fit, it is 0. A full window slides by half its length at once. A slide moves every token
    to another position, which changes its keys and values, so each slide must refill the cache; one slide
    per half window costs little.

    >>> [window_start(n, 4) for n in range(1, 10)]
    [0, 0, 0, 0, 2, 2, 4, 4, 6]
    """
    jump = context - context // 2
    return 0 if count <= context else -(-(count - context) // jump) * jump


class Cache:
    """The keys and values of the tokens so far, by layer: (B, H, up to `context`, C), written in place."""

    def __init__(self, context: int):
        self.context, self.kept = context, {}

    def recall(self, layer: str, k, v):
        """Append keys and values (B, H, new, C); returns all of the layer's, as views (B, H, so far, C)."""
        if layer not in self.kept:
            room = (*k.shape[:2], self.context, k.shape[-1])
            self.kept[layer] = [0, library(k).empty(room, k.dtype), library(v).empty(room, v.dtype)]
        start, keys, values = self.kept[layer]
        end = self.kept[layer][0] = start + k.shape[2]
        keys[:, :, start:end], values[:, :, start:end] = k, v
        return keys[:, :, :end], values[:, :, :end]

    def take(self, rows) -> None:
        """Continue other texts: row i is what row `rows[i]` was."""
        self.kept = {layer: [end, k[rows], v[rows]] for layer, (end, k, v) in self.kept.items()}


def last_logits(model: Model, tokens, cache: Cache | None = None, seen: int = 0):
    """The logits (B, V) after the tokens (B, N); with a cache, the first `seen` tokens are not run again."""
    xp, context = library(tokens), model.config.context
    start = window_start(tokens.shape[1], context)
    window = tokens[:, max(start, seen) :]
    positions = xp.arange(max(start, seen) - start, tokens.shape[1] - start)
    at = Place(xp.arange(len(tokens)), positions, tokens=tokens[:, start:])
    if cache is not None:
        at = replace(at, recall=cache.recall)
    with no_grad():
        return model(window, at).data[:, -1]


def check_causal(config: Config) -> None:
    """Raise BadInput if a model of this configuration cannot continue a text."""
    if not config.causal:
        raise BadInput("this model saw both sides of each token in training, so it cannot continue a text")


def next_logits(model: Model, tokens, cached: bool = True) -> Generator[Any, Any, None]:
    """Yields the logits (B, V) after the tokens (B, N); send the next tokens (B,) for the next logits.

    Send (tokens, rows) to continue other texts: text i is then text `rows[i]` so far, and its next token.
    """
    check_causal(model.config)
    seen, start, cache = 0, 0, Cache(model.config.context)
    while True:
        moved = window_start(tokens.shape[1], model.config.context)
        if moved != start:
            seen, start, cache = 0, moved, Cache(model.config.context)
        chosen = yield last_logits(model, tokens, cache, seen) if cached else last_logits(model, tokens)
        seen = tokens.shape[1]
        if isinstance(chosen, tuple):
            chosen, rows = chosen
            tokens = tokens[rows]
            cache.take(rows)
        tokens = library(tokens).concatenate((tokens, chosen[:, None]), axis=1)


@replaceable
def choose(logits, uniform, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    """Choose one token per row of logits (B, V) with one number in [0, 1) per row: returns (B,) ids.

    The logits are divided by the temperature (0: take the most likely token). `top_k` keeps the k most likely
    tokens (0: all; Fan et al. 2018), `top_p` the smallest set of most likely tokens with a total probability
    of at least p (Holtzman et al. 2019, section 3.1). The number picks a token from the cumulative
    distribution, most likely tokens first.

    >>> choose(np.log([[0.2, 0.7, 0.1]]), uniform=[0.75]).tolist()
    [0]
    >>> choose(np.log([[0.2, 0.7, 0.1]]), uniform=[0.75], temperature=0).tolist()
    [1]
    """
    logits = to_numpy(logits).astype(np.float64)
    if temperature == 0:
        return logits.argmax(axis=-1)
    order = np.argsort(-logits, axis=-1, kind="stable")  # (B, V)
    ranked = np.take_along_axis(logits, order, axis=-1)
    with np.errstate(over="ignore"):  # a tiny temperature gives exp(-inf) = 0, never inf - inf
        p = np.exp((ranked - ranked[:, :1]) / temperature)
    if top_k:
        p[:, top_k:] = 0
    p /= p.sum(axis=-1, keepdims=True)
    before = np.cumsum(p, axis=-1) - p  # the probability of all more likely tokens
    p[before >= top_p] = 0
    line = np.cumsum(p, axis=-1)
    place = (line <= np.asarray(uniform)[:, None] * line[:, -1:]).sum(axis=-1)
    return np.take_along_axis(order, np.minimum(place, (p > 0).sum(axis=-1) - 1)[:, None], axis=-1)[:, 0]


def room(config: Config, count: int, length: int) -> int:
    """By how many tokens, at most `length`, a prompt of `count` tokens can be continued.

    Raises BadInput if the model is not causal.
    """
    check_causal(config)
    return length if config.endless else min(length, config.context - count + 1)


def generate(
    model: Model,
    prompt: list[int],
    length: int,
    texts: range = range(1),
    seed: int = 0,
    banned: tuple[int, ...] = (),
    **choice,
) -> Iterator[np.ndarray]:
    """Continue a prompt by `length` tokens, once per number in `texts`: yields (B,) tokens at a time.

    A text depends only on the seed and its own number, not on the other texts. `choice` is passed to
    `choose` (temperature, top_k, top_p); `banned` tokens are never chosen. Raises BadInput if the model is
    not causal.

    >>> from minimega import Config, gpt
    >>> model = gpt(Config(vocab_size=9, d_model=8, nhead=2)).draw(seed=0)
    >>> np.array(list(generate(model, prompt=[0, 3], length=5, texts=range(2), top_k=4))).shape
    (5, 2)
    """
    length = room(model.config, len(prompt), length)
    xp = library(next(iter(model.parameters().values())).data)
    numbers = np.asarray(texts)
    tokens = xp.asarray(np.tile(np.asarray(prompt), (len(numbers), 1)))
    talk = next_logits(model, tokens)
    logits = next(talk)
    for n in range(length):
        logits[:, list(banned)] = -np.inf
        chosen = choose(logits, random.uniform(random.key(seed, "sample", n), numbers), **choice)
        # with experts cut over replicas, logits differ by rounding: all continue with the same tokens
        chosen = model.shares.experts.broadcast(chosen, label="chosen")
        yield chosen
        if n + 1 < length:
            logits = talk.send(xp.asarray(chosen))
