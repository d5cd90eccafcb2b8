"""docs/coming-from.md: the left columns run in the real frameworks (of those that are installed here)."""

import contextlib

import pytest

from tests.test_coming_from import SECTIONS, model_to_read, rows

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
    names: dict = {}
    with contextlib.chdir(tmp_path):
        if name == "transformers":
            model_to_read()
        exec(BEFORE[name], names)
        for _, there, _ in rows(SECTIONS[name]):
            code = "\n".join(there)
            if "push_to_hub" in code:  # needs an account
                assert callable(names["model"].push_to_hub)
            else:
                exec(SQUARE if code.startswith("class Square") else code, names)
