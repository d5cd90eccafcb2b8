"""Beam search: the most likely continuation of a text, searched among the most likely beginnings.

B texts, K beams of each, N tokens so far, V vocabulary.
"""

from typing import NamedTuple

import numpy as np

from minimega.backend import library, to_numpy
from minimega.kernels.generation import quick
from minimega.model import Model
from minimega.sample import next_logits, room


class Found(NamedTuple):
    """A continuation: its tokens (the last one is the end token, unless it was cut off), and its score."""

    tokens: list[int]
    score: float  # of `score`


def score(log_p, length: int, penalty: float):
    """The logarithm of a continuation's probability, over ((5 + length) / 6)^penalty.

    Wu et al. 2016, equation 14. A penalty of 0 compares probabilities, which favours short continuations;
    1 nearly compares their means per token.

    >>> score(-6.0, 1, 1.0), score(-6.0, 7, 1.0)
    (-6.0, -3.0)
    """
    return log_p / ((5 + length) / 6) ** penalty


class Beams:
    """The K most likely unfinished beginnings of one text, and the best K continuations found so far."""

    def __init__(self, width: int, length: int, penalty: float, end: int):
        self.width, self.length, self.penalty, self.end = width, length, penalty, end
        self.written = np.zeros((width, 0), int)  # tokens of each beginning
        self.log_p = np.full(width, -np.inf)  # of each beginning; -inf: there is none
        self.log_p[0] = 0
        self.best: list[Found] = []

    def step(self, log_p) -> tuple[np.ndarray, np.ndarray]:
        """Continue by one token: log_p (K, V) of the next one; returns it and the beginning it continues."""
        n, vocabulary = self.written.shape[1] + 1, log_p.shape[1]
        total = (self.log_p[:, None] + log_p).ravel()  # (KV,)
        # each beginning can end in one way, so of 2K candidates at least K are unfinished
        candidates = np.argsort(-total, kind="stable")[: 2 * self.width]
        candidates = candidates[np.isfinite(total[candidates])]
        ends = candidates % vocabulary == self.end
        for at in candidates[: self.width][ends[: self.width]]:
            self.find([*self.written[at // vocabulary], self.end], total[at])
        kept = candidates[~ends][: self.width]
        missing = self.width - len(kept)  # if few tokens are possible, or the text is done
        rows, chosen = (np.pad(part, (0, missing)) for part in (kept // vocabulary, kept % vocabulary))
        self.log_p = np.pad(total[kept], (0, missing), constant_values=-np.inf)
        self.written = np.concatenate([self.written[rows], chosen[:, None]], axis=1)
        if n == self.length:
            for tokens, p in zip(self.written, self.log_p, strict=True):
                self.find(tokens, p)
        if n == self.length or self.hopeless():
            self.log_p[:] = -np.inf
        return chosen, rows

    def find(self, tokens, log_p: float) -> None:
        """Note a continuation, if it is among the best."""
        if np.isfinite(log_p):
            found = Found([int(t) for t in tokens], score(log_p, len(tokens), self.penalty))
            self.best = sorted([*self.best, found], key=lambda found: -found.score)[: self.width]

    def hopeless(self) -> bool:
        """Whether no beginning can still reach a place among the best.

        It only becomes less likely, and is divided at most by what the full length is divided by.
        """
        at_most = score(self.log_p.max(), self.length, self.penalty)
        return len(self.best) == self.width and at_most <= self.best[-1].score

    done = property(lambda self: not np.isfinite(self.log_p).any())


@quick()
def beam_search(
    model: Model,
    prompts,
    length: int,
    beams: int = 4,
    penalty: float = 0.6,
    banned: tuple[int, ...] = (),
    end: int = 0,
) -> list[list[Found]]:
    """The best continuations, at most `beams`, of each of the prompts (B, N), the best first.

    A continuation ends with the token `end`, or after `length` tokens; `banned` tokens are never chosen. At
    each step the `beams` most likely unfinished beginnings are kept. A text is done as soon as no unfinished
    one can still reach a place among its best. Raises BadInput if the model is not causal.

    >>> from minimega import Config, gpt
    >>> model = gpt(Config(vocab_size=9, d_model=8, nhead=2)).draw(seed=0)
    >>> found = beam_search(model, np.array([[0, 3], [0, 5]]), length=5, beams=3)
    >>> len(found), [f.score for f in found[0]] == sorted([f.score for f in found[0]], reverse=True)
    (2, True)
    """
    xp, (batch, start) = library(next(iter(model.parameters().values())).data), np.shape(prompts)
    length = room(model.config, start, length)
    texts = [Beams(beams, length, penalty, end) for _ in range(batch)]
    talk = next_logits(model, xp.asarray(np.repeat(np.asarray(prompts), beams, axis=0)))  # (BK, N)
    logits = next(talk)
    while True:
        # with experts cut over replicas, logits differ by rounding: all continue with the same tokens
        log_p = model.shares.experts.broadcast(log_probabilities(logits, banned), label="chosen")
        steps = [text.step(rows) for text, rows in zip(texts, log_p.reshape(batch, beams, -1), strict=True)]
        if all(text.done for text in texts):
            return [text.best for text in texts]
        chosen = np.concatenate([tokens for tokens, _ in steps])
        rows = np.concatenate([b * beams + rows for b, (_, rows) in enumerate(steps)])
        logits = talk.send((xp.asarray(chosen), xp.asarray(rows)))


def log_probabilities(logits, banned: tuple[int, ...] = ()) -> np.ndarray:
    """The logarithms of the probabilities of the next token, (B, V), as float64; banned ones are -inf."""
    logits = to_numpy(logits).astype(np.float64)
    logits[:, list(banned)] = -np.inf
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
