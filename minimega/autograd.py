"""The engine: a Tensor remembers which operation made it; `backward` walks back and adds gradients up.

An operation is a function on raw arrays that gives `y, back`: its value, and its backward pass as a
closure. The engine knows nothing else. All mathematics stands in the operations, where it can be read,
timed and checked alone.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from minimega import random
from minimega.backend import library

_recording = ContextVar("recording", default=True)
_layer = ContextVar("layer", default="")


class Tensor:
    """An array, and how it was made.

    `data` is the array. A leaf (made by hand, not by an operation) collects its gradient in `grad`, of the
    same shape; gradients add up over calls of `backward` until `grad` is set to None. Constants need no
    Tensor: pass the raw array, and no gradient is computed for it.

    >>> x = Tensor(np.array([1.0, 2.0, 3.0]))
    >>> y = (x * x).sum()
    >>> y.backward()
    >>> x.grad.tolist()
    [2.0, 4.0, 6.0]
    """

    __slots__ = ("__weakref__", "back", "data", "grad", "layer", "made_by", "parents")
    __array_ufunc__ = None  # array * tensor asks the tensor, instead of making an array of tensors

    def __init__(self, data, parents: tuple = (), back: Callable | None = None, made_by: str = ""):
        self.data = np.asarray(data) if library(data) is np else data
        self.grad = None
        self.parents, self.back, self.made_by = parents, back, made_by
        self.layer = _layer.get()

    def __repr__(self) -> str:
        return f"Tensor{self.shape}" + (f" made by {self.made_by}" if self.made_by else "")

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    dtype = property(lambda self: self.data.dtype)

    def backward(self, dy=None, keep_graph: bool = False) -> None:
        """Add the gradient of this tensor to `grad` of every leaf that it was made from: see `backward`."""
        backward(self, dy, keep_graph)


class Parameter(Tensor):
    """A leaf that is learned: its whole shape is known at once, its data only when it is drawn.

    It starts as mean + std * z, z standard normal by its name and the element's place in the whole array, so
    that every layout of a model starts at the same weights. Matrices take part in weight decay; biases and
    norms do not.

    >>> w = Parameter((2, 3), std=0.02)
    >>> w.name = "w"
    >>> w.draw(seed=0).data.shape, w.size, w.decays
    ((2, 3), 6, True)
    """

    __slots__ = ("mean", "name", "std", "whole_shape")

    def __init__(self, shape: tuple[int, ...], std: float = 0.0, mean: float = 0.0):
        super().__init__(None)
        self.whole_shape, self.std, self.mean, self.name = tuple(shape), std, mean, ""

    size = property(lambda self: int(np.prod(self.whole_shape, dtype=object)))
    decays = property(lambda self: len(self.whole_shape) > 1)

    def draw(self, seed: int, dtype: str = "float32", xp=np) -> "Parameter":
        places = xp.arange(self.size).reshape(self.whole_shape)
        data = xp.full(self.whole_shape, self.mean)
        if self.std:
            data += self.std * random.normal(random.key(seed, "parameter", self.name), places)
        self.data, self.grad = data.astype(dtype), None
        return self


def op(f: Callable) -> Callable:
    """Let an operation take Tensors: on raw arrays f gives (y, back) as ever; on Tensors it gives a Tensor.

    `back(dy)` gives one gradient, or a tuple with one for each positional argument (those after the last
    differentiable one may be left out). A gradient is an array, None, or a function that gives it: such a
    function is called only where the gradient is wanted, and late, so that a message may travel in the
    meantime.

    >>> @op
    ... def double(x):
    ...     return 2 * x, lambda dy: 2 * dy
    >>> y, back = double(np.ones(2))            # raw: nothing is remembered
    >>> double(Tensor(np.ones(2)))              # the engine remembers `back`
    Tensor(2,) made by double
    """

    @functools.wraps(f)
    def call(*args, **options):
        if any(isinstance(a, Tensor) for a in options.values()):
            raise TypeError(f"{f.__name__} takes Tensors by position, not by keyword")
        if not any(isinstance(a, Tensor) for a in args):
            return f(*args, **options)
        y, back = f(*(a.data if isinstance(a, Tensor) else a for a in args), **options)
        return Tensor(y, args, back, f.__name__) if _recording.get() else Tensor(y)

    return call


def backward(y: Tensor, dy=None, keep_graph: bool = False) -> None:
    """Walk from y back to its leaves and add to each leaf's `grad`; dy is the gradient of y (1 for a scalar).

    What an operation kept is released as soon as it was used, unless `keep_graph`; a second backward
    through released operations raises RuntimeError. With `keep_graph=True` it adds the same gradients once
    more.
    """
    if dy is None:
        if y.data.size != 1:
            raise ValueError(f"backward from a tensor of shape {y.shape} needs its gradient: backward(dy)")
        dy = library(y.data).ones_like(y.data)
    dy = library(y.data).asarray(dy, dtype=y.dtype)
    if dy.shape != y.shape:
        raise ValueError(f"the gradient given to backward has shape {dy.shape}, the tensor {y.shape}")
    order = _makers_first(y)
    arrived = {id(y): [dy]}  # by tensor, the gradients that came from its users
    waiting = []  # gradients of leaves, not computed yet
    while order:
        t = order.pop()
        if id(t) not in arrived:
            continue
        dy = _total(arrived.pop(id(t)))
        if t.back is None:
            if t.made_by:
                raise RuntimeError(
                    f"{t!r}: an earlier backward used up its graph; keep_graph=True there keeps it"
                )
            waiting.append((t, dy))
            continue
        dxs = t.back(dy)
        # Only now the weights' gradients of the operation before: a message that this one sent travels
        # meanwhile.
        _add_up(waiting)
        waiting = []
        for x, dx in zip(t.parents, dxs if isinstance(dxs, tuple) else (dxs,), strict=False):
            if not isinstance(x, Tensor) or dx is None:
                continue
            if is_leaf(x):
                waiting.append((x, dx))
            else:
                arrived.setdefault(id(x), []).append(dx)
        if not keep_graph:
            t.back, t.parents = None, ()
    _add_up(waiting)


def is_leaf(t: Tensor) -> bool:
    """Whether no operation made this tensor: its gradient is collected, not passed on."""
    return not t.made_by


def _total(gradients: list):
    """The sum of what came in, in the order in which it came; functions are called now."""
    first, *rest = (g() if callable(g) else g for g in gradients)
    return functools.reduce(
        lambda a, b: a + b, rest, first
    )  # never in place: operations may pass on their dy itself


def _add_up(waiting: list) -> None:
    for leaf, dx in waiting:
        dx = dx() if callable(dx) else dx
        if dx.shape != leaf.shape:
            raise ValueError(f"a gradient of shape {dx.shape} came back for {leaf!r}")
        leaf.grad = dx if leaf.grad is None else leaf.grad + dx


def _makers_first(y: Tensor) -> list[Tensor]:
    """Every tensor that y was made from and y itself, each after those it was made from (no recursion)."""
    order, seen, todo = [], set(), [(y, False)]
    while todo:
        t, makers_done = todo.pop()
        if makers_done:
            order.append(t)
        elif id(t) not in seen:
            seen.add(id(t))
            todo.append((t, True))
            todo.extend((x, False) for x in t.parents if isinstance(x, Tensor) and not is_leaf(x))
    return order


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside, operations on Tensors remember nothing: evaluation and generation hold no activations."""
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


@contextmanager
def in_layer(name: str) -> Iterator[None]:
    """Tensors made inside belong to the layer of this name: for `saved_bytes` and for messages."""
    token = _layer.set(name)
    try:
        yield
    finally:
        _layer.reset(token)


def recompute(f: Callable) -> Callable:
    """Keep nothing of f but its inputs, and compute it again in the backward pass (Chen et al. 2016).

    f takes Tensors and gives one; the parameters inside it get their gradients as usual.

    >>> x = Tensor(np.array([3.0]))
    >>> recompute(lambda x: x * x * x)(x).backward()
    >>> x.grad.tolist()
    [27.0]
    """

    @functools.wraps(f)
    def call(*args):
        if not _recording.get():
            return f(*args)
        layer = _layer.get()
        with no_grad():
            y = f(*args)

        def back(dy):
            again = [Tensor(a.data) if isinstance(a, Tensor) else a for a in args]
            with in_layer(layer):
                f(*again).backward(dy)
            return tuple(a.grad if isinstance(a, Tensor) else None for a in again)

        return Tensor(y.data, args, back, "recompute")

    return call


def saved_bytes(y: Tensor) -> dict[str, int]:
    """The bytes that the backward pass of y holds, by the layer that made them; parameters are not counted.

    It reads what the closures hold. An array that several closures share counts once, for the first of
    them; a view counts as the whole array that it keeps alive.

    >>> x = Tensor(np.zeros(1000))
    >>> saved_bytes(x.exp())                  # exp keeps its output
    {'': 8000}
    """
    order = _makers_first(y)
    seen = {id(_owner(p.data)) for t in order for p in t.parents if isinstance(p, Parameter)}
    held: dict[str, int] = {}
    for t in order:
        for array in _arrays(t.back):
            owner = _owner(array)
            if id(owner) not in seen:
                seen.add(id(owner))
                held[t.layer] = held.get(t.layer, 0) + owner.nbytes
    return held


def _owner(array):
    while library(array) is np and isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _arrays(thing, depth: int = 0) -> Iterator:
    """The arrays that a closure can reach: through its cells, and the tuples, lists and functions in them."""
    if isinstance(thing, Tensor):
        thing = thing.data
    if hasattr(thing, "nbytes") and hasattr(thing, "ndim"):
        if getattr(thing, "ndim", 0):
            yield thing
    elif depth < 8:
        if callable(thing):
            inside = [c.cell_contents for c in getattr(thing, "__closure__", None) or ()]
            inside += [*getattr(thing, "args", ())]
        else:
            inside = thing if isinstance(thing, tuple | list) else ()
        for part in inside:
            yield from _arrays(part, depth + 1)


def first_not_finite(y: Tensor) -> Tensor | None:
    """The first tensor on the way to y that holds an infinity or a NaN, or None: where a run went wrong."""
    for t in _makers_first(y):
        if not bool(library(t.data).isfinite(t.data).all()):
            return t
    return None
