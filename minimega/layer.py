"""A layer: parameters in one fixed order, and a forward pass; and the place of a batch in the run.

B batch, T time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from minimega import random
from minimega.autograd import Tensor, in_layer, recompute
from minimega.backend import library
from minimega.ops import dropout
from minimega.parameter import Parameter
from minimega.ranks.group import SELF


@dataclass(frozen=True)
class Place:
    """Where a batch stands in the run and in the text: positions, dropout and the cache are functions of it.

    `samples` (B,) numbers the sequences within the whole step's batch, `window` (T,) the tokens that this
    rank works on and `positions` those of them that it holds here, by their places in the text's window,
    wherever the batch was cut. `key` is that of the seed and the step. `recall(layer, k, v)` gives the keys
    and values to attend to; a cache adds those of earlier tokens. Where a sequence is shared out over
    ranks, `attend` stands in for `attention` (see parallel/context.py), and `length` counts the tokens of all
    of it. A layer with a loss of its own notes
    its value in `extra`, by its name; it is a mean over the `sequences` of the whole step (0: those that are
    here), and the backward pass of all losses begins with `scale`.
    """

    samples: np.ndarray
    window: np.ndarray
    key: int = 0
    training: bool = False
    recall: Callable = lambda layer, k, v: (k, v)
    held: slice = field(default_factory=lambda: slice(None))
    attend: Callable | None = None
    length: int = 0
    sequences: int = 0
    scale: float = 1.0
    extra: dict = field(default_factory=dict)

    @property
    def positions(self) -> np.ndarray:
        """The tokens that this rank holds here."""
        return self.window[self.held]

    def keep(self, layer: str, p: float, *inner: np.ndarray) -> Callable | None:
        """A function that draws this layer's dropout mask, True with chance 1 - p (None: keep all).

        The coordinates of an entry are (sample, *inner), which broadcast together; where the function is
        given some, they stand for the last of them.
        """
        if not self.training or p == 0:
            return None
        key = random.key(self.key, layer)
        samples = self.samples.reshape(-1, *[1] * max(np.ndim(c) for c in inner))
        return lambda *last: random.uniform(key, samples, *inner[: len(inner) - len(last)], *last) >= p


def place(tokens, start: int = 0, **known) -> Place:
    """The place of a batch (B, T) that is whole: samples from 0, positions from `start`.

    >>> place(np.zeros((2, 3), int), start=5).positions.tolist()
    [5, 6, 7]
    """
    xp, (batch, time) = library(tokens), tokens.shape
    return Place(xp.arange(batch), xp.arange(start, start + time), **known)


class Uncut:
    """What a layer asks of the ranks it is cut over, where there is one: every answer is x itself.

    `parallel/tensor.py` has the answers of several ranks, `Layer.cut` gives them to a model. The groups are
    those that hold the features of a layer, the tokens of a sequence, and the experts.
    """

    group = context = experts = SELF
    partial = False  # whether each rank has only a part of the gradient of a parameter that all ranks hold

    def check(self, config) -> None:
        """Raise BadInput if a model of this configuration cannot be cut like this."""

    def enter(self, x, place: "Place", label: str):
        """x, on its way into a layer whose features are cut."""
        return x

    def leave(self, x, label: str):
        """The sum of what the ranks computed of x, on its way out of such a layer."""
        return x

    def join(self, x, length: int):
        """x with its last axis, `length` long when it is whole, joined over the ranks."""
        return x

    def over_tokens(self, x, label: str):
        """The sum of x over the ranks that hold the tokens of a sequence."""
        return x

    def tokens(self, length: int) -> slice:
        """The tokens of a window of this length that a rank holds between two such layers."""
        return slice(0, length)


class Layer:
    """Something with parameters and a forward pass; parts may be layers, or lists of layers.

    Parameters are listed in the order in which `__init__` sets them, named by their path.

    >>> class Scale(Layer):
    ...     def __init__(self, d_model):
    ...         self.weight = Parameter((d_model,), mean=1.0)
    ...     def forward(self, x):
    ...         return x * self.weight
    >>> scale = Scale(3).named("scale")
    >>> list(scale.parameters())
    ['scale.weight']
    """

    name = ""
    shares = Uncut()

    def __call__(self, *inputs, **options) -> Tensor:
        with in_layer(self.name):
            return self.forward(*inputs, **options)

    def parts(self) -> Iterator[tuple[str, "Parameter | Layer"]]:
        """Parameters and layers that stand in this one, with the names of their attributes."""
        for name, part in vars(self).items():
            if isinstance(part, Parameter | Layer):
                yield name, part
            elif isinstance(part, list):
                yield from ((f"{name}{i}", p) for i, p in enumerate(part) if isinstance(p, Parameter | Layer))

    def named(self, name: str = "") -> "Layer":
        """Name this layer and all that stands in it; a shared parameter keeps its first name."""
        self.name = name
        for inner, part in self.parts():
            path = f"{name}.{inner}" if name else inner
            if isinstance(part, Layer):
                part.named(path)
            elif not part.name:
                part.name = path
        return self

    def cut(self, shares: Uncut) -> "Layer":
        """Cut this layer and all its parts over ranks, before they are drawn (see parallel/tensor.py)."""
        self.shares = shares
        for _, part in self.parts():
            part.cut(shares)
        return self

    def parameters(self) -> dict[str, Parameter]:
        """Every parameter by its name, each once, in one fixed order (ValueError before they have names)."""
        found: dict[str, Parameter] = {}
        for attribute, part in self.parts():
            if isinstance(part, Parameter) and not part.name:
                raise ValueError(f"the parameter {attribute} has no name yet: call named() on the model")
            found |= part.parameters() if isinstance(part, Layer) else {part.name: part}
        return found

    def draw(self, seed: int = 0, dtype: str = "float32", xp=np) -> "Layer":
        """Give every parameter its first value: a pure function of the seed and the parameters' names."""
        for parameter in self.parameters().values():
            parameter.draw(seed, dtype, xp)
        return self


class Dropout(Layer):
    """Drops features with chance p while training: (B, T, D) -> (B, T, D)."""

    def __init__(self, p: float):
        self.p = p

    def forward(self, x, place):
        features = library(x.data).arange(x.shape[-1])
        return dropout(x, keep=place.keep(self.name, self.p, place.positions[:, None], features), p=self.p)


class Around(Layer):
    """A layer around another: same name, same parameters, same cut.

    So `layers[name] = Recomputed(layers[name])` renames no parameter.
    """

    def __init__(self, layer: Layer):
        self.layer, self.name = layer, layer.name

    def parts(self):
        """The parts of the inner layer."""
        return self.layer.parts()

    def named(self, name=""):
        """Name the inner layer, and this one like it."""
        self.name = self.layer.named(name).name
        return self

    def cut(self, shares):
        """Cut the inner layer, and this one with it."""
        self.shares = shares
        self.layer.cut(shares)
        return self


class Recomputed(Around):
    """Keeps only its inputs and runs the inner layer again in the backward pass (Chen et al. 2016)."""

    def forward(self, *inputs):
        """What the inner layer returns, of the same shape."""
        return recompute(self.layer.forward)(*inputs)
