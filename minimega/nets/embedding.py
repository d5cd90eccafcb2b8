"""A table of vectors to look up.

D width.
"""

from minimega.autograd import Tensor
from minimega.backend import library
from minimega.embedding import embedding
from minimega.ids import check_ids
from minimega.layer import Layer
from minimega.parameter import Parameter


class Embedding(Layer):
    """A table of vectors: ids (...) -> (..., D). It starts standard normal, as torch's does.

    >>> Embedding(10, 4)(np.array([[1, 9]])).shape
    (1, 2, 4)
    """

    def __init__(self, count: int, d_model: int, std: float = 1.0):
        self.weight = Parameter((count, d_model), std=std, axis=0)

    def forward(self, ids, place=None):
        """The row of each id; raises BadInput if an id is no integer, or outside of the table."""
        ids = ids.data if isinstance(ids, Tensor) else library(ids).asarray(ids)
        count = self.weight.whole_shape[0]
        check_ids(f"{self.name or 'Embedding'}: id", ids, 0, count, f"the table: it has {count} rows")
        return self.shares.leave(embedding(self.weight, ids, first=self.weight.piece[0].start), self.name)
