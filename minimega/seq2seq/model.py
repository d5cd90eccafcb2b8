"""An encoder-decoder: blocks that read the source, then blocks that write the target and look at the source.

A window is the source, padded to S positions, then the target. Hidden states are one array (B, S + T, D),
and the model is one flat list of layers, so that whatever runs, cuts, saves or recomputes a GPT does the same
to this model: encoder blocks change the first S positions and pass the others on, decoder blocks change the
others.

    position      0        1  ...           S-1 | S        S+1  ...              S+T-1
    token         <start>  source, then padding | <start>  target
    target        -1       not counted          | target, then <start>; then -1

B batch, S tokens of the source, T tokens of the target, D width.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from minimega.elsewhere.keywords import renamed
from minimega.embedding import SinusoidalEmbedding, TextEmbedding, sinusoids
from minimega.errors import BadInput
from minimega.layer import Layer, Place
from minimega.model import NORM_POSITIONS, Block, Config
from minimega.norm import LayerNorm
from minimega.ops import concatenate
from minimega.seq2seq.attention import PAD, CrossAttention, both_ways, visible


@renamed
@dataclass(frozen=True)
class EncoderDecoder(Config):
    """The shape of an encoder-decoder; `gpt` builds it (Vaswani et al. 2017, figure 1).

    `context` counts the whole window, of which the first `source_length` positions are the source;
    `num_layers` counts all blocks, of which the first `encoder_layers` read the source. Raises BadInput if a
    value is out of range, or for experts.

    >>> from minimega import gpt
    >>> shape = EncoderDecoder(vocab_size=50, context=20, d_model=8, nhead=2, num_layers=3, encoder_layers=1)
    >>> list(gpt(shape).layers), shape.source_length
    (['embedding', 'encoder0', 'decoder0', 'decoder1', 'norm', 'head'], 10)
    """

    source_length: int = 0  # 0: half of the context
    encoder_layers: int = 0  # 0: half of the layers

    kind: ClassVar[str] = "encoder-decoder"
    endless: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        for name, whole in (("source_length", "context"), ("encoder_layers", "num_layers")):
            part, most = getattr(self, name), getattr(self, whole)
            if not part:
                object.__setattr__(self, name, part := most // 2)
            if not 1 <= part < most:
                raise BadInput(
                    f"{name} is {part} and {whole} {most}: an encoder-decoder needs at least 1 for the "
                    f"source and 1 for the target; choose `{name}` below `{whole}`"
                )
        if not self.attention:
            raise BadInput("an encoder-decoder needs attention: only attention connects source and target")
        if not self.causal:
            raise BadInput("an encoder-decoder is causal: only its source is seen from both sides")
        if self.experts:
            raise BadInput("experts are not built into an encoder-decoder: its blocks have MLPs")

    @property
    def target_length(self) -> int:
        """The most positions of a target."""
        return self.context - self.source_length

    def first(self) -> TextEmbedding:
        """The embedding: positions are counted from 0 in the source and again in the target."""
        if self.positions == "sinusoidal":
            return TwoTexts(self)
        return super().first()  # a learned table has separate rows for both

    def blocks(self) -> dict[str, Layer]:
        """The encoder's blocks, then the decoder's."""
        n = self.encoder_layers
        encoder: dict[str, Layer] = {f"encoder{i}": EncoderBlock(self, last=i == n - 1) for i in range(n)}
        return encoder | {f"decoder{i}": DecoderBlock(self) for i in range(self.num_layers - n)}

    def prompt(self, ids, start=0):
        """The window with which the target of this source begins. Raises BadInput if the source is too long.

        >>> EncoderDecoder(vocab_size=9, context=8).prompt([5, 6])
        [0, 5, 6, 0, 0]
        """
        return [*padded([start, *ids], self.source_length, "source text"), start]

    def as_gpt(self) -> Config:
        """A decoder-only shape that needs at least as much memory: cross-attention counts as a block."""
        shape: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(Config)}
        return Config(**shape | {"num_layers": 2 * self.num_layers - self.encoder_layers})


def padded(ids: list[int], length: int, what: str) -> list[int]:
    """The ids, filled up with padding to a length. Raises BadInput, naming `what`, if they are too many."""
    if len(ids) > length:
        raise BadInput(
            f"the {what} has {len(ids) - 1} tokens, and the model has room for {length - 1}: "
            f"choose a shorter one"
        )
    return [*ids, *[PAD] * (length - len(ids))]


class TwoTexts(SinusoidalEmbedding):
    """Token vectors scaled by sqrt(D), plus position vectors that begin again where the target begins."""

    def __init__(self, config: EncoderDecoder):
        c = config
        super().__init__(c.vocab_size, c.context, c.d_model, c.dropout, c.d_embedding)
        self.source_length = config.source_length

    def forward(self, ids, place):
        """Token ids (B, S + T) -> (B, S + T, D)."""
        x, at = self.look_up(ids), place.local_positions
        waves = sinusoids(at - self.source_length * (at >= self.source_length), x.shape[-1]).astype(x.dtype)
        return self.dropout(x * x.shape[-1] ** 0.5 + waves, place)


def halves(x, place: Place, source_length: int) -> tuple:
    """The source's part of x (B, S + T, D) and the target's, each with its place.

    A cache may have seen the source: then there are no tokens of it here.
    """
    cut = int((place.positions < source_length).sum())

    def half(which: slice) -> tuple:
        return x[:, which], replace(place, positions=place.positions[which], local=slice(None))

    return *half(slice(0, cut)), *half(slice(cut, None))


class EncoderBlock(Block):
    """A block in which all tokens of the source see each other; the target passes through.

    With norms before each branch, the last block ends with one more, for what the decoder reads.
    """

    def __init__(self, config: EncoderDecoder, last: bool):
        super().__init__(config)
        self.source_length = config.source_length
        if last and config.norm_position == "pre":
            self.norm = LayerNorm(config.d_model, config.norm_eps)

    def forward(self, x, place):
        """(B, S + T, D) -> (B, S + T, D)."""
        source, at, target, _ = halves(x, place, self.source_length)
        if not source.shape[1]:
            return x
        at = replace(at, attend=both_ways(visible(place.tokens, self.source_length)))
        return concatenate(super().forward(source, at), target, axis=1)


class DecoderBlock(Block):
    """Causal self-attention on the target, attention to the source, an MLP; the source passes through."""

    def __init__(self, config: EncoderDecoder):
        super().__init__(config)
        c, mlp = config, self.mlp
        del self.mlp  # parts run in the order in which they are set
        std_out = 0.02 / (3 * c.num_layers) ** 0.5
        branch = CrossAttention(c.d_model, c.nhead, c.dropout, std_out, c.source_length)
        self.cross = NORM_POSITIONS[c.norm_position](branch, c.d_model, c.dropout, c.norm_eps)
        self.mlp, self.source_length = mlp, c.source_length

    def forward(self, x, place):
        """(B, S + T, D) -> (B, S + T, D)."""
        source, _, y, at = halves(x, place, self.source_length)
        y = self.attention(y, at)
        y = self.cross(y, at, source)
        return concatenate(source, self.mlp(y, at), axis=1)
