"""Functions of torch and JAX with custom derivatives, as operations that the checker takes.

Neither library is imported unless a function of it is given.
"""

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from minimega.contract import WrongShape
from minimega.errors import BadInput, extra


def from_torch(f: Any) -> Callable:
    """A torch function as a function of arrays that returns (y, back), where `back` runs torch's backward.

    f is a `torch.autograd.Function` (the class or its `apply`), or any function of tensors. Arrays go in with
    their dtype; integers get no gradient. Raises BadInput if torch is missing, or f returns no tensor.

        class Cube(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x**3

            @staticmethod
            def backward(ctx, dy):
                (x,) = ctx.saved_tensors
                return 2 * dy * x**2               # should be 3 dy x^2

        minimega.check(from_torch(Cube), np.array([[0.1, 0.7, -0.3]])).arguments[0].cause     # 'factor'
    """
    torch = extra("torch")
    name, like = getattr(f, "__name__", type(f).__name__), f
    function: Any = f if isinstance(f, type) else getattr(f, "__self__", None)
    if isinstance(function, type) and issubclass(function, torch.autograd.Function):
        made: Any = function
        name, like, f = made.__name__, made.forward, made.apply

    def operation(*arrays):
        tensors = [torch.tensor(np.asarray(a)) for a in arrays]
        leaves = [t.requires_grad_() for t in tensors if t.is_floating_point()]
        y = f(*tensors)
        if not isinstance(y, torch.Tensor):
            raise BadInput(f"{name} returned {type(y).__name__}: check one tensor at a time, with a lambda")

        def back(dy):
            dy = torch.tensor(np.asarray(dy)).to(y.dtype)
            try:
                found = iter(torch.autograd.grad(y, leaves, dy, retain_graph=True, allow_unused=True))
            except RuntimeError as why:
                if "invalid gradient" in str(why):
                    raise WrongShape(f"the backward of {name}: {why}") from None
                raise
            dxs = (next(found) if t.requires_grad else None for t in tensors)
            return tuple(None if dx is None else dx.detach().cpu().numpy() for dx in dxs)

        return y.detach().cpu().numpy(), back

    return _named(operation, name, like, skip="ctx")


def from_jax(f: Callable) -> Callable:
    """A JAX function as a function of arrays that returns (y, back), where `back` is that of `jax.vjp`.

    f is a `jax.custom_vjp`, a `jax.custom_jvp`, or any function of arrays. It runs with 64-bit numbers if the
    arrays have them; integers get no gradient. Raises BadInput if JAX is missing, or f returns no array.
    """
    jax = extra("jax")
    wide = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    name = getattr(f, "__name__", type(f).__name__)

    def operation(*arrays):
        with wide(True):
            y, product = jax.vjp(f, *map(np.asarray, arrays))
        if not hasattr(y, "dtype"):
            raise BadInput(f"{name} returned {type(y).__name__}: check one array at a time, with a lambda")

        def back(dy):
            with wide(True):
                dxs = product(np.asarray(dy, y.dtype))
            return tuple(np.array(dx) if dx.dtype.kind == "f" else None for dx in dxs)

        return np.array(y), back

    return _named(operation, name, f)


def adapted(f: Callable, arrays: tuple) -> Callable:
    """f itself, or its adapter if it is a function of torch or JAX.

    Classes and objects of these libraries are recognised. A plain function counts as theirs if its code names
    the library or such an object, and it does not give (y, back) for these arrays.
    """
    if hasattr(f, "is_adapted"):
        return f
    for library, from_library, theirs in (("torch", from_torch, _of_torch), ("jax", from_jax, _of_jax)):
        module = sys.modules.get(library)
        if module is None:
            continue
        if theirs(f, module):
            return from_library(f)
        if any(theirs(value, module) for value in _globals(f)) and not _gives_back(f, arrays):
            return from_library(f)
    return f


def _of_torch(f, torch: ModuleType) -> bool:
    function = f if isinstance(f, type) else getattr(f, "__self__", None)
    of_class = isinstance(function, type) and issubclass(function, torch.autograd.Function)
    return of_class or (isinstance(f, ModuleType) and f.__name__.split(".")[0] == "torch")


def _of_jax(f, jax: ModuleType) -> bool:
    made = isinstance(f, jax.custom_vjp | jax.custom_jvp) or type(f).__module__.split(".")[0] == "jaxlib"
    return made or (isinstance(f, ModuleType) and f.__name__.split(".")[0] == "jax")


def _globals(f: Callable) -> list:
    """What a plain function's code names, in its module or around it."""
    if not inspect.isfunction(f):
        return []
    around = [cell.cell_contents for cell in f.__closure__ or () if cell != type(cell)()]
    return around + [f.__globals__[name] for name in f.__code__.co_names if name in f.__globals__]


def _gives_back(f: Callable, arrays: tuple) -> bool:
    try:
        made = f(*arrays)
    except Exception:
        return False
    return isinstance(made, tuple) and len(made) == 2 and callable(made[1])


def _named(operation: Any, name: str, like: Callable, skip: str = "") -> Callable:
    """Give an operation the name and the arguments of the function that it adapts."""
    operation.__name__, operation.is_adapted = name, True
    try:
        parameters = list(inspect.signature(like).parameters.values())
    except (TypeError, ValueError):
        return operation
    kept = parameters[1:] if skip and parameters and parameters[0].name == skip else parameters
    operation.__signature__ = inspect.Signature(kept)
    return operation
