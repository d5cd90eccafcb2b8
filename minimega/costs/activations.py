"""What one block keeps for its backward pass, item by item: in the paper, here, and why they differ.

Korthikanti et al. 2022, section 4 and table 2, count 16-bit numbers and dropout masks of one byte per entry.
Here all numbers have one size, and no masks are kept: dropout draws them again.

B batch, T time, D width, F hidden width, H heads; N = B T tokens, t ranks of a tensor group.
"""

from typing import NamedTuple

import numpy as np

from minimega.model import Config


class Item(NamedTuple):
    """Something that is kept: numbers and mask entries in the paper, numbers here.

    `full` counts numbers that stay float32 even in 16-bit training, `places` bytes of integers.
    """

    name: str
    paper: float
    masks: float
    here: float
    why: str = ""
    full: float = 0
    places: float = 0

    def bytes(self, dtype: str) -> float:
        """The bytes kept here, if the model trains in `dtype`."""
        kept, computed = items(dtype)
        return self.here * kept + self.full * computed + self.places

    @property
    def paper_bytes(self) -> float:
        """The paper's bytes: two per number, one per mask entry."""
        return 2 * self.paper + self.masks


def items(dtype: str) -> tuple[int, int]:
    """The bytes of a number that is kept, and of one that is computed with (float32 if `dtype` is 16-bit).

    >>> items("bfloat16"), items("float64")
    ((2, 4), (8, 8))
    """
    item = np.dtype(dtype).itemsize
    return item, max(item, 4)


class Piece(NamedTuple):
    """One rank's share of a micro-batch of sequences, and of each layer.

    `tokens` of each sequence go through its pairs of linear layers, `own` through what is between the pairs:
    fewer under sequence parallelism.
    """

    batch: float
    tokens: float
    own: float
    heads: float
    hidden: float
    vocabulary: float = 0
    ring: bool = False  # whether a context group shares the tokens

    @property
    def n(self) -> float:
        """The tokens of a micro-batch in the pairs."""
        return self.batch * self.tokens


def block(
    config: Config, batch: int, recompute: str = "none", tp: int = 1, sequence: bool = False, cp: int = 1
) -> list[Item]:
    """What one block keeps on one of `tp` ranks, in the order it computes.

    A context rank (`cp`) holds its share of the tokens and no attention weights: the ring recomputes them.

    With no parallelism the paper's bytes are B T D (34 + 5 H T / D), if F = 4 D:

    >>> c = Config(vocab_size=1, context=64, d_model=32, nhead=4)
    >>> sum(item.paper_bytes for item in block(c, batch=2)) == 2 * 64 * 32 * (34 + 5 * 4 * 64 / 32)
    True
    """
    tokens, cut = -(-config.context // cp), tp if sequence else 1
    mean = Piece(batch, tokens, tokens / cut, config.nhead / tp, config.d_hidden / tp, ring=cp > 1)
    return kept(config, mean, recompute)


def kept(config: Config, piece: Piece, recompute: str = "none", rows: float | None = None) -> list[Item]:
    """What one block keeps on a rank with this piece of it, in the order it computes.

    `rows` reach the experts of this rank, which the router decides (None: as if all were used equally).
    """
    c, n = config, piece.n
    width, hidden = n * c.d_model, n * piece.hidden  # F is cut over the ranks
    heads = width * piece.heads / c.nhead  # and so are the heads
    scores = piece.batch * piece.heads * c.context**2
    cut = piece.tokens / piece.own  # the tokens, outside of the pairs of linear layers
    if recompute == "full":
        return [Item("the block's input", width, 0, width / cut, "the rank's own tokens" if cut > 1 else "")]

    def into(name: str) -> list[Item]:
        why = "kept as gathered, so backward gathers nothing" if cut > 1 else ""
        return [
            Item("norm", width / cut, 0, width / cut, "also 1/deviation per token", full=n / cut),
            Item(f"input of {name}", width / cut, 0, width, why),
        ]

    mask = Item("dropout", 0, width / cut, 0, "its mask is drawn again")
    core = [
        Item("scaled queries", 0, 0, heads, "scaled in place of the T x T scores"),
        Item("attention weights", 2 * scores, scores, scores, "dropped weights and mask are drawn again"),
        Item("heads' outputs", 0, 0, heads, "kept for softmax's inner sum dy . y"),
    ]
    if piece.ring:
        core = [core[-1], Item("log of each row's sum", 0, 0, 0, "instead of the weights", n * piece.heads)]
    attention = [
        *into("qkv"),
        Item("queries, keys, values", 3 * heads, 0, 3 * heads),
        *(core if recompute == "none" else []),
        Item("input of out", heads, 0, heads),
        mask,
    ]
    k = c.top_k_experts if c.experts else 1  # a token has a row in each of k MLPs
    m = n * k if rows is None else rows
    inner = m * piece.hidden
    inside = [
        Item("before the activation", hidden, 0, inner),
        *([Item("tanh inside GELU", 0, 0, inner, "kept, not recomputed")] if c.activation == "gelu" else []),
        Item("input of down", hidden, 0, inner),
    ]
    mlp = [*into("up"), *inside, mask]
    if c.experts:
        gates = n * (c.experts / cut + k + (k > 1)) + piece.batch * c.experts
        mlp = [
            into("router")[0],
            Item("input of router", width / cut, 0, width / cut),
            Item("probabilities and gates", 0, 0, gates, "the paper has no experts"),
            Item("rows at the experts", 0, 0, m * c.d_model, "k rows per token"),
            *inside,
            Item("rows that came back", 0, 0, k * width, "for the gates' gradient"),
            Item("where rows go", 0, 0, 0, "integers", places=n * (8 + 5 * 8 * k)),
            mask,
        ]
    return (attention if c.attention else []) + mlp
