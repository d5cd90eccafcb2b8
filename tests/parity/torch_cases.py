"""torch's answers to the inputs of golden/cases.py, under the same names.

B batch, T queries in time, S keys in time.
"""

import numpy as np
import torch
import torch.nn.functional as F

from minimega.model import Config, Model
from tests.golden import cases
from tests.parity.torch_gpt import TorchGPT
from tests.parity.torch_weights import copy_weights, gradients


def attention(q, k, v, causal):
    if not causal or q.shape[-2] == k.shape[-2]:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    # fewer queries than keys: they are the last; torch's is_causal would take them for the first
    t, s = q.shape[-2], k.shape[-2]
    seen = torch.arange(s)[None, :] <= torch.arange(s - t, s)[:, None]  # (T, S)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)


def cross_attention(q, kv, heads, seen):
    """q (B, T, D), kv (B, S, 2D) with a head's key and value side by side, seen (B, S)."""
    (batch, t, d), s = q.shape, kv.shape[1]
    q = q.view(batch, t, heads, -1).transpose(1, 2)
    k, v = kv.view(batch, s, heads, 2, -1).permute(3, 0, 2, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=torch.tensor(seen)[:, None, None])
    return y.transpose(1, 2).reshape(batch, t, d)


OPS = {
    "cross_attention": cross_attention,
    "add": torch.add,
    "multiply": torch.mul,
    "divide": torch.div,
    "matmul": torch.matmul,
    "max": lambda x, axis: x.amax(axis),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "relu": torch.relu,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "layer_norm": lambda x, w, b: F.layer_norm(x, w.shape, w, b, eps=1e-5),
    "linear": lambda x, w, b=None: F.linear(x, w.T, b),
    "attention": attention,
    "embedding": lambda table, ids: F.embedding(ids, table),
    "cross_entropy": lambda logits, ids: F.cross_entropy(
        logits.flatten(0, 1), ids.flatten(), ignore_index=-1
    ),
}


def run_ops(seed: int = 0, dtype: str = "float64") -> dict[str, np.ndarray]:
    answers = {}
    for name, (arrays, constants, options) in cases.op_inputs(seed).items():
        f = OPS[name.replace(",", " ").split()[0]]
        xs = [torch.tensor(a.astype(dtype), requires_grad=True) for a in arrays]
        y = f(*xs, *map(torch.tensor, constants), **options)
        y.backward(torch.tensor(cases.gradient_of(y.detach().numpy()).astype(dtype)))
        answers[f"{name}: y"] = y.detach().numpy()
        answers |= {f"{name}: gradient {i}": x.grad.numpy() for i, x in enumerate(xs)}
    return answers


def twin(model: Model) -> TorchGPT:
    """A torch model of the same configuration, precision and weights."""
    dtype = next(iter(model.parameters().values())).dtype.name
    return copy_weights(model, TorchGPT(model.config).to(getattr(torch, dtype)))


def run_model(model: Model, tokens, targets) -> dict[str, np.ndarray]:
    theirs, tokens, targets = twin(model), torch.tensor(tokens), torch.tensor(targets)
    loss = theirs.loss(tokens, targets)
    loss.backward()
    first = {"logits": theirs(tokens).detach().numpy(), "loss": loss.detach().numpy()}
    return first | gradients(theirs, model.parameters())


def run_models() -> dict[str, np.ndarray]:
    runs = {name: run_model(cases.filled(c), *cases.batch(c)) for name, c in cases.CONFIGS.items()}
    return cases.summaries(runs)


def optimizer(kind: str, parameters, lr: float, eps: float) -> torch.optim.Optimizer:
    """torch's optimizer of minimega's name and definition: only matrices decay.

    The updates are the same ones; the defaults are not: torch's second beta is 0.999, its AdaGrad adds 1e-10.
    """
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": cases.DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    make, options = {
        "sgd": (torch.optim.SGD, {}),
        "momentum": (torch.optim.SGD, {"momentum": cases.BETAS[0]}),
        "adagrad": (torch.optim.Adagrad, {"eps": eps}),
        "adam": (torch.optim.Adam, {"betas": cases.BETAS, "eps": eps}),
        "adamw": (torch.optim.AdamW, {"betas": cases.BETAS, "eps": eps}),
    }[kind]
    return make(groups, lr=lr, **options)


def run_optimizers() -> dict[str, np.ndarray]:
    answers = {}
    for kind, lr in cases.LEARNING_RATES.items():
        x, classes, weights = cases.problem()
        x, classes = torch.tensor(x), torch.tensor(classes)
        p = {name: torch.tensor(w, requires_grad=True) for name, w in weights.items()}
        stepper, losses = optimizer(kind, p.values(), lr, cases.EPS), []
        for step in range(1, max(cases.WATCHED) + 1):
            hidden = F.gelu(x @ p["w1"] + p["b1"], approximate="tanh")
            loss = F.cross_entropy(hidden @ p["w2"] + p["b2"], classes)
            losses.append(loss.item())
            stepper.zero_grad()
            loss.backward()
            stepper.step()
            if step in cases.WATCHED:
                answers |= {
                    f"{kind}: {name} after {step}": w.detach().numpy().copy() for name, w in p.items()
                }
        answers[f"{kind}: losses"] = np.array(losses)
    return answers


def run_training(
    dtype: str = "float64", steps: int = 200, config: Config = cases.TRAINED
) -> dict[str, np.ndarray]:
    theirs = twin(cases.filled(config, dtype, spread=0.1))
    stepper = optimizer("adamw", theirs.parameters(), lr=1e-3, eps=1e-8)
    losses, norms = [], []
    for step in range(steps):
        loss = theirs.loss(*map(torch.tensor, cases.batch(config, 8, config.context, seed=step)))
        losses.append(loss.item())
        stepper.zero_grad()
        loss.backward()
        # torch's clip_grad_norm_ divides by the norm + 1e-6, a difference of definition: so by hand
        norms.append(torch.nn.utils.get_total_norm(p.grad for p in theirs.parameters()).item())
        for p in theirs.parameters():
            p.grad *= min(1.0, 1.0 / norms[-1])
        stepper.step()
    return {"losses": np.array(losses), "gradient norms": np.array(norms)}
