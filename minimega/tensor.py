"""Tensor: an array that knows how it was made, with NumPy's operators. The mathematics is in ops.py."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from minimega.backend import library, to_numpy
from minimega.elsewhere.attributes import TENSOR, lacks
from minimega.elsewhere.keywords import renamed


@renamed
class Tensor:
    """An array that knows how it was made.

    `data` is the array, `maker` the Operation that made it. A leaf (created directly, without a maker) adds
    up its gradient in `grad`, of the same shape, over calls of `backward` until `grad` is set to None.
    `complete`, if set, is called with the leaf once a backward pass has added the last contribution.
    Constants need no Tensor: pass the raw array, and no gradient is computed for it.

    An operator or a method calls the operation of its name: ops.py puts them into `operations`.

    >>> x = Tensor(np.array([1.0, 2.0, 3.0]))
    >>> y = (x * x).sum()
    >>> y.backward()
    >>> y, x.grad.tolist()
    (Tensor(14., dtype=float64, made by sum), [2.0, 4.0, 6.0])
    """

    __slots__ = ("__weakref__", "complete", "data", "grad", "maker")
    data: np.ndarray
    grad: np.ndarray | Any  # None before the first backward pass; Any, so that checkers let it be used
    maker: Any  # the Operation, or None
    complete: Callable[["Tensor"], object] | None
    operations: ClassVar[dict[str, Callable[..., Any]]] = {}
    learned = False  # whether it is a Parameter
    __array_ufunc__ = None  # array * tensor calls the tensor's operator, and builds no array of tensors

    def __init__(self, data, maker=None):
        self.data = np.asarray(data) if library(data) is np else data
        if self.data.dtype.kind in "OSU":  # objects and texts
            raise TypeError(f"a Tensor holds numbers, not {type(data).__name__}s")
        self.grad, self.maker, self.complete = None, maker, None

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def dtype(self) -> np.dtype:
        """The type of the numbers."""
        return self.data.dtype

    @property
    def size(self) -> int:
        """The number of entries."""
        return self.data.size

    def backward(self, dy=None, keep_graph: bool = False) -> None:
        """Add the gradient of this tensor with respect to each leaf to the leaf's `grad`.

        `dy` is the gradient of this tensor (1 for a scalar): see `autograd.backward`.
        """
        self.operations["backward"](self, dy, keep_graph)

    def __add__(self, b) -> "Tensor":
        return self.operations["add"](self, b)

    def __radd__(self, a) -> "Tensor":
        return self.operations["add"](a, self)

    def __sub__(self, b) -> "Tensor":
        return self.operations["subtract"](self, b)

    def __rsub__(self, a) -> "Tensor":
        return self.operations["subtract"](a, self)

    def __mul__(self, b) -> "Tensor":
        return self.operations["multiply"](self, b)

    def __rmul__(self, a) -> "Tensor":
        return self.operations["multiply"](a, self)

    def __truediv__(self, b) -> "Tensor":
        return self.operations["divide"](self, b)

    def __rtruediv__(self, a) -> "Tensor":
        return self.operations["divide"](a, self)

    def __matmul__(self, b) -> "Tensor":
        return self.operations["matmul"](self, b)

    def __rmatmul__(self, a) -> "Tensor":
        return self.operations["matmul"](a, self)

    def __pow__(self, b) -> "Tensor":
        return self.operations["power"](self, b)

    def __rpow__(self, a) -> "Tensor":
        return self.operations["power"](a, self)

    def __neg__(self) -> "Tensor":
        return self.operations["negative"](self)

    def __getitem__(self, index) -> "Tensor":
        return self.operations["take"](self, index)

    def sum(self, axis=None, keepdims: bool = False) -> "Tensor":
        """The sum over the given axes (None: over all)."""
        return self.operations["sum"](self, axis, keepdims)

    def mean(self, axis=None, keepdims: bool = False) -> "Tensor":
        """The mean over the given axes (None: over all)."""
        return self.operations["mean"](self, axis, keepdims)

    def max(self, axis=None, keepdims: bool = False) -> "Tensor":
        """The largest entry along the given axes (None: all)."""
        return self.operations["max"](self, axis, keepdims)

    def exp(self) -> "Tensor":
        """e to the power of each entry."""
        return self.operations["exp"](self)

    def log(self) -> "Tensor":
        """The natural logarithm."""
        return self.operations["log"](self)

    def sqrt(self) -> "Tensor":
        """The square root."""
        return self.operations["sqrt"](self)

    def tanh(self) -> "Tensor":
        """The hyperbolic tangent."""
        return self.operations["tanh"](self)

    def relu(self) -> "Tensor":
        """The entries that are positive, 0 elsewhere."""
        return self.operations["relu"](self)

    def gelu(self) -> "Tensor":
        """GELU by the tanh formula of GPT-2."""
        return self.operations["gelu"](self)

    def softmax(self, axis: int = -1) -> "Tensor":
        """exp(x) over its sum along an axis."""
        return self.operations["softmax"](self, axis)

    def log_softmax(self, axis: int = -1) -> "Tensor":
        """The logarithm of the softmax along an axis."""
        return self.operations["log_softmax"](self, axis)

    def reshape(self, *shape: int) -> "Tensor":
        """The same entries in another shape."""
        return self.operations["reshape"](self, *shape)

    def transpose(self, *axes: int) -> "Tensor":
        """The axes in another order (reversed if none is given): all of them, as NumPy's."""
        if axes == (0, 1) and self.ndim == 2:  # torch would swap them
            raise ValueError("transpose(0, 1) changes nothing: the axes are in their new order; use .T")
        return self.operations["transpose"](self, *axes)

    @property
    def T(self) -> "Tensor":
        """The axes in reverse order."""
        return self.transpose()

    def numpy(self) -> np.ndarray:
        """The numbers, as a NumPy array: the tensor's own memory, or a copy from the GPU."""
        return to_numpy(self.data)

    def item(self) -> float | int | bool:
        """The only entry, as a Python number. Raises ValueError if there are several."""
        if self.size != 1:
            raise ValueError(f"item() and float() take a Tensor of one entry, not of shape {self.shape}")
        return self.numpy().item()

    def tolist(self) -> list:
        """The numbers as nested lists."""
        return self.numpy().tolist()

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.numpy(), dtype, copy=copy)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("a Tensor of shape () has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"a Tensor of shape {self.shape} is neither true nor false: compare, then .any() or .all()"
            )
        return bool(self.item())

    # Comparisons give arrays of booleans, as NumPy's do: nothing is learned through them.
    def __eq__(self, other):
        return self.data == _data(other)

    def __ne__(self, other):
        return self.data != _data(other)

    def __lt__(self, other):
        return self.data < _data(other)

    def __le__(self, other):
        return self.data <= _data(other)

    def __gt__(self, other):
        return self.data > _data(other)

    def __ge__(self, other):
        return self.data >= _data(other)

    __hash__ = object.__hash__

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        numbers = np.array2string(self.numpy(), separator=", ", prefix=f"{type(self).__name__}(")
        cut = f", shape={self.shape}" if "..." in numbers or not self.size else ""
        made = f", made by {self.maker.name}" if self.maker else ""
        return f"{type(self).__name__}({numbers}{cut}, dtype={self.dtype}{made})"

    if not TYPE_CHECKING:  # which would take any name for an attribute

        def __getattr__(self, name: str):
            raise AttributeError(lacks(type(self).__name__, name, TENSOR), name=name, obj=self)


def _data(other):
    return other.data if isinstance(other, Tensor) else other
