"""Trains word vectors: skip-gram with negative sampling (word2vec; Mikolov et al. 2013, arXiv 1310.4546).

A word's vector learns to tell the words around it from words drawn at random. Each pair of a word
and one of its neighbours is a training example; common words are thinned out. All randomness is a function of
the seed, the epoch and the place in the text (random.py).

Over ranks, replicas split the pairs of a step and exchange their gradients, so that all take the step of a
single rank, to the bit; tensor parallelism splits the numbers of each vector, and ranks add up their scores.

P pairs, K negatives per pair, E width of a vector, V words.
"""

from dataclasses import dataclass

import numpy as np

from minimega import random
from minimega.autograd import op
from minimega.backend import library
from minimega.data.tokens import START, Tokenizer
from minimega.embedding import sum_rows
from minimega.errors import BadInput
from minimega.ranks.group import SELF, Group
from minimega.vectors.table import Vectors
from minimega.vectors.vocabulary import words_of

PAIRS, BLOCK = 256, 2**15  # pairs of one step; tokens that are read at once
LEAST = 1e-4  # share of `alpha` that is left at the end


@op
def negative_sampling(v, u, counts=None, group: Group = SELF):
    """-log s(v u_0) - sum over k of log s(-v u_k), summed over pairs: (P, E), (P, 1 + K, E) -> ().

    s is the sigmoid, v the vectors of words, u_0 those of their neighbours and u_1, ... those of words drawn
    at random (equation 4 of the paper). `counts` (P, 1 + K) is 0 for a term to leave out. Each rank of the
    group may hold some of the E numbers: then they add up their scores.

    >>> loss, back = negative_sampling(np.zeros((1, 2)), np.ones((1, 3, 2)))
    >>> round(float(loss), 4), back(1.0)[0].tolist()     # 3 log 2; half towards u_0, half from each other
    (2.0794, [[0.5, 0.5]])
    """
    xp = library(v, u)
    scores = group.all_reduce((u @ v[:, :, None])[..., 0], label="scores")  # (P, 1 + K)
    scores[:, 0] *= -1  # each term is then log(1 + exp(score))
    terms = xp.logaddexp(scores, scores.dtype.type(0))
    loss = (terms if counts is None else terms * counts).sum()

    def back(dy):
        slope = dy / (1 + xp.exp(-scores))  # (P, 1 + K): the derivative of log(1 + exp(x)) is s(x)
        slope = slope.astype(scores.dtype) if counts is None else (slope * counts).astype(scores.dtype)
        slope[:, 0] *= -1
        return (slope[:, None] @ u)[:, 0], lambda: slope[..., None] * v[:, None]

    return loss, back


@dataclass(frozen=True)
class Recipe:
    """How to train word vectors; names and most defaults as in word2vec and gensim."""

    vector_size: int = 100  # E
    window: int = 5  # the largest distance between a word and its neighbour
    negative: int = 5  # K
    sample: float = 1e-3  # a word more frequent than this is thinned out; 0: none is
    min_count: int = 5  # rarer words are left out
    epochs: int = 3
    alpha: float = 0.025  # the initial learning rate; it falls to almost 0
    seed: int = 0


class SkipGram:
    """The training of word vectors on a token stream (see `tokens.tokenize`); call `epoch` for each of them.

    Tokens that spell the same word, with and without a space before it, are one word. Windows do not cross
    documents. Raises BadInput if fewer than two words are as frequent as `min_count` asks.

    >>> from minimega.data.tokens import train
    >>> tokenizer = train("word", ["a b a b", "c d c d"])
    >>> stream = np.array([0, *tokenizer.encode(" a b a b"), 0, *tokenizer.encode(" c d c d"), 0] * 50)
    >>> training = SkipGram(stream, tokenizer, Recipe(vector_size=8, sample=0, epochs=2))
    >>> training.epoch(1) > training.epoch(2)
    True
    """

    def __init__(
        self,
        stream: np.ndarray,
        tokenizer: Tokenizer,
        recipe: Recipe,
        tensor: Group = SELF,
        data: Group = SELF,
    ):
        self.stream, self.recipe, self.tensor, self.data = stream, recipe, tensor, data
        if tensor.size > recipe.vector_size:
            raise BadInput(f"{recipe.vector_size} numbers cannot be cut over {tensor.size} ranks")
        counts = np.zeros(tokenizer.size, np.int64)
        for at in range(0, len(stream), BLOCK):
            counts += np.bincount(stream[at : at + BLOCK], minlength=tokenizer.size)
        by_word: dict[str, int] = {}
        spelt = words_of(tokenizer)
        for word, count in zip(spelt, counts.tolist(), strict=True):
            by_word[word] = by_word.get(word, 0) + count
        by_word.pop("", None)
        kept = sorted((w for w in by_word if by_word[w] >= recipe.min_count), key=lambda w: (-by_word[w], w))
        if len(kept) < 2:
            raise BadInput(
                f"{len(kept)} of the text's {len(by_word)} words come {recipe.min_count} times or more; "
                "vectors need two: choose a lower `min_count` or a longer text"
            )
        number = {word: i for i, word in enumerate(kept)}
        self.words = kept
        self.word_of = np.array([number.get(word, -1) for word in spelt])  # by token; -1: left out
        self.counts = np.array([by_word[word] for word in kept])  # (V,)
        own = tensor.piece(recipe.vector_size)
        drawn = random.uniform(random.key(recipe.seed, "vectors"), *np.ogrid[: len(kept), own])
        self.v = ((drawn - 0.5) / recipe.vector_size).astype(np.float32)  # of words, (V, E) or a piece of it
        self.u = np.zeros_like(self.v)  # of neighbours
        odds = self.counts**0.75  # section 2.2 of the paper
        self.rising = np.cumsum(odds / odds.sum())  # a uniform number falls between two of these
        share = self.counts / self.counts.sum()
        thin = recipe.sample / share if recipe.sample else np.ones(len(kept))
        self.keep = np.minimum(1, np.sqrt(thin) + thin)  # as word2vec.c does

    def epoch(self, n: int) -> float:
        """Train on the whole text, the n-th time (from 1); returns the mean loss of a pair, in nats."""
        loss = pairs = 0
        for at in range(0, len(self.stream), BLOCK):
            done = (n - 1 + at / len(self.stream)) / self.recipe.epochs
            lr = np.float32(self.recipe.alpha * max(1 - done, LEAST))
            near = self.pairs(n, at)
            for i in range(0, len(near), PAIRS):
                loss += self.step(near[i : i + PAIRS], (n, at, i), lr)
            pairs += len(near)
        if not pairs:
            raise BadInput("no word has a neighbour: choose a lower `min_count` or a longer text")
        return loss / pairs

    def pairs(self, n: int, at: int) -> np.ndarray:
        """The pairs of a block of tokens, in a random order: each word and one of its neighbours, (P, 2).

        A word's window is drawn from 1 to `window`, so that nearer neighbours come more often.
        """
        seed, window = self.recipe.seed, self.recipe.window
        tokens = np.asarray(self.stream[at : at + BLOCK])
        places, texts, words = (
            np.arange(at, at + len(tokens)),
            np.cumsum(tokens == START),
            self.word_of[tokens],
        )
        kept = words >= 0
        kept &= random.uniform(random.key(seed, "thin", n), places) < self.keep[words]
        places, texts, words = places[kept], texts[kept], words[kept]
        reach = 1 + (random.uniform(random.key(seed, "window", n), places) * window).astype(int)
        found = []
        for far in range(1, min(window, len(words) - 1) + 1):
            here, there = words[:-far], words[far:]
            same = texts[:-far] == texts[far:]
            for centre, context, wide in ((here, there, reach[:-far]), (there, here, reach[far:])):
                chosen = same & (wide >= far)
                found.append(np.stack([centre[chosen], context[chosen]], axis=1))
        near = np.concatenate(found) if found else np.zeros((0, 2), int)
        return near[random.order(random.key(seed, "pairs", n, at), len(near))]

    def step(self, near: np.ndarray, place: tuple[int, ...], lr: np.float32) -> float:
        """One step of gradient descent on these pairs (P, 2); returns the sum of their losses."""
        key = random.key(self.recipe.seed, "negatives", *place)
        drawn = random.uniform(key, *np.ogrid[: len(near), : self.recipe.negative])
        negatives = np.minimum(np.searchsorted(self.rising, drawn, "right"), len(self.words) - 1)
        others = np.concatenate([near[:, 1:], negatives], axis=1)  # (P, 1 + K)
        counts = np.ones(others.shape, np.float32)
        counts[:, 1:] = negatives != near[:, 1:]  # the neighbour itself is not a negative
        own = self.data.piece(len(near))
        v, u = self.v[near[own, 0]], self.u[others[own]]
        loss, back = negative_sampling(v, u, counts[own], self.tensor)
        dv, du = back(1.0)
        dv, du = (self.data.all_gather(g, 0, len(near), "vectors") for g in (dv, du()))  # of all pairs
        descend(self.v, near[:, 0], dv, lr)
        descend(self.u, others.ravel(), du.reshape(-1, self.u.shape[1]), lr)
        return float(self.data.all_reduce(loss, label="loss"))

    def vectors(self) -> Vectors:
        """The words, most frequent first, and their vectors, whole on every rank."""
        return Vectors(self.words, self.tensor.all_gather(self.v, 1, self.recipe.vector_size, "vectors"))


def descend(table: np.ndarray, ids: np.ndarray, rows: np.ndarray, lr: np.float32) -> None:
    """Subtract lr times the sum of each word's gradients (N, E) from its row of the table, in place."""
    touched, where = np.unique(ids, return_inverse=True)
    table[touched] -= lr * sum_rows(rows, where, len(touched))
