"""Weights and gradients from minimega's names and layout to torch's, and back.

D width, H heads, C = D/H width of a head.
"""

import numpy as np
import torch

from tests.parity.torch_gpt import TorchGPT


def torch_name(name: str) -> str:
    """A parameter's name here -> in torch: block0.mlp.branch.up.bias -> blocks.0.up.bias."""
    if name.startswith("embedding."):
        return name.removeprefix("embedding.") + ".weight"
    if not name.startswith("block"):
        return name
    block, kind, *rest = name.split(".")
    place = f"norm{1 if kind == 'attention' else 2}" if rest[0] == "norm" else rest[1]
    return f"blocks.{block.removeprefix('block')}.{place}.{rest[-1]}"


def reordered(a: np.ndarray, groups: tuple[int, int]) -> np.ndarray:
    """The last axis (g0, g1, C) as (g1, g0, C): minimega's q, k, v are (H, 3, C), GPT-2's (3, H, C)."""
    return a.reshape(*a.shape[:-1], *groups, -1).swapaxes(-3, -2).reshape(a.shape)


def is_linear(name: str) -> bool:
    return name.startswith("block") and name.endswith(".weight") and "norm" not in name


def copy_weights(model, to: TorchGPT) -> TorchGPT:
    """Give the torch model the weights of a minimega model of the same Config."""
    theirs = dict(to.named_parameters())
    for name, p in model.parameters().items():
        a = reordered(p.data, (to.config.nhead, 3)) if ".qkv." in name else p.data
        with torch.no_grad():
            theirs.pop(torch_name(name)).copy_(torch.tensor(a.T if is_linear(name) else a))
    assert not theirs, f"minimega has nothing for {list(theirs)}"
    return to


def as_ours(arrays: dict[str, torch.Tensor], names, heads: int) -> dict[str, np.ndarray]:
    """Tensors by torch's names -> arrays by minimega's names and in its layout (weights, gradients)."""
    ours = {}
    for name in names:
        a = arrays[torch_name(name)].detach().numpy()
        a = a.T if is_linear(name) else a
        ours[name] = reordered(a, (3, heads)) if ".qkv." in name else a
    return ours


def gradients(to: TorchGPT, names) -> dict[str, np.ndarray]:
    """The gradients of the torch model by minimega's names (0 where there is none)."""
    found = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in to.named_parameters()}
    return as_ours(found, names, to.config.nhead)
