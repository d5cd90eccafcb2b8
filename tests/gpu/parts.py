"""The parts of `bash tests/gpu/run`: `python -m tests.gpu.parts NAME [--rehearse]` runs one.

A part is a function of a Bench that yields (sentence, figures), as often as it likes: the last one counts.
With --rehearse the Bench has the stand-in for CuPy, and shapes are tiny.

B batch, T time, D width, V vocabulary.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np

from minimega import AdamW, Config
from minimega.autograd import saved_bytes
from minimega.model import SHAPES, gpt
from minimega.precision import product
from minimega.ranks import launch
from minimega.train import Recipe, train_step
from tests.golden import cases
from tests.gpu import against_numpy as against
from tests.gpu import standin

ROOT = Path(__file__).resolve().parents[2]
Said = Iterator[tuple[str, dict[str, Any]]]


class Skip(Exception):
    """This machine cannot show this."""


class Bench:
    """The array library, and what depends on whether this is a rehearsal."""

    def __init__(self, xp: ModuleType, rehearsal: bool):
        self.xp, self.rehearsal = xp, rehearsal

    def __call__(self, real, rehearsed):
        """One of two shapes or numbers."""
        return rehearsed if self.rehearsal else real

    @property
    def gpt2(self) -> tuple[Config, int]:
        """The shape whose speed counts, and its batch."""
        small = Config(vocab_size=50, context=16, d_model=16, nhead=2, num_layers=2)
        return self((Config(**SHAPES["gpt2"]), 8), (small, 2))

    def wait(self) -> None:
        self.xp.cuda.Device().synchronize()

    def seconds(self, f: Callable, times: int = 5) -> float:
        """The median time of f, after two calls."""
        found = []
        for n in range(self(times, 1) + 2):
            self.wait()
            begun = time.perf_counter()
            f()
            self.wait()
            if n >= 2:
                found.append(time.perf_counter() - begun)
        return median(found)

    def minimega(self, *args) -> str:
        """Run a command; returns what it wrote. Raises RuntimeError if it fails."""
        module = self("minimega", "tests.gpu.command")
        return said([sys.executable, "-m", module, *map(str, args)])


def said(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command[1:5])} ended with {ended.returncode}: {ended.stderr[-500:]}")
    return ended.stdout + ended.stderr


def machine(bench: Bench) -> Said:
    """What it is, its peaks and its memory's bandwidth."""
    xp, n = bench.xp, bench(8192, 64)
    about: dict[str, Any] = {
        "cupy": xp.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }
    try:
        about["gpu"] = said(
            ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        )
    except (OSError, RuntimeError):
        about["gpu"] = "no nvidia-smi"
    about["gpu"] = about["gpu"].strip()
    for name in ("torch", "mpi4py", "numba", "ml_dtypes", "tokenizers", "safetensors"):
        about[name] = find_spec(name) is not None
    about["mpirun"] = shutil.which("mpirun") or shutil.which("mpiexec")
    yield about["gpu"], about
    a = xp.ones((bench(1 << 28, 1 << 10),), "float32")
    b = a.copy()
    about["copy, GB/s"] = 2 * a.nbytes / bench.seconds(lambda: xp.add(a, 1, out=b)) / 1e9
    peaks: list[str] = []
    for dtype in ("float32", "float16", "bfloat16"):
        m = xp.ones((n, n), dtype)
        about[f"product {dtype}, Tflop/s"] = 2 * n**3 / bench.seconds(lambda m=m: product(m, m)) / 1e12
        stack = xp.ones((8, n // 8, n // 8), dtype)
        rate = 16 * (n // 8) ** 3 / bench.seconds(lambda s=stack: product(s, s)) / 1e12
        about[f"product of stacks {dtype}, Tflop/s"] = rate
        peaks.append(f"{dtype} {about[f'product {dtype}, Tflop/s']:.0f}")
        yield f"{about['gpu']}; {about['copy, GB/s']:.0f} GB/s; Tflop/s: {', '.join(peaks)}", about


def numbers(dtype: str) -> Callable[[Bench], Said]:
    """Operations, models and optimizers against NumPy; one that fails does not end the others."""

    def part(bench: Bench) -> Said:
        off: dict[str, float] = {}
        wrong: dict[str, str] = {}

        def try_all(names, f, most):
            for name in names:
                try:
                    found = f(name)
                except Exception as error:
                    at = traceback.extract_tb(error.__traceback__)
                    ours = [
                        x for x in at if "minimega" in Path(x.filename).parts[-3:-1] or "tests" in x.filename
                    ]
                    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
                    wrong[str(name)] = f"{type(error).__name__} at {where}: {str(error)[:300]}"
                    continue
                off.update(found)
                wrong.update({part: f"off by {d:.1e}" for part, d in found.items() if not d < most})

        def words():
            count = f"{len(off)} values and gradients, worst {max(off.values(), default=0):.1e}"
            return f"failed: {len(wrong)} of {count}" if wrong else count, {"wrong": wrong, "off": off}

        every = bench(
            list(against.operations()), ["linear", "attention, causal", "embedding", "cross_entropy"]
        )
        most = against.TOLERANCE[dtype]
        try_all(every, lambda name: against.off_operations(bench.xp, dtype, only=(name,)), most)
        yield words()
        configs = bench(list(against.CONFIGS), ["pre-norm", "experts"])
        for name in configs:
            try_all(
                (name,),
                lambda name: against.off_models(bench.xp, dtype, (name,)),
                against.MODEL_TOLERANCE[dtype],
            )
            yield words()
        try_all(("optimizers",), lambda name: against.off_optimizers(bench.xp, dtype), most)
        yield words()

    return part


def training(bench: Bench) -> Said:
    """50 steps of `tiny` against the CPU's losses, in each type; in float32 twice: the same bit for bit?"""
    config, steps = bench(Config(**SHAPES["tiny"], vocab_size=65), cases.TRAINED), bench(50, 4)
    theirs = against.losses(config, "float32", np, steps)
    found: dict[str, Any] = {"CPU float32": theirs}
    words = []
    for dtype, most in (("float32", 2e-3), ("float16", 5e-2), ("bfloat16", 1e-1)):
        begun = time.perf_counter()
        ours = found[dtype] = against.losses(config, dtype, bench.xp, steps)
        off = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
        found[f"{dtype}: seconds per step"] = (time.perf_counter() - begun) / steps
        found[f"{dtype}: largest difference"] = off
        words.append(f"{dtype} within {off:.1e}" if off < most else f"failed: {dtype} is off by {off:.1e}")
        if dtype == "float32":
            again = against.losses(config, dtype, bench.xp, steps) == ours
            found["the same twice"] = again
            words += [] if again else ["not the same twice"]
        words.sort(key=lambda word: not word.startswith("failed"))
        yield f"{', '.join(words)} of the CPU's losses over {steps} steps", found


def _step(bench: Bench, dtype: str) -> tuple:
    """A model of gpt2's shape, its batch, and a function that trains it for a step."""
    config, batch = bench.gpt2
    xp = bench.xp
    model, adam = gpt(config).draw(0, dtype, xp), AdamW(weight_decay=0.1)
    tokens = xp.asarray(cases.stream("gpt2").randint(config.vocab_size, size=(batch, config.context + 1)))
    data = tokens[:, :-1], tokens[:, 1:]
    return model, data, lambda: train_step(model, adam, Recipe(1, 1e-4), 1, *data)["loss"]


def gpt2(bench: Bench) -> Said:
    """What the graph of a gpt2-size step keeps, the memory it takes, and where its time goes."""
    pool = bench.xp.get_default_memory_pool()
    model, data, step = _step(bench, "float32")
    weights = pool.used_bytes()
    begun = time.perf_counter()
    loss = model.loss(*data)
    kept = saved_bytes(loss)
    found: dict[str, Any] = {
        "loss": float(loss.data),
        "parameters": model.count(),
        "weights, bytes": weights,
        "graph, bytes": sum(kept.values()),
        "after the forward, bytes": pool.used_bytes(),
        "first forward, seconds": time.perf_counter() - begun,
        "by layer": {name: n for name, n in kept.items() if "0" in name or "." not in name},
    }
    found["forward, seconds"] = bench.seconds(lambda: model.loss(*data), 3)
    yield f"a loss of {found['loss']:.3f}, a graph of {found['graph, bytes'] / 1e9:.2f} GB", found
    loss.backward()
    for p in model.parameters().values():
        p.grad = None
    del loss
    found["step, seconds"] = bench.seconds(step, 3)
    found["peak, bytes"] = pool.total_bytes()
    yield (
        f"a loss of {found['loss']:.3f}, a graph of {found['graph, bytes'] / 1e9:.2f} GB, "
        f"{found['peak, bytes'] / 1e9:.1f} GB at most, {found['step, seconds'] * 1e3:.0f} ms per step",
        found,
    )


def speed(bench: Bench) -> Said:
    """Tokens per second at gpt2's shape beside torch eager, in turn on one GPU."""
    config, batch = bench.gpt2
    tokens, found = batch * config.context, {}
    yield from _speed(bench, tokens, found, ("float32", "bfloat16", "float16"))


def tf32(bench: Bench) -> Said:
    """The same with float32 products in TF32, for both."""
    os.environ["CUPY_TF32"] = "1"  # read by CuPy at its first product
    config, batch = bench.gpt2
    yield from _speed(bench, batch * config.context, {}, ("float32",), tf32=True)


def _speed(bench: Bench, tokens: int, found: dict[str, Any], dtypes, tf32: bool = False) -> Said:
    words = []
    for dtype in dtypes:
        *_, step = _step(bench, dtype)
        ours = found[f"minimega {dtype}, tokens/s"] = tokens / bench.seconds(step, 5)
        found[f"minimega {dtype}, pool bytes"] = bench.xp.get_default_memory_pool().total_bytes()
        del step, _
        bench.xp.get_default_memory_pool().free_all_blocks()
        words.append(f"{dtype} {ours:,.0f}")
        yield f"tokens/s: {', '.join(words)}", found
        try:
            theirs = found[f"torch {dtype}, tokens/s"] = tokens / _torch_seconds(bench, dtype, tf32)
            sys.modules["torch"].cuda.empty_cache()
            words[-1] += f" (torch {theirs:,.0f}: {ours / theirs:.2f})"
        except Skip as why:
            found["torch"] = str(why)
        yield f"tokens/s: {', '.join(words)}", found


def _torch_seconds(bench: Bench, dtype: str, tf32: bool) -> float:
    if find_spec("torch") is None:
        raise Skip("torch is not installed")
    import torch

    from tests.parity.torch_gpt import TorchGPT

    if not torch.cuda.is_available():
        raise Skip("torch finds no GPU")
    config, batch = bench.gpt2
    torch.backends.cuda.matmul.allow_tf32 = tf32
    model = TorchGPT(config).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1)
    ids = torch.randint(config.vocab_size, (batch, config.context + 1), device="cuda")
    half = dtype != "float32"

    def step():
        optimizer.zero_grad()
        with torch.autocast("cuda", getattr(torch, dtype if half else "float16"), enabled=half):
            loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        torch.cuda.synchronize()

    return bench.seconds(step, 5)


def pieces(bench: Bench) -> Said:
    """The time of single operations at gpt2's shape, forward and backward: where a fused kernel would pay."""
    xp, (config, batch) = bench.xp, bench.gpt2
    d, t, v, h = config.d_model, config.context, config.vocab_size, config.nhead
    found: dict[str, Any] = {}
    ids = xp.zeros((batch, t), "int64")
    for dtype in ("float32", "bfloat16"):

        def a(*shape, dtype=dtype):
            return xp.ones(shape, dtype) * 0.01

        def both(f, *args, **options):
            y, back = f(*args, **options)
            dxs = back(xp.ones_like(y))
            for dx in dxs if isinstance(dxs, tuple) else (dxs,):
                if callable(dx):
                    dx()

        x, wide, logits = a(batch, t, d), a(batch, t, 4 * d), a(batch, t, v)
        heads = [a(batch, h, t, d // h) for _ in range(3)]
        timed = {
            "linear D -> 4D": partial(both, cases.linear.linear, x, a(d, 4 * d), a(4 * d)),
            "attention": partial(both, cases.attention.attention, *heads),
            "gelu of 4D": partial(both, against.ops.gelu, wide),
            "layer_norm": partial(both, cases.norm.layer_norm, x, a(d), a(d)),
            "add": partial(both, against.ops.add, x, x),
            "embedding": partial(both, cases.embedding.embedding, a(v, d), ids),
            "cross_entropy": partial(both, cases.head.cross_entropy, logits, ids),
        }
        for name, f in timed.items():
            found[f"{name}, {dtype}, ms"] = 1e3 * bench.seconds(f, 3)
        ms = sorted(((n, name) for name, n in found.items() if dtype in name), reverse=True)
        yield "; ".join(f"{name} {n:.1f}" for n, name in ms[:4]), found
        del heads, timed, x, wide, logits, f
        xp.get_default_memory_pool().free_all_blocks()


def tests(bench: Bench) -> Said:
    """The tests that are marked for a GPU."""
    options = ["-o", "addopts=", "-o", "filterwarnings=default", "--import-mode=importlib", "-q", "-rf"]
    which = bench(["-m", "gpu"], ["-k", "surprises"])
    command = [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", *which, "tests/gpu"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    lines = ended.stdout.strip().splitlines() or [ended.stderr[-300:]]
    failed = [line for line in lines if line.startswith("FAILED")]
    yield ("failed: " if ended.returncode else "") + lines[-1], {"failed": failed, "tail": lines[-30:]}


SMALL = "--num-layers 2 --d-model 32 --nhead 2 --context 32 --train-batch-size 4 --lr 1e-3"


def _text(folder: str) -> str:
    """A small text, so that the evaluation at the end is short."""
    path = Path(folder) / "text.txt"
    path.write_text("the cat sat on the mat, and the dog sat on the log.\n" * 100)
    return str(path)


def command(bench: Bench) -> Said:
    """Train, resume, generate and evaluate with --device cuda, as a user does."""
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        lines = [
            f"train {SMALL} --num-steps {bench(20, 2)} --save-dir {run} --train-filename {_text(folder)}",
            f"train --resume --num-steps {bench(30, 3)} --save-dir {run}",
            f"generate --model-filename {run} --generate-sentence-length 8",
            f"evaluate --model-filename {run}",
        ]
        for line in lines[: bench(4, 1)]:
            out = bench.minimega(*line.split(), "--device", "cuda")
            yield f"{line.split()[0]}: {out.strip().splitlines()[-1][:80]}", {}


def ranks(bench: Bench) -> Said:
    """Two ranks on one GPU, whose arrays go through page-locked host memory, against a run of one."""
    yield from _two(bench)


def nccl(bench: Bench) -> Said:
    """The same on two GPUs, through NCCL."""
    if not bench.rehearsal and bench.xp.cuda.runtime.getDeviceCount() < 2:
        raise Skip("one GPU; NCCL needs two")
    yield from _two(bench, "NCCL")


def _two(bench: Bench, way: str = "page-locked") -> Said:
    start = shutil.which("mpirun") or shutil.which("mpiexec")
    beside = Path(sys.executable).with_name("mpirun")
    start = str(beside) if beside.exists() else start
    if find_spec("mpi4py") is None or not start:
        raise Skip("no mpi4py, or no mpirun")
    if bench.rehearsal and way == "NCCL":
        raise Skip("no NCCL in a rehearsal")
    module = bench("minimega", "tests.gpu.command")
    os.environ |= launch.OPEN_MPI
    losses: dict[str, list[float]] = {}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, cut in {"one": "", "dp 2": "--dp 2", "tp 2": "--tp 2", "pp 2": "--pp 2"}.items():
            if bench.rehearsal and name in ("tp 2", "pp 2"):
                continue
            run = f"{folder}/{name.replace(' ', '')}"
            line = ["-m", module, "train", *SMALL.split(), *cut.split(), "--num-steps", str(bench(20, 3))]
            line += ["--device", "cuda", "--save-dir", run, "--train-filename", _text(folder)]
            some = [start, "-n", "2"] if cut else []
            begun = time.perf_counter()
            out = said([*some, sys.executable, *line])
            if cut and way not in out:
                found[f"{name}: how"] = out[:600]
            records = map(json.loads, Path(f"{run}/log.jsonl").read_text().splitlines())
            losses[name] = [r["loss"] for r in records if "loss" in r]
            found[f"{name}: seconds"] = time.perf_counter() - begun
            off = max(abs(a - b) for a, b in zip(losses["one"], losses[name], strict=True))
            found[f"{name}: largest difference"] = off
            word = "failed: " if off > 1e-3 or (cut and way not in out) else ""
            yield f"{word}{name}, {way}: losses within {off:.1e} of one rank's", found
            if word:
                return


EVERY = {
    "machine": machine,
    "training": training,
    "gpt2": gpt2,
    "speed": speed,
    "tf32": tf32,
    "pieces": pieces,
    "tests": tests,
    "command": command,
    "ranks": ranks,
    "nccl": nccl,
    **{dtype: numbers(dtype) for dtype in against.TOLERANCE},
}


def main() -> int:
    """Run a part: 0 if it is right, 1 if not, 3 if this machine cannot show it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=EVERY)
    parser.add_argument("--rehearse", action="store_true")
    o = parser.parse_args()
    says = ""
    with ExitStack() as stack:
        if o.rehearse:
            xp = stack.enter_context(standin.installed())
        else:
            import cupy as xp
        try:
            for says, figures in EVERY[o.part](Bench(xp, o.rehearse)):
                print(json.dumps({"says": says, "figures": figures}, default=str), flush=True)
        except Skip as why:
            print(json.dumps({"says": str(why), "figures": {}}))
            return 3
    return int(says.startswith("failed"))


if __name__ == "__main__":
    sys.exit(main())
