"""docs/coming-from.md: the left columns run in the real frameworks (of those that are installed here)."""

import contextlib

import pytest

from tests.test_coming_from import SECTIONS, rows, shell

SQUARE = """
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        return 2 * dy * ctx.saved_tensors[0]
"""
BEFORE = {
    "PyTorch": """
import numpy as np
import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn import functional as F

a = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
t = np.array([0, 1, 0, 1, 1, 0, 1, 0])
""",
    "transformers": """
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, TextStreamer
""",
}


@pytest.mark.parametrize("name", BEFORE)
def test_what_is_typed_there_runs(name, tmp_path, capsys):
    if name == "transformers":
        shell(
            "minimega train --tales 60 --tokenizer bpe --d-model 16 --nhead 2 --num-steps 2 --save-dir a "
            "&& minimega export-hf a --save-dir gpt2-folder",
            tmp_path,
        )
    names: dict = {}
    with contextlib.chdir(tmp_path):
        exec(BEFORE[name], names)
        for _, there, _ in rows(SECTIONS[name]):
            code = "\n".join(there)
            if "push_to_hub" in code:  # needs an account
                assert callable(names["model"].push_to_hub)
            else:
                exec(SQUARE if code.startswith("class Square") else code, names)
