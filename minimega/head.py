"""The last step: a score for each token of the vocabulary (logits), and the loss.

B batch, T time, D width, V vocabulary.
"""

from minimega.autograd import Parameter, op
from minimega.backend import library
from minimega.layer import Layer
from minimega.linear import linear


@op
def cross_entropy(logits, targets, count: int | None = None):
    """The sum of -log softmax(logits)[target] over the counted tokens, over count: (..., V), (...) -> ().

    A target below 0 is not counted. `count` is the number of counted tokens of the whole batch, of which
    these may be a part; by default it is counted here.

    >>> loss, back = cross_entropy(np.zeros((2, 4)), np.array([1, -1]))
    >>> round(float(loss), 4), back(1.0).round(2).tolist()      # log 4; the second token is not counted
    (1.3863, [[0.25, -0.75, 0.25, 0.25], [0.0, 0.0, 0.0, 0.0]])
    """
    xp = library(logits)
    shape, rows, ids = logits.shape, logits.reshape(-1, logits.shape[-1]), targets.ravel()  # (N, V), (N,)
    counted = ids >= 0
    count = int(counted.sum() if count is None else count)  # a NumPy integer would make float32 float64
    places = xp.flatnonzero(counted), ids[counted]
    p = rows - rows.max(axis=-1, keepdims=True)
    right = p[places]  # before exp overwrites it
    p = xp.exp(p, out=p)
    total = p.sum(axis=-1, keepdims=True)
    loss = (xp.log(total[counted, 0]) - right).sum() / max(count, 1)
    p /= total

    def back(dy):
        dlogits = p.copy()
        dlogits[places] -= 1  # softmax less the one-hot target
        dlogits *= (counted * (dy / max(count, 1))).astype(p.dtype)[:, None]
        return dlogits.reshape(shape)

    return loss, back


class Head(Layer):
    """Logits of each token: x times the transposed table of token vectors, (B, T, D) -> (B, T, V).

    The table is the embedding's own (tied: Press and Wolf 2017) or another; the bias is optional.
    """

    def __init__(self, table: Parameter, bias: bool = False):
        self.weight = table
        self.bias = Parameter(table.whole_shape[:1]) if bias else None

    def forward(self, x, place):
        return linear(x, self.weight.transpose(), self.bias)
