"""How varied texts are, without references: distinct n-grams, repetition, self-BLEU."""

from collections.abc import Sequence

import numpy as np

from minimega import random
from minimega.judging.bootstrap import Figure, mean_of
from minimega.judging.scores import library, tokenizers
from minimega.judging.words import words

MOST = 100  # texts that self-BLEU compares with each other: the cost grows with the pairs


def n_grams(row: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """The n-grams of a list of words, in order."""
    return [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]


def distinct(texts: Sequence[str], n: int) -> float:
    """distinct-n: different n-grams of words per n-gram, over all texts (Li et al. 2016); 0 without any.

    It falls with the amount of text, so compare equal numbers of texts of about equal length.

    >>> distinct(["a b a b", "a b"], 1), distinct(["a b a b", "a b"], 2)
    (0.3333333333333333, 0.5)
    """
    grams = [gram for text in texts for gram in n_grams(words(text), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(texts: Sequence[str], n: int = 4) -> Figure:
    """The mean share of a text's n-grams that occurred earlier in it (seq-rep-n of Welleck et al. 2019).

    >>> repetition(["a b a b a b", "a b c d"], n=2).value
    0.3
    """
    rows = [n_grams(words(text), n) for text in texts]
    return mean_of([1 - len(set(row)) / len(row) if row else 0.0 for row in rows])


def self_bleu(texts: Sequence[str], tokenizer: str = "auto", seed: int = 0) -> float | None:
    """The mean BLEU of each text with all others as its references (Zhu et al. 2018); None for one text.

    0: the texts share no wording; 100: they are all the same. Of more than MOST texts, MOST are drawn.

    >>> round(self_bleu(["the cat sat on a mat", "the cat sat on a mat"]), 6)
    100.0
    """
    if len(texts) < 2:
        return None
    if len(texts) > MOST:
        drawn = np.sort(random.order(random.key(seed, "self-bleu"), len(texts))[:MOST])
        texts = [texts[i] for i in drawn]
    chosen = tokenizers([list(texts)], bleu=tokenizer)["bleu"]
    metric = library("sacrebleu.metrics", "sacrebleu").BLEU(tokenize=chosen, effective_order=True, force=True)
    rest = ([*texts[:i], *texts[i + 1 :]] for i in range(len(texts)))
    scores = [metric.sentence_score(text, others).score for text, others in zip(texts, rest, strict=True)]
    return float(np.mean(scores))
