"""The cases of the golden numbers: inputs, which are drawn and not stored, and minimega's answers.

Every function gives arrays by name. torch's answers, under the same names, come from parity/torch_cases.py
(`make parity`, which needs torch); those to a few fixed inputs are stored here as JSON, so that every test
run is held to torch without it. Inputs are numbers that float32 holds exactly, so that both precisions
compute the same thing.

B batch, T time, D width, H heads, C width of a head, V vocabulary, K a contraction, M and N the rest.
"""

import json
import zlib
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minimega import ops, optim
from minimega.model import Config, Model, gpt
from minimega.parameter import Parameter
from minimega.seq2seq.attention import cross_attention

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
FOLDER = Path(__file__).parent

# the package may offer a function under the name of its module: this gives the modules
attention, embedding, head, linear, norm = (
    import_module(f"minimega.{name}") for name in ("attention", "embedding", "head", "linear", "norm")
)


def distance(a, b) -> float:
    """max|a - b| / max|b|; where b is all zeros, only zeros are near."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        return np.inf
    most, off = np.abs(b).max(initial=0), np.abs(a - b).max(initial=0)
    return float(off / most) if most else (0.0 if off == 0 else np.inf)


def distances(ours: dict, theirs: dict) -> dict[str, float]:
    assert list(ours) == list(theirs), f"only one side has {sorted(set(ours) ^ set(theirs))}"
    return {name: distance(ours[name], theirs[name]) for name in ours}


def stored(group: str) -> dict[str, np.ndarray]:
    """The golden numbers of a group: ops, models, optimizers, training."""
    return {name: np.array(a) for name, a in json.loads((FOLDER / f"{group}.json").read_text()).items()}


def stream(*parts) -> np.random.RandomState:
    # NumPy promises never to change this generator's numbers; those of default_rng may change
    return np.random.RandomState(zlib.crc32(repr(parts).encode()))


class Inputs(NamedTuple):
    """Arrays that need gradients, then constants that do not, then options."""

    arrays: list[np.ndarray]
    constants: tuple = ()
    options: dict = {}  # noqa: RUF012  (never changed)


def op_inputs(seed: int = 0) -> dict[str, Inputs]:
    """Inputs for each operation, in shapes that vary with the seed."""
    rs = stream("ops", seed)
    b, t, h, c, v = (int(rs.randint(2, 7)) for _ in range(5))
    d = int(rs.randint(4, 9))  # LayerNorm over 2 features leaves only signs: its gradient is pure rounding

    def z(*shape, scale=1.0):
        return (scale * rs.standard_normal(shape)).astype(np.float32).astype(np.float64)

    targets = rs.randint(v, size=(b, t))
    targets[0, 0] = -1  # not counted
    heads = (b, h, t, c)
    seen = np.arange(t + 3) < t - np.arange(b)[:, None] % t  # (B, S), of a source with padding
    return {
        "add": Inputs([z(b, t, d), z(t, 1)]),
        "multiply": Inputs([z(b, t, d), z(t, 1)]),
        "divide": Inputs([z(b, d), 2 + z(d) ** 2]),
        "matmul": Inputs([z(b, 1, t, d), z(h, d, c)]),
        "max": Inputs([z(b, t, d)], options={"axis": 1}),
        "softmax": Inputs([z(b, t, d, scale=3)]),
        "log_softmax": Inputs([z(b, t, d, scale=30)]),
        "relu": Inputs([z(b, t, d)]),
        "gelu": Inputs([z(b, t, d, scale=2)]),
        "layer_norm": Inputs([z(b, t, d), z(d), z(d)]),
        "layer_norm of small numbers": Inputs([z(b, t, d, scale=0.01), z(d), z(d)]),
        "linear": Inputs([z(b, t, d), z(d, c), z(c)]),
        "linear without bias": Inputs([z(b, t, d), z(d, c)]),
        "attention, causal": Inputs([z(*heads) for _ in range(3)], options={"causal": True}),
        "attention, bidirectional": Inputs([z(*heads) for _ in range(3)], options={"causal": False}),
        "attention to another text": Inputs(
            [z(b, h, t, c), z(b, h, t + 3, c), z(b, h, t + 3, c)], options={"causal": False}
        ),
        "attention with keys before": Inputs(
            [z(b, h, t, c), z(b, h, t + 3, c), z(b, h, t + 3, c)], options={"causal": True}
        ),
        "embedding": Inputs([z(v, d)], (rs.randint(v, size=(b, 2 * v)),)),
        "cross_entropy": Inputs([z(b, t, v, scale=3)], (targets,)),
        "cross_attention": Inputs(
            [z(b, t, h * c), z(b, t + 3, 2 * h * c)], options={"heads": h, "seen": seen}
        ),
    }


def gradient_of(y) -> np.ndarray:
    """The gradient that every operation gets for its output."""
    return stream("dy").standard_normal(np.shape(y)).astype(np.float32)


def run_ops(seed: int = 0, dtype: str = "float64") -> dict[str, np.ndarray]:
    # looked up now, so that a planted mistake takes effect
    functions = {
        "layer_norm": norm.layer_norm,
        "linear": linear.linear,
        "attention": attention.attention,
        "embedding": embedding.embedding,
        "cross_entropy": head.cross_entropy,
        "cross_attention": cross_attention,
    }
    answers = {}
    for name, (arrays, constants, options) in op_inputs(seed).items():
        word = name.replace(",", " ").split()[0]
        f = functions[word] if word in functions else getattr(ops, word)
        y, back = f(*(a.astype(dtype) for a in arrays), *constants, **options)
        dxs = back(gradient_of(y).astype(dtype)[()])
        answers[f"{name}: y"] = np.asarray(y)
        for i, dx in enumerate((dxs if isinstance(dxs, tuple) else (dxs,))[: len(arrays)]):
            answers[f"{name}: gradient {i}"] = dx() if callable(dx) else dx
    return answers


CONFIGS = {
    "pre-norm": Config(vocab_size=13, context=8, d_model=12, nhead=3, num_layers=2),
    "post-norm": Config(
        vocab_size=13,
        context=8,
        d_model=12,
        nhead=2,
        num_layers=2,
        d_hidden=20,
        activation="relu",
        norm_position="post",
        positions="sinusoidal",
        tied=False,
        head_bias=True,
    ),
    "no attention": Config(
        vocab_size=13, context=8, d_model=12, num_layers=3, attention=False, head_bias=True
    ),
}


def filled(config: Config, dtype: str = "float64", spread: float = 0.2) -> Model:
    """A model whose weights are all drawn, biases and norms too, each by its name."""
    model = gpt(config)
    for name, p in model.parameters().items():
        data = p.centre + spread * stream("weights", name).standard_normal(p.whole_shape)
        p.data = data.astype(np.float32).astype(dtype)
    return model


def batch(config: Config, b: int = 3, t: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (B, T) that mostly follow a rule (a model can learn it), and targets, a few not counted."""
    rs = stream("batch", seed)
    tokens = rs.randint(config.vocab_size, size=(b, t + 1))
    follows = rs.uniform(size=(b, t + 1)) < 0.8
    for i in range(1, t + 1):
        rule = (5 * tokens[:, i - 1] + 1) % config.vocab_size
        tokens[:, i] = np.where(follows[:, i], rule, tokens[:, i])
    targets = tokens[:, 1:].copy()
    targets[rs.uniform(size=(b, t)) < 0.1] = -1
    return tokens[:, :-1], targets


def run_model(model: Model, tokens, targets) -> dict[str, np.ndarray]:
    """Logits, loss and the gradient of every parameter."""
    loss = model.loss(tokens, targets)
    loss.backward()
    gradients = {name: p.grad for name, p in model.parameters().items()}
    return {"logits": model(tokens).data, "loss": loss.data} | gradients


def run_models(dtype: str = "float64") -> dict[str, np.ndarray]:
    runs = {name: run_model(filled(c, dtype), *batch(c)) for name, c in CONFIGS.items()}
    return summaries(runs)


def summaries(runs: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {f"{run}: {name}": summary(a) for run, answers in runs.items() for name, a in answers.items()}


def summary(a) -> np.ndarray:
    """An array's norm and its components along four random directions: any wrong entry changes them."""
    flat = np.asarray(a, np.float64).ravel()
    directions = stream("directions").standard_normal((4, flat.size))
    return np.array([np.sqrt(flat @ flat), *(directions @ flat)])


LEARNING_RATES = {"sgd": 0.1, "momentum": 0.05, "adagrad": 0.1, "adam": 0.01, "adamw": 0.01}
DECAY, EPS, BETAS = 0.1, 1e-6, (0.9, 0.99)
WATCHED = (1, 10, 100)  # steps after which the weights are compared


def problem() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Points (16, 4), their classes, and the first weights of a network of two layers."""
    rs = stream("problem")
    x, classes = rs.standard_normal((16, 4)), rs.randint(3, size=16)
    shapes = {"w1": (4, 8), "b1": (8,), "w2": (8, 3), "b2": (3,)}
    return x, classes, {name: 0.5 * rs.standard_normal(shape) for name, shape in shapes.items()}


def run_optimizers() -> dict[str, np.ndarray]:
    """100 steps of each optimizer, its losses and its weights on the way; matrices decay, biases do not."""
    answers = {}
    for kind, lr in LEARNING_RATES.items():
        x, classes, weights = problem()
        p = {name: Parameter(w.shape) for name, w in weights.items()}
        for name, w in weights.items():
            p[name].name, p[name].data = name, w.copy()
        optimizer = optim.OPTIMIZERS[kind](beta1=BETAS[0], beta2=BETAS[1], eps=EPS, weight_decay=DECAY)
        losses = []
        for step in range(1, max(WATCHED) + 1):
            hidden = ops.gelu(linear.linear(x, p["w1"], p["b1"]))
            loss = head.cross_entropy(linear.linear(hidden, p["w2"], p["b2"]), classes)
            losses.append(float(loss.data))
            for parameter in p.values():
                parameter.grad = None
            loss.backward()
            optimizer.step(p.values(), lr)
            if step in WATCHED:
                answers |= {f"{kind}: {name} after {step}": w.data.copy() for name, w in p.items()}
        answers[f"{kind}: losses"] = np.array(losses)
    return answers


TRAINED = Config(vocab_size=32, context=32, d_model=32, nhead=4, num_layers=2)


def run_training(dtype: str = "float64", steps: int = 200, config: Config = TRAINED) -> dict[str, np.ndarray]:
    """The losses of AdamW's steps at the default settings: lr 1e-3, betas 0.9 and 0.99, clip 1, decay 0.1."""
    model = filled(config, dtype, spread=0.1)
    optimizer = optim.AdamW(beta1=BETAS[0], beta2=BETAS[1], eps=1e-8, weight_decay=DECAY)
    parameters = model.parameters().values()
    losses, norms = [], []
    for step in range(steps):
        loss = model.loss(*batch(config, 8, config.context, seed=step))
        losses.append(float(loss.data))
        for p in parameters:
            p.grad = None
        loss.backward()
        norms.append(optim.gradient_norm(parameters))
        optim.clip(parameters, 1.0, norms[-1])
        optimizer.step(parameters, lr=1e-3)
    return {"losses": np.array(losses), "gradient norms": np.array(norms)}
