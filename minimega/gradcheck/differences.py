"""One interface to everything that can be checked, and derivatives by finite differences.

Finite differences use the forward alone. Along a line x + t v, with values y(t), the central difference
(y(h) - y(-h)) / 2h is off by c h^2 + c' h^4 + ...; three of them, at h, h/2 and h/4, cancel the first two
terms (Richardson 1911, Romberg 1955). The step can then be large, which keeps rounding small.
"""

import inspect
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minimega.autograd import Tensor, no_grad
from minimega.backend import library, to_numpy
from minimega.contract import WrongOperation, check_gradient, each_gradient, positional, value_and_back
from minimega.errors import BadInput
from minimega.layer import Layer
from minimega.parameter import Parameter

TINY = 1e-30  # the complex step
STEP, SHRINK, TRIES = 4e-3, 0.1, 6  # the first step, relative to the values; each next one is smaller


class CannotJudge(BadInput):
    """The gradients cannot be called right or wrong; the message says why."""


@dataclass
class Linearized:
    """One forward pass: its value, the arrays it was given, and its backward pass."""

    y: np.ndarray
    inputs: list
    back: Callable[[np.ndarray], list]
    outputs: object = None  # the array object that the forward returned, to detect changes in place


class Subject:
    """Presents a raw operation, a function of Tensors, a layer or a model as a function of float arrays.

    `names` and `arrays` are the arguments to differentiate: the float inputs, then a layer's parameters.
    `evaluations` counts forward passes. Every call works on copies. Raises CannotJudge if an input has no
    gradient.
    """

    def __init__(self, f: Callable, inputs: tuple):
        layer = f if isinstance(f, Layer) else getattr(f, "__self__", None)
        self.layer = layer if isinstance(layer, Layer) else None
        self.f: Callable = getattr(f, "loss", f) if self.layer is f else f
        self.name = getattr(f, "__name__", type(f).__name__)
        self.evaluations, self.xp = 0, library(*inputs)
        self.inputs = [x if _passed_on(x, self.layer) else np.asarray(to_numpy(x)) for x in inputs]
        self.places = [i for i, x in enumerate(self.inputs) if not _passed_on(x, self.layer)]
        words = _argument_names(self.f, len(inputs))
        self.tokens = {
            w: x for w, x in zip(words, inputs, strict=True) if _passed_on(x, self.layer) and _integers(x)
        }
        self.names, self.arrays = [words[i] for i in self.places], [self.inputs[i] for i in self.places]
        self.parameters: list[Parameter] = self._parameters()
        self.names += [p.name for p in self.parameters]
        self.kept = [(p.data, p.grad) for p in self.parameters]
        self.arrays += [np.asarray(to_numpy(p.data)) for p in self.parameters]
        self._refuse_what_has_no_gradient()
        self.no_operation: CannotJudge | None = None  # set if f returns no (y, back)
        self.raw = self.layer is None and self._is_raw()

    def _parameters(self) -> list[Parameter]:
        if self.layer is None:
            return []
        self.layer.named(self.layer.name).prepare(self.xp)
        found = list(self.layer.parameters().values())
        if not all(p.drawn for p in found):
            raise CannotJudge(f"{self.name} has no weights yet: draw them first (layer.draw(seed=0))")
        return found

    def _refuse_what_has_no_gradient(self) -> None:
        if not self.arrays or not any(a.size for a in self.arrays):
            raise CannotJudge(
                f"{self.name}: no arguments to differentiate; give at least one array of floats"
            )
        for name, a in zip(self.names, self.arrays, strict=True):
            if a.dtype.kind == "O":
                raise CannotJudge(f"{name} holds no numbers: bind non-array arguments with a lambda")
            if a.dtype.kind != "f":
                raise CannotJudge(
                    f"{name} is an array of {a.dtype}, which has no gradient: give floats, or bind it with a "
                    f"lambda, as in check(lambda x: f(x, {name}), x)"
                )
            if not np.isfinite(a).all():
                raise CannotJudge(f"{name} holds a value that is not finite, at {_first(~np.isfinite(a))}")

    def _is_raw(self) -> bool:
        """Whether f takes arrays and returns (y, back), rather than taking and returning Tensors."""
        try:
            result = self.f(*self._arguments([self.xp.array(a) for a in self.arrays]))
        except Exception as error:  # a function of Tensors may raise anything when given arrays
            reason: Exception | None = error
        else:
            try:
                value_and_back(self.name, result)
                return True
            except WrongOperation as error:
                self.no_operation, reason = CannotJudge(str(error)), None
        try:
            with no_grad():
                made = self.f(*self._arguments([Tensor(self.xp.array(a)) for a in self.arrays]))
        except Exception as error:
            raise reason or self.no_operation or error from None
        if not isinstance(made, Tensor):
            raise reason or self.no_operation or CannotJudge(f"{self.name} gives no Tensor")
        return False

    def _arguments(self, differentiated: list) -> list:
        arguments = list(self.inputs)
        for i, x in zip(self.places, differentiated, strict=False):
            arguments[i] = x
        return arguments

    def _call(self, arrays: list) -> Tensor:
        """Call a function of Tensors; the last arrays become the parameters' values."""
        split = len(arrays) - len(self.parameters)
        for p, a in zip(self.parameters, arrays[split:], strict=True):
            p.data, p.grad = a, None
        self.leaves = [*(Tensor(a) for a in arrays[:split]), *self.parameters]
        return self.f(*self._arguments(self.leaves[:split]))

    def linearize(self, arrays: list) -> Linearized:
        """Run the forward; the result's `back` gives one NumPy array (or None) per array."""
        self.evaluations += 1
        passed = [self.xp.array(a) for a in arrays]
        if self.raw:
            y, back = self.f(*self._arguments(passed))
            return Linearized(_output(y), passed, lambda dy: self._raw_gradients(back, dy), y)
        made = self._call(passed)
        leaves = self.leaves

        def gradients(dy) -> list:
            for leaf in leaves:
                leaf.grad = None
            made.backward(dy, keep_graph=True)
            return [None if leaf.grad is None else np.array(to_numpy(leaf.grad)) for leaf in leaves]

        return Linearized(_output(made.data), passed, gradients, made.data)

    def _raw_gradients(self, back: Callable, dy) -> list:
        # a `back` borrowed from another operation may also give gradients of constants that f passes to it
        own = getattr(back, "__qualname__", "").startswith(
            f"{getattr(self.f, '__qualname__', '?')}.<locals>."
        )
        count = len(self.inputs)
        most = max(count, positional(self.f))
        result = each_gradient(self.name, back(dy), tuple(self.inputs), most if own else sys.maxsize)[:count]
        for g in result:
            if isinstance(g, list | tuple | str):
                check_gradient(self.name, g, ())
        given = [g() if callable(g) else g for g in result]
        return [None if given[i] is None else np.array(to_numpy(given[i])) for i in self.places]

    def value(self, arrays: list) -> np.ndarray:
        """Run the forward alone; y as a float64 array."""
        self.evaluations += 1
        passed = [self.xp.array(a) for a in arrays]
        if self.raw:
            return _output(self.f(*self._arguments(passed))[0])
        with no_grad():
            return _output(self._call(passed).data)

    def complex_slope(self, arrays: list, i: int, line: np.ndarray) -> np.ndarray | None:
        """dy/dt along a line from one evaluation at x + i t v (Squire and Trapp 1998); None if f refuses.

        Nothing cancels, so it is right to rounding. But `abs`, `np.var` or a comparison inside f silently
        makes it wrong: trust it only if it agrees with real differences.
        """
        self.evaluations += 1
        passed = [self.xp.array(a) for a in arrays]
        passed[i] = passed[i] + 1j * TINY * self.xp.asarray(line)
        try:
            with warnings.catch_warnings(), no_grad():
                warnings.simplefilter("error")  # NumPy only warns when it drops an imaginary part
                y = self.f(*self._arguments(passed))[0] if self.raw else self._call(passed).data
        except Exception:  # f may raise anything when given complex numbers
            return None
        y = np.asarray(to_numpy(y))
        return np.imag(y) / TINY if y.dtype.kind == "c" and np.isfinite(y).all() else None

    def restore(self) -> None:
        """Put the layer's original arrays back into its parameters."""
        for p, (data, grad) in zip(self.parameters, self.kept, strict=True):
            p.data, p.grad = data, grad


def _passed_on(x, layer: Layer | None) -> bool:
    """Whether x goes to a layer unchanged: token ids, places and options have no gradient."""
    return layer is not None and not (hasattr(x, "dtype") and x.dtype.kind == "f")


def _integers(x) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind in "iu"


def _argument_names(f: Callable, count: int) -> list[str]:
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:count]
    return names + [f"argument {i}" for i in range(len(names), count)]


def _output(y) -> np.ndarray:
    y = np.asarray(to_numpy(y))
    if y.dtype.kind != "f":
        raise CannotJudge(f"the output is an array of {y.dtype}: only floats have a gradient")
    return y.astype(np.float64)


def _first(where: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(where)[0])


@dataclass
class Slope:
    """dy/dt along a line: its error bound, the part of it due to rounding, and whether there is a kink."""

    value: np.ndarray
    error: np.ndarray
    rounding: float
    kink: bool


def slope(g: Callable[[float], np.ndarray], y0: np.ndarray, size: np.ndarray | None = None) -> Slope:
    """The derivative at t = 0 of a vector g(t) with g(0) = y0, by finite differences (at least six calls).

    The step shrinks until two extrapolations agree. There is a kink if the left and right slopes stay apart
    as the step is halved. `size` is the magnitude of the numbers summed in g (default: |g|); it sets the
    rounding. Raises CannotJudge if no step stays in g's domain.

    >>> s = slope(lambda t: np.array([np.exp(t)]), np.ones(1))
    >>> bool(abs(s.value[0] - 1) < 1e-12), s.kink
    (True, False)
    >>> slope(lambda t: np.array([abs(t)]), np.zeros(1)).kink
    True
    """
    largest = np.max(np.abs(y0) if size is None else size, initial=0)
    found: list[Slope] = []
    for step in STEP * SHRINK ** np.arange(TRIES):
        steps = step * np.array([1, 0.5, 0.25])
        right, left = [g(t) for t in steps], [g(-t) for t in steps]
        if not np.isfinite(right + left).all():
            continue
        d = [(r - m) / (2 * t) for r, m, t in zip(right, left, steps, strict=True)]
        first, second = (4 * d[1] - d[0]) / 3, (4 * d[2] - d[1]) / 3  # h^2 gone
        value, error = (16 * second - first) / 15, np.abs(second - first)  # h^4 gone
        rounding = np.finfo(float).eps * largest / steps[-1]
        # right slope minus left slope: halves with the step if y is smooth
        gap = [np.abs(r - 2 * y0 + m) / t for r, m, t in zip(right, left, steps, strict=True)]
        wide = gap[2] > 1e-6 * np.max(np.abs(d[2]) + gap[2], initial=0) + 1e3 * rounding
        kink = bool(np.any(wide & (gap[2] > 0.75 * gap[1])))
        found.append(Slope(value, error + rounding, rounding, kink))
        enough = max(1e-10 * np.max(np.abs(value), initial=0), 2 * rounding)
        if not kink and np.max(error, initial=0) <= enough:
            break
    if not found:
        raise CannotJudge(
            "near these inputs the values are not finite, however small the step; choose other inputs"
        )
    smooth = [
        s for s in found if not s.kink and np.max(s.error) <= 1e-3 * np.max(np.abs(s.value)) + 3 * s.rounding
    ]
    return min(smooth or found, key=lambda s: np.max(s.error, initial=0))


def scales(x: np.ndarray) -> np.ndarray:
    """How far each entry moves for a step of 1: its magnitude, or the array's RMS if that is larger."""
    typical = np.sqrt(np.mean(x * x)) if x.size else 0
    return np.maximum(np.abs(x), typical if typical > 0 else 1.0)
