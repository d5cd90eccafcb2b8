"""The steps that `minimega bench` times: ours, those of an independent torch GPT, and of the machine itself.

B batch, T time.
"""

import importlib.util
import re
import resource
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace as Options

import numpy as np

from minimega import precision, random
from minimega.backend import device, keep_memory
from minimega.commands import threads
from minimega.model import Config, gpt
from minimega.optim import OPTIMIZERS
from minimega.parallel.grid import grid
from minimega.parallel.layout import Layout
from minimega.parallel.team import build
from minimega.ranks.group import Group
from minimega.train import Recipe, train_step

EDGE = 2048  # of the square matrices whose product measures the peak
STREAM = 1 << 24  # numbers of each array that is streamed: 64 MB, more than caches hold
Step = Callable[[], float]
Maker = Callable[[Config, Options, str], Step]


def product(xp, dtype: str) -> float:
    """One large matrix product: the fastest arithmetic that the machine does. Returns one of its numbers."""
    a = xp.ones((EDGE, EDGE), dtype)
    return float(precision.product(a, a)[0, 0])  # reading a number waits for the GPU


def stream(xp) -> Step:
    """A function that adds two arrays into a third: 12 bytes per number of `STREAM`, and one addition.

    It is "Add" of McCalpin 1995, "Memory bandwidth and machine balance in current high performance
    computers".
    """
    a, b, c = (xp.ones(STREAM, "float32") for _ in range(3))
    return lambda: float(xp.add(a, b, out=c)[0])


def minimega_step(config: Config, o: Options, dtype: str) -> Step:
    """A function that does one step (forward, backward, clipping, optimizer) and returns its loss."""
    keep_memory()
    xp = device(o.device)
    model = gpt(config).draw(o.seed, dtype, xp)
    rule = OPTIMIZERS[o.optimizer]((), o.lr, o.beta1, o.beta2, o.eps, o.weight_decay)
    batch = [xp.asarray(part) for part in made_up(config, o)]
    recipe = Recipe(1, o.lr)
    return lambda: train_step(model, rule, recipe, 1, *batch)["loss"]


def step_on_ranks(config: Config, o: Options, world: Group) -> Step:
    """The same step on ranks that each take a part of the batch; every rank calls it, and what it returns."""
    model, team = build(config, grid(world, Layout(dp=world.size)))
    team.draw(model, o.seed, o.dtype)
    rule = OPTIMIZERS[o.optimizer]((), o.lr, o.beta1, o.beta2, o.eps, o.weight_decay)
    batch, recipe = made_up(config, o), Recipe(1, o.lr)
    return lambda: train_step(model, rule, recipe, 1, *batch, team=team)["loss"]


def torch_step(config: Config, o: Options, dtype: str) -> Step:
    """The same step of the independent torch GPT in tests/parity, eager, with as many threads.

    16 bits are those of its autocast: products in 16 bits, weights and optimizer in 32.
    """
    return _torch_step(config, o, dtype, lambda model: model)


def compiled_step(config: Config, o: Options, dtype: str) -> Step:
    """`torch_step` of the model that torch.compile makes."""
    import torch

    return _torch_step(config, o, dtype, torch.compile)


def _torch_step(config: Config, o: Options, dtype: str, prepare: Callable) -> Step:
    import torch

    spec = importlib.util.spec_from_file_location("torch_gpt", torch_file())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.set_num_threads(threads.used())
    torch.manual_seed(o.seed)
    half = dtype in ("bfloat16", "float16")
    model = module.TorchGPT(config).to(o.device, torch.float32 if half else getattr(torch, dtype))
    adam = {"betas": (o.beta1, o.beta2), "eps": o.eps}
    rule, settings = {
        "sgd": (torch.optim.SGD, {}),
        "momentum": (torch.optim.SGD, {"momentum": o.beta1}),
        "adagrad": (torch.optim.Adagrad, {}),
        "adam": (torch.optim.Adam, adam),
        "adamw": (torch.optim.AdamW, adam),
    }[o.optimizer]
    optimizer = rule(model.parameters(), lr=o.lr, weight_decay=o.weight_decay, **settings)
    tokens, targets = (torch.from_numpy(part).to(o.device) for part in made_up(config, o))
    loss = prepare(model.loss)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast(o.device, getattr(torch, dtype)) if half else nullcontext():
            value = loss(tokens, targets)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), Recipe(1).clip)
        optimizer.step()
        return float(next(model.parameters()).detach()[0, 0])

    return step


def torch_is_missing(o: Options) -> str:
    """Why there is no torch GPT to compare with; empty if there is one."""
    if not torch_file().exists():
        return "not compared; its GPT is in tests/parity of the source tree, not in an installed package"
    if o.experts:
        return "not compared; its GPT has no experts"
    if importlib.util.find_spec("torch") is None:
        return "not installed; `make parity` installs it, then compare with: .venv-parity/bin/minimega bench"
    if o.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "not compared; this build of it finds no GPU"
    return ""


def torch_file() -> Path:
    """The file of the torch GPT, in the source tree."""
    return Path(__file__).resolve().parents[2] / "tests" / "parity" / "torch_gpt.py"


def largest_size() -> int:
    """The peak memory of this process, in bytes.

    On Linux getrusage includes the parent's size at the fork, so /proc is read first.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def made_up(config: Config, o: Options) -> tuple[np.ndarray, np.ndarray]:
    """The inputs and targets, both (B, T), of a step on random tokens."""
    places = np.arange(o.train_batch_size)[:, None], np.arange(config.context + 1)
    tokens = (random.uniform(random.key(o.seed, "bench"), *places) * config.vocab_size).astype(np.int64)
    return tokens[:, :-1], tokens[:, 1:]
