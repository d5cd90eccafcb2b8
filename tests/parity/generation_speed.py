"""Tokens per second with the cache at the shape of gpt2, random weights, beside transformers' GPT-2, in turn.

    .venv-parity/bin/python -m tests.parity.generation_speed [--texts 1,8] [--length 24] [--turns 3]

One thread each. The shortest and the median step after the prompt of 8 tokens; greedy, and sampled at 0.8.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from transformers import GPT2Config, GPT2LMHeadModel, StoppingCriteria

from minimega.backend import keep_memory
from minimega.kernels.generation import quickly
from minimega.model import SHAPES, Config, gpt
from minimega.sample import generate

START = 50256


def ours(model, texts: int, length: int, temperature: float) -> list[float]:
    """The seconds of each step but the first, which reads the prompt."""
    times = [
        time.perf_counter()
        for _ in quickly(generate(model, [START] * 8, length, range(texts), temperature=temperature))
    ]
    return np.diff(times).tolist()


class Times(StoppingCriteria):
    """Never stops; notes the time of each token."""

    def __init__(self):
        self.times: list[float] = []

    def __call__(self, ids, scores, **kwargs):
        self.times.append(time.perf_counter())
        return torch.zeros(len(ids), dtype=torch.bool)


def theirs(model, texts: int, length: int, temperature: float) -> list[float]:
    """The same of transformers' `generate`."""
    ids, noted = torch.full((texts, 8), START), Times()
    how = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=length,
        min_new_tokens=length,
        pad_token_id=START,
        stopping_criteria=[noted],
        **how,
    )
    return np.diff(noted.times).tolist()


def main() -> None:
    """Print a line for each number of texts and each way to choose."""
    reads = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    reads.add_argument("--texts", default="1,8")
    reads.add_argument("--length", type=int, default=24)
    reads.add_argument("--turns", type=int, default=3)
    o = reads.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    both = gpt(Config(**SHAPES["gpt2"])).draw(0), GPT2LMHeadModel(GPT2Config()).eval()
    with threadpool_limits(1, user_api="blas"):
        for texts in map(int, o.texts.split(",")):
            for temperature in (0.0, 0.8):
                turns = [
                    (
                        ours(both[0], texts, o.length, temperature),
                        theirs(both[1], texts, o.length, temperature),
                    )
                    for _ in range(o.turns)
                ]
                steps = [min(min(turn[side]) for turn in turns) for side in (0, 1)]
                pairs = statistics.median(statistics.median(b) / statistics.median(a) for a, b in turns)
                rates = [f"{texts / step:.1f}" for step in steps]
                print(
                    f"{texts} texts, temperature {temperature}: "
                    f"{rates[0]} tokens/s, transformers {rates[1]}: "
                    f"{steps[1] / steps[0]:.2f} by the shortest step, {pairs:.2f} in pairs",
                    flush=True,
                )


if __name__ == "__main__":
    main()
