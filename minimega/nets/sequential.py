"""Sequential: layers and functions one after another; the activations, as layers."""

from collections.abc import Callable, Iterator
from typing import Self

from minimega.autograd import Tensor
from minimega.errors import BadInput
from minimega.layer import Layer
from minimega.ops import gelu, relu, tanh


class Sequential(Layer):
    """Runs its parts one after another, each on what the one before returned.

    A part is a layer, or a function of a Tensor such as `relu`. Layers are named by their place: "0", "2".
    A place, if one is given, goes to every layer (`Dropout` needs one in training: see `place`).
    `append` adds a part.

    >>> import numpy as np
    >>> from minimega.linear import Linear
    >>> net = Sequential(Linear(2, 16), relu, Linear(16, 1))
    >>> net, net(np.ones((4, 2))).shape, list(net.parameters())[::2]
    (Sequential(2 -> 16 -> 1), (4, 1), ['0.weight', '2.weight'])
    """

    def __init__(self, *layers: Callable):
        self.layers: tuple[Callable, ...] = ()  # not a list: a layer put into that would not be named
        for part in layers:
            self.append(part)

    def append(self, part: Callable) -> Self:
        """Add a part at the end, and return this layer. An optimizer made before does not know the part."""
        if not callable(part) or isinstance(part, type):
            made = f": write {part.__name__}(...)" if isinstance(part, type) else ""
            made = ": write Sequential(*layers)" if isinstance(part, list | tuple) else made
            found = f"the class {part.__name__}" if isinstance(part, type) else f"a {type(part).__name__}"
            n = len(self.layers)
            raise BadInput(f"Sequential(layer, function, ...): part {n} is {found}, no layer{made}")
        self.layers, self.ready = (*self.layers, part), False
        return self

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: int) -> Callable:
        return self.layers[i]

    def parts(self) -> Iterator:
        """The layers among the parts, named by their place."""
        return ((str(i), part) for i, part in enumerate(self.layers) if isinstance(part, Layer))

    def forward(self, x, place=None):
        """What the last part returns."""
        x = x if isinstance(x, Tensor) else Tensor(x)
        for part in self.layers:
            x = part(x, place) if isinstance(part, Layer) and place is not None else part(x)
        return x


class ReLU(Layer):
    """`relu` as a layer: x where it is positive, 0 elsewhere.

    >>> import numpy as np
    >>> ReLU(), ReLU()(np.array([-1.0, 2.0])).data.tolist()
    (ReLU(), [0.0, 2.0])
    """

    operation = staticmethod(relu)

    def forward(self, x, place=None):
        """Entry by entry: any shape."""
        return self.operation(x if isinstance(x, Tensor) else Tensor(x))


class GELU(ReLU):
    """`gelu` as a layer, by the tanh formula of GPT-2."""

    operation = staticmethod(gelu)


class Tanh(ReLU):
    """`tanh` as a layer."""

    operation = staticmethod(tanh)
