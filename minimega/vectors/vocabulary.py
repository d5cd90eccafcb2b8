"""The tokens of a model as words of a file of vectors, and the other way round.

V vocabulary, E width of a vector.
"""

import numpy as np

from minimega.data.tokens import Tokenizer
from minimega.vectors.table import Vectors


def words_of(tokenizer: Tokenizer) -> list[str]:
    """The word that each token spells, without the space before it: V texts; "" for a token that spells none.

    Special tokens spell none, nor do white space and parts of a character.

    >>> from minimega.data.tokens import train
    >>> words_of(train("word", ["the cat, the end"]))
    ['', '', 'cat', 'end', 'the', ',', 'the']
    """
    special = tokenizer.special_ids
    texts = ("" if i in special else tokenizer.decode([i]).strip() for i in range(tokenizer.size))
    return ["" if "\ufffd" in text or any(map(str.isspace, text)) else text for text in texts]


def from_table(table: np.ndarray, tokenizer: Tokenizer) -> Vectors:
    """A model's token vectors (V, E) by word. Of tokens that spell the same word, one with a space before it.

    >>> from minimega.data.tokens import train
    >>> tokenizer = train("word", ["the cat, the end"])
    >>> v = from_table(np.arange(7, dtype=np.float32)[:, None], tokenizer)
    >>> v.words, v["the"].tolist()
    (['cat', 'end', 'the', ','], [4.0])
    """
    chosen: dict[str, int] = {}
    for i, word in enumerate(words_of(tokenizer)):
        if word and (word not in chosen or _spaced(tokenizer, i) > _spaced(tokenizer, chosen[word])):
            chosen[word] = i
    return Vectors(list(chosen), np.asarray(table[list(chosen.values())], np.float32))


def _spaced(tokenizer: Tokenizer, token: int) -> bool:
    return tokenizer.decode([token])[:1] == " "
