"""GPT-2 as Hugging Face stores it: the names and the layout of its arrays; such a folder <-> a Model.

D width, H heads, C = D/H width of a head, V vocabulary.

Both store a linear layer as (inputs, outputs). Two things differ. The fused query-key-value has the axes
(3, H, C) there and (H, 3, C) here, where a cut between heads splits no head. And every text here begins with
token 0, there with `bos_token_id` (50256 in GPT-2): these two tokens are swapped, in the tokenizer and in
the rows of the embedding and the head, so that the rest of minimega need not know. Values only move: a model
read and written again has the same bits.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from minimega.backend import to_numpy
from minimega.data.tokens import Tokenizer
from minimega.errors import BadInput, naming
from minimega.interop import settings, vocabulary
from minimega.interop.settings import Settings
from minimega.interop.tensors import ONE, PREFIX, Tensors, save
from minimega.model import Config, Model, gpt

OUTSIDE = {
    "embedding.tokens": "wte.weight",
    "embedding.positions": "wpe.weight",
    "norm.weight": "ln_f.weight",
    "norm.bias": "ln_f.bias",
    "head.weight": "lm_head.weight",
}
IN_BLOCK = {
    "attention.norm": "ln_1",
    "attention.branch.qkv": "attn.c_attn",
    "attention.branch.out": "attn.c_proj",
    "mlp.norm": "ln_2",
    "mlp.branch.up": "mlp.c_fc",
    "mlp.branch.down": "mlp.c_proj",
}
MASKS = ("attn.bias", "attn.masked_bias")  # old files hold the causal mask


def their_name(name: str) -> str:
    """The name of a parameter there.

    >>> their_name("block3.mlp.branch.up.bias"), their_name("norm.weight")
    ('h.3.mlp.c_fc.bias', 'ln_f.weight')
    """
    if name in OUTSIDE:
        return OUTSIDE[name]
    block, rest = name.split(".", 1)
    layer, kind = rest.rsplit(".", 1)
    return f"h.{block.removeprefix('block')}.{IN_BLOCK[layer]}.{kind}"


def regrouped(a: np.ndarray, groups: tuple[int, int]) -> np.ndarray:
    """The last axis (g, h, C) as (h, g, C): (3, H) turns a query-key-value of theirs into ours, (H, 3) back.

    >>> regrouped(np.arange(6), (3, 2)).tolist()        # q0 q1 k0 k1 v0 v1 -> q0 k0 v0 q1 k1 v1
    [0, 2, 4, 1, 3, 5]
    """
    split = a.reshape(*a.shape[:-1], *groups, a.shape[-1] // (groups[0] * groups[1]))
    return np.ascontiguousarray(split.swapaxes(-3, -2)).reshape(a.shape)


def exchanged(a: np.ndarray, start: int) -> np.ndarray:
    """The rows (V, ...) with the first row and the row `start` swapped."""
    a = a.copy()
    a[[0, start]] = a[[start, 0]]
    return a


def moved(name: str, a: np.ndarray, groups: tuple[int, int], start: int) -> np.ndarray:
    """One array from their layout to ours with the groups (3, H), or back with (H, 3)."""
    if ".qkv." in name:
        return regrouped(a, groups)
    return exchanged(a, start) if name in ("embedding.tokens", "head.weight") else a


def read_weights(folder: Path, config: Config, start: int) -> Model:
    """The model of a folder, in the type in which it is stored.

    Raises BadInput if its arrays are not those of this Config; then nothing large was read or allocated.
    """
    tensors = Tensors(folder)
    blocks = {name.split(".")[1] for name in tensors.stored if name.startswith("h.") and name.count(".") > 2}
    if len(blocks) != config.num_layers:  # checked first: a model of a billion layers would fill the memory
        raise BadInput(
            f"{folder} contradicts itself: config.json says n_layer {config.num_layers}, "
            f"the weights have {len(blocks)} layers"
        )
    model = gpt(config)
    parameters = model.parameters()
    names = {their_name(name): name for name in parameters}
    known = names.keys() | {"lm_head.weight"}
    strange = [n for n in tensors.stored if n not in known and not n.endswith(MASKS)]
    if missing := sorted(names.keys() - tensors.stored.keys()):
        raise BadInput(f"{folder} has no array {missing[0]}, which config.json asks for")
    if strange:
        raise BadInput(
            f"{folder} holds {strange[0]}, which a GPT-2 with a language model's head does not have"
        )
    for theirs, name in names.items():
        if tensors.shape(theirs) != parameters[name].whole_shape:
            raise BadInput(
                f"{folder} contradicts itself: by config.json {theirs} is {parameters[name].whole_shape}, "
                f"in the weights {tensors.shape(theirs)}"
            )
    tensors.check_types(names)
    for theirs, name in names.items():
        p = parameters[name]
        p.data, p.grad = moved(name, tensors.read(theirs), (3, config.nhead), start), None
    if config.tied and "lm_head.weight" in tensors.stored:
        table = exchanged(parameters["embedding.tokens"].data, start)
        if not np.array_equal(tensors.read("lm_head.weight"), table):
            raise BadInput(
                f"{folder} contradicts itself: tie_word_embeddings is true, "
                f"but lm_head.weight and wte.weight differ"
            )
    return model


def read(folder: str | Path) -> tuple[Model, Tokenizer, Settings]:
    """A GPT-2 that transformers saved: its model, its tokenizer, and what config.json says.

    Raises BadInput if a file is missing or damaged, if they contradict each other, or if the model or the
    tokenizer is of another kind.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder")
    known = settings.read(folder / "config.json")
    tokenizer = vocabulary.read(folder, known.start)
    if tokenizer.size != known.config.vocab_size:
        raise BadInput(
            f"{folder}: the tokenizer has {tokenizer.size} tokens, and vocab_size in config.json is "
            f"{known.config.vocab_size}: it is another model's"
        )
    return read_weights(folder, known.config, known.start), tokenizer, known


def type_of(model: Model) -> str:
    """The type of the model's numbers, by its name."""
    return str(next(iter(model.parameters().values())).data.dtype)


def arrays(model: Model, start: int) -> dict[str, np.ndarray]:
    """The model's arrays by their names and in their layout."""
    groups = model.config.nhead, 3
    found = {n: moved(n, to_numpy(p.data), groups, start) for n, p in model.parameters().items()}
    return {PREFIX * (n != "head.weight") + their_name(n): np.ascontiguousarray(a) for n, a in found.items()}


def files(model: Model, tokenizer: Tokenizer) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """The name of each file of a folder for transformers, and what writes it; config.json comes last.

    Raises BadInput if the model or the tokenizer has no counterpart there.
    """
    start = tokenizer.origin
    config = settings.written(model.config, start, type_of(model))
    for name, content in vocabulary.written(tokenizer, model.config.context).items():
        yield name, partial(_json, content)
    yield "generation_config.json", partial(_json, {"bos_token_id": start, "eos_token_id": start})
    yield ONE, lambda path: save(path, arrays(model, start))
    yield "config.json", partial(_json, config)


def write(folder: str | Path, model: Model, tokenizer: Tokenizer) -> None:
    """Write a folder that `from_pretrained` of transformers reads. Raises BadInput, or OSError.

    Files of these names are replaced.
    """
    folder = Path(folder)
    made = list(files(model, tokenizer))
    folder.mkdir(parents=True, exist_ok=True)
    for name, put in made:
        with naming(folder / name):
            put(folder / name)


def _json(content: dict, path: Path) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
