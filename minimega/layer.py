"""Layer: parameters in a fixed order, and a forward pass. Place: where a batch stands in the run.

B batch, T time, D width.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from minimega import random
from minimega.autograd import Tensor, in_layer, recompute
from minimega.backend import library
from minimega.elsewhere.attributes import LAYER, lacks
from minimega.errors import BadInput
from minimega.ops import dropout
from minimega.parameter import ByName, Parameter
from minimega.ranks.uncut import Uncut


@dataclass(frozen=True)
class Place:
    """Where a batch stands in the run and in the text: positions, dropout and the cache depend on it alone.

    Samples and tokens are numbered in the whole step's batch and in the text's window, however they are cut
    over ranks. `recall(layer, k, v)` returns the keys and values to attend to: a cache adds those of earlier
    tokens. Under context parallelism, `attend` replaces `attention` (see parallel/context.py). A layer with
    its own loss stores its value in `extra`, under the layer's name: a mean over the `sequences` of the step.
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

    A layer called without a place takes this one, so nothing is dropped out. To train with dropout, hand it
    one with `training=True` and another `key` at each step. Only the first two axes of `tokens` count.
    Raises BadInput if `tokens` is no array.

    >>> place(np.zeros((2, 3), int), start=5).local_positions.tolist()
    [5, 6, 7]
    """
    if not hasattr(tokens, "shape"):
        raise BadInput(f"expected an array, such as tokens (B, T), not a {type(tokens).__name__}")
    xp, (batch, time) = library(tokens), (*tokens.shape, 1)[:2]
    return Place(xp.arange(batch), xp.arange(start, start + time), **known)


class Layer:
    """Parameters and a forward pass. A part is a parameter, a layer, or a list of either.

    A subclass sets its parts in `__init__` and writes `forward`. Parameters are listed in the order in which
    `__init__` sets them, and named by their path from the outermost layer that is used.

    A plain layer, one outside of a Model, draws itself at first use: in float32, from seed 0 and each
    parameter's name. Call `draw` before that for another seed or dtype. (float64 inputs give float64.)

    >>> class Net(Layer):
    ...     def __init__(self, d_model):
    ...         self.gain, self.norm = Parameter((d_model,), mean=1.0), [Dropout(0.1)]
    ...     def forward(self, x, place=None):
    ...         return self.norm[0](x * self.gain, place)
    >>> net = Net(3)
    >>> net, net(np.ones((2, 3), "float32")).shape, list(net.parameters())
    (Net(3 parameters), (2, 3), ['gain'])
    """

    name = ""
    shares = Uncut()
    plain = True  # it draws itself; `cut` makes it part of a model, which is drawn by its owner
    ready = False  # named and drawn, since the last part was set

    def __call__(self, *inputs, **options) -> Tensor:
        """Run `forward`, with the layer's name on the operations that it records."""
        if not self.ready:
            self.prepare(library(*(x.data if isinstance(x, Tensor) else x for x in inputs)))
        with in_layer(self.name):
            return self.forward(*inputs, **options)

    def __setattr__(self, name: str, value) -> None:
        super().__setattr__(name, value)
        if isinstance(value, Parameter | Layer | list):
            self.ready = False

    def __repr__(self) -> str:
        from minimega.nets.describe import line

        return line(self)

    if not TYPE_CHECKING:  # which would take any name for an attribute

        def __getattr__(self, name: str):
            raise AttributeError(lacks(type(self).__name__, name, LAYER), name=name, obj=self)

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
        self.shares, self.plain = shares, False
        for _, part in self.parts():
            part.cut(shares)
        return self

    def prepare(self, xp=np) -> None:
        """Before its first use: a plain layer names its parts, and draws what is not drawn, from seed 0."""
        if self.plain:
            if not self.name:
                self.named()
            for parameter in self.parameters().values():
                if not parameter.drawn:
                    parameter.draw(0, xp=xp)
        self.ready = True

    def leaves(self) -> list[Parameter]:
        """Every parameter once, named or not, in a fixed order."""
        parts = (part.leaves() if isinstance(part, Layer) else [part] for _, part in self.parts())
        return list({id(p): p for part in parts for p in part}.values())

    def count(self) -> int:
        """The number of parameters, tied ones once; allocates nothing."""
        return sum(p.size for p in self.leaves())

    def parameters(self) -> dict[str, Parameter]:
        """Every parameter by its name, each once, in a fixed order; names those that have no name yet."""
        every = self.leaves()
        for anew in (False, True):  # anew: layers named their parts alike when each was used alone
            if len({p.name for p in every} - {""}) < len(every):
                for p in every:
                    p.name = "" if anew else p.name
                self.named(self.name)
        return ByName({p.name: p for p in every})

    def summary(self) -> None:
        """Print a table: each layer's output shape and parameters (tied? cut?), then their total and bytes.

        It allocates nothing, so the model need not be drawn. `nets.describe.table` returns it as a text.
        """
        from minimega.nets.describe import table

        print(table(self))

    def expect(self, x, width: int, axes: str = "...") -> None:
        """Raise BadInput, with this layer's name and both shapes, unless x is an array (..., width)."""
        shape = getattr(x, "shape", ())
        if shape[-1:] != (width,) or (axes != "..." and len(shape) != 3):
            found = shape if hasattr(x, "shape") else f"a {type(x).__name__}, no array"
            name = self.name if self.name[:1].isalpha() else f"{type(self).__name__} {self.name}".rstrip()
            raise BadInput(f"{name}: expected ({axes}, {width}), got {found}")

    def draw(self, seed: int = 0, dtype: str = "float32", xp=np) -> Self:
        """Draw every parameter's initial values, a pure function of the seed and the name; returns itself."""
        for parameter in self.parameters().values():
            parameter.draw(seed, dtype, xp)
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """The arrays of all parameters by name: this rank's own arrays, not copies."""
        return {name: p.data for name, p in self.parameters().items()}

    def load_state_dict(self, arrays: Mapping) -> None:
        """Copy arrays into the parameters of their names, which keep their dtype if they are drawn.

        Raises BadInput, and changes nothing, if a name is missing or unexpected or a shape is wrong.
        """
        if not isinstance(arrays, Mapping):
            raise BadInput(f"load_state_dict takes arrays by name, not a {type(arrays).__name__}")
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
            p.data, p.grad = library(arrays[name]).array(arrays[name], p.dtype if p.drawn else None), None


class Dropout(Layer):
    """In training, sets each feature to zero with probability p: (B, T, D) -> (B, T, D), or (B, ...) alike.

    It drops nothing unless it is called with a place in training.

    >>> x = np.ones((1, 8))
    >>> Dropout(0.5)(x).data.tolist()
    [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
    >>> Dropout(0.5)(x, place(x, key=3, training=True)).data.tolist()
    [[0.0, 2.0, 2.0, 0.0, 2.0, 0.0, 2.0, 2.0]]
    """

    def __init__(self, p: float):
        if not 0 <= p < 1:
            raise BadInput(f"Dropout: p is {p}; it must lie in [0, 1)")
        self.p = p

    def forward(self, x, place=None):
        """x (B, T, D) with dropout; x itself outside training."""
        x = x if isinstance(x, Tensor) else Tensor(x)
        if place is None:
            return dropout(x)
        if x.ndim < 2:
            raise BadInput(f"{self.name or 'Dropout'}: expected (B, ..., D) in training, got {x.shape}")
        inner = [library(x.data).arange(n) for n in x.shape[1:]]
        inner[0] = place.local_positions if x.ndim == 3 else inner[0]
        inner = [at.reshape(-1, *[1] * i) for i, at in enumerate(reversed(inner))][::-1]
        return dropout(x, keep=place.keep(self.name, self.p, *inner), p=self.p)


class Around(Layer):
    """A layer around another: same name, same parameters, same cut.

    So `layers[name] = Recomputed(layers[name])` renames no parameter.
    """

    def __init__(self, layer: Layer):
        self.layer, self.name = layer, layer.name

    def prepare(self, xp=np):
        """Prepare the inner layer: if it waits for its model to be drawn, so does this one."""
        self.layer.prepare(xp)
        self.ready = True

    def parts(self):
        """The parts of the inner layer."""
        return self.layer.parts()

    def named(self, name=""):
        """Name the inner layer, and this one like it."""
        self.name = self.layer.named(name).name
        return self

    def cut(self, shares):
        """Cut the inner layer, and this one with it."""
        self.shares, self.plain = shares, False
        self.layer.cut(shares)
        return self


class Recomputed(Around):
    """Keeps only its inputs and runs the inner layer again in the backward pass (Chen et al. 2016)."""

    def forward(self, *inputs):
        """What the inner layer returns, of the same shape."""
        return recompute(self.layer.forward)(*inputs)
