"""What a text measures beside its tokens: its bytes, and the loss in bits per byte.

    bits per byte = nats per token * tokens / (ln 2 * bytes)

The loss per token depends on the tokenizer, bits per byte does not: runs with other tokenizers compare.
"""

from collections.abc import Iterator

import numpy as np

from minimega.commands.notes import unknown
from minimega.data import chat, tokens
from minimega.data.windows import Windows
from minimega.judging.report import bits_per_byte
from minimega.seq2seq.pairs import Pairs
from minimega.train import perplexity


class Size:
    """The bytes of documents in UTF-8, or of the answers in them, counted while something else reads them.

    >>> size = Size()
    >>> [list(document) for document in size.of(["café", "tea"])], size.bytes
    ([['café'], ['tea']], 8)
    """

    def __init__(self, answers: bool = False):
        self.answers, self.bytes = answers, 0

    def of(self, documents: tokens.Documents) -> Iterator[Iterator[tokens.Piece]]:
        """The same documents. What is not text in them (the marks of a dialogue) counts no bytes."""
        for document in documents:
            yield self._pieces(document)

    def _pieces(self, document) -> Iterator[tokens.Piece]:
        mark = None
        for piece in [document] if isinstance(document, str) else document:
            if isinstance(piece, tokens.Special):
                mark = piece.name
            elif mark == chat.ASSISTANT or not self.answers:
                self.bytes += len(piece.encode())
            yield piece


def figures(loss: float, tokens: int, size: int, share: float, causal: bool = True) -> dict[str, float]:
    """What a loss in nats per token says of a text of `size` bytes, as log.jsonl and `evaluate` give it.

    `tokens` are those that count, `share` of them unknown. A masked model gives no probability of a whole
    text, so it has no bits per byte.

    >>> figures(0.0, tokens=100, size=100, share=0.0)
    {'perplexity': 1.0, 'bits_per_byte': 0.0, 'unknown': 0.0}
    """
    bits = {"bits_per_byte": float(bits_per_byte(loss, tokens, size))} if causal else {}
    return {"perplexity": perplexity(loss), **bits, "unknown": share}


def loss_in_words(loss: float, found: dict, short: bool = False) -> str:
    """A loss and its `figures` in words; `short` leaves out the perplexity.

    >>> loss_in_words(0.5, {"perplexity": 1.6487, "bits_per_byte": 0.25, "unknown": 0.0})
    '0.5000 nats per token, perplexity 1.65, 0.2500 bits per byte'
    """
    bits = found.get("bits_per_byte")
    said = [f"{loss:.4f} nats per {'masked ' * (bits is None)}token"]
    said += [] if short else [f"perplexity {found['perplexity']:.2f}"]
    said += [] if bits is None else [f"{bits:.4f} bits per byte"]
    return ", ".join(said) + unknown(found["unknown"])


def counted_targets(windows: Windows | Pairs, stream: np.ndarray) -> int:
    """The number of targets of a text that count: all of its stream's but the first, or only the answers."""
    return len(stream) - 1 if windows.counted is None else int(windows.counted.sum())


def inexact(share: float, tokenizer: tokens.Tokenizer) -> list[str]:
    """What makes bits per byte a lower bound: bytes that the tokens do not say."""
    lost = ["unknown tokens do not say which word they stand for"] if share else []
    lost += (
        ["the tokens do not say which white space separates them"] if tokenizer.kind == "whitespace" else []
    )
    return (
        [f"note: bits per byte is a lower bound, which may be far too low: {' and '.join(lost)}"]
        if lost
        else []
    )
