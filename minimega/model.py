"""Config, Block, Model, and gpt(), which builds a flat list of layers from tokens to logits.

B batch, T time, D width, V vocabulary.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, cast

from minimega.attention import Attention, check_heads
from minimega.autograd import Tensor
from minimega.elsewhere.keywords import renamed
from minimega.embedding import SinusoidalEmbedding, TextEmbedding
from minimega.errors import BadInput
from minimega.experts import Experts
from minimega.head import Head
from minimega.ids import check_window
from minimega.layer import Dropout, Layer, Place, Recomputed, place
from minimega.mlp import ACTIVATIONS, MLP
from minimega.norm import LayerNorm
from minimega.parameter import Parameter
from minimega.ranks.uncut import Uncut


@renamed
@dataclass(frozen=True)
class Config:
    """The shape of a model: everything that decides its parameters and its function.

    Raises BadInput if a value is out of range or two do not fit together.

    >>> gpt(Config(vocab_size=50257, context=1024, d_model=768, nhead=12, num_layers=12)).count()
    124439808
    """

    vocab_size: int
    context: int = 128
    d_model: int = 128
    nhead: int = 4
    num_layers: int = 2
    d_hidden: int = 0  # 0: four times d_model
    d_embedding: int = 0  # width of a factorised table of token vectors; 0: d_model, no projection
    dropout: float = 0.0
    activation: str = "gelu"
    norm_position: str = "pre"
    positions: str = "learned"
    tied: bool = True
    head_bias: bool = False
    attention: bool = True
    causal: bool = True  # False: each token sees all others (masked models)
    experts: int = 0  # per block, replacing its MLP; 0: an MLP
    top_k_experts: int = 2  # experts per token
    balance: float = 0.01  # weight of the load-balancing loss
    norm_eps: float = 1e-5  # added to the variance in every LayerNorm

    def __post_init__(self):
        for name in ("vocab_size", "context", "d_model", "nhead", "num_layers"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name, usual in (("d_hidden", "4 d_model"), ("d_embedding", "d_model")):
            if getattr(self, name) < 0:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be at least 1 (or 0 for {usual})")
        if self.attention:
            check_heads(self.d_model, self.nhead)
        if min(self.experts, self.balance) < 0:
            raise BadInput(f"experts is {self.experts} and balance {self.balance}; they must be 0 or more")
        if self.experts and not 1 <= self.top_k_experts <= self.experts:
            raise BadInput(
                f"a token cannot go to {self.top_k_experts} of {self.experts} experts: "
                f"choose `top_k_experts` of at most `experts`"
            )
        if not 0 <= self.dropout < 1:
            raise BadInput(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if not 0 < self.norm_eps < 1:
            raise BadInput(f"norm_eps is {self.norm_eps}; it must lie between 0 and 1")
        choices = {"activation": ACTIVATIONS, "norm_position": NORM_POSITIONS, "positions": POSITIONS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise BadInput(f"{name} is {getattr(self, name)!r}; it can be {' or '.join(known)}")
        if not self.d_hidden:
            object.__setattr__(self, "d_hidden", 4 * self.d_model)

    as_dict = asdict
    kind: ClassVar[str] = "gpt"  # in a checkpoint's header; a subclass with other layers has its own
    endless: ClassVar[bool] = True  # a full window slides on; False: generation ends there

    def first(self) -> TextEmbedding:
        """The layer that turns tokens into vectors."""
        sizes = self.vocab_size, self.context, self.d_model, self.dropout, self.d_embedding
        return POSITIONS[self.positions](*sizes)

    def blocks(self) -> dict[str, Layer]:
        """The `num_layers` blocks, (B, T, D) -> (B, T, D), by name."""
        return {f"block{i}": Block(self) for i in range(self.num_layers)}

    def as_gpt(self) -> "Config":
        """A decoder-only shape that needs at least as much memory: this one."""
        return self

    def prompt(self, ids: list[int], start: int = 0) -> list[int]:
        """The window with which an answer to these ids begins; `start` is the start token.

        >>> Config(vocab_size=9).prompt([5, 6])
        [0, 5, 6]
        """
        return [start, *ids]


# Published shapes: Radford et al. 2019 (the released checkpoints), Brown et al. 2020 table 2.1,
# Shoeybi et al. 2019 tables 1 and 2, Smith et al. 2022 section 2.3.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"num_layers": 2, "d_model": 128, "nhead": 4, "context": 128},
    "gpt2": {"num_layers": 12, "d_model": 768, "nhead": 12, "context": 1024, "vocab_size": 50257},
    "gpt2-medium": {"num_layers": 24, "d_model": 1024, "nhead": 16, "context": 1024, "vocab_size": 50257},
    "gpt2-large": {"num_layers": 36, "d_model": 1280, "nhead": 20, "context": 1024, "vocab_size": 50257},
    "gpt2-xl": {"num_layers": 48, "d_model": 1600, "nhead": 25, "context": 1024, "vocab_size": 50257},
    "megatron-8.3b": {"num_layers": 72, "d_model": 3072, "nhead": 32, "context": 1024, "vocab_size": 51200},
    "gpt3-175b": {"num_layers": 96, "d_model": 12288, "nhead": 96, "context": 2048, "vocab_size": 50257},
    "megatron-turing-nlg": {
        "num_layers": 105,
        "d_model": 20480,
        "nhead": 128,
        "context": 2048,
        "vocab_size": 51200,
    },
}


class PreNorm(Layer):
    """x + dropout(branch(norm(x))): the gradient also passes along x unchanged (Radford et al. 2019)."""

    def __init__(self, branch: Layer, d_model: int, dropout: float, eps: float = 1e-5):
        self.norm, self.branch, self.dropout = LayerNorm(d_model, eps), branch, Dropout(dropout)

    def forward(self, x, place=None, *others):
        """(B, T, D) -> (B, T, D); the branch also gets `others`."""
        return x + self.dropout(self.branch(self.norm(x, place), place, *others), place)


class PostNorm(PreNorm):
    """norm(x + dropout(branch(x))), as in the first transformer (Vaswani et al. 2017, section 3.1)."""

    def forward(self, x, place=None, *others):
        """(B, T, D) -> (B, T, D); the branch also gets `others`."""
        return self.norm(x + self.dropout(self.branch(x, place, *others), place), place)


STD = 0.02  # of the initial weights (Radford et al. 2018, section 4.1)
NORM_POSITIONS = {"pre": PreNorm, "post": PostNorm}
POSITIONS = {"learned": TextEmbedding, "sinusoidal": SinusoidalEmbedding}


class Block(Layer):
    """Attention, then an MLP, each with a norm and a residual connection: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: Config):
        c = config
        # 2 num_layers branches add up on the residual path: a smaller std_out keeps the size of their sum
        stds = STD, (std_out := STD / (2 * c.num_layers) ** 0.5)

        def around(branch: Layer) -> Layer:
            return NORM_POSITIONS[c.norm_position](branch, c.d_model, c.dropout, c.norm_eps)

        if c.attention:
            self.attention = around(Attention(c.d_model, c.nhead, c.dropout, c.causal, stds))
        if c.experts:
            self.mlp = around(Experts(c, std_out))
        else:
            self.mlp = around(MLP(c.d_model, c.d_hidden, c.activation, stds))

    def forward(self, x, place=None):
        """(B, T, D) -> (B, T, D)."""
        for _, part in self.parts():
            x = cast(Layer, part)(x, place)
        return x


class Model(Layer):
    """A flat list of layers from tokens (B, T) to logits (B, T, V). It does not draw itself: call `draw`."""

    plain = False

    def __init__(self, config: Config, layers: dict[str, Layer]):
        self.config, self.layers = config, layers

    def parts(self):
        """The layers, in the order in which they run."""
        return iter(self.layers.items())

    def hidden(self, tokens, at: Place | None = None) -> Tensor:
        """The last layer's output: the logits of this rank's piece of the vocabulary.

        Raises BadInput if the window is longer than the context, or an id is out of range.
        """
        at, x = at or place(tokens), tokens
        if not isinstance(tokens, Tensor):  # a Tensor comes from an earlier pipeline stage, which checked it
            check_window(tokens, at, self.config.vocab_size, self.config.context)
            at = at if at.tokens is not None else replace(at, tokens=tokens)
        at = replace(at, local=self.shares.tokens(len(at.positions)))
        for layer in self.layers.values():
            x = layer(x, at)
        return x

    def forward(self, tokens, at: Place | None = None) -> Tensor:
        """Tokens (B, T) -> logits (B, T, V), gathered over ranks. Raises BadInput as `hidden` does."""
        return cast(Head, self.layers["head"]).whole(self.hidden(tokens, at))

    def loss(self, tokens, targets, at: Place | None = None, count: int | None = None) -> Tensor:
        """The mean cross-entropy in nats per counted target: tokens and targets (B, T); -1 does not count.

        `count` is the divisor if these are only part of a batch (None: the counted targets here). In
        training, the losses of single layers are added, as values only: their gradients are in the graph.
        """
        at = at or place(tokens)
        loss = cast(Head, self.layers["head"]).cross_entropy(self.hidden(tokens, at), targets, count)
        return loss + self.extra(at)

    def extra(self, at: Place):
        """The sum of the losses that this model's layers stored in `at.extra`."""
        return sum(value for name, value in at.extra.items() if name.split(".")[0] in self.layers)


RECOMPUTE = ("none", "selective", "full")


def gpt(config: Config, shares: Uncut = Layer.shares, recompute: str = "none") -> Model:
    """Build a transformer: embedding, blocks, final norm (pre-norm only), head.

    A Config describes one stack of blocks; a subclass may have others. It has no weights until `draw`.
    `shares` cuts it over ranks (default: uncut). `recompute` is what the backward pass computes again instead
    of keeping: "none", "full" (whole blocks) or "selective" (attention between its projections; Korthikanti
    et al. 2022). Raises BadInput if the model cannot be cut as asked.

    >>> gpt(Config(vocab_size=10, d_model=8, nhead=2)).draw(seed=0)(np.zeros((1, 5), int)).shape
    (1, 5, 10)
    """
    c = config
    shares.check(c)
    first = c.first()
    layers: dict[str, Layer] = {"embedding": first, **c.blocks()}
    if c.norm_position == "pre":
        layers["norm"] = LayerNorm(c.d_model, c.norm_eps)
    table = first.tokens if c.tied else Parameter((c.vocab_size, c.d_model), std=STD, axis=0)
    layers["head"] = Head(table, c.head_bias, first.projection if c.tied else None)
    if recompute == "full":
        layers |= {name: Recomputed(layer) for name, layer in layers.items() if isinstance(layer, Block)}
    if recompute == "selective" and c.attention:
        blocks = (layer for layer in layers.values() if isinstance(layer, Block))
        for branch in (getattr(part, "branch", None) for block in blocks for _, part in block.parts()):
            if isinstance(branch, Attention):
                branch.core = Recomputed(branch.core)
    return Model(c, layers).named().cut(shares)
