"""config.json of a Hugging Face GPT-2 <-> Config.

A field that changes what the model computes is read, or refused by its name; all others are left alone.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimega.errors import BadInput, shown
from minimega.model import Config

SIZES = {
    "vocab_size": "vocab_size",
    "n_positions": "context",
    "n_embd": "d_model",
    "n_head": "nhead",
    "n_layer": "num_layers",
}
# transformers reads these names as well
ALIASES = {
    "n_positions": ("n_ctx", "max_position_embeddings"),
    "n_embd": ("hidden_size",),
    "n_head": ("num_attention_heads",),
    "n_layer": ("num_hidden_layers",),
}
DEFAULTS = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12}
# "gelu" is the exact one there; the other names are of GPT-2's tanh formula
ACTIVATIONS = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_fast": "gelu",
    "gelu": "gelu-erf",
    "relu": "relu",
}
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
# Fields that minimega has no counterpart for, with the only value that it can read.
ONLY = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
    "quantization_config": None,
}
MOST = 2**40  # of a size: no array has as many rows


@dataclass(frozen=True)
class Settings:
    """What config.json says: the Config, the id of the token that begins a text, and remarks for the user."""

    config: Config
    start: int
    remarks: tuple[str, ...] = ()


def read_json(path: Path) -> dict:
    """The object in a JSON file. Raises BadInput if it is missing, not JSON, or not an object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as why:
        raise BadInput(f"{path} cannot be read: {why.strerror}") from None
    except (ValueError, RecursionError) as why:
        raise BadInput(f"{path} is not JSON: {shown(str(why))}") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path} is not a JSON object with names and values")
    return content


def read(path: Path) -> Settings:
    """Read config.json. Raises BadInput, naming the field, if it is not of a model that minimega has."""
    content = read_json(path)
    kind = content.get("model_type", "gpt2" if "n_embd" in content else None)
    if kind != "gpt2":
        raise BadInput(
            f"{path} describes a model of type {shown(kind)}; import-hf reads gpt2 and models built like it"
        )
    for name, only in ONLY.items():
        if (value := content.get(name, only)) != only:
            raise BadInput(f"{path} sets {name} to {shown(value)}, which minimega has no counterpart for")
    sizes: dict[str, Any] = {ours: _size(path, content, theirs) for theirs, ours in SIZES.items()}
    inner = content.get("n_inner")
    function = content.get("activation_function", "gelu_new")
    if not isinstance(function, str) or function not in ACTIVATIONS:
        raise BadInput(
            f"{path}: activation_function is {shown(function)}; minimega has {', '.join(ACTIVATIONS)}"
        )
    dropouts = [_number(path, content, name, 0.1) for name in DROPOUTS]
    tied = content.get("tie_word_embeddings", True)
    if not isinstance(tied, bool):
        raise BadInput(f"{path}: tie_word_embeddings is {shown(tied)}; it must be true or false")
    try:
        config = Config(
            **sizes,
            d_hidden=0 if inner is None else _whole(path, "n_inner", inner),
            dropout=dropouts[0],
            activation=ACTIVATIONS[function],
            tied=tied,
            norm_eps=_number(path, content, "layer_norm_epsilon", 1e-5),
        )
    except BadInput as why:
        raise BadInput(f"{path}: {why}") from None
    remarks = []
    if len(set(dropouts)) > 1:
        three = ", ".join(f"{name} {p:g}" for name, p in zip(DROPOUTS, dropouts, strict=True))
        remarks.append(f"minimega has one dropout: of {three}, the first is kept")
    start, last = _start(path, content, config.vocab_size)
    if last is not None:
        remarks.append(
            f"texts begin with token {start} and end with token {last} there; minimega has one token for both"
        )
    return Settings(config, start, tuple(remarks))


def written(config: Config, start: int, dtype: str) -> dict:
    """The content of config.json for a model of this Config whose texts begin with the token `start`.

    Raises BadInput for what a Hugging Face GPT-2 cannot be.
    """
    c = config
    if c.kind != "gpt":
        raise BadInput(
            f"a GPT-2 of Hugging Face is no {c.kind}: export-hf writes models of one list of blocks"
        )
    for name, ours, theirs in (
        ("norm_position", c.norm_position, "pre"),
        ("positions", c.positions, "learned"),
        ("head_bias", c.head_bias, False),
        ("attention", c.attention, True),
        ("causal", c.causal, True),
        ("experts", c.experts, 0),
        ("d_embedding", c.d_embedding, 0),
    ):
        if ours != theirs:
            raise BadInput(f"a Hugging Face GPT-2 has no counterpart for {name} {ours}: it needs {theirs}")
    functions = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{theirs: getattr(c, ours) for theirs, ours in SIZES.items()},
        "n_inner": None if c.d_hidden == 4 * c.d_model else c.d_hidden,
        "activation_function": functions[c.activation],
        **dict.fromkeys(DROPOUTS, c.dropout),
        "layer_norm_epsilon": c.norm_eps,
        "scale_attn_weights": True,
        "tie_word_embeddings": c.tied,
        "bos_token_id": start,
        "eos_token_id": start,
        "torch_dtype": dtype,
    }


def _size(path: Path, content: dict, name: str) -> int:
    said = {n: content[n] for n in (name, *ALIASES.get(name, ())) if n in content}
    if len({json.dumps(value) for value in said.values()}) > 1:
        raise BadInput(f"{path} contradicts itself: " + ", ".join(f"{n} {shown(v)}" for n, v in said.items()))
    return _whole(path, *next(iter(said.items()), (name, DEFAULTS[name])))


def _whole(path: Path, name: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= MOST:
        raise BadInput(f"{path}: {name} is {shown(value)}; it must be a whole number of at least 1")
    return value


def _number(path: Path, content: dict, name: str, default: float) -> float:
    value = content.get(name, default)
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1:
        raise BadInput(f"{path}: {name} is {shown(value)}; it must be a number from 0 to 1")
    return float(value)


def _start(path: Path, content: dict, size: int) -> tuple[int, int | None]:
    """The id of the token that begins a text, and of the one that ends it if that is another."""
    first, last = (content.get(f"{which}_token_id", 50256) for which in ("bos", "eos"))
    ids = [i for i in (first, last) if type(i) is int and 0 <= i < size]
    if not ids or (type(first) is int and first not in ids):
        raise BadInput(
            f"{path}: bos_token_id is {shown(first)} and eos_token_id {shown(last)}; minimega needs "
            f"the id of the token that begins a text, from 0 to {size - 1}"
        )
    return ids[0], ids[-1] if ids[-1] != ids[0] else None
