"""A strict stand-in for CuPy on the CPU: what would fail or surprise on a GPU fails here.

Its arrays keep NumPy arrays inside, and behave as CuPy 14's sources say (cupy/_core/core.pyx, _kernel.pyx,
_routines_*.pyx):

- only names, parameters and types that CuPy has (cupy_names.json, written by names.py): no `where=`, no
  bfloat16 where CuPy has no loop for it, no sort of bfloat16, no product of stacks of bfloat16 matrices
- nothing converts silently: `np.asarray(x)` raises, and so does arithmetic with a NumPy array; NumPy's
  scalars and Python's numbers mix with everything
- reductions and full indices give arrays of shape (), never scalars: `+=` changes them in place, they are no
  integers (no `__index__`), and `float`, `int`, `bool`, `item`, `get` wait for the GPU, which `waits` counts;
  so do masks as indices, whose size the host has to know
- an assignment to an entry that is indexed twice keeps any of the values (here the first, where NumPy keeps
  the last); a new array from `empty` holds NaN, where NumPy's often holds zeros
- an index out of range is an error, as in NumPy (CuPy would wrap around)
"""

import functools
import json
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import ml_dtypes
import numpy as np

NAMES = json.loads((Path(__file__).parent / "cupy_names.json").read_text())
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SCALARS = bool, int, float, np.number, np.bool_, ml_dtypes.bfloat16


class Waits(Counter):
    """How often the host waited for the GPU, by the place in the code."""

    def add(self, what: str) -> None:
        frame = sys._getframe(1)
        while frame.f_code.co_filename == __file__:
            frame = frame.f_back
        self[f"{what} at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"] += 1


waits = Waits()


def _held(x, what: str):
    """The NumPy array inside x, or x if it is a number. Raises TypeError for what CuPy refuses."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, SCALARS) and not isinstance(x, np.ndarray):
        return x
    raise TypeError(f"{what}: Unsupported type {type(x)}")


def _wrapped(y):
    if isinstance(y, tuple | list):
        return type(y)(map(_wrapped, y))
    return ndarray(np.asarray(y)) if isinstance(y, np.ndarray | np.generic) else y


def _bare(thing, what: str, indices: bool = False):
    """`thing` with the NumPy arrays of the stand-in's arrays, also inside tuples and lists."""
    if isinstance(thing, ndarray):
        return thing._host
    if isinstance(thing, np.ndarray) and not indices:  # an index is copied to the GPU
        raise TypeError(f"{what} got a NumPy array: CuPy copies nothing to the GPU by itself")
    if isinstance(thing, tuple | list):
        return type(thing)(_bare(part, what, indices) for part in thing)
    return thing


def _check_parameters(what: str, given: dict, known: list | None) -> None:
    for name in given:
        if known is not None and name not in known and f"*{name}" not in known:
            raise TypeError(f"CuPy's {what} has no parameter {name!r}")


class ufunc:
    """An elementwise function with CuPy's types."""

    def __init__(self, name: str):
        self.name, self.numpy = name, getattr(np, name)
        self.nin, self.types = NAMES["module"][name]["inputs"], NAMES["module"][name]["types"]

    def __call__(self, *args, **options):
        if extra := options.keys() - {"out", "dtype", "casting"}:
            raise TypeError(f"Wrong arguments {extra}")
        *given, out = args if len(args) > self.nin else (*args, options.get("out"))
        out = out[0] if isinstance(out, tuple) else out
        given = [_held(x, self.name) for x in given]
        loop = self.loop(given)
        with np.errstate(all="ignore"):  # a GPU does not warn
            y = np.asarray(self.numpy(*given))
            y = y if y.dtype == loop or loop is None else y.astype(loop)
        if out is None:
            return ndarray(y.astype(options["dtype"]) if options.get("dtype") else y)
        if not isinstance(out, ndarray):
            raise TypeError(f"{self.name}: out is {type(out)}")
        if not np.can_cast(y.dtype, out.dtype, options.get("casting", "same_kind")):
            raise TypeError(f"{self.name}: cannot cast {y.dtype} to {out.dtype} in place")
        if np.broadcast_shapes(y.shape, out.shape) != out.shape:
            raise ValueError(f"{self.name}: {y.shape} does not fit into out, {out.shape}")
        with np.errstate(all="ignore"):
            out._host[...] = y
        return out

    def loop(self, given) -> np.dtype | None:
        """The type of the result, by CuPy's first loop for these arguments; TypeError if there is none."""
        for types in self.types:
            into, result = types.split("->")
            if all(self.takes(_type(kind), x) for kind, x in zip(into, given, strict=True)):
                return _type(result) if len(result) == 1 else None
        raise TypeError(
            f"Wrong type ({[getattr(x, 'dtype', type(x)) for x in given]}) of arguments for {self.name}"
        )

    @staticmethod
    def takes(loop: np.dtype, x) -> bool:
        if hasattr(x, "dtype"):
            return np.can_cast(x.dtype, loop, "safe")
        kinds = {bool: "?biufcV", int: "biufcV", float: "fcV"}[type(x)]
        return loop.kind in kinds

    def at(self, a, indices, b=None):
        """Add to entries, also several times to one: with atomics, so in any order."""
        if self.name != "add" or a.dtype == BFLOAT16 or a.dtype.char in "bBhH?":
            raise TypeError(f"cupy.{self.name}.at does not support {a.dtype}")
        np.add.at(a._host, _bare(indices, "at", indices=True), _held(b, "at"))


def _type(kind: str) -> np.dtype:
    return BFLOAT16 if kind == "E" else np.dtype("V2" if kind == "V" else kind)


class ndarray:
    """An array on a GPU that is not there."""

    __slots__ = ("__weakref__", "_host", "base")
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100
    methods = {  # noqa: RUF012
        name: parameters
        for name, parameters in NAMES["ndarray"].items()
        if parameters is not None and not name.startswith("_")
    }

    def __init__(self, host: np.ndarray, base=None):
        self._host, self.base = host, base

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: ndarray(self._host.T, self))
    data = property(lambda self: SimpleNamespace(ptr=self._host.ctypes.data))

    def __getattr__(self, name):
        if name not in self.methods or name not in dir(np.ndarray):
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        return functools.partial(self._call, name)

    def _call(self, name, *args, **options):
        _check_parameters(name, options, self.methods[name])
        if name in ("argsort", "sort") and self.dtype == BFLOAT16:
            raise NotImplementedError("Sorting arrays with dtype 'bfloat16' is not supported")
        if name in ("argsort", "sort") and options.get("kind") not in (None, "stable"):
            raise ValueError("only a stable sort")
        if name in ("argmax", "argmin") and self.dtype == BFLOAT16:
            raise TypeError(f"Wrong type (bfloat16) of arguments for cupy_{name}")
        if name == "nonzero":
            waits.add("nonzero")
        out = options.pop("out", None)
        with np.errstate(all="ignore"):
            y = getattr(self._host, name)(*_bare(args, name), **_bare_options(options, name))
        if out is not None:
            out._host[...] = y
            return out
        if isinstance(y, np.ndarray) and np.may_share_memory(y, self._host):
            return ndarray(y, self)
        return _wrapped(y)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        with np.errstate(all="ignore"):
            y = self._host.astype(dtype, order, copy=copy)
        return self if y is self._host else ndarray(y)

    def reshape(self, *shape, order="C"):
        y = self._host.reshape(*shape, order=order)
        return ndarray(y, self if np.may_share_memory(y, self._host) else None)

    def copy(self, order="C"):
        return ndarray(self._host.copy(order))

    def fill(self, value):
        self._host.fill(_held(value, "fill"))

    def get(self, stream=None, order="C", out=None, blocking=True):
        waits.add("get")
        if out is None:
            return self._host.copy(order)
        if (out.dtype, out.shape) != (self.dtype, self.shape):
            raise TypeError(f"{self.dtype} {self.shape} cannot be copied to {out.dtype} {out.shape}")
        out[...] = self._host
        return out

    def set(self, arr, stream=None):
        if type(arr) is not np.ndarray or (arr.dtype, arr.shape) != (self.dtype, self.shape):
            raise TypeError(f"{self.dtype} {self.shape} cannot be set to {type(arr)}")
        self._host[...] = arr

    def _read(self, what: str) -> np.ndarray:
        waits.add(what)
        return self._host

    def item(self):
        return self._read("item").item()

    def tolist(self):
        return self._read("tolist").tolist()

    def __float__(self):
        return float(self._read("float"))

    def __int__(self):
        return int(self._read("int"))

    def __bool__(self):
        if self.size != 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous")
        return bool(self._read("bool"))

    def __repr__(self):
        return repr(self._read("repr"))

    def __format__(self, spec):
        return format(self._read("format"), spec)

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy "
            "array explicitly."
        )

    def __array_ufunc__(self, f, method, *inputs, **options):
        if "out" in options:
            (options["out"],) = options["out"]
        if method != "__call__":
            raise TypeError(f"no {f.__name__}.{method} on the stand-in")
        return getattr(sys.modules["cupy"], f.__name__)(*inputs, **options)

    def __array_function__(self, f, types, args, options):
        known = f.__module__ == "numpy" and f.__name__ in NAMES["module"]
        if not known or not all(issubclass(t, ndarray | np.ndarray) for t in types):
            return NotImplemented
        return getattr(sys.modules["cupy"], f.__name__)(*args, **options)

    def __getitem__(self, index):
        _count_masks(index)
        y = self._host[_bare(index, "an index", indices=True)]
        return ndarray(np.asarray(y), self if isinstance(y, np.ndarray) and y.base is not None else None)

    def __setitem__(self, index, value):
        _count_masks(index)
        value, at = _held(value, "assignment"), _bare(index, "an index", indices=True)
        parts = at if isinstance(at, tuple) else (at,)
        with np.errstate(all="ignore"):
            arrays = [
                i for i, part in enumerate(parts) if isinstance(part, np.ndarray) and part.dtype != bool
            ]
            if (
                arrays
                and isinstance(value, np.ndarray)
                and len(arrays) == len(parts) == 1
                and parts[0].ndim == 1
            ):
                rows = np.broadcast_to(value, self._host[at].shape)
                self._host[parts[0][::-1]] = rows[::-1]  # of an entry's values the first wins
            else:
                self._host[at] = value

    def __matmul__(self, other):
        return matmul(self, other)

    def __neg__(self):
        return sys.modules["cupy"].negative(self)

    def __abs__(self):
        return sys.modules["cupy"].absolute(self)

    def __invert__(self):
        return sys.modules["cupy"].invert(self)


def matmul(a, b):
    """Matrix products as CuPy's: those of stacks of 16-bit floats are where it has gaps."""
    a, b = _held(a, "matmul"), _held(b, "matmul")
    if max(a.ndim, b.ndim) > 2 and BFLOAT16 in (a.dtype, b.dtype):
        raise TypeError("data type 'E' not understood")  # of stacks: only float16, 32 and 64
    with np.errstate(all="ignore"):
        dtype = np.promote_types(a.dtype, b.dtype)
        full = np.dtype("float32") if dtype.itemsize == 2 else dtype
        return ndarray(np.asarray((a.astype(full) @ b.astype(full)).astype(dtype)))


def _count_masks(index) -> None:
    for part in index if isinstance(index, tuple) else (index,):
        if getattr(part, "dtype", None) == np.bool_:
            waits.add("a mask")  # how many entries it takes


def _bare_options(options: dict, what: str) -> dict:
    return {name: _bare(value, what) for name, value in options.items()}


def _operators() -> None:
    words = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "pow": "power"}
    words |= {"floordiv": "floor_divide", "mod": "remainder", "lshift": "left_shift", "rshift": "right_shift"}
    words |= {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"}
    compared = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
    compared |= {"eq": "equal", "ne": "not_equal"}

    def forward(name):
        def call(x, y):
            if getattr(y, "__array_ufunc__", x) is None:  # a Tensor: its own operator is asked
                return NotImplemented
            return getattr(sys.modules["cupy"], name)(x, y)

        return call

    for word, name in (words | compared).items():
        setattr(ndarray, f"__{word}__", forward(name))
    for word, name in words.items():
        setattr(ndarray, f"__r{word}__", lambda x, y, name=name: getattr(sys.modules["cupy"], name)(y, x))
        setattr(
            ndarray, f"__i{word}__", lambda x, y, name=name: getattr(sys.modules["cupy"], name)(x, y, out=x)
        )


_operators()
ndarray.__module__ = "cupy"


class Module(ModuleType):
    """`cupy`: functions are made when they are asked for, if CuPy has them."""

    def __getattr__(self, name: str):
        if name.startswith("__") or name not in NAMES["module"]:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        kind = NAMES["module"][name]
        if isinstance(kind, dict):
            found = ufunc(name)
        elif kind is None or not callable(getattr(np, name, None)):
            found = getattr(np, name)  # a type or a number: NumPy's own, as in CuPy
        else:
            found = functools.partial(_function, name, kind)
        setattr(self, name, found)
        return found


def _function(name: str, parameters: list[str], *args, **options):
    _check_parameters(name, options, parameters)
    if len(args) > len(parameters) and not any(p in ("args", "arys", "arrays") for p in parameters):
        raise TypeError(f"cupy.{name} takes {len(parameters)} parameters")
    if name in ("argwhere", "flatnonzero", "nonzero", "bincount", "unique") or (
        name == "where" and len(args) == 1
    ):
        waits.add(name)  # the size of the result
    if name == "where" and any(getattr(x, "dtype", None) == BFLOAT16 for x in args):
        raise TypeError("Wrong type (bfloat16) of arguments for cupy_where")
    if name == "bincount" and args[0].dtype.kind == "f":
        raise TypeError("x must be int array")
    for method in ("argsort", "sort", "argmax", "argmin", "sum", "mean", "max", "min", "clip", "repeat"):
        if name == method:  # as CuPy does: the array's own method
            return getattr(args[0], name)(*args[1:], **options)
    if name in ("ndim", "shape", "size"):
        return getattr(args[0], name) if isinstance(args[0], ndarray) else getattr(np, name)(*args)
    options = {k: v for k, v in options.items() if k not in ("blocking",)}
    with np.errstate(all="ignore"):
        return _wrapped(getattr(np, name)(*_bare(args, name), **_bare_options(options, name)))


def _to_gpu(x, dtype=None, *, copy: bool):
    if isinstance(x, ndarray):
        return x if not copy and dtype in (None, x.dtype) else x.astype(dtype or x.dtype)
    if isinstance(x, list | tuple) and any(isinstance(part, ndarray) for part in x):
        y = sys.modules["cupy"].stack(x)
        return y if dtype is None else y.astype(dtype)
    return ndarray(np.array(x, dtype))


def _empty(shape, dtype=float, order="C"):
    y = np.empty(shape, dtype, order)
    y.fill(np.nan if y.dtype.kind in "fV" else 77)  # what was in the memory before
    return ndarray(y)


class Stream:
    """A CUDA stream: everything in it is already done."""

    ptr = 7

    def __init__(self, non_blocking: bool = False):
        pass

    def synchronize(self):
        waits.add("synchronize")

    def record(self):
        return "event"

    def wait_event(self, event):
        pass


def module() -> Module:
    """The stand-in for `cupy`, with as much of `cupy.cuda` as minimega uses."""
    xp = Module("cupy")
    xp.ndarray, xp.ufunc, xp.matmul, xp.__version__ = ndarray, ufunc, matmul, f"{NAMES['version']}.stand-in"
    xp.asarray = lambda a, dtype=None, order=None, *, copy=None, blocking=False: _to_gpu(
        a, dtype, copy=bool(copy)
    )
    xp.array = lambda obj, dtype=None, copy=True: _to_gpu(obj, dtype, copy=copy)
    xp.ascontiguousarray = lambda a, dtype=None: ndarray(np.ascontiguousarray(a._host, dtype))
    xp.empty = _empty
    xp.empty_like = lambda a, dtype=None, shape=None: _empty(shape or a.shape, dtype or a.dtype)
    xp.asnumpy = lambda a: a.get()
    xp.is_available = lambda: True
    xp.__path__ = []
    cuda = ModuleType("cupy.cuda")
    cuda.get_current_stream, cuda.Stream = Stream, Stream
    cuda.alloc_pinned_memory = bytearray
    cuda.runtime = SimpleNamespace(getDeviceCount=lambda: 1)
    cuda.Device = lambda number=0: SimpleNamespace(use=lambda: None, synchronize=Stream().synchronize)
    cuda.__path__ = []
    xp.cuda = cuda
    pool = SimpleNamespace(total_bytes=lambda: 0, used_bytes=lambda: 0, free_all_blocks=lambda: None)
    xp.get_default_memory_pool = lambda: pool
    return xp


@contextmanager
def installed():
    """Inside, `import cupy` gives the stand-in; yields it. `waits` starts empty."""
    xp = module()
    modules = {"cupy": xp, "cupy.cuda": xp.cuda}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    waits.clear()
    try:
        yield xp
    finally:
        for name, was in before.items():
            sys.modules.pop(name) if was is None else sys.modules.update({name: was})
