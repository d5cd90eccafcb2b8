"""A linear classifier on fixed vectors: it shows what can be read from them.

N vectors, D width, K kinds.
"""

import numpy as np

from minimega.autograd import no_grad
from minimega.errors import BadInput
from minimega.head import cross_entropy
from minimega.layer import Layer
from minimega.linear import linear
from minimega.optim import AdamW
from minimega.parameter import Parameter


class Probe(Layer):
    """Vectors (N, D) -> the scores of K kinds (N, K), by one linear layer.

    `shift` and `scale` bring every feature to mean 0 and deviation 1 on the vectors that it was fitted to.
    """

    def __init__(self, width: int, kinds: int):
        self.shift, self.scale = np.zeros(width), np.ones(width)
        self.weight = Parameter((width, kinds))
        self.bias = Parameter((kinds,))

    def forward(self, x):
        """(N, D) -> (N, K)."""
        return linear((x - self.shift) * self.scale, self.weight, self.bias)

    def kinds(self, x) -> np.ndarray:
        """The most likely kind of each vector: (N, D) -> (N,)."""
        with no_grad():
            return self(np.asarray(x, np.float64)).data.argmax(axis=-1)


def fitted(x, y, kinds: int, steps: int = 200, lr: float = 0.05, decay: float = 1.0) -> Probe:
    """A probe trained on vectors x (N, D) and their kinds y (N,), 0 to kinds - 1, all at every step.

    AdamW in float64 from zero weights, `decay` its weight decay: two calls give the same bits. Raises
    BadInput if the shapes of x and y do not match.

    >>> x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> fitted(x, np.array([0, 0, 1]), kinds=2).kinds([[0.8, 0.2], [-1.0, 2.0]]).tolist()
    [0, 1]
    """
    x, y = np.asarray(x, np.float64), np.asarray(y)
    if x.ndim != 2 or y.shape != x.shape[:1] or not len(y):
        raise BadInput(f"a probe needs vectors (N, D) and as many kinds (N,), not {x.shape} and {y.shape}")
    if y.min() < 0 or y.max() >= kinds:
        raise BadInput(f"the kinds must be in 0 to {kinds - 1}, not {y.min()} to {y.max()}")
    probe = Probe(x.shape[1], kinds).named("probe").draw(dtype="float64")
    probe.shift, probe.scale = x.mean(axis=0), 1 / (x.std(axis=0) + 1e-8)
    optimizer, own = AdamW(weight_decay=decay), list(probe.parameters().values())
    for step in range(steps):
        for p in own:
            p.grad = None
        cross_entropy(probe(x), y).backward()
        optimizer.step(own, lr * (1 - step / steps))
    return probe
