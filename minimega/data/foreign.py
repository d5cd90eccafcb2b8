"""Texts in another script than a tokenizer learned: a loss on them says nothing, or little."""

from collections import Counter

import numpy as np

from minimega.data.scripts import count, count_all, main_script
from minimega.data.tokens import NAMES, Documents, Tokenizer
from minimega.errors import BadInput

MOST_UNKNOWN = 0.5  # with this share of unknown tokens, the script is checked
MANY_BYTES = 0.3  # the same for bytes that no learned token has
FEWEST = 16  # longer tokens that byte pairs need before this means anything
RARE = 0.01  # a script with a smaller share of the vocabulary's letters was not learned


def learned(tokenizer: Tokenizer) -> Counter:
    """The letters of each script in the tokens that a tokenizer learned.

    >>> from minimega.data.tokens import train
    >>> learned(train("char", ["abba 中"]))
    Counter({'latin': 2, 'han': 1})
    """
    if tokenizer.kind != "bpe":
        return count("".join(tokenizer.tokens))
    return count("".join(tokenizer.decode([i]) for i in _joined(tokenizer).values()))


def _joined(tokenizer: Tokenizer) -> dict[str, int]:
    """Of byte pairs, the tokens of more than one byte: the library writes each byte as one character."""
    named = {*NAMES, *tokenizer.named}
    vocabulary = tokenizer.library.get_vocab()
    return {token: i for token, i in vocabulary.items() if len(token) > 1 and token not in named}


def single_bytes(tokenizer: Tokenizer) -> np.ndarray:
    """Of byte pairs, the ids of bytes that no longer token contains: the training text hardly had them.

    Empty if there are too few longer tokens to tell.
    """
    joined = _joined(tokenizer)
    if len(joined) < FEWEST:
        return np.empty(0, np.int64)
    inside = {character for token in joined for character in token}
    vocabulary = tokenizer.library.get_vocab()
    return np.array(sorted(i for token, i in vocabulary.items() if len(token) == 1 and token not in inside))


def share_of(ids, stream: np.ndarray, block: int = 2**22) -> float:
    """The share of these ids among a stream's tokens."""
    blocks = (stream[i : i + block] for i in range(0, len(stream), block))
    return sum(int(np.isin(part, ids).sum()) for part in blocks) / max(1, len(stream) - 1)


def foreign(documents: Documents, stream: np.ndarray, tokenizer: Tokenizer) -> tuple[str, float] | None:
    """The main script of a text and its share of the letters, if the tokenizer did not learn that script.

    `stream` has the text's tokens. The documents are read only if many of these are unknown, or single bytes
    that the tokenizer never joined.

    >>> from minimega.data.tokens import train
    >>> t, text = train("word", ["Once upon a time"]), "从前有一天"
    >>> foreign([text], t.encode(text), t)
    ('han', 1.0)
    """
    if tokenizer.kind == "bpe":
        if share_of(single_bytes(tokenizer), stream) < MANY_BYTES:
            return None
    elif share_of([tokenizer.unknown], stream) < MOST_UNKNOWN:
        return None
    pieces = ([d] if isinstance(d, str) else d for d in documents)
    texts = ((piece for piece in document if isinstance(piece, str)) for document in pieces)
    script, share = main_script(count_all(texts))
    known = learned(tokenizer)
    return None if script == "none" or known[script] >= RARE * max(1, known.total()) else (script, share)


def check_script(documents: Documents, stream: np.ndarray, tokenizer: Tokenizer, what: str) -> list[str]:
    """Nothing if the tokenizer learned the script of `what`, else a warning: its tokens are single bytes.

    Raises BadInput if they are unknown tokens: then a loss on the text, or what follows it, means nothing.
    """
    found = foreign(documents, stream, tokenizer)
    if not found:
        return []
    said = f"{what} is written in the {found[0].capitalize()} script ({found[1]:.0%} of its letters)"
    known = main_script(learned(tokenizer))[0]
    if tokenizer.kind == "bpe":
        return [f"warning: {said}, which the tokenizer never saw: it reads single bytes"]
    raise BadInput(
        f"{said}, and the vocabulary has none of it: nearly all is unknown\n"
        f"Take a text in the {known.capitalize()} script, or train with both; byte pairs (bpe) read any."
    )


def lacking(lacks: list[str], what: str) -> str:
    """The remark that a text has tokens which the vocabulary lacks; at most eight are named.

    >>> lacking(["Zoe"], "prompt")
    "minimega: the vocabulary has no 'Zoe': the prompt has <unk> instead"
    """
    named = ", ".join(map(repr, lacks[:8])) + ", ..." * (len(lacks) > 8)
    return f"minimega: the vocabulary has no {named}: the {what} has <unk> instead"
