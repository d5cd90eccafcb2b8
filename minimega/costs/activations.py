"""What the backward pass of one block keeps, item by item: in the paper and here, and why they differ.

Korthikanti et al. 2022, section 4 and table 2, count bytes of 16-bit numbers and of dropout masks (one byte
an entry). What is kept here are numbers of one size, and no masks: dropout draws them again.

B batch, T time, D width, F hidden width, H heads; N = B T tokens, t ranks of a tensor group.
"""

from typing import NamedTuple

import numpy as np

from minimega.model import Config


class Item(NamedTuple):
    """Something that is kept: so many numbers and entries of masks in the paper, so many numbers here.

    `full` are numbers that are float32 beside 16-bit ones too, `places` bytes of whole numbers.
    """

    name: str
    paper: float
    masks: float
    here: float
    why: str = ""
    full: float = 0
    places: float = 0

    def bytes(self, dtype: str) -> float:
        """What is kept here, in this type."""
        kept, computed = items(dtype)
        return self.here * kept + self.full * computed + self.places

    @property
    def paper_bytes(self) -> float:
        return 2 * self.paper + self.masks


def items(dtype: str) -> tuple[int, int]:
    """The bytes of a number that is kept, and of one that is computed with: float32 beside 16-bit ones.

    >>> items("bfloat16"), items("float64")
    ((2, 4), (8, 8))
    """
    item = np.dtype(dtype).itemsize
    return item, max(item, 4)


def block(
    config: Config, batch: int, recompute: str = "none", tp: int = 1, sequence: bool = False, cp: int = 1
) -> list[Item]:
    """What one block keeps on one of `tp` ranks, in the order in which it computes.

    A rank of `cp` has that share of the tokens, and no weights: the ring computes them again.

    With no parallelism the paper's bytes are B T D (34 + 5 H T / D), if F = 4 D:

    >>> c = Config(vocab_size=1, context=64, d_model=32, nhead=4)
    >>> sum(item.paper_bytes for item in block(c, batch=2)) == 2 * 64 * 32 * (34 + 5 * 4 * 64 / 32)
    True
    """
    c, n = config, batch * -(-config.context // cp)
    width, hidden = n * c.d_model, n * c.d_hidden / tp  # F is cut over the ranks
    heads, scores = width / tp, batch * c.nhead * c.context**2 / tp  # the heads are cut too
    cut = tp if sequence else 1  # the tokens, outside of the pairs of linear layers
    if recompute == "full":
        return [Item("the block's input", width, 0, width / cut, "cut as the tokens are" if cut > 1 else "")]

    def into(name: str) -> list[Item]:
        why = "kept as it was gathered, or backward had to gather it again" if cut > 1 else ""
        return [
            Item("norm", width / cut, 0, width / cut, "also 1/deviation of each token", full=n / cut),
            Item(f"input of {name}", width / cut, 0, width, why),
        ]

    mask = Item("dropout", 0, width / cut, 0, "its mask is drawn again")
    core = [
        Item("scaled queries", 0, 0, heads, "they are scaled, not the T x T scores"),
        Item("attention weights", 2 * scores, scores, scores, "dropped weights and mask are drawn again"),
        Item("heads' outputs", 0, 0, heads, "apart, for softmax's inner sum dy . y"),
    ]
    if cp > 1:
        core = [core[-1], Item("log of each row's sum", 0, 0, 0, "in place of the weights", n * c.nhead / tp)]
    attention = [
        *into("qkv"),
        Item("queries, keys, values", 3 * heads, 0, 3 * heads),
        *(core if recompute == "none" else []),
        Item("input of out", heads, 0, heads),
        mask,
    ]
    k = c.top_k_experts if c.experts else 1  # a token has a row in each of k MLPs
    inside = [
        Item("before the activation", hidden, 0, k * hidden),
        *(
            [Item("tanh inside GELU", 0, 0, k * hidden, "not computed twice")]
            if c.activation == "gelu"
            else []
        ),
        Item("input of down", hidden, 0, k * hidden),
    ]
    mlp = [*into("up"), *inside, mask]
    if c.experts:
        gates = n * (c.experts + k + (k > 1)) + batch * c.experts
        mlp = [
            *into("router"),
            Item("probabilities and gates", 0, 0, gates, "the paper has no experts"),
            Item("rows at the experts", 0, 0, k * width, "k rows a token"),
            *inside,
            Item("rows that came back", 0, 0, k * width, "for the gates' gradient"),
            Item("where rows go", 0, 0, 0, "whole numbers", places=n * (8 + 5 * 8 * k)),
            mask,
        ]
    return (attention if c.attention else []) + mlp
