"""`minimega bench`: the speed of a training step, as a share of this machine's peak and against torch.

B batch, T time, D width, L layers, N parameters.
"""

import importlib.util
import multiprocessing
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace as Options

import numpy as np

from minimega import precision, random
from minimega.backend import device, keep_memory
from minimega.commands import fast, threads
from minimega.commands.options import model_config
from minimega.commands.progress import busy, each
from minimega.costs import Job
from minimega.costs.memory import check_fits, size, used
from minimega.errors import RunFailed
from minimega.model import Config, gpt
from minimega.optim import OPTIMIZERS
from minimega.precision import check_type
from minimega.ranks.group import SELF
from minimega.ranks.streams import say
from minimega.train import Recipe, train_step

EDGE = 2048  # of the square matrices whose product measures the peak
WARM_UP = 2


def run(o: Options) -> int:
    """`minimega bench`: time a training step, and print one line per figure.

    Raises BadInput if the model needs more memory than this machine has.
    """
    config = model_config(o, o.vocab_size or 512)
    check_type(device(o.device), o.dtype)
    check_fits(Job(config, batch=o.train_batch_size, dtype=o.dtype, optimizer=o.optimizer))
    chosen = threads.settle(o, SELF, config)
    kernels = fast.settle(o, SELF, config)
    makers = {"minimega": minimega_step}
    why_not = torch_is_missing(o)
    if not why_not:
        makers["torch"] = torch_step
    with busy("measuring the memory of a step"):
        memory = {name: peak_memory(maker, config, o) for name, maker in makers.items()}
    steps = {name: maker(config, o) for name, maker in makers.items()}
    seconds = in_turn({"product": lambda: product(device(o.device), o.dtype)} | steps, o.num_steps)
    peak = 2 * EDGE**3 / min(seconds.pop("product"))  # operations per second
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    say(
        f"{gpt(config).count():,} parameters: {config.num_layers} layers of width {config.d_model}, "
        f"vocabulary {config.vocab_size}\n"
        f"a step: {o.train_batch_size} x {config.context} tokens, {o.dtype}, {o.optimizer}, "
        f"{chosen or 'on a GPU'}{kernels and '; '}{kernels}; medians of {o.num_steps}\n"
        f"peak: {peak / 1e9:,.0f} Gflop/s, by products of {EDGE} x {EDGE} matrices"
    )
    for name, median in medians.items():
        rate = o.train_batch_size * config.context / median
        share = rate * operations(config) / peak
        say(f"{name}: {rate:,.0f} tokens/s, {share:.0%} of the peak, {size(memory[name])} of memory")
    if why_not:
        say(f"torch: {why_not}")
    else:
        speed, held = medians["torch"] / medians["minimega"], memory["minimega"] / memory["torch"]
        say(f"minimega / torch: {speed:.2f} of the speed, {held:.2f} of the memory")
    return 0


def operations(config: Config) -> int:
    """The multiplications and additions that a token costs in a step: 6 N + 12 L T D.

    A parameter multiplies and adds once forward and twice backward. So does a feature of a query with that
    of a key, and of a weight with a value's: T D times each in a layer, what the mask hides counted too.
    Chowdhery et al. 2022, appendix B.

    Only the experts that a token meets count.

    >>> operations(Config(vocab_size=512))
    3265536
    """
    c = config
    return 6 * used(c) + 12 * c.num_layers * c.context * c.d_model * c.attention


def product(xp, dtype: str) -> float:
    """One large matrix product: the fastest arithmetic that the machine does. Returns one of its numbers."""
    a = xp.ones((EDGE, EDGE), dtype)
    return float(precision.product(a, a)[0, 0])  # reading a number waits for the GPU


def minimega_step(config: Config, o: Options) -> Callable[[], float]:
    """A function that does one step (forward, backward, clipping, optimizer) and returns its loss."""
    keep_memory()
    xp = device(o.device)
    model = gpt(config).draw(o.seed, o.dtype, xp)
    rule = OPTIMIZERS[o.optimizer]((), o.lr, o.beta1, o.beta2, o.eps, o.weight_decay)
    batch = [xp.asarray(part) for part in made_up(config, o)]
    recipe = Recipe(1, o.lr)
    return lambda: train_step(model, rule, recipe, 1, *batch)["loss"]


def torch_step(config: Config, o: Options) -> Callable[[], float]:
    """The same step of the independent torch GPT in tests/parity, with as many threads."""
    import torch

    spec = importlib.util.spec_from_file_location("torch_gpt", _torch_file())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.set_num_threads(threads.used())
    torch.manual_seed(o.seed)
    model = module.TorchGPT(config).to(o.device, getattr(torch, o.dtype))
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

    def step() -> float:
        optimizer.zero_grad()
        model.loss(tokens, targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), Recipe(1).clip)
        optimizer.step()
        return float(next(model.parameters()).detach()[0, 0])

    return step


def torch_is_missing(o: Options) -> str:
    """Why there is no torch GPT to compare with; empty if there is one."""
    if not _torch_file().exists():
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


def in_turn(steps: dict[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
    """The seconds of `count` calls of each step, taken in turn, after a warm-up.

    Interleaving lets other load on the machine slow all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for n in each(range(WARM_UP + count), "measuring the time of a step"):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            if n >= WARM_UP:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def peak_memory(maker: Callable, config: Config, o: Options) -> int:
    """The peak memory, in bytes, of a fresh process that does a few steps.

    Raises RunFailed if the system kills that process.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        try:
            return fresh.submit(_steps_then_size, maker, config, o).result()
        except BrokenProcessPool:
            raise RunFailed("the process that measures memory was killed: out of memory?") from None


def _steps_then_size(maker: Callable, config: Config, o: Options) -> int:
    threads.settle(o, SELF, config)
    fast.settle(o, SELF, config)
    step = maker(config, o)
    for _ in range(WARM_UP):
        step()
    if o.device == "cuda" and maker is minimega_step:
        return device(o.device).get_default_memory_pool().total_bytes()
    return largest_size()


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


def _torch_file() -> Path:
    return Path(__file__).resolve().parents[2] / "tests" / "parity" / "torch_gpt.py"
