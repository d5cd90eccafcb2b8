"""Tokens and their positions become vectors.

B batch, T time, D width, V vocabulary.
"""

from minimega.autograd import Parameter, op
from minimega.backend import library, sum_rows
from minimega.layer import Dropout, Layer


@op
def embedding(table, ids):
    """The row of each token: (V, D) table, (B, T) ids -> (B, T, D).

    >>> y, back = embedding(np.eye(3), np.array([[2, 2]]))
    >>> back(np.ones((1, 2, 3)))[2].tolist()            # a token that stands twice gets both gradients
    [2.0, 2.0, 2.0]
    """
    count, width = table.shape
    return table[ids], lambda dy: sum_rows(dy.reshape(-1, width), ids.ravel(), count)


def sinusoids(positions, d_model: int):
    """The fixed position vectors of Vaswani et al. 2017, section 3.5: (T,) -> (T, D), sines beside cosines.

    >>> sinusoids(np.arange(2), 4).round(2).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.84, 0.54, 0.01, 1.0]]
    """
    xp = library(positions)
    i = xp.arange(d_model)
    angle = positions[:, None] / 10000.0 ** (2 * (i // 2) / d_model)  # (T, D)
    return xp.where(i % 2 == 0, xp.sin(angle), xp.cos(angle))


class Embedding(Layer):
    """Token vectors plus learned position vectors, then dropout."""

    def __init__(self, vocab_size: int, context: int, d_model: int, dropout: float = 0.0):
        self.tokens = Parameter((vocab_size, d_model), std=0.02)
        self.positions = Parameter((context, d_model), std=0.02)
        self.dropout = Dropout(dropout)

    def forward(self, ids, place):
        x = embedding(self.tokens, ids) + embedding(self.positions, place.positions)  # (B, T, D) + (T, D)
        return self.dropout(x, place)


class SinusoidalEmbedding(Embedding):
    """Token vectors scaled by sqrt(D), plus fixed position vectors (Vaswani et al. 2017, section 3.4)."""

    def __init__(self, vocab_size: int, context: int, d_model: int, dropout: float = 0.0):
        super().__init__(vocab_size, context, d_model, dropout)
        del self.positions

    def forward(self, ids, place):
        x = embedding(self.tokens, ids)
        waves = sinusoids(place.positions, x.shape[-1]).astype(x.dtype)
        return self.dropout(x * x.shape[-1] ** 0.5 + waves, place)
