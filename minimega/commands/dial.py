"""`--size N`: one dial for a model of N layers; width, heads, batch and learning rate follow.

The rule and its sources are in RULE. N = 2 is the default model, with its default batch and learning rate.
"""

from collections.abc import Iterator
from math import sqrt
from typing import Any

from minimega.model import Config

RULE = """`--size N` is one dial: a model of N layers, and what fits it. `--size 2` is the default model.

- width: 64 N, the proportion of [nanochat](https://github.com/karpathy/nanochat); N = 12 has the shape of the
  smallest GPT-2
- heads: N, but at least 4. From N = 4 on each has 64 numbers, as in GPT-2
- batch: 8 N sequences. nanochat's grows with the tokens to the power 0.383; these grow with the parameters,
  and those with N^3, which makes N^1.15
- learning rate: 0.001 sqrt(2 / N), that is 1 / sqrt(width), as nanochat scales that of AdamW. GPT-3 (Brown et
  al. 2020, table 2.1) takes 0.0006 at width 768 and 0.00025 at width 1536; the rule gives 0.00041 and 0.00029

In short runs on the tales (50 steps, context 32) the rule's rate, and four times that, gave held-out losses
of 3.16 and 1.60 at N = 2, 1.74 and 1.27 at N = 4, and 1.25 and 1.47 at N = 6: the best rate falls with the
width, and a small model in a short run can take a higher `--lr`.

`--model-type` and single options win over it. `--context` stays at 128 tokens and the run at `--num-epochs`,
so a larger model makes fewer, larger steps. Parameters: with the vocabulary of the tales (231 tokens) and
with that of GPT-2 (50,257). Steps, operations and time: for one epoch of the tales, on one core that does
50 Gflop/s.
"""
SIZES = 1, 2, 4, 6, 8, 12, 24
WINDOWS, VOCABULARY, GPT2 = 6000, 231, 50257  # of the tales
SPEED = 50e9  # operations per second


def dial(n: int) -> dict[str, int | float]:
    """The options that `--size n` sets, by field.

    >>> dial(2)
    {'num_layers': 2, 'd_model': 128, 'nhead': 4, 'train_batch_size': 16, 'lr': 0.001}
    >>> dial(12)
    {'num_layers': 12, 'd_model': 768, 'nhead': 12, 'train_batch_size': 96, 'lr': 0.000408}
    """
    rate = float(f"{1e-3 * sqrt(2 / n):.3g}")
    return {
        "num_layers": n,
        "d_model": 64 * n,
        "nhead": max(4, n),
        "train_batch_size": 8 * n,
        "lr": rate,
    }


def sizes() -> Iterator[tuple]:
    """The rows of the table of sizes: what each sets, and what it costs."""
    from minimega.commands.bench import operations  # which imports options.py, which imports this file
    from minimega.costs.memory import parameters  # 6 ms, which --help need not wait for

    yield "N", "d-model", "nhead", "batch", "lr", "parameters", "with GPT-2's", "steps", "Tflop", "time"
    for n in SIZES:
        found = dial(n)
        shape: dict[str, Any] = {name: found[name] for name in ("num_layers", "d_model", "nhead")}
        config, of_gpt2 = (Config(vocab_size=size, **shape) for size in (VOCABULARY, GPT2))
        work = WINDOWS * config.context * operations(config)
        yield (
            n,
            *list(found.values())[1:],
            f"{parameters(config):,}",
            f"{parameters(of_gpt2):,}",
            WINDOWS // found["train_batch_size"],
            f"{work / 1e12:,.3g}" if work < 1e14 else f"{work / 1e12:,.0f}",
            _time(work / SPEED),
        )


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"
