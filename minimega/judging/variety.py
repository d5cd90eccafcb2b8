"""How varied texts are, without references: distinct n-grams, repetition, self-BLEU."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from minimega import random
from minimega.errors import extra
from minimega.judging.bootstrap import Figure, mean_of
from minimega.judging.scores import tokenizers
from minimega.judging.words import words

MOST = 1000  # texts that self-BLEU compares with each other
ORDER = 4  # the longest n-grams of BLEU


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
        texts = [texts[int(i)] for i in drawn]
    chosen = tokenizers([list(texts)], bleu=tokenizer)["bleu"]
    metric = extra("sacrebleu.metrics", "sacrebleu").BLEU(tokenize=chosen, force=True)
    rows = [metric._preprocess_segment(text).split() for text in texts]
    counts = [Counter(gram for n in range(1, ORDER + 1) for gram in n_grams(row, n)) for row in rows]
    lengths = np.array([len(row) for row in rows])
    scores = []
    for i, most in enumerate(_in_others(counts)):
        right, total = [0] * ORDER, [max(0, lengths[i] - n) for n in range(ORDER)]
        for gram, count in counts[i].items():
            right[len(gram) - 1] += min(count, most[gram])
        others = np.delete(lengths, i)
        nearest = min(others.tolist(), key=lambda length: (abs(length - lengths[i]), length))
        known = {"smooth_method": "exp", "effective_order": True, "max_ngram_order": ORDER}
        scores.append(metric.compute_bleu(right, total, int(lengths[i]), nearest, **known).score)
    return float(np.mean(scores))


def _in_others(counts: list[Counter]) -> Iterator[dict]:
    """Per text, how often each of its n-grams occurs in the other text that has most of it."""
    first, owner, second = Counter(), {}, Counter()
    for i, row in enumerate(counts):
        for gram, count in row.items():
            if count > first[gram]:
                first[gram], owner[gram], second[gram] = count, i, first[gram]
            elif count > second[gram]:
                second[gram] = count
    for i, row in enumerate(counts):
        yield {gram: second[gram] if owner[gram] == i else first[gram] for gram in row}
