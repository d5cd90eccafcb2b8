"""Every operation, model, optimizer and a training run on another array library, held to NumPy's numbers.

`xp` is CuPy on a GPU, or its stand-in (standin.py) anywhere. Each function gives distances by name:
max|a - b| / max|b| (`distance` of tests/golden/cases.py).

B batch, T time, D width, V vocabulary.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minimega import AdamW, Config, ops
from minimega.backend import to_numpy
from minimega.experts import balance, gates, grouped, top, weighted
from minimega.layer import Place
from minimega.mlp import gelu_erf
from minimega.model import gpt
from minimega.optim import OPTIMIZERS
from minimega.parameter import Parameter
from minimega.precision import UNSCALED, LossScale
from minimega.seq2seq.model import EncoderDecoder
from minimega.train import Recipe, train_step
from minimega.vectors.skipgram import negative_sampling
from tests.golden import cases

# 16-bit gradients: a GPU rounds them in each product, NumPy keeps them in float32
TOLERANCE = {"float32": 2e-5, "float64": 1e-11, "float16": 4e-3, "bfloat16": 3e-2}
MODEL_TOLERANCE = {"float32": 5e-5, "float64": 1e-10, "float16": 3e-2, "bfloat16": 2e-1}


class Case(NamedTuple):
    f: Callable
    arrays: list[np.ndarray]
    constants: tuple = ()
    options: dict[str, Any] = {}  # noqa: RUF012  (never changed)


def operations(seed: int = 0) -> dict[str, Case]:
    """Each operation with inputs; arrays take the dtype that is tested, constants and options stay."""
    functions = {
        "layer_norm": cases.norm.layer_norm,
        "linear": cases.linear.linear,
        "attention": cases.attention.attention,
        "embedding": cases.embedding.embedding,
        "cross_entropy": cases.head.cross_entropy,
        "cross_attention": cases.cross_attention,
    }
    every = {}
    for name, (arrays, constants, options) in cases.op_inputs(seed).items():
        word = name.replace(",", " ").split()[0]
        every[name] = Case(functions.get(word) or getattr(ops, word), arrays, constants, options)
    rs = cases.stream("gpu", seed)

    def z(*shape):
        return rs.standard_normal(shape).astype(np.float32).astype(np.float64)

    x, ids, keep = z(3, 4, 6), rs.randint(4, size=(3, 5)), rs.uniform(size=(3, 4, 6)) < 0.7
    probs = np.exp(z(5, 4))
    probs /= probs.sum(axis=1, keepdims=True)
    chosen = top(probs, 2)
    return every | {
        "subtract": Case(ops.subtract, [x, z(4, 1)]),
        "multiply by a number": Case(ops.multiply, [x], (2.5,)),
        "power": Case(ops.power, [np.exp(z(3, 4)), z(4)]),
        "square": Case(ops.power, [x], (2,)),
        "negative": Case(ops.negative, [x]),
        "exp": Case(ops.exp, [x]),
        "log": Case(ops.log, [np.exp(x)]),
        "sqrt": Case(ops.sqrt, [np.exp(x)]),
        "tanh": Case(ops.tanh, [x]),
        "sum": Case(ops.sum, [x], options={"axis": (0, 2)}),
        "sum of all": Case(ops.sum, [x]),
        "mean": Case(ops.mean, [x], options={"axis": -1, "keepdims": True}),
        "max of all": Case(ops.max, [x]),
        "reshape": Case(ops.reshape, [x], (4, -1)),
        "transpose": Case(ops.transpose, [x], (2, 0, 1)),
        "take a slice": Case(ops.take, [x], ((slice(1, None), 2),)),
        "take entries twice": Case(ops.take, [x], (np.array([2, 0, 2]),)),
        "concatenate": Case(ops.concatenate, [x, z(3, 2, 6)], options={"axis": 1}),
        "dropout": Case(ops.dropout, [x], options={"keep": keep, "p": 0.3}),
        "gelu_erf": Case(gelu_erf, [x]),
        "relu at the kink": Case(ops.relu, [np.array([-1.0, 0.0, 2.0])]),
        "gelu of large numbers": Case(ops.gelu, [np.array([-200.0, -9.0, 0.0, 9.0, 200.0])]),
        "softmax of large numbers": Case(ops.softmax, [np.array([[3e4, 3e4, -3e4], [-6e4, 0.0, 1.0]])]),
        "self_attention": Case(cases.attention.self_attention, [z(2, 5, 36)], options={"heads": 3}),
        "self_attention with dropout": Case(
            cases.attention.self_attention,
            [z(2, 4, 12)],
            options={"heads": 2, "keep": rs.uniform(size=(2, 2, 4, 4)) < 0.8, "p": 0.2},
        ),
        "embedding of a piece": Case(cases.embedding.embedding, [z(3, 6)], (ids,), {"first": 1}),
        "linear, transposed": Case(cases.linear.linear, [x, z(5, 6), z(5)], options={"transposed": True}),
        "gates": Case(gates, [probs], (chosen,)),
        "grouped": Case(grouped, [z(7, 3), z(3, 3, 4)], ([4, 0, 3],)),
        "weighted": Case(weighted, [z(10, 3), probs[:, :2].copy()]),
        "balance": Case(balance, [probs[None]], (chosen[None],)),
        "negative_sampling": Case(negative_sampling, [z(4, 6), z(4, 3, 6)]),
    }


def moved(thing, xp):
    """Arrays onto the device of xp, also those that an option's function returns."""
    return xp.asarray(thing) if isinstance(thing, np.ndarray) else thing


def run_operation(case: Case, dtype: str, xp) -> Iterator[tuple[str, np.ndarray]]:
    """The value, then the gradient of each array, as NumPy arrays in float64."""
    options = {name: moved(value, xp) for name, value in case.options.items()}
    if "keep" in options:
        mask = options["keep"]
        options["keep"] = lambda: mask
    constants = [moved(c, xp) if not isinstance(c, tuple) else c for c in case.constants]
    y, back = case.f(*(xp.asarray(a.astype(dtype)) for a in case.arrays), *constants, **options)
    yield "y", _plain(y)
    dy = cases.gradient_of(np.empty(y.shape)).astype(to_numpy(y).dtype)
    dxs = back(xp.asarray(dy))
    for i, dx in enumerate((dxs if isinstance(dxs, tuple) else (dxs,))[: len(case.arrays)]):
        yield f"gradient {i}", _plain(dx() if callable(dx) else dx)


def _plain(x) -> np.ndarray:
    return to_numpy(x).astype(np.float64)


def off_operations(xp, dtype: str, only: tuple[str, ...] = ()) -> dict[str, float]:
    """How far each value and gradient is from NumPy's."""
    found = {}
    for name, case in operations().items():
        if only and name not in only:
            continue
        if name == "negative_sampling" and dtype == "bfloat16":
            continue  # word vectors are float32, and CuPy multiplies no stacks of bfloat16
        for (part, ours), (_, theirs) in zip(
            run_operation(case, dtype, xp), run_operation(case, dtype, np), strict=True
        ):
            found[f"{name}: {part}"] = cases.distance(ours, theirs)
    return found


SMALL = {"vocab_size": 13, "context": 8, "d_model": 12, "nhead": 3, "num_layers": 2}
CONFIGS = cases.CONFIGS | {
    "dropout": Config(**SMALL, dropout=0.2),
    "exact gelu, a factorised table": Config(**SMALL, activation="gelu-erf", d_embedding=5),
    "bidirectional": Config(**SMALL, causal=False),
    "experts": Config(**SMALL, experts=3),
    "encoder and decoder": EncoderDecoder(**SMALL, source_length=3),
}


def run_model(config: Config, dtype: str, xp, recompute: str = "none") -> dict[str, np.ndarray]:
    """The loss and the gradient of every parameter, in training (with dropout)."""
    model = gpt(config, recompute=recompute).draw(seed=1, dtype=dtype, xp=xp)
    tokens, targets = cases.batch(config, 3, 7)
    tokens[0, :2] = 1
    scale = 2.0**8 if dtype == "float16" else 1.0
    at = Place(xp.arange(3), xp.arange(7), key=5, training=True, sequences=3, scale=scale)
    loss = model.loss(xp.asarray(tokens), xp.asarray(targets), at)
    loss.backward(scale)
    gradients = {name: _plain(p.grad) / scale for name, p in model.parameters().items()}
    return {"loss": _plain(loss.data)} | gradients


def off_models(xp, dtype: str, only: tuple[str, ...] = ()) -> dict[str, float]:
    """How far the loss and each gradient is from NumPy's, per configuration.

    A gradient is measured against the largest of its model: that of the key bias is pure rounding.
    """
    found = {}
    for name, config in CONFIGS.items():
        if only and name not in only:
            continue
        for recompute in ("none", "selective") if name == "dropout" else ("none",):
            ours, theirs = (run_model(config, dtype, library, recompute) for library in (xp, np))
            most = max(np.abs(a).max() for part, a in theirs.items() if part != "loss")
            for part, a in theirs.items():
                off = np.abs(ours[part] - a).max() / (np.abs(a).max() if part == "loss" else most)
                found[f"{name}, recompute {recompute}: {part}"] = float(off)
    return found


def run_optimizer(kind: str, dtype: str, xp, steps: int = 5) -> dict[str, np.ndarray]:
    """The weights after some steps with given gradients, a matrix and a vector."""
    rs = cases.stream("optimizer")
    weights = {"w": rs.standard_normal((4, 3)), "b": rs.standard_normal(3)}
    p = {name: Parameter(w.shape) for name, w in weights.items()}
    for name, w in weights.items():
        p[name].name, p[name].data = name, xp.asarray(w.astype(dtype))
    optimizer = OPTIMIZERS[kind](weight_decay=0.1)
    wide = "float64" if dtype == "float64" else "float32"
    for _ in range(steps):
        for name, w in weights.items():
            p[name].grad = xp.asarray(rs.standard_normal(w.shape).astype(wide))
        optimizer.step(p.values(), 0.01)
    return {name: _plain(w.data) for name, w in p.items()}


def off_optimizers(xp, dtype: str) -> dict[str, float]:
    """How far the weights are from NumPy's after five steps of each optimizer."""
    found = {}
    for kind in OPTIMIZERS:
        ours, theirs = (run_optimizer(kind, dtype, library) for library in (xp, np))
        found |= {f"{kind}: {name}": cases.distance(ours[name], theirs[name]) for name in theirs}
    return found


def losses(config: Config, dtype: str, xp, steps: int, batch: int = 8) -> list[float]:
    """The losses of a training run: AdamW, clipping, a warm-up, a loss scale in float16."""
    model = gpt(config).draw(seed=0, dtype=dtype, xp=xp)
    optimizer, recipe = (
        AdamW(weight_decay=0.1),
        Recipe(steps, lr=1e-3, warmup=min(5, steps), schedule="cosine"),
    )
    scale = LossScale(value=2.0**10, every=10) if dtype == "float16" else UNSCALED
    found = []
    for step in range(1, steps + 1):
        data = (xp.asarray(part) for part in cases.batch(config, batch, config.context, seed=step))
        found.append(train_step(model, optimizer, recipe, step, *data, scale=scale)["loss"])
    return found
