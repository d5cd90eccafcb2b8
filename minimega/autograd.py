"""The engine: a Tensor remembers the operation that made it; `backward` walks back and adds up gradients.

An operation is a function on raw arrays that returns `y, back`: its value, and its backward pass as a
closure. The engine knows nothing else. All the mathematics is in the operations, where it can be read,
timed and checked on its own.
"""

import functools
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol, overload

import numpy as np

from minimega.backend import base_of, library
from minimega.contract import called, check_gradient, each_gradient, positional, value_and_back
from minimega.elsewhere.keywords import arguments, either
from minimega.kernels import replaceable
from minimega.precision import finite, narrow, wide, widened
from minimega.tensor import Tensor

_recording = ContextVar("recording", default=True)
_layer = ContextVar("layer", default="")
_watch = ContextVar("watch", default=lambda y: None)
_later: ContextVar[list | None] = ContextVar("later", default=None)
P = ParamSpec("P")


class Operation:
    """A node of the graph, an operation that ran: holds its closure, but not its value, which may be freed.

    `inputs` says where each gradient goes: an Operation, a leaf or nowhere (None); `back` gives up to `most`.
    """

    __slots__ = ("back", "dtype", "inputs", "layer", "most", "name", "shape")
    learned = False
    back: Callable | None
    inputs: tuple

    def __init__(self, name: str, args: tuple, back: Callable, y, most: int = 0):
        self.inputs = tuple((a.maker or a) if isinstance(a, Tensor) else None for a in args)
        self.name, self.back, self.layer = name, back, _layer.get()
        self.shape, self.dtype, self.most = np.shape(y), getattr(y, "dtype", None), max(most, len(args))


class Op(Protocol[P]):
    """What `op` makes of a function, as type checkers and editors see it."""

    __name__: str

    @overload
    def __call__(self, x: Tensor, /, *others: Any, **options: Any) -> Tensor: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, x: Any, w: Tensor, /, *others: Any, **options: Any) -> Tensor: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, *args: P.args, **options: P.kwargs) -> tuple[np.ndarray, Callable[..., Any]]: ...


@overload
def op(f: Callable[P, Any], *, exact: bool = False) -> Op[P]: ...
@overload
def op(f: None = None, *, exact: bool = False) -> Callable[[Callable[P, Any]], Op[P]]: ...
def op(f: Callable | None = None, *, exact: bool = False) -> Any:
    """Make an operation accept Tensors: it then returns a Tensor. On raw arrays it still returns (y, back).

    `back(dy)` returns one gradient, or one per positional argument (up to the last Tensor): an array, None,
    or a function that returns the array, called only if the gradient is needed, and late, so that messages
    overlap with computation. Raises WrongOperation if f or `back` returns anything else. If arguments are
    16-bit, y is rounded to their type and `back` gets a float32 dy; `@op(exact=True)` leaves both alone.

    >>> @op
    ... def double(x):
    ...     return 2 * x, lambda dy: 2 * dy
    >>> y, back = double(np.ones(2))            # raw arrays: nothing is recorded
    >>> double(Tensor(np.ones(2)))              # the engine records `back`
    Tensor([2., 2.], dtype=float64, made by double)
    """
    if f is None:
        return functools.partial(op, exact=exact)
    name, most, f = f.__name__, positional(f), replaceable(either(f))

    @functools.wraps(f)
    def call(*args, **options):
        arguments(name, args, options, Tensor)
        arrays = [a.data if isinstance(a, Tensor) else a for a in args]
        y, back = value_and_back(name, f(*arrays, **options))
        if not exact:
            y, back = narrow(y, *arrays), widened(back, *arrays)
        if not any(isinstance(a, Tensor) for a in args):
            return y, back
        _watch.get()(y)
        return Tensor(y, Operation(name, args, back, y, most) if _recording.get() else None)

    return call


def backward(y: Tensor, dy=None, keep_graph: bool = False) -> None:
    """Walk from y back to its leaves and add to each leaf's `grad`; dy is the gradient of y (1 for a scalar).

    The graph is released on the way, and a second pass raises RuntimeError; with `keep_graph=True` a second
    pass adds the same gradients again. ValueError if dy has another shape, or y needs a dy and none is given.
    """
    if dy is None and y.data.size != 1:
        raise ValueError(f"backward from a tensor of shape {y.shape} needs its gradient: backward(dy)")
    dy = library(y.data).asarray(np.ones(y.shape) if dy is None else dy, dtype=y.dtype)
    if dy.shape != y.shape:
        raise ValueError(f"the gradient given to backward has shape {dy.shape}, the tensor {y.shape}")
    order = _makers_first(y)
    arrived = {id(y.maker): [(dy, "")]}  # per operation: each gradient of its value, and its user
    waiting = [] if y.maker else [(y, dy, "")]  # gradients of leaves, not computed yet
    uses = Counter(id(x) for made in order for x in made.inputs if isinstance(x, Tensor) and x.complete)
    while order:
        made = order.pop()
        if id(made) not in arrived:
            continue
        if made.back is None:
            raise RuntimeError(f"{made.name}: an earlier backward released it; pass keep_graph=True there")
        gradients = (_computed(dx, made, user) for dx, user in arrived.pop(id(made)))
        dy = functools.reduce(operator.add, gradients)  # never in place: some return dy itself
        dxs = each_gradient(made.name, called(made.name, made.back, dy), made.inputs, made.most)
        # only now the previous operation's weight gradients: they overlap with this one's communication
        _add_up(waiting, uses)
        waiting = []
        for x, dx in zip(made.inputs, dxs, strict=False):
            if isinstance(x, Tensor) and dx is not None:
                waiting.append((x, dx, made.name))
            elif isinstance(x, Operation) and dx is not None:
                arrived.setdefault(id(x), []).append((dx, made.name))
        if not keep_graph:
            made.back, made.inputs = None, ()
    _add_up(waiting, uses)


Tensor.operations["backward"] = backward


def _computed(dx, x: Tensor | Operation, user: str):
    """A gradient as an array of its final type; calls it if it is a function.

    Gradients of 16-bit activations are rounded to 16 bits, like the activations. Those of parameters stay
    float32: many are added up, and they update float32 weights.
    """
    dx = called(user, dx) if callable(dx) else dx
    check_gradient(user, dx, x.shape)
    return wide(dx) if x.learned else narrow(dx, x)


def _add_up(waiting: list, uses: Counter) -> None:
    for leaf, dx, user in waiting:
        if leaf.learned and (later := _later.get()) is not None:
            later.append((leaf, dx, user))
            continue
        dx = _computed(dx, leaf, user)
        leaf.grad = dx if leaf.grad is None else leaf.grad + dx
        uses[id(leaf)] -= 1
        if uses[id(leaf)] == 0:
            leaf.complete(leaf)


def _makers_first(y: Tensor) -> list[Operation]:
    """Every operation that y depends on, makers before users (no recursion: graphs are deep)."""
    order, seen, todo = [], set(), [(y.maker, False)] if y.maker else []
    while todo:
        made, makers_done = todo.pop()
        if makers_done:
            order.append(made)
        elif id(made) not in seen:
            seen.add(id(made))
            todo.append((made, True))
            todo.extend((x, False) for x in made.inputs if isinstance(x, Operation))
    return order


@contextmanager
def _inside(variable: ContextVar, value) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def no_grad() -> AbstractContextManager[None]:
    """A context in which operations record nothing: evaluation and generation keep no activations."""
    return _inside(_recording, False)


def in_layer(name: str) -> AbstractContextManager[None]:
    """A context in which operations belong to the layer of this name, for `saved_bytes` and messages."""
    return _inside(_layer, name)


@contextmanager
def parameters_later() -> Iterator[list]:
    """A context in which `backward` only lists parameter gradients, for `add_up`: nothing waits for them."""
    later: list = []
    with _inside(_later, later):
        yield later


def add_up(pending: list) -> None:
    """Add the deferred gradients to their parameters, and release what they are computed from."""
    uses = Counter(id(leaf) for leaf, *_ in pending if leaf.complete)
    while pending:
        _add_up([pending.pop(0)], uses)


def recompute(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Save only the inputs of f, and compute f again in the backward pass (Chen et al. 2016).

    f takes Tensors and returns one. The parameters that it uses get their gradients as usual; a Tensor made
    by an operation must come in as an argument.

    >>> x = Tensor(np.array([3.0]))
    >>> recompute(lambda x: x * x * x)(x).backward()
    >>> x.grad.tolist()
    [27.0]
    """

    @functools.wraps(f)
    def call(*args) -> Tensor:
        if not _recording.get():
            return f(*args)
        layer, held = _layer.get(), [Tensor(a.data) if isinstance(a, Tensor) else a for a in args]
        with no_grad():
            y = f(*held)

        def back(dy):
            again = [Tensor(a.data) if isinstance(a, Tensor) else a for a in held]
            with in_layer(layer), _inside(_recording, True):
                f(*again).backward(dy)
            return tuple(a.grad if isinstance(a, Tensor) else None for a in again)

        return Tensor(y.data, Operation("recompute", args, back, y.data))

    return call


def saved_bytes(y: Tensor) -> dict[str, int]:
    """The bytes that the backward pass of y keeps, by the layer that saved them; parameters do not count.

    It reads the closures. An array that several of them share counts once, for the first of them; a view
    counts as the whole array that it keeps alive.

    >>> x = Tensor(np.zeros(1000))
    >>> saved_bytes(x.exp())                  # exp keeps its output
    {'': 8000}
    """
    held: dict[str, int] = {}
    for layer, array in saved_arrays(y):
        held[layer] = held.get(layer, 0) + array.nbytes
    return held


def saved_arrays(y: Tensor) -> Iterator[tuple]:
    """The whole arrays that the backward pass of y keeps, each once, with the layer that saved it first."""
    order = _makers_first(y)
    seen = {id(base_of(p.data)) for made in order for p in made.inputs if isinstance(p, Tensor) and p.learned}
    for made in order:
        for array in reachable(made.back):
            owner = base_of(array)
            if id(owner) not in seen:
                seen.add(id(owner))
                yield made.layer, owner


def reachable(thing: Any, depth: int = 0) -> Iterator:
    """The arrays that a closure can reach: through its cells, and the tuples, lists and functions in them."""
    thing = thing.data if isinstance(thing, Tensor) else thing
    if hasattr(thing, "nbytes") and getattr(thing, "ndim", False):
        yield thing
    elif depth < 8:
        inside = thing if isinstance(thing, tuple | list) else ()
        for part in inside or [c.cell_contents for c in getattr(thing, "__closure__", None) or ()]:
            yield from reachable(part, depth + 1)


def first_not_finite(f: Callable) -> str | None:
    """Run f, say a failed step, and return the first layer that gave an infinity or a NaN (None: none did).

    With the same key a step run again is the same computation, dropout included.

    >>> first_not_finite(lambda: Tensor(np.array(-1.0)) * np.inf)
    ''
    """
    layers: list[str] = []

    def look(y) -> None:
        if not finite(y):
            layers.append(_layer.get())

    with no_grad(), _inside(_watch, look):
        f()
    return layers[0] if layers else None
