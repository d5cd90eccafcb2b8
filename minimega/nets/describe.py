"""Describes a layer: in one line, or as a table of its parts.

B batch, T time, D width, F hidden width, V vocabulary.
"""

import re
from collections.abc import Callable
from itertools import groupby
from typing import Any

from minimega.attention import Attention
from minimega.embedding import TextEmbedding
from minimega.experts import Experts
from minimega.head import Head
from minimega.layer import Around, Dropout, Layer
from minimega.linear import Linear
from minimega.mlp import MLP
from minimega.model import Block, Config, Model, PreNorm
from minimega.nets.embedding import Embedding
from minimega.nets.sequential import ReLU, Sequential
from minimega.norm import LayerNorm
from minimega.parameter import Parameter

HEAD = "name", "layer", "output shape", "parameters", ""


def _whole(layer: Any) -> tuple[int, ...]:
    return layer.weight.whole_shape


def _chain(parts: list[Layer]) -> tuple[int, ...]:
    every = [known for part in parts if (known := widths(part))]
    return (*every[0][:1], *(n for known in every for n in known[1:])) if every else ()


def _last(table: Parameter, projection: Parameter | None) -> int:
    """The width of a token's vector: behind the projection, if the table is factorised."""
    return (table if projection is None else projection).whole_shape[1]


# The numbers of features on the way from a layer's input to its output.
WIDTHS: dict[type, Callable[..., tuple[int, ...]]] = {
    Around: lambda layer: widths(layer.layer),
    Attention: lambda layer: _whole(layer.out),  # (D, D)
    Block: lambda layer: widths(layer.mlp)[-1:],  # (D,)
    Embedding: _whole,  # (V, D)
    Experts: lambda layer: (*layer.up.whole_shape[1:], layer.up.whole_shape[1]),  # (D, F, D)
    Head: lambda layer: (_last(layer.weight, layer.projection), layer.weight.whole_shape[0]),  # (D, V)
    LayerNorm: _whole,  # (D,)
    Linear: _whole,  # (I, O)
    MLP: lambda layer: (*_whole(layer.up), _whole(layer.down)[1]),  # (D, F, D)
    Model: lambda layer: (layer.config.vocab_size,) * 2,
    PreNorm: lambda layer: _whole(layer.norm),  # (D,)
    Sequential: lambda layer: _chain([part for _, part in layer.parts()]),
    TextEmbedding: lambda layer: (layer.tokens.whole_shape[0], _last(layer.tokens, layer.projection)),
}


def widths(layer: Layer) -> tuple[int, ...]:
    """The numbers of features from input to output; () if they are not known, as in a class of one's own.

    >>> widths(Linear(2, 16)), widths(MLP(8, 32)), widths(Dropout(0.1))
    ((2, 16), (8, 32, 8), ())
    """
    known = next((WIDTHS[kind] for kind in type(layer).__mro__ if kind in WIDTHS), None)
    return known(layer) if known else ()


def line(layer: Layer) -> str:
    """A layer in one line: its class, and its widths or its number of parameters.

    >>> line(Linear(2, 16)), line(Dropout(0.1)), line(Attention(16, nhead=4))
    ('Linear(2 -> 16)', 'Dropout(0.1)', 'Attention(16, 4 heads)')
    """
    kind = type(layer).__name__
    try:
        return f"{kind}({_inside(layer)})" if not isinstance(layer, Model) else _model(layer)
    except AttributeError:  # a debugger may show a layer whose parts are not set yet
        return f"{kind}(not built yet)"


def _inside(layer: Layer) -> str:
    if isinstance(layer, Around | PreNorm):
        return repr(layer.layer if isinstance(layer, Around) else layer.branch)
    if isinstance(layer, Attention):
        core: Any = layer.core
        return f"{widths(layer)[0]}, {core.nhead} heads"
    if isinstance(layer, Dropout | ReLU):
        return str(layer.p) if isinstance(layer, Dropout) else ""
    return " -> ".join(map(str, widths(layer))) or f"{layer.count():,} parameters"


def _model(model: Model) -> str:
    c = model.config
    kind = "GPT" if type(c) is Config else type(c).__name__
    shape = f"{c.num_layers} layers, d_model {c.d_model}, {c.nhead} heads, vocabulary {c.vocab_size:,}"
    return f"{kind}({shape}: {model.count():,} parameters)"


def table(layer: Layer) -> str:
    """The table of a layer or a model, drawn or not: a row for each layer, equal blocks in one row.

    Tied parameters count once, where they are first; parameters of a cut layer count whole, and the last
    column says how many this rank holds.

    >>> from minimega.linear import Linear
    >>> from minimega.ops import relu
    >>> print(table(Sequential(Linear(2, 16), relu, Linear(16, 1))))
    Sequential(2 -> 16 -> 1)
    name  layer            output shape  parameters
    0     Linear(2 -> 16)  (..., 16)             48
    2     Linear(16 -> 1)  (..., 1)              17
    total 65 parameters: 260 bytes in float32 (not drawn)
    """
    every = list(layer.parameters().values())
    rows = [HEAD, *_rows(layer, "(B, T" if isinstance(layer, Model) else "(...", "", {}, "")]
    wide = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = [repr(layer)]
    for *texts, number, note in rows:
        cells = [text.ljust(width) for text, width in zip(texts, wide, strict=False)]
        lines.append("  ".join([*cells, number.rjust(wide[3]), note]).rstrip())
    return "\n".join([*lines, _total(every)])


def _total(every: list[Parameter]) -> str:
    whole, here = sum(p.size for p in every), sum(p.local_size for p in every)
    drawn = [p for p in every if p.drawn]
    types = {str(p.dtype): p.dtype.itemsize for p in drawn} or {"float32": 4}
    size = sum(p.size * (p.dtype.itemsize if p.drawn else 4) for p in every)
    state = "" if len(drawn) == len(every) else " (not drawn)" if not drawn else " (partly drawn)"
    cut = f"; {here:,} of them on this rank" if here < whole else ""
    return f"total {whole:,} parameters: {in_bytes(size)} in {' and '.join(types)}{state}{cut}"


def in_bytes(count: int) -> str:
    """A number of bytes with its unit.

    >>> in_bytes(260), in_bytes(1_760_000), in_bytes(2_120_000_000_000)
    ('260 bytes', '1.76 MB', '2.12 TB')
    """
    if count < 1000:
        return f"{count} bytes"
    power = min((len(str(count)) - 1) // 3, 5)
    return f"{count / 1000**power:.3g} {' KMGTP'[power]}B"


def _rows(layer: Layer, axes: str, indent: str, seen: dict[int, str], before: str) -> list[tuple]:
    """The rows of a layer's parts; `seen` are the parameters above, `before` the output of the part above."""
    rows = []
    for _, same in groupby(layer.parts(), key=_likeness):
        (name, part), *others = same
        inside = part.leaves() if isinstance(part, Layer) else [part]
        new = [p for p in inside if id(p) not in seen]
        tied = [seen[id(p)] for p in inside if id(p) in seen]
        for other in (part, *(other for _, other in others)):
            every = other.leaves() if isinstance(other, Layer) else [other]
            seen.update({id(p): p.name for p in every if id(p) not in seen})
        notes = ["each"] * bool(others) + [f"tied to {first}" for first in tied]
        here, whole = sum(p.local_size for p in new), sum(p.size for p in new)
        notes += [f"cut: {here:,} here"] * (here < whole)
        if isinstance(part, Layer):
            keeps, known = isinstance(part, Dropout | ReLU), widths(part)
            before = f"{axes}, {known[-1]})" if known else before if keeps else ""
            output = before
        else:
            output = str(part.whole_shape)
        if others:
            stem, first = re.findall(r"^(.*?)(\d+)$", name)[0]
            name = f"{stem.removesuffix('s')}s {first} to {int(first) + len(others)}"
        what = repr(part) if isinstance(part, Layer) else "Parameter"
        rows.append((indent + name, what, output, f"{whole:,}" if whole or tied else "", ", ".join(notes)))
        if isinstance(part, Block) or (isinstance(part, Layer) and not widths(part) and len(indent) < 6):
            rows += _rows(part, axes, indent + "  ", {}, before)
    return rows


def _likeness(named: tuple) -> tuple:
    """Parts in a row that are alike: numbered, and with equal parts inside."""
    name, part = named
    stem = re.sub(r"\d+$", "", name)
    return (stem, _shape(part)) if stem and stem != name else (name,)


def _shape(part: Parameter | Layer) -> tuple:
    if isinstance(part, Parameter):
        return part.whole_shape, part.size, part.local_size
    return type(part), repr(part), *((name, _shape(inner)) for name, inner in part.parts())
