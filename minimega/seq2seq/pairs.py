"""Pairs of a source and a target, the turns of dialogues, as windows for an encoder-decoder.

B batch, S tokens of the source, T tokens of the target, N pairs.
"""

import itertools
from collections.abc import Iterable

import numpy as np

from minimega.data import chat
from minimega.data.tokens import START, Tokenizer
from minimega.errors import BadInput


class Pairs:
    """Pairs of token lists as windows of S + T tokens: `take` returns inputs and targets as `Windows` does.

    Raises BadInput, with the number of the pair (from `first`) and `where` it is from, for one that does not
    fit.

    >>> pairs = Pairs([([5, 6], [7])], context=7, source_length=4)
    >>> inputs, targets = pairs.take([0])
    >>> inputs.tolist(), targets.tolist()
    ([[0, 5, 6, 0, 0, 7, 0]], [[-1, -1, -1, -1, 7, 0, -1]])
    """

    def __init__(
        self, pairs: Iterable[tuple], context: int, source_length: int, where: str = "pair", first: int = 1
    ):
        self.context, self.source_length, rows = context, source_length, []
        for n, (source, target) in enumerate(pairs, first):
            row = np.zeros(context + 1, np.int32)  # START is 0, and fills up both halves
            texts = {"source": (source, 1, source_length), "target": (target, 1 + source_length, context)}
            for name, (ids, begin, end) in texts.items():
                if begin + len(ids) > end:
                    raise BadInput(
                        f"{where} {n}: its {name} has {len(ids)} tokens, and a window has room for "
                        f"{end - begin}: choose a larger "
                        + ("`source_length` or `context`" if name == "source" else "`context`")
                    )
                row[begin : begin + len(ids)] = ids
            rows.append(row)
        self.stream = np.array(rows).reshape(len(rows), context + 1)  # (N, S + T + 1)
        self.counted = self.take(range(len(rows)))[1] >= 0  # (N, S + T)

    def __len__(self) -> int:
        return len(self.stream)

    @property
    def cut_documents(self) -> bool:
        """Whether a pair is cut: none ever is."""
        return False

    def moved(self, key: int) -> "Pairs":
        """These windows: each pair is one window, which cannot begin elsewhere."""
        return self

    def take(self, which) -> tuple[np.ndarray, np.ndarray]:
        """The inputs (B, S + T) and targets (B, S + T) of the pairs with these B numbers, int64.

        A target ends with a start token, which counts; the source and the padding do not.
        """
        rows = self.stream[np.asarray(which, np.int64)].astype(np.int64)
        targets = rows[:, 1:].copy()
        ends = targets[:, self.source_length :] == START  # the first one ends the text
        targets[:, self.source_length :][np.cumsum(ends, axis=1) - ends > 0] = -1
        targets[:, : self.source_length] = -1
        return rows[:, :-1], targets


def of_dialogues(
    stream: np.ndarray, tokenizer: Tokenizer, text: chat.Dialogues, context: int, source_length: int
) -> Pairs:
    """The windows of a stream of dialogues of two turns: the user's is the source, the answer the target.

    Raises BadInput, with the number of the line, for a longer dialogue or one that does not fit.
    """
    user, assistant, end = map(tokenizer.special, chat.SPECIALS)
    starts = np.flatnonzero(stream == START)

    def pairs():
        for n, (begin, stop) in enumerate(itertools.pairwise(starts), text.begin + 1):
            ids = np.asarray(stream[begin + 1 : stop], np.int64)
            (turn, *more) = np.flatnonzero(ids == assistant)
            if more:
                raise BadInput(
                    f"{text.path}, line {n} has {len(more) + 1} answers: a translation is one prompt and one "
                    "completion"
                )
            assert ids[0] == user and ids[-1] == end
            yield ids[1:turn], ids[turn + 1 : -1]

    return Pairs(pairs(), context, source_length, f"{text.path}, line", text.begin + 1)


def source_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a source as `of_dialogues` has them."""
    return tokenizer.encode(chat.spaced(text)).tolist()
