"""Layer: parameters in a fixed order, and a forward pass. Place: where a batch stands in the run.

B batch, T time, D width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from minimega import random
from minimega.autograd import Tensor, in_layer, recompute
from minimega.backend import library
from minimega.errors import BadInput
from minimega.ops import dropout
from minimega.parameter import Parameter
from minimega.ranks.group import SELF


@dataclass(frozen=True)
class Place:
    """Where a batch stands in the run and in the text: positions, dropout and the cache depend on it alone.

    Samples and tokens are numbered in the whole step's batch and in the text's window, however they are cut
    over ranks. `recall(layer, k, v)` returns the keys and values to attend to: a cache adds those of earlier
    tokens. Under context parallelism, `attend` replaces `attention` (see parallel/context.py).

    A layer with its own loss stores its value in `extra`, under the layer's name. That value is a mean
    over the `sequences` of the whole step.
    """

    samples: np.ndarray  # (B,) numbers of the sequences
    positions: np.ndarray  # (T,) of the tokens that this rank works on
    key: int = 0  # of the seed and the step
    training: bool = False
    recall: Callable = lambda layer, k, v: (k, v)
    local: slice = field(default_factory=lambda: slice(None))  # the part of the positions held here
    attend: Callable | None = None
    length: int = 0  # tokens of the whole sequence under context parallelism
    sequences: int = 0  # 0: those of this batch
    scale: float = 1.0  # the loss scale: every backward pass begins with it
    extra: dict[str, Any] = field(default_factory=dict)
    tokens: np.ndarray | None = None  # (B, T) ids of the text so far, for layers that hide its padding

    @property
    def local_positions(self) -> np.ndarray:
        """The positions of the tokens that this rank holds here."""
        return self.positions[self.local]

    def keep(self, layer: str, p: float, *inner: np.ndarray) -> Callable | None:
        """A function that draws this layer's dropout mask, True with probability 1 - p (None: keep all).

        An entry's coordinates are (sample, *inner), broadcast together. Arguments to the function replace the
        last of `inner`.
        """
        if not self.training or p == 0:
            return None
        key = random.key(self.key, layer)
        samples = self.samples.reshape(-1, *[1] * max(np.ndim(c) for c in inner))
        return lambda *last: random.uniform(key, samples, *inner[: len(inner) - len(last)], *last) >= p


def place(tokens, start: int = 0, **known) -> Place:
    """The place of a whole batch (B, T): samples from 0, positions from `start`; `known` sets other fields.

    >>> place(np.zeros((2, 3), int), start=5).local_positions.tolist()
    [5, 6, 7]
    """
    xp, (batch, time) = library(tokens), tokens.shape
    return Place(xp.arange(batch), xp.arange(start, start + time), **known)


class Uncut:
    """The communication that a layer needs, on one rank: each method returns x itself.

    `parallel/tensor.py` has the versions for several ranks; `Layer.cut` gives them to a model.
    """

    group = context = experts = SELF  # who holds a layer's features, a sequence's tokens, the experts
    partial = False  # True: each rank has a part of the gradient of a parameter that all ranks hold

    def check(self, config) -> None:
        """Raise BadInput if a model of this configuration cannot be cut over these ranks."""

    def enter(self, x, place: "Place", label: str):
        """x at the entry of a layer whose features are cut."""
        return x

    def leave(self, x, label: str):
        """The sum of x over the ranks, at the exit of such a layer."""
        return x

    def join(self, x, length: int):
        """x gathered over the ranks along its last axis, which has `length` entries in all."""
        return x

    def over_tokens(self, x, label: str):
        """The sum of x over the ranks that hold the tokens of a sequence."""
        return x

    def tokens(self, length: int) -> slice:
        """The tokens of a window of this length that this rank holds between two such layers."""
        return slice(0, length)


class Layer:
    """Parameters and a forward pass. A part is a parameter, a layer, or a list of either.

    A subclass sets its parts in `__init__` and writes `forward`. Parameters are listed in the order in which
    `__init__` sets them, and named by their path.

    >>> class Scale(Layer):
    ...     def __init__(self, d_model):
    ...         self.weight = Parameter((d_model,), mean=1.0)
    ...     def forward(self, x):
    ...         return x * self.weight
    >>> scale = Scale(3).named("scale").draw(seed=0)
    >>> list(scale.parameters()), scale(np.ones((2, 3), "float32")).shape
    (['scale.weight'], (2, 3))
    """

    name = ""
    shares = Uncut()

    def __call__(self, *inputs, **options) -> Tensor:
        """Run `forward`, with the layer's name on the operations that it records."""
        with in_layer(self.name):
            return self.forward(*inputs, **options)

    def forward(self, *inputs, **options) -> Tensor:
        """The output for these inputs. Each layer says which it takes: most take x (B, T, D) and a Place."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def parts(self) -> Iterator[tuple[str, "Parameter | Layer"]]:
        """The parameters and layers directly inside this one, each with the name of its attribute."""
        for name, part in vars(self).items():
            if isinstance(part, Parameter | Layer):
                yield name, part
            elif isinstance(part, list):
                yield from ((f"{name}{i}", p) for i, p in enumerate(part) if isinstance(p, Parameter | Layer))

    def named(self, name: str = "") -> Self:
        """Name this layer and everything in it; a shared parameter keeps its first name."""
        self.name = name
        for inner, part in self.parts():
            path = f"{name}.{inner}" if name else inner
            if isinstance(part, Layer):
                part.named(path)
            elif not part.name:
                part.name = path
        return self

    def cut(self, shares: Uncut) -> Self:
        """Cut this layer and its parts over ranks, before they are drawn (see parallel/tensor.py)."""
        self.shares = shares
        for _, part in self.parts():
            part.cut(shares)
        return self

    def parameters(self) -> dict[str, Parameter]:
        """Every parameter by its name, each once, in a fixed order. Raises ValueError before `named`."""
        found: dict[str, Parameter] = {}
        for attribute, part in self.parts():
            if isinstance(part, Parameter) and not part.name:
                raise ValueError(f"the parameter {attribute} has no name yet: call named() on the model")
            found |= part.parameters() if isinstance(part, Layer) else {part.name: part}
        return found

    def draw(self, seed: int = 0, dtype: str = "float32", xp=np) -> Self:
        """Draw every parameter's initial values, a pure function of the seed and the name; returns itself."""
        for parameter in self.parameters().values():
            parameter.draw(seed, dtype, xp)
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """The arrays of all parameters by name: this rank's own arrays, not copies."""
        return {name: p.data for name, p in self.parameters().items()}

    def load_state_dict(self, arrays: dict) -> None:
        """Copy arrays into the parameters of their names, which keep their dtype if they are drawn.

        Raises BadInput, and changes nothing, if a name is missing or unexpected or a shape is wrong.
        """
        own = self.parameters()
        shapes = {name: tuple(s.stop - s.start for s in p.piece) for name, p in own.items()}
        wrong = [f"{name} is missing" for name in own.keys() - arrays.keys()]
        wrong += [f"{name} is unexpected" for name in arrays.keys() - own.keys()]
        wrong += [
            f"{name} has shape {np.shape(arrays[name])}, expected {shape}"
            for name, shape in shapes.items()
            if name in arrays and np.shape(arrays[name]) != shape
        ]
        if wrong:
            more = f"; and {len(wrong) - 5} more" * (len(wrong) > 5)
            raise BadInput(f"these arrays do not fit: {'; '.join(sorted(wrong)[:5])}{more}")
        for name, p in own.items():
            dtype = p.dtype if p.drawn else None
            p.data, p.grad = library(arrays[name]).array(arrays[name], dtype), None


class Dropout(Layer):
    """In training, sets each feature to zero with probability p: (B, T, D) -> (B, T, D)."""

    def __init__(self, p: float):
        self.p = p

    def forward(self, x, place):
        """x (B, T, D) with dropout; x itself outside training."""
        features = library(x.data).arange(x.shape[-1])
        return dropout(
            x, keep=place.keep(self.name, self.p, place.local_positions[:, None], features), p=self.p
        )


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
