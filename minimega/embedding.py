"""The embedding: turns tokens and their positions into vectors.

B batch, T time, D width, V vocabulary, E width of a factorised table.
"""

import numpy as np

from minimega.autograd import op
from minimega.backend import library
from minimega.layer import Dropout, Layer
from minimega.layer import place as place_of
from minimega.linear import linear
from minimega.parameter import Parameter
from minimega.precision import wide


@op
def embedding(table, ids, first: int = 0):
    """The row of each token: (V, D) table, (B, T) ids -> (B, T, D).

    A table that is a piece of a larger one starts at its row `first`; other tokens get zeros, so the sum over
    all pieces is what the whole table gives.

    >>> y, back = embedding(np.eye(3), np.array([[2, 2]]))
    >>> back(np.ones((1, 2, 3)))[2].tolist()            # a token that occurs twice gets both gradients
    [2.0, 2.0, 2.0]
    """
    count, rows = len(table), ids - first
    here = (rows >= 0) & (rows < count)
    y = table[rows * here]
    y[~here] = 0
    return y, lambda dy: sum_rows(dy[here], rows[here], count)


def sinusoids(positions, d_model: int):
    """Fixed position vectors of Vaswani et al. 2017, section 3.5, sines and cosines in turn: (T,) -> (T, D).

    >>> sinusoids(np.arange(2), 4).round(2).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.84, 0.54, 0.01, 1.0]]
    """
    xp = library(positions)
    i = xp.arange(d_model)
    angle = positions[:, None] / 10000.0 ** (2 * (i // 2) / d_model)  # (T, D)
    return xp.where(i % 2 == 0, xp.sin(angle), xp.cos(angle))


class TextEmbedding(Layer):
    """Token vectors plus learned position vectors, then dropout: what a GPT begins with.

    With `d_embedding` the table is factorised into (V, E) and a projection (E, D) (Lan et al. 2019, section
    3.1). The projection keeps the size of a vector's entries, so the model starts as one without it does.
    """

    def __init__(
        self, vocab_size: int, context: int, d_model: int, dropout: float = 0.0, d_embedding: int = 0
    ):
        e = d_embedding
        self.tokens = Parameter((vocab_size, e or d_model), std=0.02, axis=0)
        self.projection = Parameter((e, d_model), std=e**-0.5) if e else None
        self.positions = Parameter((context, d_model), std=0.02)
        self.dropout = Dropout(dropout)

    def look_up(self, ids):
        """The token vectors, (B, T) -> (B, T, D), summed over the ranks that hold pieces of the table."""
        rows = embedding(self.tokens, ids, first=self.tokens.piece[0].start)
        x = self.shares.leave(rows, self.name)  # (B, T, D), or E
        return x if self.projection is None else linear(x, self.projection)

    def forward(self, ids, place=None):
        """Token ids (B, T) -> (B, T, D)."""
        at = place or place_of(ids)
        return self.dropout(self.look_up(ids) + embedding(self.positions, at.local_positions), at)


class SinusoidalEmbedding(TextEmbedding):
    """Token vectors scaled by sqrt(D), plus fixed position vectors (Vaswani et al. 2017, section 3.4)."""

    def __init__(
        self, vocab_size: int, context: int, d_model: int, dropout: float = 0.0, d_embedding: int = 0
    ):
        super().__init__(vocab_size, context, d_model, dropout, d_embedding)
        del self.positions

    def forward(self, ids, place=None):
        """Token ids (B, T) -> (B, T, D)."""
        x, at = self.look_up(ids), place or place_of(ids)
        waves = sinusoids(at.local_positions, x.shape[-1]).astype(x.dtype)
        return self.dropout(x * x.shape[-1] ** 0.5 + waves, at)


def sum_rows(rows, ids, count: int, block: int = 4096):
    """Add up the rows that share an id: (N, D) rows and (N,) ids -> (count, D) sums.

    Rows of one id are added in a fixed order, so the sums are bit-identical on every run: NumPy sorts the
    ids and adds up runs (several times as fast as `np.add.at` if few ids occur often, as fast if many occur
    once), CuPy multiplies by a one-hot matrix, `block` rows of it at a time, since that of a large vocabulary
    takes gigabytes. Sums of 16-bit rows are float32.

    >>> sum_rows(np.array([[1.0], [2.0], [4.0]]), np.array([2, 0, 2]), 3).ravel().tolist()
    [2.0, 0.0, 5.0]
    """
    xp, rows = library(rows), wide(rows)
    if xp is not np:
        hot = (xp.arange(i, min(i + block, count))[:, None] == ids for i in range(0, count, block))
        return xp.concatenate([some.astype(rows.dtype) @ rows for some in hot])
    sums = np.zeros((count, rows.shape[1]), rows.dtype)
    if len(ids):
        order = np.argsort(ids, kind="stable")
        ordered = ids[order]
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        sums[ordered[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return sums
