"""The last step: a score per token of the vocabulary (logits), and the loss.

B batch, T time, D width, V vocabulary.
"""

import numpy as np

from minimega.autograd import op
from minimega.backend import library
from minimega.errors import BadInput
from minimega.ids import check_targets
from minimega.layer import Layer
from minimega.linear import linear
from minimega.parameter import Parameter
from minimega.precision import wide
from minimega.ranks.group import SELF, Group


@op(exact=True)
def cross_entropy(
    logits,
    targets,
    count: int | None = None,
    first: int = 0,
    group: Group = SELF,
    vocabulary: int | None = None,
):
    """-log softmax(logits)[target], summed over the counted tokens, divided by count: (..., V), (...) -> ().

    A target of -1 is not counted. `count` is the number of counted tokens in the whole batch, of which these
    may be a part; by default they are counted here. Raises BadInput if another target is not a token id, or
    the shapes do not fit.

    If the vocabulary is cut over the ranks of a group, `first` is the first token of this rank's logits and
    `vocabulary` the size of all of it (by default the ranks ask each other). Three numbers per token travel
    (the largest logit; then the sum of exponentials and the target's logit), never the logits. The loss and
    the saved probabilities are float32 if the logits are 16-bit.

    >>> loss, back = cross_entropy(np.zeros((2, 4)), np.array([1, -1]))
    >>> round(float(loss), 4), back(1.0).round(2).tolist()      # log 4; the second token is not counted
    (1.3863, [[0.25, -0.75, 0.25, 0.25], [0.0, 0.0, 0.0, 0.0]])
    """
    xp, shape = library(logits), logits.shape
    if getattr(targets, "shape", None) != shape[:-1]:
        found = getattr(targets, "shape", f"a {type(targets).__name__}, no array")
        raise BadInput(f"expected targets {shape[:-1]}, as there are logits, got {found}")
    ids = targets.ravel()  # (N,)
    if vocabulary is None:
        vocabulary = int(group.all_reduce(np.array(first + shape[-1]), "max", label="cross-entropy"))
    check_targets(targets, vocabulary)
    rows = wide(logits).reshape(-1, shape[-1])  # (N, V)
    counted = ids >= 0
    count = int(counted.sum() if count is None else count)  # a NumPy integer would turn float32 into float64
    here = counted & (first <= ids) & (ids < first + rows.shape[1])  # the target is among these logits
    places = xp.flatnonzero(here), ids[here] - first
    p = rows - group.all_reduce(rows.max(axis=-1, keepdims=True), "max", label="cross-entropy")
    sums = xp.zeros((2, len(ids)), p.dtype)  # of the exponentials, and the target's logit
    sums[1][here] = p[places]  # before exp overwrites it
    p = xp.exp(p, out=p)
    sums[0] = p.sum(axis=-1)
    total, right = group.all_reduce(sums, label="cross-entropy")
    loss = (xp.log(total) - right)[counted].sum() / max(count, 1)
    p /= total[:, None]

    def back(dy):
        dlogits = p.copy()
        dlogits[places] -= 1  # softmax minus the one-hot target
        dlogits *= (counted * (dy / max(count, 1))).astype(p.dtype)[:, None]
        return dlogits.reshape(shape)

    return loss, back


class Head(Layer):
    """The logits: x times the transposed table of token vectors, (B, T, D) -> (B, T, V).

    The table is the embedding's own (tied: Press and Wolf 2016) or another; the bias is optional. With a
    factorised table (V, E), x goes back through the transposed projection (E, D) first.
    """

    def __init__(self, table: Parameter, bias: bool = False, projection: Parameter | None = None):
        self.weight, self.projection = table, projection
        self.bias = Parameter(table.whole_shape[:1], axis=0) if bias else None

    def forward(self, x, place=None):
        """(B, T, D) -> this rank's piece of (B, T, V)."""
        self.expect(x, (self.weight if self.projection is None else self.projection).whole_shape[1])
        if self.projection is not None:
            x = linear(x, self.projection, transposed=True)  # (B, T, E)
        return linear(self.shares.enter(x, place, self.name), self.weight, self.bias, transposed=True)

    def whole(self, logits):
        """The logits joined over the ranks: (B, T, V) on each."""
        return self.shares.join(logits, self.weight.whole_shape[0])

    def cross_entropy(self, logits, targets, count: int | None = None):
        """The loss, from this rank's piece of the logits and targets (B, T): see the function."""
        first, group, size = self.weight.piece[0].start, self.shares.group, self.weight.whole_shape[0]
        return cross_entropy(logits, targets, count=count, first=first, group=group, vocabulary=size)
