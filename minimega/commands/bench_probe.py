"""Where the time of a step goes: a probe times each operation, product and message, and counts nothing twice.

A run that is not probed knows nothing of it. Operations, and `precision.product` which they call, are looked
up by name in the set of versions that a run chose (kernels/): the probe puts a set there whose versions are
the chosen ones, timed. The ranks' groups are wrapped, as in ranks/watch.py.
"""

import importlib
import inspect
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from minimega import autograd
from minimega.kernels import chosen
from minimega.precision import product
from minimega.ranks.group import Group

KINDS = "products", "fused", "elementwise", "messages", "waiting", "optimizer", "interpreter"
# Operations on each number, forward and backward, beside products; an exponential counts as one.
COUNTS = {
    "attention": (6, 4),
    "cross_entropy": (5, 2),
    "dropout": (2, 2),
    "gelu": (9, 12),
    "gelu_erf": (9, 12),
    "layer_norm": (8, 9),
    "multiply": (1, 2),
}
multiplied = inspect.unwrap(product)  # the readable function, which is not looked up


class Key(NamedTuple):
    """What was timed: in which layer, by which operation, forward or backward, of which of KINDS."""

    layer: str
    name: str
    way: str
    kind: str


@dataclass
class Sum:
    """The sum over all calls: seconds, calls, operations on numbers, and bytes that go in and out."""

    seconds: float = 0.0
    calls: int = 0
    operations: float = 0.0
    nbytes: int = 0


@dataclass
class Probe:
    """Times what runs inside it; `sums` has the seconds of each Key, without those of what runs within it."""

    clock: Callable[[], float] = time.perf_counter
    sums: dict[Key, Sum] = field(default_factory=lambda: defaultdict(Sum))
    meetings: list[list[float]] = field(default_factory=list)  # of each message: entered, waits from, until
    # of what is being timed: its key, the seconds of what is within, the numbers of the largest product
    within: list[list] = field(default_factory=list)

    @contextmanager
    def timed(self, name: str, way: str, kind: str, layer: str = "") -> Iterator[Sum]:
        """Time what runs inside, less what is timed within it; yields its Sum, for operations and bytes."""
        key = Key(layer, name, way, kind)
        inner: list[Any] = [key, 0.0, 0]
        begun = self.clock()
        self.within.append(inner)
        try:
            yield self.sums[key]
        finally:
            self.within.pop()
            took = self.clock() - begun
            self.sums[key].seconds += took - inner[1]
            self.sums[key].calls += 1
            if self.within:
                self.within[-1][1] += took

    def take(self) -> tuple[dict[Key, Sum], list[list[float]]]:
        """The sums and meetings since the last call, which begin anew."""
        found = dict(self.sums), self.meetings
        self.sums, self.meetings = defaultdict(Sum), []
        return found

    def operation(self, f: Callable, version: Callable | None) -> Callable:
        """The readable operation f, or its version, with forward and backward timed."""
        multiplies = bool({"product", "attend"} & {*f.__code__.co_names, *f.__code__.co_varnames})

        def call(*args, **options):
            layer = autograd._layer.get()
            result, kind = NotImplemented, "elementwise"
            with self.timed(f.__name__, "forward", kind, layer) as sum_:
                if version is not None:
                    result = version(*args, **options)
                if compiled := result is not NotImplemented:
                    kind = "fused" if multiplies else kind
                else:
                    result = f(*args, **options)
                if isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
                    y, back = result
                    self._count(sum_, f.__name__, 0, [*args, y], kind)
                    result = y, self.backward(f.__name__, layer, kind, back)
            if compiled and multiplies:  # it was timed under another name, before its kind was known
                self._move(Key(layer, f.__name__, "forward", "elementwise"), kind)
            return result

        return call

    def _move(self, key: Key, kind: str) -> None:
        old, new = self.sums.pop(key), self.sums[key._replace(kind=kind)]
        for name in ("seconds", "calls", "operations", "nbytes"):
            setattr(new, name, getattr(new, name) + getattr(old, name))

    def backward(self, name: str, layer: str, kind: str, back: Callable) -> Callable:
        """A backward pass, timed; so are gradients that it returns as functions."""

        def timed(f: Callable, given: list) -> Any:
            with self.timed(name, "backward", kind, layer) as sum_:
                found = f(*given)
                self._count(sum_, name, 1, [*given, *(found if isinstance(found, tuple) else [found])], kind)
            if isinstance(found, tuple):
                return tuple((lambda dx=dx: timed(dx, [])) if callable(dx) else dx for dx in found)
            return (lambda: timed(found, [])) if callable(found) else found

        return lambda dy: timed(back, [dy])

    def _count(self, sum_: Sum, name: str, way: int, arrays: list, kind: str) -> None:
        """Add what an operation does, or beside its products: a pass over the largest of them.

        How much a fused one does is not known.
        """
        arrays = [a for a in arrays if hasattr(a, "nbytes")]
        passed = self.within[-1][2]
        if not passed and not arrays:
            return
        sum_.nbytes += 2 * passed * arrays[0].itemsize if passed and arrays else nbytes(arrays)
        numbers = passed or max(a.size for a in arrays)
        sum_.operations += COUNTS.get(name, (1, 1))[way] * numbers * (kind != "fused")

    def product(self, a, b):
        """`precision.product`, timed under the operation that calls it."""
        key = self.within[-1][0] if self.within else Key("", "product", "", "products")
        outer = self.within[-1] if self.within else [key, 0.0, 0]
        with self.timed(key.name, key.way, "products", key.layer) as sum_:
            y = multiplied(a, b)
            sum_.operations += 2.0 * y.size * a.shape[-1]
            sum_.nbytes += nbytes([a, b, y])
        outer[2] = max(outer[2], y.size)
        return y


class Versions(Mapping):
    """The set of versions that a probe puts in place of another one."""

    def __init__(self, probe: Probe, others: Mapping):
        self.probe, self.others = probe, others
        self.made = {"minimega.precision.product": probe.product}

    def __getitem__(self, name):
        if name not in self.made:
            module, _, inner = name.rpartition(".")
            try:
                found = getattr(importlib.import_module(module), inner)
                twice = hasattr(
                    getattr(found, "__wrapped__", None), "__wrapped__"
                )  # an operation: by `op` too
                found = inspect.unwrap(found) if twice else None
            except (ImportError, AttributeError):  # a function inside another one, say
                found = None
            other = self.others.get(name)
            self.made[name] = self.probe.operation(found, other) if found else other
        return self.made[name]

    def __iter__(self):
        return iter(self.others)

    def __len__(self):
        return len(self.others)


@contextmanager
def probing(probe: Probe) -> Iterator[None]:
    """A context in which operations and products are timed."""
    token = chosen.set(Versions(probe, chosen.get()))
    try:
        yield
    finally:
        chosen.reset(token)


def nbytes(arrays) -> int:
    """The bytes of the arrays among these things."""
    return sum(a.nbytes for a in arrays if hasattr(a, "nbytes"))


class Timed(Group):
    """A group whose messages a probe times; `waited` tells afterwards what was waiting for other ranks."""

    def __init__(self, group: Group, probe: Probe):
        super().__init__(group.name, group.counter, group.ranks)
        self.group, self.probe, self.rank, self.size = group, probe, group.rank, group.size
        self.in_process = group.in_process

    def _start(self, name: str, start: Callable, *args):
        layer, entered = autograd._layer.get(), self.probe.clock()
        with self.probe.timed(name, "start", "messages", layer):
            wait = start(*args)
        meeting = [entered, 0.0, 0.0]
        if self.size > 1:
            self.probe.meetings.append(meeting)

        def timed():
            with self.probe.timed(name, "wait", "messages", layer):
                begun = self.probe.clock()
                y = wait()
                if not meeting[2]:  # a second call has nothing to wait for
                    meeting[1:] = begun, self.probe.clock()
            return y

        return timed

    def start_all_reduce(self, x, op="sum", label=""):
        """Timed."""
        return self._start("all-reduce", self.group.start_all_reduce, x, op, label)

    def start_all_gather(self, x, axis=0, length=None, label=""):
        """Timed."""
        return self._start("all-gather", self.group.start_all_gather, x, axis, length, label)

    def start_reduce_scatter(self, x, axis=0, label=""):
        """Timed."""
        return self._start("reduce-scatter", self.group.start_reduce_scatter, x, axis, label)

    def start_all_to_all(self, x, sends, receives, label=""):
        """Timed."""
        return self._start("all-to-all", self.group.start_all_to_all, x, sends, receives, label)

    def start_broadcast(self, x, root=0, label=""):
        """Timed."""
        return self._start("broadcast", self.group.start_broadcast, x, root, label)

    def barrier(self):
        """Not timed: it stands between steps."""
        self.group.barrier()

    def split(self, colour, name=""):
        """The groups that it returns are timed too."""
        part = self.group.split(colour, name)
        return part if part.size == 1 else Timed(part, self.probe)


def waited(meetings: np.ndarray) -> np.ndarray:
    """The seconds that each rank waited for others, (ranks,), of meetings (ranks, messages, 3).

    A message cannot arrive before its last rank has entered: until then a rank that already waits for it
    waits for that rank. What is left is the message itself. The ranks share a clock.

    >>> waited(np.array([[[0.0, 1.0, 6.0]], [[5.0, 5.0, 6.0]]])).tolist()
    [4.0, 0.0]
    """
    entered, since, until = np.moveaxis(meetings, -1, 0)
    last = entered.max(axis=0, keepdims=True)
    return np.maximum(np.minimum(until, last) - since, 0.0).sum(axis=-1)
